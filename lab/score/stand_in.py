"""What the stand-in network of `longtake evaluate fvd` sees: sprite worlds against other and against spoilt ones."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from longtake.data.footage import Frames
from longtake.data.sprites import random_world
from longtake.metrics.controls import CONTROLS, blur
from longtake.metrics.scores import frechet_distance, gaussian, inception_score, kernel_distance
from longtake.metrics.video_networks import Rows, stand_in_classes, stand_in_features

_CLIP = (40, 56)
_OTHERS = 5000
_BATCH = 16

CHANGES: dict[str, Callable[[Frames, int], Frames]] = {
    "other worlds": lambda clip, seed: clip,
    "blurred by 0.5 pixels": lambda clip, seed: blur(clip, 0.5),
    "blurred by 1 pixel": lambda clip, seed: blur(clip, 1.0),
    "noise of 8 grey levels": lambda clip, seed: noisy(clip, seed),
    **CONTROLS,
}
"""What is done to the clips that are compared with untouched ones: name -> function of (clip, seed)."""


def noisy(clip: Frames, seed: int) -> Frames:
    """Return the clip with Gaussian noise of 8 grey levels."""
    noise = np.random.default_rng(seed).normal(0, 8, clip.shape)
    return (clip + noise).clip(0, 255).astype(np.uint8)


def rows_of(seeds: range, change: Callable[[Frames, int], Frames]) -> tuple[Rows, Rows]:
    """Return features and classes of one clip of each world."""
    features, classes = stand_in_features(), stand_in_classes()
    found: list[tuple[Rows, Rows]] = []
    for start in range(0, len(seeds), _BATCH):
        worlds = ((seed, random_world(seed, training_only=False)) for seed in seeds[start : start + _BATCH])
        clips = np.stack([change(world.frames(*_CLIP), seed) for seed, world in worlds])
        found.append((features.read(clips), classes.read(clips)))
    return np.concatenate([row for row, _ in found]), np.concatenate([row for _, row in found])


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is compared."""

    clips: int = 448


def score(chosen: Settings) -> str:
    """Return a table."""
    real, _ = rows_of(range(chosen.clips), CHANGES["other worlds"])
    table = [f"| {chosen.clips} clips | fvd | kvd | inception score |", "| --- | --- | --- | --- |"]
    for name, change in CHANGES.items():
        fake, classes = rows_of(range(_OTHERS, _OTHERS + chosen.clips), change)
        fvd, kvd = frechet_distance(gaussian(real), gaussian(fake)), kernel_distance(real, fake)
        table.append(f"| {name} | {fvd:.1f} | {kvd:.2f} | {inception_score(classes)[0]:.2f} |")
    return "\n".join(table)
