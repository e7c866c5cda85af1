"""Training the picture autoencoder of the embedded model, on sprite worlds or on other frames."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Generator, Tensor, nn

from longtake.data.sprites import drawn, random_world
from longtake.train.fit.settings import ReconstructionLoss
from longtake.train.fit.task import Scalars, Task, above, sheet
from longtake.train.sprites.autoencode import decode, posterior, to_model
from longtake.train.sprites.build import AutoencoderKL


@dataclass(frozen=True, kw_only=True)
class VaeSettings(ReconstructionLoss):
    """Data and loss of the autoencoder."""

    num_frames: int = 16_000
    """Frames that are drawn before the first step, two per world."""
    batch_size: int = 8
    """Frames per step."""
    kl_weight: float = 2e-4
    """Weight of the divergence from a unit Gaussian, per latent number."""
    square_weight: float = 2.0
    """Weight of the squared error beside the absolute one; it makes colours right early."""
    edge_weight: float = 0.5
    """Weight of the difference of neighbouring pixels, which keeps outlines sharp."""
    seed: int = 1_000_000
    """World of the first frame; further frames count up."""


def draw_frames(num_frames: int, seed: int) -> UInt8[Tensor, "frames 3 64 64"]:
    """Random frames of training worlds, two a world."""
    places = np.random.default_rng([seed, 1]).integers(0, 2000, ((num_frames + 1) // 2, 2)).tolist()
    worlds = [(random_world(seed + number), two) for number, two in enumerate(places)]
    frames = np.concatenate(drawn(worlds, torch.get_num_threads()))[:num_frames]
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()


class VaeTask(Task):
    """Reconstruct single frames."""

    def __init__(
        self, vae: AutoencoderKL, settings: VaeSettings, frames: UInt8[Tensor, "frames 3 64 64"] | None = None
    ) -> None:
        """Draw the frames, unless there are some of another kind; `vae` is trained in place."""
        self.vae = vae
        self.settings = settings
        self.trained = _decoder(vae) if settings.decoder_only else vae
        self.frames = draw_frames(settings.num_frames, settings.seed) if frames is None else frames
        self.fixed = draw_frames(32, settings.seed - 16) if frames is None else frames[:: -(-len(frames) // 32)]

    def module(self) -> nn.Module:
        """The autoencoder, or its decoder."""
        return self.trained

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Absolute error of pixels and of their differences, plus a small divergence."""
        pick = torch.randint(len(self.frames), (self.settings.batch_size,), generator=generator)
        frames = to_model(self.frames[pick].to(self.vae.device))
        with nullcontext() if not self.settings.decoder_only else torch.no_grad():
            latents = posterior(self.vae, frames)
        noise = torch.randn(latents.mean.shape, generator=generator).to(self.vae.device)
        spread = torch.hypot(latents.std, latents.std.new_tensor(self.settings.latent_noise))
        decoded = decode(self.vae, latents.mean + spread * noise)
        difference = decoded - frames
        square = difference.square().mean()
        error = difference.abs().mean() + self.settings.square_weight * square
        edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        divergence = latents.kl().mean() / latents.mean[0].numel()
        loss = error + self.settings.edge_weight * edges + self.settings.kl_weight * divergence
        return loss, {"psnr": float(-10 * torch.log10(square.detach() / 4)), "kl": float(divergence.detach())}

    def sample(self) -> Tensor:
        """Frames above, their reconstructions below."""
        frames = to_model(self.fixed.to(self.vae.device))
        decoded = decode(self.vae, posterior(self.vae, frames).mean)
        return sheet(above(*(pictures.unflatten(0, (4, -1)) / 2 + 0.5 for pictures in (frames, decoded))))

    def save(self, folder: Path) -> None:
        """Write the autoencoder with `scaling_factor` = 1 / std of its latents."""
        if not self.settings.decoder_only:
            with torch.no_grad():
                latents = posterior(self.vae, to_model(self.frames[:1024].to(self.vae.device))).mean
            self.vae.register_to_config(scaling_factor=float(1 / latents.std()))
        self.vae.save_pretrained(folder)


def _decoder(vae: AutoencoderKL) -> nn.Module:
    parts = dict(vae.named_children())
    return nn.ModuleDict({name: parts[name] for name in ("post_quant_conv", "decoder")})
