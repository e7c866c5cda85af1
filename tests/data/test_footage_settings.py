import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from longtake.data.footage_settings import FootageSettings, open_footage
from longtake.errors import InputError
from longtake.video.read import open_video

ASSETS = Path(__file__).parent / "assets"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({}, "the layout videos needs a folder"),
        ({"folder": Path("x"), "split": "test"}, "split has no effect on the layout videos"),
        ({"layout": "sky", "folder": Path("x"), "fps": 8.0}, "fps has no effect on the layout sky"),
        ({"layout": "sprites", "folder": Path("x")}, "folder has no effect on the layout sprites"),
        ({"layout": "ucf101", "folder": Path("x"), "worlds": 3}, "worlds has no effect"),
        ({"folder": Path("x"), "fps": 0.0}, "fps 0 is no frame rate"),
    ],
)
def test_settings_that_do_nothing_are_refused(chosen: dict, message: str):
    with pytest.raises(InputError, match=message):
        FootageSettings(**chosen).check()


def test_every_layout_is_opened(tmp_path: Path):
    clip = tmp_path / "test" / "video" / "clip"
    clip.mkdir(parents=True)
    for frame in range(20):
        Image.new("RGB", (8, 8)).save(clip / f"{frame}.png")
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (tmp_path / "Class").mkdir()
    (tmp_path / "Class" / "a.mp4").write_bytes((ASSETS / "big_buck_bunny.mp4").read_bytes())
    (lists / "trainlist01.txt").write_text("Class/a.mp4 1\n")
    for settings, name, num_frames in [
        (FootageSettings(folder=ASSETS, fps=6.0), "big_buck_bunny.mp4", 72),
        (FootageSettings(layout="ucf101", folder=tmp_path), "Class/a.mp4", 144),
        (FootageSettings(layout="sky", folder=tmp_path, split="test"), "video/clip", 20),
        (FootageSettings(layout="sprites", worlds=1, world_frames=24), "world-0", 24),
    ]:
        footage, held_back = open_footage(settings, size=16, min_frames=16, open_video=open_video)
        assert [(one.name, one.num_frames) for one in footage.recordings] == [(name, num_frames)]
        assert footage.clip(0, 4, 6).shape == (2, 16, 16, 3) and held_back is None


def test_recordings_are_held_back():
    settings = FootageSettings(layout="sprites", worlds=5, hold_out=2)
    training, held_back = open_footage(settings, size=64, min_frames=16, open_video=open_video)
    assert held_back is not None
    assert [one.name for one in training.recordings] == ["world-0", "world-2", "world-4"]
    assert [one.name for one in held_back.recordings] == ["world-1", "world-3"]


def test_settings_load_nothing_heavy():
    code = "import sys, longtake.data.footage_settings; assert not {'torch', 'av', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_example_of_the_page_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training-data.md").read_text(), re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == ["1 recording, 72 frames", *["(16, 64, 64, 3)"] * 4]
