"""What can be set for training PVDM: the arguments of `longtake train pvdm-autoencoder` and `longtake train pvdm`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from longtake.apps.arguments import Flag
from longtake.apps.train import Where
from longtake.data.footage_settings import FootageSettings, Layout
from longtake.errors import InputError
from longtake.train.fit.settings import FitSettings
from longtake.train.pvdm.settings import (
    AutoencoderLoss,
    AutoencoderSize,
    DiffusionSettings,
    Judges,
    PerceptualChoice,
    UnetSize,
)

SPRITES = "sprites"


def _optional(metavar: str, default: str) -> object:
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which recordings to learn from."""

    layout: Literal["videos", "ucf101", "sky"] = "videos"
    """How the folder lies: videos (any files), ucf101 (class per folder, official lists), sky (SkyTimelapse's folders
    of frames)."""
    split: Annotated[Literal["train", "test"] | None, _optional("train|test", "train")] = None
    """Official part of ucf101 or sky."""
    fps: Annotated[float | None, _optional("FLOAT", "every frame, whatever the rate")] = None
    """Thin faster videos out to this rate and skip slower ones."""
    worlds: Annotated[int | None, _optional("INT", "1000")] = None
    """How many sprite worlds."""
    world_frames: Annotated[int | None, _optional("INT", "128")] = None
    """Frames of every sprite world."""
    hold_out: Annotated[int | None, _optional("INT", "none")] = None
    """Hold every n-th recording back; it is shown in the pictures on the way."""
    in_memory: Flag = False
    """Decode everything once and keep it: size x size x 3 bytes a frame."""

    def footage(self, data: str | None) -> FootageSettings:
        """Return where the recordings are. Raises InputError for nothing, and for settings without effect."""
        if data is None:
            raise InputError("what to train on is missing; give a folder of videos, or the word sprites")
        layout: Layout = SPRITES if data == SPRITES else self.layout
        if data == SPRITES and self.layout != Source.layout:
            raise InputError(
                f"--layout {self.layout} has no effect on the sprite worlds; give a folder, or leave it out"
            )
        folder = None if data == SPRITES else Path(data).expanduser()
        if folder is not None and not folder.is_dir():
            raise InputError(
                f"there is no folder {folder}; give one that holds the training videos, or the word sprites"
            )
        own = {name: value for name, value in vars(self).items() if name not in ("layout", "in_memory")}
        return FootageSettings(layout=layout, folder=folder, **own)


@dataclass(frozen=True, kw_only=True)
class PvdmAutoencoderSettings:
    """Train PVDM's first stage, the autoencoder. The same command continues an interrupted run."""

    data: Annotated[Positional[str | None], arg(metavar="FOLDER|sprites", help_behavior_hint="")] = None
    """The training videos, or the sprite worlds, which are drawn on the spot."""
    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("pvdm-autoencoder")
    """The run's folder: checkpoints, pictures, TensorBoard, and in the end final/autoencoder."""
    source: Annotated[Source, arg(name="")] = Source()
    network: Annotated[AutoencoderSize, arg(name="")] = AutoencoderSize()
    loss: Annotated[AutoencoderLoss, arg(name="")] = AutoencoderLoss(batch_size=8)
    perceptual: Annotated[PerceptualChoice, arg(name="")] = PerceptualChoice()
    judges: Annotated[Judges, arg(name="")] = Judges()
    fit: Annotated[FitSettings, arg(name="")] = FitSettings(
        num_steps=50_000, learning_rate=1e-4, warmup_steps=0, betas=(0.5, 0.9), max_gradient=None, parts=3
    )
    recompute: Flag = False
    """Compute activations again for the gradient in place of keeping them: less memory, a third more time."""
    where: Annotated[Where, arg(name="")] = Where()


@dataclass(frozen=True, kw_only=True)
class PvdmSettings:
    """Train PVDM's second stage, the diffusion model. The same command continues an interrupted run."""

    data: Annotated[Positional[str | None], arg(metavar="FOLDER|sprites", help_behavior_hint="")] = None
    """The training videos, or the sprite worlds, which are drawn on the spot."""
    autoencoder: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None
    """The folder of a finished first stage, or of a PVDM model."""
    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("pvdm")
    """The run's folder: latents, checkpoints, pictures, TensorBoard, and in the end final/, for --model."""
    source: Annotated[Source, arg(name="")] = Source()
    network: Annotated[UnetSize, arg(name="")] = UnetSize()
    batch_size: int = 64
    """Clips in a batch."""
    conditional: float = DiffusionSettings.conditional
    """Share of clips that are trained to follow the clip before (the paper's lambda, drawn for each clip)."""
    every: int = 1
    """Frames between starts of clips, a divisor of a clip's length; more than 1 leaves clips out, and saves space."""
    fit: Annotated[FitSettings, arg(name="")] = FitSettings(
        num_steps=400_000,
        learning_rate=1e-4,
        warmup_steps=0,
        betas=(0.9, 0.999),
        max_gradient=None,
        ema_decay=0.9999 ** (1 / 25),
        ema_every=25,
    )
    recompute: Flag = False
    """Compute activations again for the gradient in place of keeping them: less memory, a third more time."""
    where: Annotated[Where, arg(name="")] = Where()
