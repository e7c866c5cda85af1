"""Folders of episodes: captions per frame and per span, videos and pictures, and nodes of the tree in them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.data.episodes import Captions, draw_node, episode_folders, read_captions
from longtake.errors import InputError


@dataclass(frozen=True)
class FakeVideo:
    """Ten frames; the shade of each is its number."""

    path: Path
    num_frames: int = 10
    fps: float | None = 6.0
    times: None = None

    def read(self, start: int, stop: int):
        return (np.full((4, 4, 3), number, np.uint8) for number in range(start, stop))


def lines(path: Path, *entries: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + "\n")
    return path


def opened(path: Path) -> FakeVideo:
    if path.stem == "broken":
        raise InputError("it is damaged")
    return FakeVideo(path)


def test_captions_of_frames_hold_until_the_next(tmp_path: Path) -> None:
    captions = read_captions(lines(tmp_path / "a", {"frame": 5, "text": "dog"}, {"frame": 2, "text": "cat"}))
    assert [captions.at(frame) for frame in (0, 1, 2, 4, 5, 900)] == ["", "", "cat", "cat", "dog", "dog"]


def test_captions_of_spans_end(tmp_path: Path) -> None:
    spans = {"start": 0, "stop": 3, "text": "cat"}, {"start": 4, "stop": 5, "text": "dog"}
    captions = read_captions(lines(tmp_path / "a", *spans, {"frame": 6, "text": "cow"}))
    assert [captions.at(frame) for frame in range(8)] == ["cat", "cat", "cat", "", "dog", "", "cow", "cow"]
    assert captions.stops == (3, 5, None)


def test_captions_as_tools_write_them(tmp_path: Path) -> None:
    """A mark of byte order at the start, and characters in a text that Unicode counts among the ends of lines."""
    text = "a cat\u2028and a dog\u0085there"
    content = json.dumps({"frame": 0, "text": text}, ensure_ascii=False) + "\r\n"
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert read_captions(tmp_path / "a").at(0) == text


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([], "holds no caption"),
        (["cat"], "line 1: it is .*it takes an object"),
        ([{"frame": 0, "text": "cat"}, {"frame": 1}], "line 2: text is missing"),
        ([{"frame": -1, "text": "cat"}], "from 0 on"),
        ([{"frame": True, "text": "cat"}], "frame is true.*a whole number"),
        ([{"frame": 0, "text": 7}], "text is 7.*a text"),
        ([{"start": 3, "text": "cat"}], "line 1: it should say"),
        ([{"frame": 3, "stop": 9, "text": "cat"}], "line 1: it should say"),
        ([{"start": 3, "stop": 3, "text": "cat"}], "stop is above start"),
        ([{"frame": 3, "text": "cat"}, {"frame": 3, "text": "dog"}], "two captions hold at frame 3"),
        ([{"start": 0, "stop": 9, "text": "cat"}, {"frame": 5, "text": "dog"}], "two captions hold at frame 5"),
    ],
)
def test_captions_that_cannot_be(entries: list[object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        read_captions(lines(tmp_path / "a", *entries))


def test_no_json_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("cat\n")
    with pytest.raises(InputError, match="line 1: it is no JSON"):
        read_captions(tmp_path / "a")
    with pytest.raises(InputError, match="every episode needs its captions"):
        read_captions(tmp_path / "b")


def test_a_folder_of_episodes(tmp_path: Path) -> None:
    for name, file in (("b", "x.mp4"), ("c", "broken.mkv"), ("d", None), ("short", "y.mp4"), ("two", "z.mp4")):
        lines(tmp_path / name / "captions.jsonl", {"frame": 0, "text": name})
        if file:
            (tmp_path / name / file).touch()
    (tmp_path / "two" / "again.avi").touch()
    (tmp_path / "e").mkdir()
    lines(tmp_path / "a" / "captions.jsonl", {"frame": 0, "text": "shades"})
    for number in range(12):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "a" / f"frame{number}.png")
    found = episode_folders(tmp_path, size=2, min_frames=10, open_video=opened)
    assert [one.name for one in found.footage.recordings] == ["a", "b", "short"]
    assert [captions.at(0) for captions in found.captions] == ["shades", "b", "short"]
    assert found.footage.clip(0, 10, 12)[:, 0, 0, 0].tolist() == [10, 11]
    assert found.footage.clip(1, 3, 5)[:, 0, 0, 0].tolist() == [3, 4]
    reasons = dict(found.footage.skipped)
    assert reasons["c"] == "it is damaged" and "2 videos" in reasons["two"]
    assert "no frames" in reasons["d"] and "needs its captions" in reasons["e"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        episode_folders(tmp_path / "a", size=2, min_frames=1, open_video=opened)


def test_nodes_of_the_tree() -> None:
    """With 5 frames a clip and strides 16, 4, 1 a span is 65 frames: 1, 4 and 16 nodes, at one offset of two."""
    generator = torch.Generator().manual_seed(0)
    for level, (stride, num_nodes) in enumerate([(16, 1), (4, 4), (1, 16)]):
        drawn = {draw_node(66, level, (16, 4, 1), 5, generator) for _ in range(400)}
        assert {frames.step for frames in drawn} == {stride} and {len(frames) for frames in drawn} == {5}
        starts = {offset + node * 4 * stride for offset in (0, 1) for node in range(num_nodes)}
        assert {frames.start for frames in drawn} == starts
    with pytest.raises(InputError, match="holds no span of 65"):
        draw_node(64, 0, (16, 4, 1), 5, generator)


def test_captions_without_an_end_are_the_last() -> None:
    assert Captions(starts=(0,), stops=(None,), texts=("cat",)).at(10**9) == "cat"
