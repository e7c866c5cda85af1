"""How `nuwa-sprites` is trained: every stage in full, and the stages in their order.

Autoencoder and captions are those of `sprites`, and so is the image network, as its stage `images` leaves it.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

from longtake.models.hub.configs import read_extras
from longtake.models.nuwa_xl.load import count_flops, from_video_unet, load_unet, save_index, save_unet
from longtake.models.nuwa_xl.spec import MtdConfig
from longtake.train.fit.runs import Runs, Stage
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.data import SpriteStretches, StretchSettings, encode_stretches
from longtake.train.nuwa_xl.unet import MtdSettings, MtdTask
from longtake.train.sprites.build import build_scheduler
from longtake.train.sprites.stages import trained_vae

GUIDANCE = 3.0
"""Guidance scale that suits the finished model."""
INFILL_GUIDANCE = 1.0
"""That of the finest level: higher ones read no better, move too much between known ends, and cost twice as much."""


def encode(settings: StretchSettings, runs: Runs) -> bool:
    """Encode stretches of long worlds with changes of scene."""
    return encode_stretches(trained_vae(runs), settings, runs.folder / "stretches", runs.limit.after_one)


def train_mtd(config: MtdConfig, settings: MtdSettings, loop: FitSettings, runs: Runs) -> bool:
    """Train the UNet from the image network of `sprites` on what `encode` left."""
    torch.manual_seed(loop.seed)
    network = runs.moved(from_video_unet(runs.final("images"), config).requires_grad_(True))
    source = SpriteStretches(runs.folder / "stretches", runs.captions, config.strides)
    task = MtdTask(network, build_scheduler().alphas_cumprod.double(), trained_vae(runs), source, settings)
    return runs.fit("mtd", task, loop)


def write_weights(runs: Runs, weights: Path) -> None:
    """Write `nuwa-sprites` into `weights`: a UNet in half precision, which shares all else with `sprites` beside it."""
    folder, network, shared = weights / "nuwa-sprites", load_unet(runs.final("mtd")), weights / "sprites"
    save_unet(folder / "unet", network, torch.float16)
    told = read_extras(shared)
    num_tokens = len(load_file(runs.captions)["empty"])
    extras = {"guidance": GUIDANCE, "infill_guidance": INFILL_GUIDANCE}
    extras |= {name: told[name] for name in ("fps", "vocabulary", "decode_flops")}
    extras |= {"forward_flops": count_flops(network, num_tokens)}
    save_index(folder, extras | {"shared": f"../{shared.name}"})


STRETCHES = StretchSettings()
"""Latents of 432,000 frames of 1,500 worlds, where all frames of their spans would be five million."""
MTD = (
    MtdConfig(strides=STRETCHES.strides),
    # Most calls of the tree are at the finest level, and the coarsest has least that the image network does not know.
    MtdSettings(batch_size=4, sample_steps=12, level_shares=(1.0, 2.0, 3.0)),
    FitSettings(num_steps=27_000, learning_rate=6e-4, warmup_steps=300, decay_steps=9_000, ema_decay=0.998),
)
"""The UNet: pictures as they were learnt, time, levels and known frames from nothing."""

STAGES = {
    "stretches": Stage(run=encode, settings=(STRETCHES,), share=8),
    "mtd": Stage(run=train_mtd, settings=MTD, share=22),
}
"""After those of `sprites`, in the order they run in."""
