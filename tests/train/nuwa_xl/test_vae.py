"""Training T-KLVAE at a tiny size."""

from pathlib import Path

import torch

from longtake.models.nuwa_xl.load import load_temporal_autoencoder
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder
from longtake.train.fit.loop import fit, step_generator
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.vae import TemporalVaeTask
from longtake.train.sprites.build import SpriteSizes, build_vae


def test_it_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build_vae(SpriteSizes(vae_channels=(8, 8, 8, 8), latent_channels=4))
    task = TemporalVaeTask(TemporalAutoencoder(vae, frames=3), num_worlds=1)
    assert task.clips.shape == (3, 3, 3, 64, 64)
    with torch.no_grad():
        before = float(task.loss(step_generator(9, 0))[0])
    settings = FitSettings(num_steps=12, learning_rate=5e-3, warmup_steps=1, ema_decay=0.5, ema_every=1, precision="no")
    fit(task, settings, tmp_path)
    with torch.no_grad():
        assert float(task.loss(step_generator(9, 0))[0]) < 0.95 * before
    loaded = load_temporal_autoencoder(tmp_path / "final")
    video = task.clips[:1].float() / 127.5 - 1
    with torch.no_grad():
        assert loaded.encode(video).mean.shape == (3, 4, 8, 8)
    assert list((tmp_path / "samples").glob("*.png"))
