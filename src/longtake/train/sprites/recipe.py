"""How the embedded model was trained: every stage in full, and the stages in their order."""

from dataclasses import replace

from longtake.train.fit.levels import LevelMixture
from longtake.train.fit.runs import Stage
from longtake.train.fit.settings import FitSettings
from longtake.train.sprites.build import SpriteSizes
from longtake.train.sprites.cache import CacheSettings
from longtake.train.sprites.stages import (
    encode_videos,
    train_decoder,
    train_denoiser,
    train_guided,
    train_text,
    train_vae,
)
from longtake.train.sprites.text import TextSettings
from longtake.train.sprites.unet import DenoiserSettings
from longtake.train.sprites.vae import VaeSettings

SIZES = SpriteSizes()
"""Of all networks."""
GUIDANCE = 3.0
"""Guidance scale that suits the finished model."""


TEXT = TextSettings(), FitSettings(num_steps=1_500, learning_rate=1e-3, decay_steps=1_000, ema_decay=0.99)
"""Of the text encoder."""
LEVELS = LevelMixture(uniform=0.3, independent=0.1, diagonal=0.45, past=0.1, ends=0.05)
"""Of the stage `mixture`."""

_VAE_FIT = FitSettings(
    num_steps=5_000, learning_rate=1.5e-3, decay_steps=3_500, weight_decay=0.0, ema_decay=0.995, sample_minutes=2
)
_DECODER = VaeSettings(num_frames=40_000, seed=1_200_000, decoder_only=True, latent_noise=0.2)
_DECODER_FIT = FitSettings(
    num_steps=24_000, learning_rate=1e-3, decay_steps=16_000, weight_decay=0.0, ema_decay=0.998, save_minutes=10
)
_PICTURES = CacheSettings(num_worlds=8_000, num_frames=4, frame_step=101, worlds_per_file=400)
_CLIPS = CacheSettings(num_worlds=1_500, num_frames=48, first_seed=3_000_000)
_IMAGES = DenoiserSettings(batch_size=32, num_frames=1, sample_steps=12)
_IMAGES_FIT = FitSettings(num_steps=10_000, learning_rate=1e-3, warmup_steps=200, decay_steps=2_500)
_UNIFORM = replace(_IMAGES, batch_size=4, num_frames=16)
_UNIFORM_FIT = FitSettings(num_steps=1_450, learning_rate=8e-4, warmup_steps=50, decay_steps=400, ema_decay=0.998)
_MIXTURE = replace(_UNIFORM, levels=LEVELS)
_MIXTURE_FIT = FitSettings(num_steps=4_000, learning_rate=7e-4, warmup_steps=50, decay_steps=2_400, ema_decay=0.998)
_LONGER = replace(_UNIFORM, levels=replace(LEVELS, uniform=0.35, independent=0.05))
_LONGER_FIT = FitSettings(num_steps=7_000, learning_rate=5e-4, decay_steps=5_000, seed=1)
_FURTHER_LEVELS = replace(LEVELS, uniform=0.4, independent=0.05, diagonal=0.35, known=0.05)
_FURTHER = replace(_UNIFORM, levels=_FURTHER_LEVELS)
_FURTHER_FIT = FitSettings(num_steps=10_000, learning_rate=5e-4, decay_steps=6_000, seed=2)
_SWITCHES = CacheSettings(num_worlds=2_400, num_frames=32, first_seed=3_000_000, worlds_per_file=100, num_switches=800)
_FAST = replace(_FURTHER, drop_text=0.0, guidance=1.0, taught=GUIDANCE)
_FAST_FIT = FitSettings(num_steps=10_000, learning_rate=5e-4, decay_steps=6_000, seed=3, save_minutes=10)

STAGES = {
    "vae": Stage(run=train_vae, settings=(SIZES, VaeSettings(num_frames=12_000), _VAE_FIT), share=8),
    "text": Stage(run=train_text, settings=(SIZES, *TEXT), share=2),
    # 32,000 varied frames.
    "pictures": Stage(run=encode_videos, settings=(_PICTURES, "pictures"), share=3),
    # 1,500 stretches of 48 frames; a clip may start at 33 places in each.
    "clips": Stage(run=encode_videos, settings=(_CLIPS, "clips"), share=4),
    "images": Stage(run=train_denoiser, settings=(SIZES, _IMAGES, _IMAGES_FIT, "images", None), share=16),
    # `sprites-uniform`: one noise level for each clip.
    "uniform": Stage(run=train_denoiser, settings=(SIZES, _UNIFORM, _UNIFORM_FIT, "uniform", "images"), share=5),
    # `sprites`: a noise level for every frame; then more steps from there at a rate that falls.
    "mixture": Stage(run=train_denoiser, settings=(SIZES, _MIXTURE, _MIXTURE_FIT, "mixture", "uniform"), share=8),
    "longer": Stage(run=train_denoiser, settings=(SIZES, _LONGER, _LONGER_FIT, "longer", "mixture"), share=14),
    # The same again, with known frames among those to be made.
    "further": Stage(run=train_denoiser, settings=(SIZES, _FURTHER, _FURTHER_FIT, "further", "longer"), share=20),
    # `sprites-fast`: guidance in one branch, on clips in a third of which the prompt changes.
    "switches": Stage(run=encode_videos, settings=(_SWITCHES, "switches"), share=5),
    "fast": Stage(run=train_guided, settings=(SIZES, _FAST, _FAST_FIT, "fast", "further"), share=20),
    # At any time: latents stay what they are.
    "decoder": Stage(run=train_decoder, settings=(_DECODER, _DECODER_FIT), share=5),
}
"""In the order they run in."""
