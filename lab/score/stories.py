"""The benchmark's stories: 166 episodes of 38,000 frames, the size of FlintstonesHD, which exist exactly, as seeds.

An episode is a sprite world: what every frame shows is known without drawing it, and any frame can be drawn by its
number. The episodes before 132 are for training, the next 17 for validation, the last 17 for the test. A shot lasts 64
to 512 frames, long ones as often as short ones by their logarithm; in validation and test every second one shows an
object, a scene and a motion that never come together in training.
"""

from dataclasses import dataclass

import numpy as np

from longtake.data.sprites import FPS, Shot, SpriteWorld, Timeline, caption, held_out_shots, training_shots
from longtake.errors import InputError

EPISODES, FRAMES = 166, 38_000
SPLITS = {"train": range(132), "validation": range(132, 149), "test": range(149, 166)}
"""Name -> the numbers of its episodes."""
COMPARED = (154, 162, 161)
"""Of the test, those whose first 256 frames are one shot, two and three: what the leaderboard compares."""
_FIRST_SEED = 7_200_000
_SHORTEST, _LONGEST = 64, 512


def episode(number: int) -> SpriteWorld:
    """Return an episode, whose timeline goes on to frame 38,000. Raises InputError for a number that there is not."""
    if not 0 <= number < EPISODES:
        raise InputError(f"there is no episode {number}; they go from 0 to {EPISODES - 1}")
    seed = _FIRST_SEED + number
    rng = np.random.default_rng([seed, 30])
    tests, timeline, start = number not in SPLITS["train"], Timeline(), 0
    while start < FRAMES:
        shots = held_out_shots() if tests and len(timeline) % 2 else training_shots()
        timeline[start] = shots[int(rng.integers(len(shots)))]
        start += round(_SHORTEST * (_LONGEST / _SHORTEST) ** rng.random())
    return SpriteWorld(seed, timeline)


def story(number: int, frames: int) -> SpriteWorld:
    """Return the first frames of an episode as a world of their own."""
    world = episode(number)
    return SpriteWorld(world.seed, {start: shot for start, shot in world.timeline.items() if start < frames})


def told(timeline: dict[int, Shot]) -> str:
    """Return a timeline as a line of prompts, as 'longtake compare --prompts' reads it: at 8 frames a second."""
    return " ".join(f"[{start / FPS:g}s: {caption(shot)}]" for start, shot in timeline.items())


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which stories are printed, a line each."""

    episodes: tuple[int, ...] = COMPARED
    frames: int = 256  # of each


def lines(chosen: Settings) -> str:
    """Return the prompts of the stories."""
    return "\n".join(told(story(number, chosen.frames).timeline) for number in chosen.episodes)
