import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lab.__main__ import main
from lab.film import big_buck_bunny as recipe
from longtake.data.footage_files import video_folder
from longtake.errors import InputError, OutputError
from longtake.video.read import open_video

ASSETS = Path(__file__).parents[2] / "data" / "assets"


def excerpt() -> np.ndarray:
    footage = video_folder(ASSETS, size=64, min_frames=32, open_video=open_video)
    return footage.clip(0, 0, footage.recordings[0].num_frames)


def package(path: Path, film: bytes) -> Path:
    """Write a source distribution that holds an archive that holds the film."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("resources/other.mp4", b"another film")
        archive.writestr("resources/bbb.mp4", film)
    with tarfile.open(path, "w:gz") as outer:
        member = tarfile.TarInfo("moviepy-2.2.1/docs/moviepy_10_minutes.zip")
        member.size = inner.getbuffer().nbytes
        outer.addfile(member, io.BytesIO(inner.getvalue()))
    return path


def test_the_cut_of_the_excerpt_is_found():
    assert recipe.find_cuts(excerpt()) == [96]


def test_fast_movement_is_no_cut():
    picture = (
        np.random.default_rng(0).integers(0, 256, (16, 16, 3)).repeat(8, axis=0).repeat(8, axis=1).astype(np.uint8)
    )
    still = np.stack([picture] * 20)
    jumped = np.concatenate([still, np.roll(still, 32, axis=1)])
    assert recipe.find_cuts(jumped) == []
    assert recipe.find_cuts(np.concatenate([still, 255 - still // 4])) == [20]


def test_shots_are_written_without_loss(tmp_path: Path):
    frames = excerpt()
    assert recipe.write_shots(frames, tmp_path) == 2
    footage = video_folder(tmp_path, size=64, min_frames=16, open_video=open_video)
    assert [(one.name, one.num_frames, one.fps) for one in footage.recordings] == [
        ("shot-00000.mkv", 96, pytest.approx(12)),
        ("shot-00096.mkv", 48, pytest.approx(12)),
    ]
    np.testing.assert_array_equal(footage.clip(1, 3, 30), frames[99:126])


def test_the_film_is_found_in_the_archive_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = package(tmp_path / "moviepy-2.2.1.tar.gz", b"a film")
    with pytest.raises(InputError, match="is not the expected copy of the film"):
        recipe.film_file(source, tmp_path)
    monkeypatch.setattr(recipe, "SHA256", hashlib.sha256(b"a film").hexdigest())
    assert recipe.film_file(source, tmp_path).read_bytes() == b"a film"


def test_other_files_are_refused(tmp_path: Path):
    (tmp_path / "text.tar.gz").write_text("no archive")
    with tarfile.open(tmp_path / "empty.tar.gz", "w:gz"):
        pass
    for name in ("text.tar.gz", "empty.tar.gz", "nowhere.mp4"):
        with pytest.raises(InputError, match="cannot read the film from"):
            recipe.film_file(tmp_path / name, tmp_path)
    with pytest.raises(InputError, match="is not the expected copy"):
        recipe.film_file(ASSETS / "big_buck_bunny.mp4", tmp_path)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.mkv").touch()
    with pytest.raises(OutputError, match="it is there already"):
        recipe.prepare(recipe.Settings(source=tmp_path / "film.mp4", folder=tmp_path))


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["film", "big-buck-bunny", str(tmp_path / "nowhere.mp4"), str(tmp_path / "new")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("longtake: cannot read the film from") and message.count("\n") == 1
    assert not (tmp_path / "new").exists()
