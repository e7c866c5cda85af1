"""How `nuwa-sprites` is trained: every stage in full, and the stages in their order.

    python -m longtake.train.nuwa_xl.recipe cache|mtd|t_klvae|weights [--runs runs/nuwa] [--minutes M]

Autoencoder, text encoder and tokenizer are those of the embedded `sprites`; the image network is what the stage
`images` of `longtake train sprites` leaves (`--images`). A stage that was interrupted continues.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from longtake.models import WEIGHTS
from longtake.models.nuwa_xl.config import MtdConfig
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.data import StretchSettings
from longtake.train.nuwa_xl.embedded import NuwaPlaces, encode, train_mtd, train_t_klvae, write_weights
from longtake.train.nuwa_xl.unet import MtdSettings
from longtake.train.nuwa_xl.vae import TemporalVaeSettings

GUIDANCE = 3.0
"""Guidance scale that suits the finished model."""
INFILL_GUIDANCE = 1.0
"""That of the finest level: higher ones read no better, move too much between known ends, and cost twice as much."""


def cache() -> StretchSettings:
    """Latents of 432,000 frames of 1,500 worlds, where all frames of their spans would be five million."""
    return StretchSettings()


def mtd() -> tuple[MtdConfig, MtdSettings, FitSettings]:
    """The UNet: pictures as they were learnt, time, levels and known frames from nothing.

    Most calls of the tree are at the finest level, and the coarsest has least that the image network does not know.
    """
    fit = FitSettings(num_steps=27_000, learning_rate=6e-4, warmup_steps=300, decay_steps=9_000, ema_decay=0.998)
    return MtdConfig(strides=cache().strides), MtdSettings(batch_size=4, level_shares=(1.0, 2.0, 3.0)), fit


def t_klvae() -> tuple[TemporalVaeSettings, FitSettings]:
    """The autoencoder with layers over time, for comparison; `nuwa-sprites` does without."""
    fit = FitSettings(num_steps=1_500, learning_rate=1e-4, warmup_steps=200, decay_steps=1_000, ema_decay=0.995)
    return TemporalVaeSettings(), fit


STAGES: dict[str, Callable[[NuwaPlaces, Callable[[int], bool]], None]] = {
    "cache": partial(encode, cache()),
    "mtd": partial(train_mtd, *mtd()),
    "t_klvae": partial(train_t_klvae, *t_klvae(), MtdConfig().frames),
    "weights": partial(write_weights, GUIDANCE, INFILL_GUIDANCE),
}
"""Name of a stage -> function of where things lie and of when to stop, in the order they run in."""


def main(arguments: list[str]) -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--runs", type=Path, default=Path("runs/nuwa"), help="folder that all stages share")
    parser.add_argument("--images", type=Path, default=Path("runs/images/final"), help="the image network")
    parser.add_argument("--minutes", type=float, help="save and stop after this time")
    chosen = parser.parse_args(arguments)
    end = float("inf") if chosen.minutes is None else time.monotonic() + 60 * chosen.minutes
    places = NuwaPlaces(runs=chosen.runs, images=chosen.images, embedded=WEIGHTS / "sprites")
    chosen.runs.mkdir(parents=True, exist_ok=True)
    STAGES[chosen.stage](places, lambda step: time.monotonic() > end)


if __name__ == "__main__":
    main(sys.argv[1:])
