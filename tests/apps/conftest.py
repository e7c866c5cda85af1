"""The command line, run in this process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from longtake.apps.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command has done."""

    status: int
    out: str
    err: str


@pytest.fixture
def longtake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ran]:
    """Run a command in an empty folder, with a cache of its own."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr("sys.argv", ["longtake", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        shown = capsys.readouterr()
        assert isinstance(leaving.value.code, int)
        return Ran(leaving.value.code, shown.out, shown.err)

    return run
