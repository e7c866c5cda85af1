"""Training mask temporal diffusion: clips at all levels of the tree, with some of their frames known."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from longtake.models.nuwa_xl.load import save_unet
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.schedules import discrete_schedule
from longtake.samplers.step import ddim
from longtake.schedule import Prediction, Table, to_x0
from longtake.train.fit.task import Scalars, Task, above, cpu_attention, sheet
from longtake.train.nuwa_xl.data import SpanSource
from longtake.train.nuwa_xl.settings import MtdSettings
from longtake.train.sprites.autoencode import decode_scaled
from longtake.train.sprites.build import AutoencoderKL
from longtake.train.sprites.cache import Drawn

_FRAMES_AT_ONCE = 16


class MtdTask(Task):
    """Predict v = alpha eps - sigma x0, or eps, of all frames of a clip, the known ones included (section 3.2)."""

    def __init__(
        self,
        network: MaskTemporalUnet,
        alphas_cumprod: Table,
        vae: AutoencoderKL,
        source: SpanSource,
        settings: MtdSettings,
        prediction: Prediction = "v_prediction",
    ) -> None:
        """`network` is trained in place; the rest stays as it is."""
        assert prediction in ("v_prediction", "epsilon"), prediction
        self.network, self.predicts_noise = network.eval(), prediction == "epsilon"
        self.vae, self.source, self.settings = vae, source, settings
        self.alphas_cumprod = alphas_cumprod.float()
        self.num_frames = network.config.frames
        levels = range(len(source.strides))
        self.shares = torch.tensor(settings.level_shares or [1.0] * len(levels))
        assert len(self.shares) == len(levels), settings.level_shares
        self.shown = source.draw(levels, self.num_frames, torch.Generator().manual_seed(1))

    def module(self) -> nn.Module:
        """The UNet."""
        return self.network

    def loss(self, generator: Generator) -> tuple[Tensor, Scalars]:
        """Mean squared error of the prediction over all frames of clips at random levels."""
        settings = self.settings
        levels = torch.multinomial(self.shares, settings.batch_size, replacement=True, generator=generator).tolist()
        clips = self.source.draw(levels, self.num_frames, generator)
        mask = torch.stack([draw_mask(level, self.num_frames, settings, generator) for level in levels])
        text = _without(clips.texts, self.source.empty, settings.drop_text, generator)
        timestep = torch.randint(len(self.alphas_cumprod), (settings.batch_size,), generator=generator)
        strength = settings.known_noise * torch.rand(settings.batch_size, 1, 1, 1, 1, generator=generator)
        known = clips.latents + strength * torch.randn(clips.latents.shape, generator=generator)
        noise = torch.randn(clips.latents.shape, generator=generator)
        alpha, sigma = self._coefficients(timestep)
        x = alpha * clips.latents + sigma * noise
        predicted = self._predict(x, timestep, text, _masked(known, mask), mask, clips.stride)
        target = noise if self.predicts_noise else alpha * noise - sigma * clips.latents
        error = (predicted - target.to(predicted.device)).square().mean(dim=(1, 2, 3, 4))
        by_level = {stride: error[clips.stride == stride].detach() for stride in set(clips.stride.tolist())}
        scalars = {f"loss_{stride}": float(errors.mean()) for stride, errors in by_level.items()}
        return error.mean(), scalars

    def sample(self) -> Float[Tensor, "3 height width"]:
        """For every level two rows, every second frame: a clip made from its captions (and its ends), and the real
        one."""
        mask = torch.stack([level_mask(level, self.num_frames) for level in range(len(self.source.strides))])
        made = self._denoised(self.shown, mask)
        pairs = above(made.transpose(1, 2), self.shown.latents.transpose(1, 2))[:, ::2]
        parts = pairs.flatten(0, 1).to(self.vae.device).split(_FRAMES_AT_ONCE)
        return sheet(torch.cat([decode_scaled(self.vae, part).cpu() for part in parts]).unflatten(0, pairs.shape[:2]))

    def save(self, folder: Path) -> None:
        """Write the UNet."""
        save_unet(folder, self.network, torch.float32)

    def _denoised(self, clips: Drawn, mask: Tensor) -> Float[Tensor, "clips channels frames height width"]:
        """DDIM with guidance, from the same noise every time."""
        text = torch.cat([clips.texts, self.source.empty.expand_as(clips.texts)])
        known, mask, stride = (torch.cat([part, part]) for part in (_masked(clips.latents, mask), mask, clips.stride))
        kind: Prediction = "epsilon" if self.predicts_noise else "v_prediction"
        schedule = discrete_schedule(self.alphas_cumprod, self.settings.sample_steps, "trailing", kind)

        def denoiser(x: Tensor, levels: Tensor) -> Tensor:
            timesteps = schedule.timestep[torch.cat([levels, levels])[:, 0]]
            told, untold = self._predict(torch.cat([x, x]), timesteps, text, known, mask, stride).to(x.device).chunk(2)
            predicted = untold + self.settings.guidance * (told - untold)
            return to_x0(predicted, x, schedule.now(levels[:, None, :, None, None]), kind)

        return ddim(denoiser, torch.randn(clips.latents.shape, generator=torch.Generator().manual_seed(0)), schedule)

    def _coefficients(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma per clip, shaped to multiply latents."""
        bar = self.alphas_cumprod[timestep][:, None, None, None, None]
        return bar.sqrt(), (1 - bar).sqrt()

    def _predict(
        self, x: Tensor, timestep: Tensor, text: Tensor, known: Tensor, mask: Tensor, stride: Tensor
    ) -> Tensor:
        """The network's output, where the network is."""
        device = next(self.network.parameters()).device
        with cpu_attention(device):
            inputs = (part.to(device) for part in (x, timestep, text, known, mask, stride))
            return self.network(*inputs).float()


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
