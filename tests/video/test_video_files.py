"""What a folder holds, in which order."""

from pathlib import Path

from longtake.video.files import find_videos, natural_order, picture_files, subfolders


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_numbers_are_counted() -> None:
    right = ["1.png", "2.png", "10.png", "a.png", "A1.png", "a2.png", "b/9.png", "b/10.png", "b10/1.png"]
    assert [str(path) for path in sorted(map(Path, reversed(right)), key=natural_order)] == right


def test_what_desktops_leave_behind_is_no_picture_and_no_video(tmp_path: Path) -> None:
    left = [".DS_Store", "Thumbs.db", "desktop.ini", ".nfs0001.png", "._1.png", "._1.mp4", ".hidden/2.mp4"]
    touched(tmp_path, "1.png", "11.JPG", "2.jpeg", "1.mp4", "a/b/c.MKV", *left, "__MACOSX/1.mp4")
    assert [file.name for file in picture_files(tmp_path)] == ["1.png", "2.jpeg", "11.JPG"]
    assert [str(file.relative_to(tmp_path)) for file in find_videos(tmp_path)] == ["1.mp4", "a/b/c.MKV"]
    assert [folder.name for folder in subfolders(tmp_path)] == ["a"]


def test_folders_behind_links_are_found_and_circles_end(tmp_path: Path) -> None:
    touched(tmp_path / "there", "1.mp4")
    here = touched(tmp_path / "here", "2.mp4")
    (here / "link").symlink_to(tmp_path / "there")
    (here / "self").symlink_to(here)
    assert [str(file.relative_to(here)) for file in find_videos(here)] == ["2.mp4", "link/1.mp4"]
