"""How good is the judge? Its accuracy on real clips it never saw, and on spoilt ones that it has to reject.

With --model also on what a model's autoencoder makes of real clips: the best video that it could ever make.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from lab.common import HEADS, Frames, pixels, share_right
from longtake.data.sprites import MOTIONS, OBJECTS, SCENES, Shot, SpriteWorld, random_world
from longtake.decoding import to_uint8
from longtake.metrics.controls import CONTROLS
from longtake.metrics.judge import CLIP_FRAMES, Judge
from longtake.model import VideoModel
from longtake.models import load_model

_SEED = 500_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which judge."""

    judge: Path | None = None  # a file of weights; the package's if not given
    model: str | None = None  # name or folder
    clips: int = 400


def real_clips(num_clips: int, seed: int = _SEED) -> tuple[Frames, list[Shot]]:
    """Clips of worlds that the judge was not trained on and what they show: uint8 (clips, 16, 64, 64, 3)."""
    clips, shots = [], []
    for number in range(num_clips):
        world = random_world(seed + number, training_only=False)
        clips.append(visible_clip(world, (number * 977) % 30_000))
        shots.append(world.shot(0))
    return np.stack(clips), shots


def visible_clip(world: SpriteWorld, start: int) -> Frames:
    """Return 16 frames of a world, from later on where its object is out of the picture: uint8 (16, 64, 64, 3)."""
    while min(world.state(frame).visible for frame in range(start, start + CLIP_FRAMES)) < 0.5:
        start += CLIP_FRAMES
    return world.frames(start, start + CLIP_FRAMES)


def wrong_prompt(shot: Shot, seed: int) -> Shot:
    """A shot that differs from the given one in object, scene and motion."""
    rng = np.random.default_rng(seed)
    names = [
        known[(known.index(name) + int(rng.integers(1, len(known)))) % len(known)]
        for name, known in ((shot.object, OBJECTS), (shot.scene, SCENES), (shot.motion, MOTIONS))
    ]
    return Shot(object=names[0], scene=names[1], motion=names[2])


def check_judge(
    judge: Judge, num_clips: int = 400, reconstruct: Callable[[Frames], Frames] | None = None
) -> dict[str, dict[str, float]]:
    """Accuracy of every head on real clips, on each control, and with `reconstruct` (frames to frames) before it.

    On controls "accuracy" means that the judge was fooled: it should be near 0 on the head that the control spoils.
    """
    clips, shots = real_clips(num_clips)
    sets = {"real": clips}
    if reconstruct is not None:
        sets["reconstructed"] = np.stack([reconstruct(clip) for clip in clips])
    for name, control in CONTROLS.items():
        sets[name] = np.stack([control(clip, number) for number, clip in enumerate(clips)])
    table = {name: share_right(zip(judge.read_batch(some), shots, strict=True)) for name, some in sets.items()}
    wrong = [wrong_prompt(shot, number) for number, shot in enumerate(shots)]
    return table | {"wrong prompt": share_right(zip(judge.read_batch(clips), wrong, strict=True))}


def confusions(judge: Judge, num_clips: int) -> dict[str, int]:
    """Number of mistakes on real clips, as "asked for -> read"."""
    clips, shots = real_clips(num_clips)
    mistakes: dict[str, int] = {}
    for seen, shot in zip(judge.read_batch(clips), shots, strict=True):
        for head in HEADS:
            asked, read = getattr(shot, head), getattr(seen, head)
            if asked != read:
                mistakes[f"{asked} -> {read}"] = mistakes.get(f"{asked} -> {read}", 0) + 1
    return dict(sorted(mistakes.items(), key=lambda item: -item[1]))


def round_trip(model: VideoModel) -> Callable[[Frames], Frames]:
    """Encode and decode frames with the model's autoencoder."""

    def copy(clip: Frames) -> Frames:
        with torch.inference_mode():
            return to_uint8(model.decode(model.encode_frames(pixels(clip)), None, last=True)[0])

    return copy


def score(chosen: Settings) -> dict[str, object]:
    """Return the table and the mistakes."""
    judge = Judge.load(chosen.judge)
    reconstruct = round_trip(load_model(chosen.model)) if chosen.model else None
    return {**check_judge(judge, chosen.clips, reconstruct), "mistakes": confusions(judge, chosen.clips)}
