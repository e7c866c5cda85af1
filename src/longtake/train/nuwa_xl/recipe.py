"""How `nuwa-sprites` is trained: every stage in full, and the stages in their order.

Autoencoder and captions are those of `sprites`, and so is the image network, as its stage `images` leaves it.
"""

from longtake.models.nuwa_xl.config import MtdConfig
from longtake.train.fit.runs import Stage
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.data import StretchSettings
from longtake.train.nuwa_xl.embedded_stages import encode, train_mtd, train_t_klvae
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


STAGES = {
    "stretches": Stage(run=encode, settings=(cache(),), share=8),
    "mtd": Stage(run=train_mtd, settings=mtd(), share=22),
}
"""After those of `sprites`, in the order they run in."""
COMPARED = {"t_klvae": Stage(run=train_t_klvae, settings=(*t_klvae(), MtdConfig().frames), share=1)}
"""What is trained for comparison only."""
