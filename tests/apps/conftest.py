"""The command line, run in this process."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
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


@pytest.fixture
def light() -> Callable[..., None]:
    """Assert that none of these command lines, run in a process of their own, imports any of these packages."""

    def check(lines: Sequence[Sequence[str]], folder: Path, packages: set[str]) -> None:
        code = f"""
import sys
from longtake.apps.cli import main
for arguments in {[list(line) for line in lines]!r}:
    sys.argv = ["longtake", *arguments]
    try:
        main()
    except SystemExit:
        pass
    assert not {packages!r} & set(sys.modules), arguments
"""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=os.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-800:]

    return check
