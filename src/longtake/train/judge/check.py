"""How good is the judge? Its accuracy on real clips it never saw, and on spoilt ones that it has to reject.

python -m longtake.train.judge.check [JUDGE.safetensors [MODEL]]
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from longtake.data.sprites import Shot, random_world
from longtake.decoding import to_uint8
from longtake.metrics.controls import CONTROLS, wrong_prompt
from longtake.metrics.judge import CLIP_FRAMES, HEADS, Judge
from longtake.model import VideoModel
from longtake.models import load_model

Frames = NDArray[np.uint8]
_SEED = 500_000


def real_clips(num_clips: int, seed: int = _SEED) -> tuple[Frames, list[Shot]]:
    """Clips of worlds that the judge was not trained on and what they show: uint8 (clips, 16, 64, 64, 3).

    Where the object happens to be out of the picture, the clip starts later.
    """
    clips, shots = [], []
    for number in range(num_clips):
        world = random_world(seed + number, training_only=False)
        start = (number * 977) % 30_000
        while min(world.state(frame).visible for frame in range(start, start + CLIP_FRAMES)) < 0.5:
            start += CLIP_FRAMES
        clips.append(world.frames(start, start + CLIP_FRAMES))
        shots.append(world.shot(0))
    return np.stack(clips), shots


def check_judge(
    judge: Judge, num_clips: int = 400, reconstruct: Callable[[Frames], Frames] | None = None
) -> dict[str, dict[str, float]]:
    """Accuracy of every head on real clips, on each control, and with `reconstruct` (frames to frames) before it.

    On controls "accuracy" means that the judge was fooled: it should be near 0 on the head that the control spoils.
    """
    clips, shots = real_clips(num_clips)
    table = {"real": _accuracy(judge, clips, shots)}
    if reconstruct is not None:
        copies = np.stack([reconstruct(clip) for clip in clips])
        table["reconstructed"] = _accuracy(judge, copies, shots)
    for name, control in CONTROLS.items():
        spoilt = np.stack([control(clip, number) for number, clip in enumerate(clips)])
        table[name] = _accuracy(judge, spoilt, shots)
    wrong = [wrong_prompt(shot, number) for number, shot in enumerate(shots)]
    return table | {"wrong prompt": _accuracy(judge, clips, wrong)}


def _accuracy(judge: Judge, clips: Frames, shots: list[Shot]) -> dict[str, float]:
    readings = judge.read_batch(clips)
    return {
        head: float(
            np.mean([getattr(seen, head) == getattr(shot, head) for seen, shot in zip(readings, shots, strict=True)])
        )
        for head in HEADS
    }


def confusions(judge: Judge, num_clips: int = 400) -> dict[str, int]:
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
    """Encode and decode frames with the model's autoencoder: the best video that the model could ever make."""

    def copy(clip: Frames) -> Frames:
        frames = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            pixels, _ = model.decode(model.encode_frames(frames), None, last=True)
        return to_uint8(pixels)

    return copy


def main(judge_path: str | None = None, model_name: str | None = None) -> None:
    """Print the table and the mistakes; with the name or folder of a model also on its reconstructions."""
    judge = Judge.load(Path(judge_path) if judge_path else None)
    reconstruct = round_trip(load_model(model_name)) if model_name else None
    for name, row in check_judge(judge, reconstruct=reconstruct).items():
        print(f"{name:14}", "  ".join(f"{head} {value:.3f}" for head, value in row.items()))
    print(confusions(judge))


if __name__ == "__main__":
    main(*sys.argv[1:])
