"""The benchmark's stories stay what they were, and keep training and test apart."""

import hashlib
import json
from dataclasses import astuple

import numpy as np
import pytest

from lab.score.stories import COMPARED, EPISODES, FRAMES, SPLITS, Settings, episode, lines, story
from longtake.data.sprites import FPS, caption, is_held_out
from longtake.errors import InputError
from longtake.prompts import parse_prompts

FROZEN = "cc858ec3c0f009965e995d77f59b941c92e6d661b12e1c5db39f0d0a860cef0e"
"""Of the seeds and timelines of all episodes. It never changes: results are of these stories, or of no benchmark."""


def test_the_stories_are_frozen():
    worlds = [episode(number) for number in range(EPISODES)]
    told = [[world.seed, [[start, *astuple(shot)] for start, shot in world.timeline.items()]] for world in worlds]
    assert hashlib.sha256(json.dumps(told).encode()).hexdigest() == FROZEN
    assert [number for split in SPLITS.values() for number in split] == list(range(EPISODES))


def test_what_is_held_out_is_never_in_training_and_every_second_shot_of_the_others():
    assert not any(is_held_out(shot) for shot in episode(0).timeline.values())
    for number in (SPLITS["validation"][0], SPLITS["test"][-1]):
        shots = list(episode(number).timeline.values())
        assert all(map(is_held_out, shots[1::2])) and not any(map(is_held_out, shots[::2]))
    starts = [*episode(165).timeline, FRAMES]
    assert all(64 <= stop - start <= 512 for start, stop in zip(starts, starts[1:-1], strict=False))


def test_a_story_is_the_start_of_its_episode_and_its_prompts_say_when_each_holds():
    world = story(161, 256)
    assert np.array_equal(world.frames_at([0, 200, 255]), episode(161).frames_at([0, 200, 255]))
    assert [len(story(number, 256).timeline) for number in COMPARED] == [1, 2, 3]
    read = parse_prompts(lines(Settings(episodes=(161,))), 256, FPS)
    assert dict(zip(read.starts, read.texts, strict=True)) == {
        start: caption(shot) for start, shot in world.timeline.items()
    }


def test_what_there_is_not():
    with pytest.raises(InputError, match="there is no episode 166; they go from 0 to 165"):
        episode(166)
