"""How the next embedded model is trained: python -m longtake.train.sprites.next_recipe STAGE [--runs] [--minutes].

Latents 4 times smaller per side in place of 8; their denoiser is the UNet of `sprites` on squares of 2 x 2 of these
latents as one, which begins with the weights of the package.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from longtake.train.fit.levels import LevelMixture
from longtake.train.fit.runs import Runs, Stage, run_named
from longtake.train.fit.settings import FitSettings
from longtake.train.sprites.build import SpriteSizes
from longtake.train.sprites.cache import CacheSettings
from longtake.train.sprites.stages import (
    encode_videos,
    take_base,
    take_sprites,
    train_decoder,
    train_denoiser,
    train_vae,
    write_sharp,
)
from longtake.train.sprites.unet import DenoiserSettings
from longtake.train.sprites.vae import VaeSettings

SIZES = SpriteSizes(vae_channels=(24, 48, 96), latent_channels=8)
"""Of the picture autoencoder and the text encoder. 16 channels gave no more within the same steps: see docs/log.md."""
SHARP = replace(SIZES, cell=2, predicts="sample")
"""Of the UNet. It says x0: 64 channels cannot hand on the noise of 32 numbers, as v wants them to; see docs/log.md."""
GUIDANCE = 3.0
"""Guidance scale that suits the finished model."""


def vae() -> tuple[VaeSettings, FitSettings]:
    """The picture autoencoder."""
    fit = FitSettings(
        num_steps=10_400, learning_rate=1.5e-3, decay_steps=6_000, weight_decay=0.0, ema_decay=0.998, save_minutes=10
    )
    return VaeSettings(num_frames=14_000), fit


def decoder() -> tuple[VaeSettings, FitSettings]:
    """More steps for the decoder alone, at any time: latents stay what they are."""
    fit = FitSettings(num_steps=6_000, learning_rate=8e-4, decay_steps=5_000, weight_decay=0.0, ema_decay=0.998)
    return VaeSettings(num_frames=16_000, seed=1_200_000, decoder_only=True), fit


def pictures() -> CacheSettings:
    """Latents of 32,000 varied frames."""
    return CacheSettings(num_worlds=8_000, num_frames=4, frame_step=101, worlds_per_file=1_000)


def clips() -> CacheSettings:
    """Latents of 4,000 stretches of 32 frames; a clip may start at 17 places in each. In 1,000 the prompt changes."""
    return CacheSettings(num_worlds=4_000, num_frames=32, first_seed=3_000_000, worlds_per_file=100, num_switches=1_000)


def sharp() -> tuple[DenoiserSettings, FitSettings]:
    """The UNet of `sprites` on squares of these latents: clips with a noise level for every frame."""
    levels = LevelMixture(uniform=0.4, independent=0.05, diagonal=0.35, past=0.1, ends=0.05, known=0.05)
    fit = FitSettings(num_steps=14_000, learning_rate=7e-4, decay_steps=8_400, seed=4, save_minutes=10)
    return DenoiserSettings(batch_size=4, num_frames=16, levels=levels, pictures=32), fit


STAGES = {
    "vae": Stage(run=train_vae, settings=(SIZES, *vae()), share=20),
    "sprites": Stage(run=take_sprites, settings=(), share=1),
    "pictures": Stage(run=encode_videos, settings=(pictures(), "pictures"), share=4),
    "clips": Stage(run=encode_videos, settings=(clips(), "clips"), share=6),
    "sharp": Stage(run=train_denoiser, settings=(SHARP, *sharp(), "sharp", "sprites"), share=60),
    "decoder": Stage(run=train_decoder, settings=decoder(), share=8),
    "sharp-weights": Stage(run=write_sharp, settings=(SHARP, GUIDANCE, "sharp"), share=1),
}
"""In the order they run in."""


def main(arguments: Sequence[str]) -> int:
    """Run a stage, or all; what was interrupted continues. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=["all", *STAGES])
    parser.add_argument("--runs", type=Path, default=Path("runs/next"), help="folder that all stages share")
    parser.add_argument("--minutes", type=float, help="of this call; all: in all, of which each stage has its share")
    parser.add_argument("--base", type=Path, help="folder with a `vae`, which begins a new folder of runs")
    chosen = parser.parse_args(arguments)
    runs = Runs(folder=chosen.runs)
    if chosen.base and not (runs.folder / "vae").exists():
        take_base(chosen.base, runs)
    _, limit = run_named(STAGES, chosen.stage, runs, chosen.minutes)
    return 0 if limit.signal is None else 128 + limit.signal


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
