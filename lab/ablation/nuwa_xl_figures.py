"""What the ablations of NUWA-XL measure, on clips of worlds that nothing was trained on."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lab.common import Frames
from longtake.metrics.scores import frechet_distance, gaussian, psnr
from longtake.metrics.video_networks import stand_in_features
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder
from longtake.models.schedules import discrete_schedule
from longtake.samplers.step import ddim
from longtake.schedule import Table, to_x0
from longtake.train.nuwa_xl.data import SpriteStretches, StretchSettings, draw_clips
from longtake.train.nuwa_xl.unet import level_mask
from longtake.train.sprites.autoencode import decode_scaled, to_model
from longtake.train.sprites.build import AutoencoderKL
from longtake.train.sprites.cache import Drawn

Figures = dict[str, float]

TIMES = (100, 300, 500, 700, 900)
"""Of 1,000: where the loss is measured."""
SAMPLE_STEPS = 8
HELD_CLIPS = 16
"""Clips of every level that are measured."""
HELD_WORLDS = StretchSettings(num_worlds=16, num_stretches=(1, 1, 2), num_frames=16, first_seed=6_500_000)
"""Worlds on which autoencoders are measured."""
STILL = 1
"""Most grey levels by which a pixel that stands still changes."""


def condition_figures(
    network: MaskTemporalUnet, alphas_cumprod: Table, vae: AutoencoderKL, source: SpriteStretches
) -> Figures:
    """Return losses by stride, and PSNR and distance of infilled clips against decoded real ones."""
    num_frames, middle, figures = network.config.frames, slice(1, -1), {}
    for level, stride in enumerate(source.strides):
        clips, mask = held_clips(source, level, num_frames), level_mask(level, num_frames)
        figures[f"loss {stride}"] = validation_loss(network, alphas_cumprod, clips, mask)
        if level == 0:
            continue
        # Stretches of a world are neighbours: half the clips further on lies another world.
        strange = clips.latents.roll(len(clips.latents) // 2, dims=0)
        made = [infill(network, alphas_cumprod, clips, ends) for ends in (clips.latents, strange)]
        real, true, shuffled = (pictures(vae, latents) for latents in (clips.latents, *made))
        figures[f"middle {stride}"] = mean_psnr(real, true, middle)
        figures[f"middle, other ends {stride}"] = mean_psnr(real, shuffled, middle)
        figures[f"middle, blend {stride}"] = mean_psnr(real, blended(real), middle)
        figures[f"ends {stride}"] = mean_psnr(real, true, [0, -1])
        figures[f"distance {stride}"] = distance(real, true)
        figures[f"distance, blend {stride}"] = distance(real, blended(real))
    return figures


@torch.inference_mode()
def autoencoder_figures(network: TemporalAutoencoder) -> Figures:
    """Return PSNR by stride, and flicker and distance at the finest, of reconstructions of held-out clips."""
    drawn = draw_clips(HELD_WORLDS).unflatten(0, (HELD_WORLDS.num_worlds, -1))
    figures, start = {}, 0
    for stride, count in zip(HELD_WORLDS.strides, HELD_WORLDS.num_stretches, strict=True):
        clips = drawn[:, start : start + count].flatten(0, 1)
        start += count
        real, made = clips.permute(0, 1, 3, 4, 2).numpy(), np.stack([_reconstructed(network, clip) for clip in clips])
        figures[f"psnr {stride}"] = mean_psnr(real, made, slice(None))
        if stride == min(HELD_WORLDS.strides):
            figures |= {"flicker": still_flicker(real, made), "distance": distance(real, made)}
    return figures


def _reconstructed(network: TemporalAutoencoder, clip: Tensor) -> Frames:
    with torch.autocast("cpu", torch.bfloat16):
        latents = network.encode(to_model(clip).transpose(0, 1)[None]).mean
        pixels = network.decode(latents.unflatten(0, (1, -1)).transpose(1, 2))[0].float()
    return ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 3, 0).numpy()


def held_clips(source: SpriteStretches, level: int, num_frames: int, count: int = HELD_CLIPS) -> Drawn:
    """Return the starts of `count` stretches of a level, evenly spread over the worlds."""
    picked = torch.linspace(0, len(source.latents[level]) - 1, count).round().long()
    shots = source.shots[level][picked, :num_frames]
    texts = source.table[shots, shots % source.table.shape[1]].float()
    return Drawn(
        latents=source.latents[level][picked, :num_frames].float().transpose(1, 2),
        texts=texts,
        plain=texts,
        stride=torch.full((count,), source.strides[level]),
    )


@torch.inference_mode()
def validation_loss(network: MaskTemporalUnet, alphas_cumprod: Table, clips: Drawn, mask: Tensor) -> float:
    """Return the mean squared error of v over all frames and over `TIMES`; the same noise at every call."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for step in TIMES:
        noise = torch.randn(clips.latents.shape, generator=generator)
        alpha, sigma = alphas_cumprod[step].sqrt().float(), (1 - alphas_cumprod[step]).sqrt().float()
        predicted = _predict(network, alpha * clips.latents + sigma * noise, step, clips, clips.latents, mask)
        errors.append(float((predicted - alpha * noise + sigma * clips.latents).square().mean()))
    return float(np.mean(errors))


