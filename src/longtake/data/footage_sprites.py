"""Footage of the endless sprite worlds: a stretch of each, with its caption."""

from longtake.data.footage import Footage, Recording, gathered
from longtake.data.sprites import FPS, random_world


def sprite_worlds(
    num_worlds: int, num_frames: int, *, size: int = 64, min_frames: int = 1, first_seed: int = 0
) -> Footage:
    """Return `num_worlds` sprite worlds of one shot each, of which the first `num_frames` count as the recording.

    Seeds count up from `first_seed`; the held-out combinations of object, scene and motion do not occur. The label is
    the caption. Frames are drawn whenever they are read; `in_memory` draws them once. Raises InputError where
    `num_frames` is less than `min_frames`, and for no worlds.
    """
    recordings = (_recording(seed, num_frames) for seed in range(first_seed, first_seed + num_worlds))
    looked_for = f"{num_worlds} sprite worlds of {num_frames} frames"
    return gathered(recordings, size=size, min_frames=min_frames, looked_for=looked_for)


def _recording(seed: int, num_frames: int) -> Recording:
    world = random_world(seed)
    return Recording(
        name=f"world-{seed}",
        num_frames=num_frames,
        fps=float(FPS),
        read=world.frames,
        label=world.caption(0),
        shot=world.shot(0),
    )
