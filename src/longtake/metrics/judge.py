"""The judge of sprite videos: a small classifier that says what a clip shows, or that it shows nothing real.

It was trained on ground truth alone (longtake.train.judge) and is frozen: no generated video ever reached it.
"""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from longtake.data.sprites import MOTIONS, OBJECTS, SCENES
from longtake.errors import CheckpointError
from longtake.reading import parse_json, read_file

CLIP_FRAMES = 16
_NUM_LAGS = 8
_NUM_CUES = 3 * 64 + _NUM_LAGS
HEADS = {"object": OBJECTS, "scene": SCENES, "motion": MOTIONS}
"""Head -> its classes; after them each head has one more, which rejects the clip."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the judge sees in one clip of 16 frames; None where it sees nothing that it knows."""

    object: str | None
    """Name from OBJECTS, or None: unrecognisable."""
    scene: str | None
    """Name from SCENES, or None: unrecognisable."""
    motion: str | None
    """Name from MOTIONS, or None: unnatural (frozen, looped, shuffled)."""
    probabilities: dict[str, NDArray[np.float32]]
    """Head -> probability of each class, the rejecting class last."""


class JudgeNetwork(nn.Module):
    """Three heads over a clip: object and scene from pooled frames, motion from a coarse grid over time.

    Letters: B clips, T frame pairs, C channels, H and W rows and columns.
    """

    def __init__(self) -> None:
        super().__init__()
        self.frames = nn.Sequential(
            _stage(6, 24, kernel=5, stride=2),
            _stage(24, 32, kernel=3, stride=2),
            _stage(32, 64, kernel=3, stride=2),
            _stage(64, 64, kernel=3, stride=1),
        )
        self.grid = nn.Sequential(nn.Conv2d(64, 24, 1), nn.AvgPool2d(2))
        self.time = nn.Sequential(
            nn.Conv1d(24 * 16 + _NUM_CUES, 128, 3, padding=1),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Conv1d(128, 128, 3, stride=2, padding=1),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Conv1d(128, 128, 3, padding=1),
            nn.BatchNorm1d(128),
            nn.ReLU(),
        )
        self.object = nn.Linear(128, len(OBJECTS) + 1)
        self.scene = nn.Linear(128, len(SCENES) + 1)
        self.motion = nn.Linear(256, len(MOTIONS) + 1)

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """Logits of each head for uint8 or float clips in 0 to 255, (clips, 16, 64, 64, 3)."""
        looks, moves = self.features(clips)
        return {"object": self.object(looks), "scene": self.scene(looks), "motion": self.motion(moves)}

    def features(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """What the heads read, for clips of 9 frames or more: looks (clips, 128) and motion (clips, 256)."""
        x_BTCHW = clips.float().permute(0, 1, 4, 2, 3) / 127.5 - 1
        pairs = torch.cat([x_BTCHW[:, :-1], 2 * (x_BTCHW[:, 1:] - x_BTCHW[:, :-1])], dim=2)
        batch, times = pairs.shape[:2]
        features = self.frames(pairs.flatten(0, 1))
        looks = _pooled(features).unflatten(0, (batch, times)).mean(1)
        moves_BCT = self.grid(features).flatten(1).unflatten(0, (batch, times)).transpose(1, 2)
        moves = self.time(torch.cat([moves_BCT, motion_cues(x_BTCHW)], dim=1))
        return looks, torch.cat([moves.mean(2), moves.amax(2)], dim=1)

    def frame_looks(self, frames: Tensor) -> Tensor:
        """What the heads for looks would read in a clip that stands still, (frames, 128)."""
        x_BCHW = frames.float().permute(0, 3, 1, 2) / 127.5 - 1
        return _pooled(self.frames(torch.cat([x_BCHW, torch.zeros_like(x_BCHW)], dim=1)))


def motion_cues(x_BTCHW: Tensor) -> Tensor:
    """What the eye would measure: optical flow on an 8x8 grid, and how much each frame differs from earlier ones.

    Flow is the least-squares solution of Lucas and Kanade (1981) per cell; lags of 1 to 8 frames show loops.
    Gives (clips, cues, frame pairs) for clips in -1 to 1.
    """
    grey_BTHW = F.avg_pool2d(x_BTCHW.mean(2), 2)
    now, then = grey_BTHW[:, :-1], grey_BTHW[:, 1:]
    both = F.pad((now + then) / 2, (1, 1, 1, 1), mode="replicate")
    dx = (both[:, :, 1:-1, 2:] - both[:, :, 1:-1, :-2]) / 2
    dy = (both[:, :, 2:, 1:-1] - both[:, :, :-2, 1:-1]) / 2
    dt = then - now
    xx, yy, xy, xt, yt = (F.avg_pool2d(a * b, 4) for a, b in ((dx, dx), (dy, dy), (dx, dy), (dx, dt), (dy, dt)))
    xx, yy = xx + 1e-3, yy + 1e-3
    area = xx * yy - xy * xy
    flow = [(xy * yt - yy * xt) / area, (xy * xt - xx * yt) / area]
    energy = torch.log(F.avg_pool2d(dt * dt, 4) + 1e-4) / 4 + 1
    cells = torch.cat([flow[0].clamp(-3, 3), flow[1].clamp(-3, 3), energy], dim=2)
    lags = [
        F.pad((grey_BTHW[:, lag:] - grey_BTHW[:, :-lag]).abs().mean((2, 3)), (lag - 1, 0), value=0.1)
        for lag in range(1, _NUM_LAGS + 1)
    ]
    return torch.cat([cells.flatten(2).transpose(1, 2), torch.log(torch.stack(lags, dim=1) + 5e-3) / 2], dim=1)


def _pooled(features: Tensor) -> Tensor:
    return torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)


