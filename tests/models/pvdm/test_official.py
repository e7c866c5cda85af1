"""The authors' checkpoints: every name has its place, nothing else gets in."""

import ast

import pytest
import torch
from torch import Tensor

from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.losses import PatchDiscriminator
from longtake.models.pvdm.official import (
    autoencoder_config,
    is_unet,
    our_autoencoder,
    our_unet,
    unet_config,
)
from longtake.models.pvdm.unet import PvdmUnet

from .goldens import DATA, our_discriminator


def official(name: str) -> dict[str, Tensor]:
    """Return tensors without content, of the names and shapes of an official checkpoint."""
    rows = (line.split("\t") for line in (DATA / f"keys_{name}.tsv").read_text().splitlines())
    return {key: torch.empty(ast.literal_eval(shape), device="meta") for key, shape, _ in rows}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_autoencoder(prefix: str) -> None:
    theirs = {prefix + name: tensor for name, tensor in official("autoencoder").items()}
    ours = our_autoencoder(theirs)
    assert not is_unet(theirs)
    assert autoencoder_config(ours) == AutoencoderConfig(compat=True)
    with torch.device("meta"):
        network = PvdmAutoencoder(AutoencoderConfig(compat=True))
    network.load_state_dict(ours, assign=True)
    assert len(ours) == len(theirs) - 5


@pytest.mark.parametrize("prefix", ["", "module."])
def test_unet(prefix: str) -> None:
    theirs = {prefix + name: tensor for name, tensor in official("unet_large").items()}
    ours = our_unet(theirs)
    assert is_unet(theirs)
    assert unet_config(ours, Grid()) == UnetConfig()
    with torch.device("meta"):
        network = PvdmUnet(UnetConfig())
    network.load_state_dict(ours, assign=True)
    assert len(ours) == len(theirs) - 1


@pytest.mark.parametrize("axes", [2, 3])
def test_discriminators(axes: int) -> None:
    with torch.device("meta"):
        network = PatchDiscriminator(axes)
    network.load_state_dict(our_discriminator(official("discriminators"), axes), assign=True)


def test_names_that_are_not_theirs_stay_and_are_found_out() -> None:
    theirs = official("unet_large") | {"diffusion_model.surprise": torch.empty(1)}
    assert "surprise" in our_unet(theirs)


def test_new_discriminators_start_small() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator(3, channels=8)
    score, features = network(torch.rand(2, 3, 8, 32, 32))
    assert [feature.shape[1] for feature in features] == [8, 16, 32, 64]
    assert network.stages[0][0].weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert score.shape[:2] == (2, 1)
