"""T-KLVAE: the image VAE at the start, mixing frames once it is trained."""

import json
from pathlib import Path

import pytest
import torch

from longtake.errors import CheckpointError
from longtake.models.nuwa_xl.load import load_temporal_autoencoder, save_temporal_autoencoder
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder

from .tiny import awake, change_per_frame, image_vae


@torch.no_grad()
def test_a_new_network_is_the_image_vae() -> None:
    """Structure test S2."""
    vae = image_vae()
    network = TemporalAutoencoder(vae, frames=4)
    video = torch.rand(2, 3, 4, 16, 16) * 2 - 1
    frames = video.transpose(1, 2).flatten(0, 1)
    theirs, ours = vae.encode(frames).latent_dist, network.encode(video)
    assert (ours.mean - theirs.mean).abs().max() <= 1e-5 and (ours.std - theirs.std).abs().max() <= 1e-5
    latents = ours.mean.unflatten(0, (2, 4)).transpose(1, 2)
    decoded = vae.decode(theirs.mean).sample.unflatten(0, (2, 4)).transpose(1, 2)
    assert (network.decode(latents) - decoded).abs().max() <= 1e-5
    assert torch.equal(vae.encode(frames).latent_dist.mean, theirs.mean)


@torch.no_grad()
def test_a_trained_network_mixes_frames() -> None:
    network = awake(TemporalAutoencoder(image_vae(), frames=4))
    video = torch.rand(1, 3, 4, 16, 16)
    changed = video.clone()
    changed[:, :, 1] = 0
    before, after = (network.encode(clip).mean[None].transpose(1, 2) for clip in (video, changed))
    assert (change_per_frame(before, after) > 0).all()
    assert (change_per_frame(network.decode(before), network.decode(after)) > 0).all()


def test_training_reaches_the_layers_over_time() -> None:
    network = TemporalAutoencoder(image_vae(), frames=4)
    before = {name: value.clone() for name, value in network.named_parameters() if not name.startswith("image.")}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    video = torch.rand(1, 3, 4, 16, 16) * 2 - 1
    for _ in range(20):
        latents = network.encode(video).mean[None].transpose(1, 2)
        (network.decode(latents) - video).abs().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    # Where the image VAE has attention, so has the network: once on the way in, once on the way out.
    assert len(network.over_time.attentions) == 2
    assert all(not torch.equal(value, before[name]) for name, value in network.named_parameters() if name in before)


def test_there_and_back(tmp_path: Path) -> None:
    network = awake(TemporalAutoencoder(image_vae(), frames=4))
    save_temporal_autoencoder(tmp_path, network)
    loaded = load_temporal_autoencoder(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in network.state_dict().items())
    (tmp_path / "vae_over_time" / "config.json").write_text(json.dumps({"frames": "4"}))
    with pytest.raises(CheckpointError, match='frames is "4"'):
        load_temporal_autoencoder(tmp_path)
