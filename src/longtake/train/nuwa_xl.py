"""Training mask temporal diffusion: clips at all levels of the tree, with some of their frames known."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.save import save_unet
from longtake.models.sprites.autoencode import decode_scaled
from longtake.models.sprites.build import AutoencoderKL
from longtake.schedule import Table
from longtake.train.nuwa_xl_data import SpanClips, SpanSource
from longtake.train.task import Scalars, Task


@dataclass(frozen=True, kw_only=True)
class MtdSettings:
    """Batches and loss of mask temporal diffusion."""

    batch_size: int = 2
    """Clips per step; each has a level of its own."""
    drop_text: float = 0.1
    """Share of clips with the empty caption for all frames, for guidance."""
    drop_known: float = 0.1
    """Share of clips at finer levels of which nothing is known, as of those at the coarsest."""
    continued: float = 0.15
    """Share of clips of which the first frames are known and no others, for going on from them."""
    continued_frames: tuple[int, ...] = (1, 8)
    """How many those are, each equally often."""
    known_noise: float = 0.1
    """Known frames get noise of a strength between none and this, as they will be made by the network itself."""
    sample_steps: int = 12
    """Steps of the pictures made on the way."""
    guidance: float = 3.0
    """Guidance scale of the pictures made on the way."""


class MtdTask(Task):
    """Predict v = alpha eps - sigma x0 of all frames of a clip, the known ones included (section 3.2)."""

    def __init__(
        self,
        network: MaskTemporalUnet,
        alphas_cumprod: Table,
        vae: AutoencoderKL,
        source: SpanSource,
        settings: MtdSettings,
    ) -> None:
        """`network` is trained in place; the rest stays as it is."""
        self.network = network.eval()
        self.vae, self.source, self.settings = vae, source, settings
        self.alphas_cumprod = alphas_cumprod.float()
        self.num_frames = network.config.frames
        levels = range(len(source.strides))
        self.shown = source.draw(levels, self.num_frames, torch.Generator().manual_seed(1))

    def module(self) -> nn.Module:
        """The UNet."""
        return self.network

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Mean squared error of v over all frames of clips at random levels."""
        settings = self.settings
        levels = torch.randint(len(self.source.strides), (settings.batch_size,), generator=generator).tolist()
        clips = self.source.draw(levels, self.num_frames, generator)
        mask = torch.stack([draw_mask(level, self.num_frames, settings, generator) for level in levels])
        text = _without(clips.text, self.source.empty, settings.drop_text, generator)
        timestep = torch.randint(len(self.alphas_cumprod), (settings.batch_size,), generator=generator)
        strength = settings.known_noise * torch.rand(settings.batch_size, 1, 1, 1, 1, generator=generator)
        known = clips.latents + strength * torch.randn(clips.latents.shape, generator=generator)
        noise = torch.randn(clips.latents.shape, generator=generator)
        alpha, sigma = self._coefficients(timestep)
        x = alpha * clips.latents + sigma * noise
        predicted = self._predict(x, timestep, text, _masked(known, mask), mask, clips.stride)
        error = (predicted - (alpha * noise - sigma * clips.latents)).square().mean(dim=(1, 2, 3, 4))
        by_level = {stride: error[clips.stride == stride].detach() for stride in set(clips.stride.tolist())}
        scalars = {f"loss_{stride}": float(errors.mean()) for stride, errors in by_level.items()}
        return error.mean(), scalars

    def sample(self) -> Float[Tensor, "3 height width"]:
        """For every level two rows, every second frame: a clip made from its captions (and its ends), and the real
        one."""
        mask = torch.stack([level_mask(level, self.num_frames) for level in range(len(self.source.strides))])
        made = self._denoised(self.shown, mask)
        pairs = torch.stack([made, self.shown.latents], dim=1).flatten(0, 1)[:, :, ::2].transpose(1, 2)
        pixels = decode_scaled(self.vae, pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])
        grid = pixels.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
        return functional.interpolate(grid[None], scale_factor=2)[0]

    def save(self, folder: Path) -> None:
        """Write the UNet."""
        save_unet(folder, self.network, torch.float32)

    def _denoised(self, clips: SpanClips, mask: Tensor) -> Float[Tensor, "clips channels frames height width"]:
        """DDIM with guidance, from the same noise every time."""
        steps, total = self.settings.sample_steps, len(self.alphas_cumprod)
        x = torch.randn(clips.latents.shape, generator=torch.Generator().manual_seed(0))
        text = torch.cat([clips.text, self.source.empty.expand_as(clips.text)])
        known, mask, stride = (torch.cat([part, part]) for part in (_masked(clips.latents, mask), mask, clips.stride))
        times = (torch.arange(steps, 0, -1) * total / steps).round().long() - 1
        for index, time in enumerate(times):
            v, v_empty = self._predict(torch.cat([x, x]), time.expand(len(text)), text, known, mask, stride).chunk(2)
            v = v_empty + self.settings.guidance * (v - v_empty)
            alpha, sigma = self._coefficients(time[None])
            x, noise = alpha * x - sigma * v, sigma * x + alpha * v
            if index + 1 < steps:
                alpha, sigma = self._coefficients(times[index + 1][None])
                x = alpha * x + sigma * noise
        return x

    def _coefficients(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma per clip, shaped to multiply latents."""
        bar = self.alphas_cumprod[timestep][:, None, None, None, None]
        return bar.sqrt(), (1 - bar).sqrt()

    def _predict(
        self, x: Tensor, timestep: Tensor, text: Tensor, known: Tensor, mask: Tensor, stride: Tensor
    ) -> Tensor:
        """The network's output. The backward pass of the fused attention costs more than half a step on a CPU."""
        with sdpa_kernel(SDPBackend.MATH):
            return self.network(x, timestep, text, known, mask, stride).float()


def level_mask(level: int, num_frames: int) -> Float[Tensor, "frames"]:
    """Return what is known at a level: nothing at the coarsest (0), both ends at the others (section 3.2)."""
    mask = torch.zeros(num_frames)
    if level:
        mask[0] = mask[-1] = 1
    return mask


def draw_mask(level: int, num_frames: int, settings: MtdSettings, generator: Generator) -> Float[Tensor, "frames"]:
    """Return a random mask for a clip at this level: the level's own, the start alone, or nothing."""
    chance = float(torch.rand((), generator=generator))
    if chance < settings.continued:
        return _start_mask(num_frames, settings.continued_frames, generator)
    return level_mask(0 if chance < settings.continued + settings.drop_known else level, num_frames)


def _start_mask(num_frames: int, choices: Sequence[int], generator: Generator) -> Tensor:
    num_known = choices[int(torch.randint(len(choices), (), generator=generator))]
    return (torch.arange(num_frames) < num_known).float()


def _masked(latents: Tensor, mask: Tensor) -> Tensor:
    return latents * mask[:, None, :, None, None]


def _without(text: Tensor, empty: Tensor, share: float, generator: Generator) -> Tensor:
    dropped = torch.rand(len(text), generator=generator) < share
    return torch.where(dropped[:, None, None, None], empty, text)
