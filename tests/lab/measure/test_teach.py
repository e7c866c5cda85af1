"""Who learns from which clips, and that nothing is done twice."""

from pathlib import Path

import numpy as np
import pytest

from lab.measure import teach
from lab.measure.teach import Settings, asked_shots, learnt, lessons, over_seeds, read_right, read_shards
from longtake.data.sprites import Shot, is_held_out

NIGHT = Shot(object="rocket", scene="night sky", motion="rests")
DESERT = Shot(object="car", scene="desert", motion="rests")


def test_more_clips_begin_with_the_same_trained_triples() -> None:
    asked = asked_shots(1500)
    assert asked[:100] == asked_shots(100) and not any(map(is_held_out, asked))
    assert len(set(asked[:1440])) == 1440 and asked[1440:] == asked[:60]


def test_a_lesson_of_halves_has_each_shot_once_and_both_has_it_twice() -> None:
    shots = asked_shots(6)
    real, generated = np.arange(6), 10 + np.arange(6)
    found = lessons(real, generated, shots)
    assert found["half of each"][0].tolist() == [0, 1, 2, 13, 14, 15] and found["half of each"][1] == shots
    assert found["both"][0].tolist() == [*real, *generated] and found["both"][1] == [*shots, *shots]
    assert found["half of the real"][0].tolist() == [0, 1, 2] and found["half of the real"][1] == shots[:3]


def test_the_spread_over_seeds_is_that_of_each_head() -> None:
    rows = [{"real": {"object": share, "scene": 1.0, "motion": 1 - share}} for share in (0.25, 0.75)]
    assert over_seeds(rows)["real"]["object"] == {"mean": 0.5, "lowest": 0.25, "highest": 0.75}
    assert over_seeds(rows)["real"]["scene"] == {"mean": 1.0, "lowest": 1.0, "highest": 1.0}


def test_a_network_learns_its_lesson_and_the_same_one_by_the_same_seed() -> None:
    clips = np.zeros((8, 16, 64, 64, 3), np.uint8)
    clips[1::2] = (230, 160, 80)
    lesson, chosen = (clips, [NIGHT, DESERT] * 4), Settings(steps=12, batch=8)
    judge = learnt(lesson, chosen, seed=3)
    again = learnt(lesson, chosen, seed=3)
    assert read_right(judge, {"flat": lesson})["flat"] == {"object": 1, "scene": 1, "motion": 1}
    assert (judge.features(clips) == again.features(clips)).all()


def test_what_is_made_and_read_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Settings(
        sampling_steps=1, together=2, clips=2, steps=1, batch=2, seeds=1, read_real=2, read_generated=2,
        folder=tmp_path / "teach",
    )  # fmt: skip
    first = teach.measure(chosen)
    clips, shots = read_shards(chosen.folder / "shards")
    assert clips.shape == (4, 16, 64, 64, 3) and shots == asked_shots(4)
    assert len({clip.tobytes() for clip in clips}) == 4

    def work(*arguments: object) -> None:
        raise AssertionError("it begins anew")

    monkeypatch.setattr(teach, "learnt", work)
    monkeypatch.setattr(teach, "shards_command", work)
    assert teach.measure(chosen) == first
