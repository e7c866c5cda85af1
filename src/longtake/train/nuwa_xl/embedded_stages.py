"""The stages of the training of `nuwa-sprites`, each a function of its settings and of where it runs."""

from pathlib import Path

import torch
from safetensors import safe_open

from longtake.models.hub.configs import read_extras
from longtake.models.nuwa_xl.config import MtdConfig
from longtake.models.nuwa_xl.load import from_video_unet, load_unet
from longtake.models.nuwa_xl.save import count_flops, save_index, save_unet
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder
from longtake.train.fit.runs import Runs
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.data import SpriteStretches, StretchSettings, encode_stretches
from longtake.train.nuwa_xl.unet import MtdSettings, MtdTask
from longtake.train.nuwa_xl.vae import TemporalVaeSettings, TemporalVaeTask
from longtake.train.sprites.build import build_scheduler
from longtake.train.sprites.stages import trained_vae


def encode(settings: StretchSettings, runs: Runs) -> bool:
    """Encode stretches of long worlds with changes of scene."""
    return encode_stretches(trained_vae(runs), settings, runs.folder / "stretches", runs.limit)


def train_mtd(config: MtdConfig, settings: MtdSettings, loop: FitSettings, runs: Runs) -> bool:
    """Train the UNet from the image network of `sprites` on what `encode` left."""
    torch.manual_seed(loop.seed)
    network = runs.moved(from_video_unet(runs.final("images"), config).requires_grad_(True))
    source = SpriteStretches(runs.folder / "stretches", runs.captions, config.strides)
    task = MtdTask(network, build_scheduler().alphas_cumprod.double(), trained_vae(runs), source, settings)
    return runs.fit("mtd", task, loop)


def train_t_klvae(settings: TemporalVaeSettings, loop: FitSettings, frames: int, runs: Runs) -> bool:
    """Train T-KLVAE from the picture autoencoder, for comparison: `nuwa-sprites` keeps the latter, frame by frame."""
    torch.manual_seed(loop.seed)
    network = TemporalAutoencoder(trained_vae(runs), frames)
    return runs.fit("t_klvae", TemporalVaeTask(network, settings), loop)


def write_weights(guidance: float, infill_guidance: float, runs: Runs, weights: Path) -> None:
    """Write `nuwa-sprites` into `weights`: a UNet in half precision, which shares all else with `sprites` beside it."""
    folder, network, shared = weights / "nuwa-sprites", load_unet(runs.final("mtd")), weights / "sprites"
    save_unet(folder / "unet", network, torch.float16)
    told = read_extras(shared)
    with safe_open(runs.captions, "pt") as file:
        num_tokens = file.get_slice("empty").get_shape()[0]
    extras = {"guidance": guidance, "infill_guidance": infill_guidance}
    extras |= {name: told[name] for name in ("fps", "vocabulary", "decode_flops")}
    extras |= {"forward_flops": count_flops(network, num_tokens)}
    save_index(folder, extras | {"shared": f"../{shared.name}"})
