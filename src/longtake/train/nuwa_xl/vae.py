"""Training T-KLVAE: clips at all strides of the tree, encoded and decoded with a view of the frames around each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Generator, Tensor, nn

from longtake.data.episodes import Episodes
from longtake.models.nuwa_xl.load import save_over_time, save_temporal_autoencoder
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder
from longtake.train.fit.task import Scalars, Task, above, sheet
from longtake.train.nuwa_xl.data import EpisodeLatents, StretchSettings, draw_clips
from longtake.train.sprites.autoencode import to_model

_KL_WEIGHT, _SQUARE_WEIGHT = 2e-4, 2.0
"""Of the divergence from a unit Gaussian, per latent number, and of the squared error beside the absolute one: the
paper's loss is its image VAE's, and this a plain one."""
_FIRST_SEED = 6_000_000
"""Of the worlds; the others count up."""


class TemporalVaeTask(Task):
    """Reconstruct clips, one a step; the image autoencoder's own layers are trained along."""

    def __init__(self, network: TemporalAutoencoder, num_worlds: int) -> None:
        """Draw a clip of so many worlds at every stride; `network` is trained in place."""
        self.network, frames = network, network.over_time.frames
        drawn = StretchSettings(
            num_worlds=num_worlds, num_stretches=(1, 1, 1), num_frames=frames, first_seed=_FIRST_SEED
        )
        self.clips: UInt8[Tensor, "clips 3 frames 64 64"] = draw_clips(drawn).transpose(1, 2)

    def module(self) -> nn.Module:
        """The autoencoder."""
        return self.network

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Absolute and squared error of pixels, plus a small divergence."""
        pick = torch.randint(len(self.clips), (1,), generator=generator)
        clips = to_model(self.clips[pick])
        found = self.network.encode(clips)
        noise = torch.randn(found.mean.shape, generator=generator)
        loss, scalars = _difference(self._decode(found.mean + found.std * noise), clips)
        divergence = found.kl().mean() / found.mean[0].numel()
        return loss + _KL_WEIGHT * divergence, scalars | {"kl": float(divergence.detach())}

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Every second frame of a clip at each stride, its reconstruction below."""
        clips = to_model(self.clips[:3])
        decoded = self._decode(self.network.encode(clips).mean)
        return sheet(above(*(part[:, :, ::2].transpose(1, 2) / 2 + 0.5 for part in (clips, decoded))))

    def save(self, folder: Path) -> None:
        """Write image autoencoder and layers over time."""
        save_temporal_autoencoder(folder, self.network)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents.unflatten(0, (-1, self.network.over_time.frames)).transpose(1, 2)).float()


class OverTimeTask(Task):
    """Reconstruct clips of episodes at all strides from latents that were made frame by frame: what the decoder has
    beside the image VAE, which stays as it is, learns to look at the frames around each."""

    def __init__(self, network: TemporalAutoencoder, latents: EpisodeLatents, episodes: Episodes, clips: int) -> None:
        """`network` has the image VAE that made `latents`; `clips` are those of a step."""
        self.network, self.latents, self.footage, self.clips = network, latents, episodes.footage, clips
        self.network.image.requires_grad_(False)
        layers = (*network.over_time.convolutions.items(), *network.over_time.attentions.items())
        self.decoder = nn.ModuleList(layer for name, layer in layers if name.startswith("decoder"))

    def module(self) -> nn.Module:
        """The decoder's layers over time."""
        return self.decoder

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Absolute and squared error of pixels."""
        levels = torch.randint(len(self.latents.strides), (self.clips,), generator=generator).tolist()
        decoded, clips = self._reconstructed(levels, generator)
        return _difference(decoded, clips)

    def sample(self) -> Float[Tensor, "3 height width"]:
        """Every second frame of a clip at each stride, its reconstruction below."""
        levels = list(range(len(self.latents.strides)))
        parts = self._reconstructed(levels, torch.Generator().manual_seed(1))[::-1]
        return sheet(above(*(part[:, :, ::2].transpose(1, 2).cpu() / 2 + 0.5 for part in parts)))

    def save(self, folder: Path) -> None:
        """Write what is beside the image VAE."""
        save_over_time(folder, self.network)

    def _reconstructed(self, levels: Sequence[int], generator: Generator) -> tuple[Tensor, Tensor]:
        """Return random clips at these levels as they are decoded, and as they are."""
        image: Any = self.network.image
        latents, pixels = [], []
        for episode, frames in self.latents.draw_places(levels, self.network.over_time.frames, generator):
            latents.append(self.latents.latents[episode][frames].float())
            seen = [self.footage.clip(episode, frame, frame + 1)[0] for frame in frames]
            pixels.append(torch.from_numpy(np.stack(seen)).permute(3, 0, 1, 2))
        scaled = torch.stack(latents).transpose(1, 2).to(image.device) / image.config.scaling_factor
        return self.network.decode(scaled).float(), to_model(torch.stack(pixels).to(image.device))


def _difference(made: Tensor, real: Tensor) -> tuple[Tensor, Scalars]:
    """Return the absolute and the squared error together, and how it is as a PSNR."""
    difference = made - real
    square = difference.square().mean()
    return difference.abs().mean() + _SQUARE_WEIGHT * square, {"psnr": float(-10 * torch.log10(square.detach() / 4))}
