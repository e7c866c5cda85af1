"""What can be set for training NUWA-XL: the arguments of `longtake train nuwa-xl`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from longtake.apps.arguments import Flag
from longtake.apps.train import Where
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.settings import MtdSettings


@dataclass(frozen=True, kw_only=True)
class NuwaXlSettings:
    """Train NUWA-XL's diffusion on long videos with captions. The same command continues an interrupted run."""

    data: Annotated[Positional[Path | None], arg(metavar="FOLDER", help_behavior_hint="")] = None
    """A folder for every episode: a video or numbered pictures, and captions.jsonl."""
    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("nuwa-xl")
    """The run's folder: latents, checkpoints, pictures, TensorBoard, and in the end final/, for --model."""
    base: Annotated[str, arg(metavar="NAME|FOLDER")] = "sprites"
    """What to start from: a folder in the hub layout of Stable Diffusion 1 or 2, of a text-to-video model of the
    ModelScope family (its pictures), or of a NUWA-XL model, to train it further; or the name of an embedded one."""
    size: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: that of --base)")] = None
    """Side of the frames in pixels."""
    frames: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: 16)")] = None
    """Frames of a clip, the paper's L."""
    levels: int = 3
    """Levels of the tree: clips are taken from spans of (frames - 1)^levels + 1 frames, which a video must have."""
    finest_only: Flag = False
    """Tell the finest scale alone of the known frames: without the paper's multi-scale injection (MI)."""
    upward_only: Flag = False
    """Tell the way up alone of the known frames: without the paper's symmetric injection (SI)."""
    loss: Annotated[MtdSettings, arg(name="")] = MtdSettings()
    fit: Annotated[FitSettings, arg(name="")] = FitSettings(
        num_steps=100_000, learning_rate=1e-4, warmup_steps=500, ema_decay=0.9995
    )
    where: Annotated[Where, arg(name="")] = Where()
