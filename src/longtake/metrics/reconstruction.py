"""What an autoencoder loses: clips before and after it, pixel by pixel and to the eye of networks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from longtake.data.footage import Frames
from longtake.decoding import decode_clip, to_uint8
from longtake.errors import InputError
from longtake.metrics.clips import planes
from longtake.metrics.scores import ClipScores, frechet_distance, gaussian, psnr, shrunk_distance, ssim
from longtake.metrics.video_networks import VideoNetwork
from longtake.models import load_model
from longtake.models.hub.files import read_json
from longtake.models.hub.load import filled, image_decoder
from longtake.models.image_model import decode_frames, encode_frames
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig
from longtake.models.pvdm.losses import Lpips
from longtake.models.pvdm.spec import NETWORKS, read_config

_SSIM_SIDE = 11


@dataclass(frozen=True, kw_only=True)
class PairScores(ClipScores):
    """How near reconstructions are to their originals."""

    psnr: float
    """Mean over clips, in dB; 100 for an identical one."""
    ssim: float | None
    """Mean over clips; None for frames below 11 pixels."""
    lpips: float | None
    """Mean over frames; None without the weights of LPIPS."""
    r_fvd: float
    """Frechet distance of the features of both sets."""
    r_fvd_shrunk: float | None
    """The same of shrunk covariances; None where clips are more than features."""
    clips: int
    """Pairs of clips."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """An autoencoder, to there and back."""

    num_frames: int | None
    """Frames that it takes at once; None for any number."""
    size: int | None
    """Side of the frames that it takes; None for any."""
    bring_back: Callable[[Frames], Frames]
    """A clip, uint8 (num_frames, height, width, 3), to what comes back of it."""


def open_codec(name: str, device: str) -> Codec:
    """Return the autoencoder of a model, by its name or folder, or that in a folder of its own: PVDM's first stage, or
    an AutoencoderKL of diffusers. In float32.

    Raises InputError for an unknown name, CheckpointError for missing or broken files.
    """
    folder, where = Path(name), torch.device(device)
    config = folder / "config.json"
    kind = read_json(config).get("_class_name") if config.is_file() else None
    if kind == "AutoencoderKL":
        vae = image_decoder(folder, where, torch.float32)
        through = _there_and_back(lambda pixels: decode_frames(vae, encode_frames(vae, pixels)))
        return Codec(num_frames=None, size=None, bring_back=through)
    if kind == NETWORKS["autoencoder"]:
        settings = read_config(AutoencoderConfig, folder)
        network = filled(lambda: PvdmAutoencoder(settings), folder).to(where, torch.float32)

        def bring_back(pixels: torch.Tensor) -> torch.Tensor:
            (clip,) = network((pixels * 2 - 1).to(where).transpose(0, 1)[None])
            return clip.transpose(0, 1) / 2 + 0.5

        grid = settings.grid
        return Codec(num_frames=grid.frames, size=grid.rows * settings.patch, bring_back=_there_and_back(bring_back))
    model = load_model(name, device)
    spec = model.spec

    # Latents without an axis of frames are those of a whole clip of one size.
    is_whole = len(spec.latent_shape) != 4
    return Codec(
        num_frames=spec.num_frames if is_whole else None,
        size=min(spec.height, spec.width) if is_whole else None,
        bring_back=lambda clip: decode_clip(model, model.encode_frames(planes(clip) / 255)),
    )


def _there_and_back(bring_back: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Frames], Frames]:
    @torch.inference_mode()
    def through(clip: Frames) -> Frames:
        return to_uint8(bring_back(planes(clip) / 255))

    return through


def score_pairs(
    pairs: Iterable[tuple[Frames, Frames]], network: VideoNetwork, lpips: Lpips | None, device: str
) -> PairScores:
    """Compare clips with what came back of them. Raises InputError for pairs of other sizes, and for a single one."""
    ratios, alike, looks, rows = [], [], [], ([], [])
    shape = None
    for clip, again in pairs:
        shape = shape or clip.shape
        if not clip.shape == again.shape == shape:
            sizes = " and ".join(f"{one.shape[2]}x{one.shape[1]}" for one in (clip, again))
            raise InputError(f"clips of {sizes} pixels cannot be compared; give a --size for all of them")
        ratios.append(psnr(clip, again))
        if min(shape[1:3]) >= _SSIM_SIDE:
            alike.append(ssim(clip, again))
        if lpips is not None:
            looks.append(_lpips(lpips, clip, again, device))
        for seen, side in zip(rows, (clip, again), strict=True):
            seen.append(network.read(side[None])[0])
    if shape is None or len(ratios) < 2:
        raise InputError("a distance needs two clips; add videos, or give more --clips")
    before, after = (np.stack(seen) for seen in rows)
    return PairScores(
        psnr=float(np.mean(ratios)),
        ssim=float(np.mean(alike)) if alike else None,
        lpips=float(np.mean(looks)) if looks else None,
        r_fvd=frechet_distance(gaussian(before), gaussian(after)),
        r_fvd_shrunk=shrunk_distance(before, after),
        features=before.shape[1],
        clips=len(ratios),
        width=shape[2],
        height=shape[1],
    )


@torch.inference_mode()
def _lpips(network: Lpips, clip: Frames, again: Frames, device: str) -> float:
    x, y = ((planes(side) / 127.5 - 1).to(device).split(16) for side in (clip, again))
    return float(torch.cat([network(one, other) for one, other in zip(x, y, strict=True)]).mean())
