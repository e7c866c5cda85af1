"""Half an hour of a GPU: parts that fail or hang cost the others nothing, and the weights come back from few files."""

import subprocess
import sys
from pathlib import Path

import pytest

from lab.measure import gpu
from lab.measure.gpu import Part, Settings, measure, pack, parts, run_all
from longtake.errors import InputError


def part(name: str, code: str, share: float = 1.0) -> Part:
    return Part(name=name, share=share, command=(sys.executable, "-c", code))


def test_what_fails_or_hangs_leaves_the_others_their_time(tmp_path: Path) -> None:
    deaf = "import time, signal as s; s.signal(s.SIGTERM, s.SIG_IGN); print('here', flush=True); time.sleep(99)"
    chosen = [
        part("fails", "print('why'); raise SystemExit(3)"),
        part("hangs", "import time; time.sleep(99)"),
        part("is deaf", deaf),
        part("is well", "print('well')", share=9.0),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "_GRACE", 0.5)
        outcomes = run_all(chosen, 40.0, tmp_path / "printed.txt")
    assert [one.ending.split(" after")[0] for one in outcomes] == ["failed, status 3", "ended", "ended", "done"]
    printed = (tmp_path / "printed.txt").read_text()
    assert all(line in printed for line in ("## fails\nwhy", "## is deaf\nhere", "## is well\nwell"))


def test_weights_come_back_from_files_that_are_small_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_LARGEST", 5_000)
    (tmp_path / "weights/sprites").mkdir(parents=True)
    content = bytes(range(256)) * 80
    (tmp_path / "weights/sprites/unet.safetensors").write_bytes(content)
    (tmp_path / "out").mkdir()
    pack(tmp_path / "weights", tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) > 3 and max(file.stat().st_size for file in files) == 5_000
    subprocess.run("cat weights.tar.* | tar x", shell=True, cwd=tmp_path / "out", check=True)
    assert (tmp_path / "out/weights/sprites/unet.safetensors").read_bytes() == content


def test_the_report_holds_a_row_and_the_last_lines_of_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Settings(minutes=1, runs=tmp_path / "runs", folder=tmp_path / "out")
    monkeypatch.setattr(gpu, "parts", lambda settings: [part("well", "print('figure 7')")])
    report = measure(chosen)
    assert "| well |" in report and "figure 7" in report
    assert (tmp_path / "out/table.md").read_text() == report + "\n"
    with pytest.raises(InputError, match="0 minutes are no time"):
        measure(Settings(minutes=0))


def test_every_part_is_a_command_of_this_project() -> None:
    commands = [" ".join(one.command[1:]) for one in parts(Settings())]
    assert commands[0] == "-m longtake train embedded all --runs runs/gpu --minutes 11"
    assert all(command.startswith(("-m longtake ", "-m lab ", "-m pytest ")) for command in commands)