@torch.inference_mode()
def infill(network: MaskTemporalUnet, alphas_cumprod: Table, clips: Drawn, ends: Tensor) -> Tensor:
    """Return clips made from their captions and the ends of `ends`, by DDIM without guidance from the same noise."""
    mask = level_mask(1, clips.latents.shape[2])
    schedule = discrete_schedule(alphas_cumprod, SAMPLE_STEPS, "trailing", "v_prediction")

    def denoiser(x: Tensor, levels: Tensor) -> Tensor:
        level = levels[0, 0]
        v = _predict(network, x, int(schedule.timestep[level]), clips, ends, mask)
        return to_x0(v, x, schedule.now(level), "v_prediction")

    x = torch.randn(clips.latents.shape, generator=torch.Generator().manual_seed(1))
    return ddim(denoiser, x, schedule)


def _predict(
    network: MaskTemporalUnet, x: Tensor, step: int, clips: Drawn, known: Tensor, mask: Tensor, at_once: int = 8
) -> Tensor:
    known, masks = known * mask[:, None, None], mask.expand(len(x), -1)
    parts = zip(*(tensor.split(at_once) for tensor in (x, clips.texts, known, masks, clips.stride)), strict=True)
    with torch.autocast("cpu", torch.bfloat16):
        return torch.cat([network(x, torch.full((len(x),), step), *others).float() for x, *others in parts])


@torch.inference_mode()
def pictures(vae: AutoencoderKL, latents: Tensor) -> Frames:
    """Return decoded clips, uint8 (clips, frames, height, width, 3)."""
    with torch.autocast("cpu", torch.bfloat16):
        pixels = [decode_scaled(vae, clip.transpose(0, 1)) for clip in latents]
    return (torch.stack(pixels) * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()


def blended(clips: Frames) -> Frames:
    """Return clips of the same ends with a linear blend between."""
    share = np.linspace(0, 1, clips.shape[1])[:, None, None, None]
    return ((1 - share) * clips[:, :1] + share * clips[:, -1:]).round().astype(np.uint8)


def mean_psnr(clips: Frames, made: Frames, frames: Sequence[int] | slice) -> float:
    """Return the mean over clips of the PSNR of some of their frames, in dB."""
    return float(np.mean([psnr(clip[frames], again[frames]) for clip, again in zip(clips, made, strict=True)]))


def still_flicker(clips: Frames, made: Frames) -> float:
    """Return by how many grey levels pixels that stand still in `clips` change from frame to frame in `made`.

    A mean over all pairs of pixels none of whose colours changes by more than `STILL`.
    """
    truth, change = (np.diff(video.astype(np.int16), axis=1) for video in (clips, made))
    still = np.abs(truth).max(axis=-1) <= STILL
    return float(np.abs(change - truth)[still].mean())


def distance(clips: Frames, made: Frames) -> float:
    """Return the Frechet distance of features of the sprite judge, a stand-in for a network of real videos."""
    network = stand_in_features()
    return frechet_distance(gaussian(network.read(clips)), gaussian(network.read(made)))
