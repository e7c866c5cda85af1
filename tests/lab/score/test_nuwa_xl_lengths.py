"""That NUWA-XL's tables have a row for every length and way, and keep the videos they have."""

from pathlib import Path
from typing import Any

import pytest

from lab.score.nuwa_xl import story
from lab.score.nuwa_xl_lengths import Settings, score
from longtake.errors import InputError


def test_a_story_of_one_window_is_one_shot():
    assert list(story(0, 16).timeline) == [0]


@pytest.mark.parametrize(
    ("settings", "message"), [({"frames": (8, 256)}, "8 frames are no block"), ({"stories": (1,)}, "two or more")]
)
def test_what_gives_no_distance_is_refused(settings: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        score(Settings(**settings))


@pytest.mark.slow
def test_rows_are_of_every_length_and_way_and_videos_are_made_once(tmp_path: Path):
    chosen = Settings(steps=1, frames=(16, 32), stories=(0, 1), levels=("tree-1",), folder=tmp_path)
    rows = score(chosen)
    assert [*rows["16 frames"]] == ["other real", "tree", "sliding"]
    assert [*rows["32 frames"]] == ["other real", "tree", "sliding", "tree-1"]
    assert rows["32 frames"]["other real"]["B-FVD-16"] < rows["32 frames"]["tree"]["B-FVD-16"]
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")}
    assert score(chosen) == rows
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.mp4")} == made and len(made) == 10
