import subprocess
import sys
from collections import Counter
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

from longtake.data.sprites import (
    MOTIONS,
    OBJECTS,
    SCENES,
    VOCABULARY,
    Shot,
    SpriteWorld,
    all_shots,
    caption,
    drawn,
    grammar_corpus,
    held_out_shots,
    is_held_out,
    parse_caption,
    preview,
    random_world,
    training_shots,
)
from longtake.errors import InputError

ROCKET = Shot(object="rocket", scene="night sky", motion="flies up")
CAT = Shot(object="cat", scene="beach", motion="rests")


def world(motion: str, scene: str = "meadow", seed: int = 3) -> SpriteWorld:
    return SpriteWorld(seed, {0: Shot(object="robot", scene=scene, motion=motion)})


def test_frames_are_random_access_and_deterministic():
    timeline = {0: ROCKET, 10: CAT, 25: ROCKET}
    whole = SpriteWorld(7, timeline).frames(0, 40)
    parts = SpriteWorld(7, timeline)
    assert whole.shape == (40, 64, 64, 3) and whole.dtype == np.uint8
    assert np.array_equal(whole[20:31], parts.frames(20, 31))
    assert np.array_equal(whole[3:4], parts.frames(3, 4))
    assert parts.frames(5, 5).shape == (0, 64, 64, 3)