def _stage(inputs: int, outputs: int, *, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Judge:
    """Reads clips; made by `Judge.load`."""

    def __init__(self, network: JudgeNetwork) -> None:
        self._network = network.eval()

    @classmethod
    def load(cls, path: Path | None = None) -> "Judge":
        """The judge of this package, or the one at `path` (.safetensors); CheckpointError where that is damaged."""
        source = path if path is not None else Path(str(files("longtake.metrics").joinpath("assets/judge.safetensors")))
        try:
            config = parse_json(read_file(source.with_suffix(".json")))
            weights = load_file(source)
            network = JudgeNetwork()
            # The counters of the normalisation layers are of no use after training, and not stored.
            counters = {name: value for name, value in network.state_dict().items() if name.endswith("_tracked")}
            network.load_state_dict(counters | {name: value.float() for name, value in weights.items()})
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"the judge {source} cannot be read ({error}); train one anew") from error
        known = config if isinstance(config, dict) else {}
        if any(known.get(head) != list(names) for head, names in HEADS.items()):
            raise CheckpointError(f"the judge {source} knows other names than the sprite worlds; train one anew")
        return cls(network)

    def read(self, frames: NDArray[np.uint8]) -> Reading:
        """What one clip shows; uint8 (16, 64, 64, 3)."""
        return self.read_batch(frames[None])[0]

    @torch.inference_mode()
    def read_batch(self, clips: NDArray[np.uint8], batch_size: int = 16) -> list[Reading]:
        """What each clip shows; uint8 (clips, 16, 64, 64, 3)."""
        assert clips.shape[1:] == (CLIP_FRAMES, 64, 64, 3), clips.shape
        readings = []
        for start in range(0, len(clips), batch_size):
            logits = self._network(torch.from_numpy(np.ascontiguousarray(clips[start : start + batch_size])))
            tables = {head: values.softmax(-1).numpy() for head, values in logits.items()}
            readings += [
                _reading({head: table[row] for head, table in tables.items()}) for row in range(len(tables["object"]))
            ]
        return readings

    @torch.inference_mode()
    def read_stills(self, frames: NDArray[np.uint8]) -> list[tuple[str | None, str | None]]:
        """Object and scene of each frame by itself, as of a clip that stands still; uint8 (frames, 64, 64, 3)."""
        looks = torch.from_numpy(self.looks(frames))
        objects, scenes = (head(looks).argmax(-1).tolist() for head in (self._network.object, self._network.scene))
        return [((*OBJECTS, None)[o], (*SCENES, None)[s]) for o, s in zip(objects, scenes, strict=True)]

    @torch.inference_mode()
    def features(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Numbers that describe each clip, (clips, 384): 128 of its looks, 256 of its motion.

        Takes uint8 (clips, frames, 64, 64, 3) with 9 frames or more.
        """
        looks, moves = self._network.features(torch.from_numpy(np.ascontiguousarray(clips)))
        return torch.cat([looks, moves], dim=1).numpy()

    @torch.inference_mode()
    def looks(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Numbers that describe the looks of each frame by itself, (frames, 128); uint8 (frames, 64, 64, 3)."""
        return self._network.frame_looks(torch.from_numpy(np.ascontiguousarray(frames))).numpy()


def _reading(probabilities: dict[str, NDArray[np.float32]]) -> Reading:
    winners = {head: int(values.argmax()) for head, values in probabilities.items()}
    names = {head: (*HEADS[head], None)[winner] for head, winner in winners.items()}
    return Reading(**names, probabilities=probabilities)
