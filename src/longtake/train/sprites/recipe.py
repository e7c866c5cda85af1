"""How the embedded model was trained: every stage in full, and the stages in their order."""

from longtake.train.fit.runs import Stage
from longtake.train.fit.settings import FitSettings
from longtake.train.sprites.build import SpriteSizes
from longtake.train.sprites.cache import CacheSettings
from longtake.train.sprites.denoiser import DenoiserSettings
from longtake.train.sprites.levels import LevelMixture
from longtake.train.sprites.stages import encode_videos, train_decoder, train_denoiser, train_text, train_vae
from longtake.train.sprites.text import TextSettings
from longtake.train.sprites.vae import VaeSettings

SIZES = SpriteSizes()
"""Of all networks."""
GUIDANCE = 3.0
"""Guidance scale that suits the finished model."""


def vae() -> tuple[VaeSettings, FitSettings]:
    """The picture autoencoder."""
    fit = FitSettings(
        num_steps=5_000, learning_rate=1.5e-3, decay_steps=3_500, weight_decay=0.0, ema_decay=0.995, sample_minutes=2
    )
    return VaeSettings(num_frames=12_000), fit


def decoder() -> tuple[VaeSettings, FitSettings]:
    """More steps for the decoder alone, at any time: latents stay what they are."""
    fit = FitSettings(num_steps=3_500, learning_rate=1e-3, decay_steps=2_500, weight_decay=0.0, ema_decay=0.998)
    return VaeSettings(num_frames=16_000, seed=1_200_000, decoder_only=True), fit


def text() -> tuple[TextSettings, FitSettings]:
    """The text encoder."""
    return TextSettings(), FitSettings(num_steps=1_500, learning_rate=1e-3, decay_steps=1_000, ema_decay=0.99)


def pictures() -> CacheSettings:
    """Latents of 32,000 varied frames."""
    return CacheSettings(num_worlds=8_000, num_frames=4, frame_step=101, worlds_per_file=2_000)


def clips() -> CacheSettings:
    """Latents of 1,500 stretches of 48 frames; a clip may start at 33 places in each."""
    return CacheSettings(num_worlds=1_500, num_frames=48, first_seed=3_000_000)


def images() -> tuple[DenoiserSettings, FitSettings]:
    """The denoiser on single pictures."""
    fit = FitSettings(num_steps=10_000, learning_rate=1e-3, warmup_steps=200, decay_steps=2_500)
    return DenoiserSettings(batch_size=32, num_frames=1), fit


def uniform() -> tuple[DenoiserSettings, FitSettings]:
    """`sprites-uniform`: clips of 16 frames with one noise level each."""
    fit = FitSettings(num_steps=1_450, learning_rate=8e-4, warmup_steps=50, decay_steps=400, ema_decay=0.998)
    return DenoiserSettings(batch_size=4, num_frames=16), fit


def mixture() -> tuple[DenoiserSettings, FitSettings]:
    """`sprites`: a noise level for every frame."""
    levels = LevelMixture(uniform=0.3, independent=0.1, diagonal=0.45, past=0.1, ends=0.05)
    fit = FitSettings(num_steps=4_000, learning_rate=7e-4, warmup_steps=50, decay_steps=2_400, ema_decay=0.998)
    return DenoiserSettings(batch_size=4, num_frames=16, levels=levels), fit


def longer() -> tuple[DenoiserSettings, FitSettings]:
    """`sprites` again, from where `mixture` ended: more steps at a rate that falls."""
    levels = LevelMixture(uniform=0.35, independent=0.05, diagonal=0.45, past=0.1, ends=0.05)
    fit = FitSettings(num_steps=7_000, learning_rate=5e-4, decay_steps=5_000, seed=1)
    return DenoiserSettings(batch_size=4, num_frames=16, levels=levels), fit


STAGES = {
    "vae": Stage(run=train_vae, settings=(SIZES, *vae()), share=8),
    "text": Stage(run=train_text, settings=(SIZES, *text()), share=2),
    "pictures": Stage(run=encode_videos, settings=(pictures(), "pictures"), share=3),
    "clips": Stage(run=encode_videos, settings=(clips(), "clips"), share=4),
    "images": Stage(run=train_denoiser, settings=(SIZES, *images(), "images", None), share=16),
    "uniform": Stage(run=train_denoiser, settings=(SIZES, *uniform(), "uniform", "images"), share=5),
    "mixture": Stage(run=train_denoiser, settings=(SIZES, *mixture(), "mixture", "uniform"), share=8),
    "longer": Stage(run=train_denoiser, settings=(SIZES, *longer(), "longer", "mixture"), share=14),
    "decoder": Stage(run=train_decoder, settings=decoder(), share=5),
}
"""In the order they run in."""
