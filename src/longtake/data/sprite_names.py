"""What the sprite worlds are made of: names, shots, and which triples are never trained on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from longtake.errors import unknown_name

OBJECTS = (
    "rocket", "car", "sailboat", "fish", "duck", "balloon", "butterfly", "cat",
    "penguin", "frog", "octopus", "robot", "panda", "whale", "pumpkin", "helicopter",
)  # fmt: skip
SCENES = (
    "night sky", "sea", "underwater", "desert", "meadow",
    "city", "snowy mountains", "forest", "beach", "space",
)  # fmt: skip
MOTIONS = (
    "drives right", "sails left", "flies up", "dives down", "circles",
    "bounces", "swings", "spins", "pulses", "rests",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What a stretch of video shows: one object, in one scene, in one motion. InputError for unknown names."""

    object: str
    """Name from OBJECTS."""
    scene: str
    """Name from SCENES."""
    motion: str
    """Name from MOTIONS."""

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("object", self.object, OBJECTS),
            ("scene", self.scene, SCENES),
            ("motion", self.motion, MOTIONS),
        ):
            if name not in known:
                raise unknown_name(kind, name, known)


def all_shots() -> Iterator[Shot]:
    """Every (object, scene, motion) triple."""
    for name, scene, motion in product(OBJECTS, SCENES, MOTIONS):
        yield Shot(object=name, scene=scene, motion=motion)


@lru_cache
def _held_out_motion(name: str) -> tuple[int, ...]:
    """A permutation of the motions per object: scene number -> the one motion that is held out there."""
    return tuple(
        sorted(range(len(MOTIONS)), key=lambda motion: hashlib.sha256(f"held out {name} {motion}".encode()).digest())
    )


def is_held_out(shot: Shot) -> bool:
    """Whether this triple is never trained on: a fixed tenth, one motion for every pair of object and scene.

    The motions of one object are a pseudo-random permutation over the scenes, so that every object, scene and
    motion is held out equally rarely (16 or 10 times of 160 or 100).
    """
    return MOTIONS.index(shot.motion) == _held_out_motion(shot.object)[SCENES.index(shot.scene)]


@lru_cache
def training_shots() -> tuple[Shot, ...]:
    """The nine tenths of all triples that may be trained on."""
    return tuple(shot for shot in all_shots() if not is_held_out(shot))


@lru_cache
def held_out_shots() -> tuple[Shot, ...]:
    """The tenth of all triples that is kept for evaluation."""
    return tuple(shot for shot in all_shots() if is_held_out(shot))