def test_several_processes_draw_what_one_draws(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("longtake.data.sprites._WORTH_IT", 1)
    stretches = [(random_world(seed, num_shots=2), [700, 3, 60]) for seed in range(5)]
    one, two = (drawn(stretches, processes) for processes in (1, 2))
    assert all(np.array_equal(*pair) for pair in zip(one, two, strict=True))


def test_worlds_of_other_seeds_look_different():
    first, second = (SpriteWorld(seed, {0: CAT}).frames(0, 1).astype(int) for seed in (1, 2))
    assert np.abs(first - second).mean() > 2


def test_far_away_frames_move_like_early_ones():
    change = [
        np.abs(np.diff(world("circles").frames(start, start + 12).astype(float), axis=0)).mean()
        for start in (0, 100_000, 5_000_000)
    ]
    assert max(change) < 2.5 * min(change)


def test_state_stays_continuous_for_a_whole_period():
    place = world("circles")
    states = [place.state(frame) for frame in range(99_000, 100_000)]
    for name in ("pose.x", "pose.y", "pose.size", "horizon", "time_of_day", "map_x", "map_y"):
        steps = np.abs(np.diff([attrgetter(name)(state) for state in states]))
        assert steps.max() < 13, name


def test_an_object_leaves_now_and_then_and_comes_back():
    visible = np.array([world("rests").state(frame).visible for frame in range(3000)])
    assert visible.min() == 0
    assert 0.9 < (visible > 0.9).mean() < 1
    assert 3 <= (np.diff((visible < 0.5).astype(int)) == 1).sum() <= 5


def test_phase_does_not_jump_at_a_change_of_scenery():
    same = SpriteWorld(4, {0: CAT, 9: CAT}).frames(0, 20)
    assert np.array_equal(same, SpriteWorld(4, {0: CAT}).frames(0, 20))


@pytest.mark.parametrize(
    ("motion", "axis", "direction"),
    [("drives right", 2, -1), ("sails left", 2, 1), ("flies up", 1, 1), ("dives down", 1, -1)],
)
def test_scenery_scrolls_against_the_way_of_a_travelling_object(motion: str, axis: int, direction: int):
    # Stars: a layer of its own fills the whole night sky; a corner of the picture is free of the object.
    corner = world(motion, "snowy mountains").frames(0, 2)[:, 2:14, 2:].astype(float).mean(-1)
    errors = {}
    for shift in range(-4, 5):
        moved = np.roll(corner[0], shift, axis - 1)
        inner = (slice(4, -4), slice(4, -4))
        errors[shift] = np.abs(moved - corner[1])[inner].mean()
    best = min(errors, key=lambda shift: errors[shift])
    assert best * direction >= 1, errors


def test_travel_scrolls_at_least_a_pixel_a_frame():
    for seed in range(5):
        states = [world("drives right", seed=seed).state(frame) for frame in range(2000)]
        steps = np.diff([state.map_x for state in states])
        assert steps.min() > 1 and steps.max() < 4


@pytest.mark.parametrize("scene", SCENES)
def test_a_resting_object_is_no_frozen_video(scene: str):
    frames = SpriteWorld(1, {0: Shot(object="frog", scene=scene, motion="rests")}).frames(50, 60).astype(int)
    changed = (np.abs(np.diff(frames, axis=0)).max(-1) > 4).mean(axis=(1, 2))
    assert changed.min() > 0.005


def test_motions_differ_within_two_seconds():
    tracks = {}
    for motion in MOTIONS:
        states = [world(motion).state(frame) for frame in range(16)]
        track = np.array(
            [[s.pose.x, s.pose.y, s.pose.size, 20 * np.sin(s.pose.angle), s.map_x, s.map_y] for s in states]
        )
        tracks[motion] = track - track.mean(0)
    for first in MOTIONS:
        for second in MOTIONS:
            if first != second:
                assert np.abs(tracks[first] - tracks[second]).max() > 3, (first, second)


def test_a_tenth_of_the_triples_is_held_out_evenly():
    held = held_out_shots()
    total = len(OBJECTS) * len(SCENES) * len(MOTIONS)
    assert len(held) + len(training_shots()) == total
    assert 0.09 < len(held) / total < 0.11
    for field, names in (("object", OBJECTS), ("scene", SCENES), ("motion", MOTIONS)):
        counts = Counter(getattr(shot, field) for shot in held)
        assert set(counts) == set(names)
        assert max(counts.values()) == min(counts.values()), counts
    # The split is part of every published score: it must never change.
    assert is_held_out(held[0]) and not is_held_out(training_shots()[0])
    assert [held[0].motion, held[50].motion, held[159].motion] == ["rests", "dives down", "drives right"]


def test_random_worlds_for_training_avoid_held_out_triples():
    for seed in range(60):
        timeline = random_world(seed, num_shots=5).timeline
        assert len(timeline) == 5 and not any(is_held_out(shot) for shot in timeline.values())
    assert any(is_held_out(random_world(seed, training_only=False).shot(0)) for seed in range(60))


def test_canonical_captions():
    assert caption(ROCKET) == "a rocket flies up through the night sky"
    assert caption(Shot(object="octopus", scene="sea", motion="spins")) == "an octopus spins at sea"


def test_every_caption_can_be_read_back():
    for number, shot in enumerate(all_shots()):
        for variant in (0, 1 + number, 5000 + 3 * number):
            assert parse_caption(caption(shot, variant)) == shot, caption(shot, variant)


def test_captions_use_only_the_vocabulary_and_vary():
    corpus = list(grammar_corpus())
    words = {word for text in corpus for word in text.replace(",", "").split()}
    assert words <= set(VOCABULARY)
    assert len(words) > 0.95 * len(VOCABULARY)
    assert len({caption(ROCKET, variant) for variant in range(200)}) > 30


def test_the_caption_is_the_same_all_through_a_shot():
    story = SpriteWorld(5, {0: ROCKET, 30: CAT})
    assert len({story.caption(frame) for frame in range(30)}) == 1
    assert parse_caption(story.caption(29)) == ROCKET and parse_caption(story.caption(30)) == CAT


def test_free_prompts():
    assert parse_caption("A ship is sailing left on the ocean") == Shot(
        object="sailboat", scene="sea", motion="sails left"
    )
    assert parse_caption("an astronaut rides a horse") is None


def test_bad_names_and_timelines_are_refused():
    with pytest.raises(InputError, match="did you mean 'rocket'"):
        Shot(object="roket", scene="sea", motion="rests")
    with pytest.raises(InputError, match="frame 0"):
        SpriteWorld(1, {5: CAT})


def test_preview_is_a_sheet_of_all_objects_scenes_and_motions():
    image = preview(zoom=1)
    assert image.size == (16 * 66, 20 * 66)


def test_processes_that_draw_end_with_the_one_that_began_them(tmp_path: Path) -> None:
    script = tmp_path / "draw.py"
    script.write_text(
        "import time\n"
        "from longtake.data import sprites\n"
        "if __name__ == '__main__':\n"
        "    world = sprites.random_world(1)\n"
        "    sprites.drawn([(world, range(600)), (world, range(600))], 2)\n"
        "    print('drawn', flush=True)\n"
        "    time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None and parent.stdout.readline() == "drawn\n"
    parent.kill()
    # The pipe ends once nobody has it any more.
    assert parent.communicate(timeout=60)[0] == ""
