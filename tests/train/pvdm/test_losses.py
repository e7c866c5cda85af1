"""The losses of PVDM's autoencoder: the authors' numbers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.models.pvdm.losses import Lpips, PatchDiscriminator, our_lpips
from longtake.train.pvdm.autoencoder import (
    Discriminators,
    LossWeights,
    adversarial_loss,
    discriminator_loss,
    frames_at,
    reconstruction_loss,
)

from ...models.pvdm.goldens import arrays, each_golden, golden_autoencoder, largest, meta, our_discriminator, weights

WEIGHTS = LossWeights()


def distance(golden: Path) -> Lpips:
    network = Lpips(tuple(meta(golden)["configs"]["vgg_ch"]))
    network.load_state_dict(our_lpips(weights(golden, "loss")))
    return network.requires_grad_(False)


def judges(golden: Path) -> Discriminators:
    networks = [PatchDiscriminator(axes, meta(golden)["configs"]["disc_ndf"]) for axes in (2, 3)]
    for axes, network in zip((2, 3), networks, strict=True):
        network.load_state_dict(our_discriminator(weights(golden, "loss"), axes))
    return Discriminators(*networks)


def off(ours: Tensor | None, theirs: Tensor) -> float:
    assert ours is not None
    return largest(ours.view_as(theirs) - theirs) / largest(theirs)


@each_golden
def test_first_phase(golden: Path) -> None:
    network, data = golden_autoencoder(golden), arrays(golden, "loss")
    clip, chosen = data["x"], data["frame_idx"]
    again = network(clip)
    loss = reconstruction_loss(clip, again, chosen, distance(golden), WEIGHTS)
    assert loss.item() == pytest.approx(data["phase1_g_loss"].item(), rel=1e-5)
    loss.backward()
    # Rounding turns some rectifiers over: in float64 the same gradient is 4e-4 away from the recorded one.
    assert off(network.to_pixels.weight.grad, data["phase1_grad_to_pixel_w"]) <= 1e-3


@each_golden
def test_second_phase(golden: Path) -> None:
    network, data, both = golden_autoencoder(golden), arrays(golden, "loss"), judges(golden)
    clip, chosen = data["x"], data["frame_idx"]
    again = network(clip)
    own = discriminator_loss(both, clip, again, chosen)
    assert own.item() == pytest.approx(data["gan_d_loss"].item(), rel=1e-5)
    loss = reconstruction_loss(clip, again, chosen, distance(golden), WEIGHTS)
    loss = loss + adversarial_loss(both, clip, again, chosen, WEIGHTS)
    assert loss.item() == pytest.approx(data["gan_g_loss"].item(), rel=1e-5)
    loss.backward()
    assert off(network.to_pixels.weight.grad, data["gan_grad_to_pixel_w"]) <= 1e-3
    assert off(network.encoder.layers[0].time.qkv.weight.grad, data["gan_grad_enc0_qkv"]) <= 1e-3


@each_golden
def test_perceptual_distance(golden: Path) -> None:
    """The recording has the distances of the first clip's frame for all clips."""
    network, data = golden_autoencoder(golden), arrays(golden, "loss")
    chosen = data["frame_idx"][:1].expand(len(data["x"]))
    with torch.no_grad():
        again = network(data["x"])
        apart = distance(golden)(frames_at(data["x"], chosen), frames_at(again, chosen))
    assert off(apart, data["phase1_lpips"]) <= 1e-5


def test_reconstruction_without_a_perceptual_network_is_pixels_alone() -> None:
    clip, chosen = torch.zeros(2, 3, 4, 8, 8), torch.tensor([0, 3])
    assert reconstruction_loss(clip, clip + 0.5, chosen, None, WEIGHTS) == 2.0


def test_judges_learn_from_both_sides_but_teach_no_network() -> None:
    torch.manual_seed(0)
    both = Discriminators(PatchDiscriminator(2, 4), PatchDiscriminator(3, 4))
    clip, again = torch.rand(2, 3, 8, 32, 32), torch.rand(2, 3, 8, 32, 32, requires_grad=True)
    discriminator_loss(both, clip, again, torch.tensor([1, 2])).backward()
    assert again.grad is None
    for judge in (both.frames, both.clips):
        assert largest(judge.stages[0][0].weight.grad) > 0
