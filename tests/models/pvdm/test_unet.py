"""The UNet over three planes: the authors' numbers, other sizes, text."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake.errors import InputError
from longtake.models.pvdm.config import Grid, UnetConfig
from longtake.models.pvdm.unet import PvdmUnet

from .goldens import arrays, each_golden, golden_unet, largest, meta

TINY = UnetConfig(
    grid=Grid(frames=4, rows=2, columns=6),
    channels=8,
    multipliers=(1, 2),
    blocks=1,
    attention=(True, False),
    heads=2,
    groups=4,
)
POSITIONS = TINY.grid.positions


def awake(config: UnetConfig) -> PvdmUnet:
    """Return a network in which what starts at zero does something."""
    torch.manual_seed(0)
    network = PvdmUnet(config)
    for weights in network.parameters():
        if largest(weights) == 0:
            torch.nn.init.normal_(weights, std=0.1)
    return network


@each_golden
def test_numbers_of_the_authors(golden: Path) -> None:
    network, case = golden_unet(golden), arrays(golden, "unet")
    with torch.no_grad():
        assert largest(network(case["z"], case["t"]) - case["out_uncond"]) <= 1e-5
        assert largest(network(case["z"], case["t"], case["cond"]) - case["out_cond"]) <= 1e-5
    assert sum(weights.numel() for weights in network.parameters()) == meta(golden)["tiny_unet_params"]


@each_golden
def test_gradients_of_the_authors(golden: Path) -> None:
    network, case = golden_unet(golden), arrays(golden, "unet")
    network.recompute = True
    loss = (network(case["x_noisy"], case["t"], case["cond"]) - case["noise"]).pow(2).mean()
    loss.backward()
    assert loss.item() == pytest.approx(case["loss_cond"].item(), rel=1e-5)
    joint = network.middle.joint.positions.qkv.weight.grad
    for ours, theirs in ((network.first.weight.grad, "grad_in_conv"), (joint[..., None], "grad_mid_attn_qkv")):
        assert largest(ours - case[theirs]) <= 1e-4 * largest(case[theirs])


@pytest.mark.parametrize(("channels", "count"), [(256, 528_273_412), (128, 132_163_588)])
def test_official_sizes(channels: int, count: int) -> None:
    with torch.device("meta"):
        network = PvdmUnet(UnetConfig(channels=channels))
    assert sum(weights.numel() for weights in network.parameters()) == count


@pytest.mark.parametrize("rows", [2, 6])
def test_any_grid(rows: int) -> None:
    config = replace(TINY, grid=Grid(frames=4, rows=rows, columns=6))
    network, positions = awake(config), config.grid.positions
    latent = torch.randn(2, 4, positions)
    assert network(latent, torch.tensor([3, 900])).shape == latent.shape


def test_planes_of_equal_sides_in_one_call_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    network = awake(replace(TINY, grid=Grid(frames=4, rows=6, columns=6)))
    latent, timestep = torch.randn(2, 4, network.config.grid.positions), torch.tensor([3, 900])
    together = network(latent, timestep)

    def one_by_one(function, planes, row):
        return tuple(function(plane, row) for plane in planes)

    monkeypatch.setattr("longtake.models.pvdm.unet.each", one_by_one)
    monkeypatch.setattr("longtake.models.pvdm.unet.each", one_by_one)
    assert largest(network(latent, timestep) - together) <= 1e-5


def test_planes_know_of_each_other_and_of_the_previous_clip() -> None:
    network = awake(TINY)
    latent, timestep = torch.randn(1, 4, POSITIONS), torch.tensor([500])
    before = network(latent, timestep)
    latent[:, :, 0] += 1
    changed = (network(latent, timestep) - before).abs()
    assert (changed > 0).all()
    assert largest(network(latent, timestep, torch.randn_like(latent)) - network(latent, timestep)) > 1e-3
    assert torch.equal(network(latent, timestep, torch.zeros_like(latent)), network(latent, timestep))


def test_text_leaves_no_trace_where_it_is_off() -> None:
    plain, reading = PvdmUnet(TINY).state_dict(), PvdmUnet(replace(TINY, text_width=12)).state_dict()
    assert set(plain) < set(reading)
    assert all(".text." in name for name in set(reading) - set(plain))


def test_text_is_read() -> None:
    network = awake(replace(TINY, text_width=12))
    latent, timestep = torch.randn(1, 4, POSITIONS), torch.tensor([500])
    car, ball = torch.randn(2, 1, 5, 12)
    assert largest(network(latent, timestep, None, car) - network(latent, timestep, None, ball)) > 1e-3


def test_new_networks_start_without_text() -> None:
    torch.manual_seed(0)
    network = PvdmUnet(replace(TINY, text_width=12))
    torch.nn.init.normal_(network.last.weight)
    latent, timestep = torch.randn(1, 4, POSITIONS), torch.tensor([500])
    car, ball = torch.randn(2, 1, 5, 12)
    assert torch.equal(network(latent, timestep, None, car), network(latent, timestep, None, ball))


def test_recomputing_changes_no_gradient() -> None:
    network = awake(replace(TINY, text_width=12))
    latent, text = torch.randn(2, 4, POSITIONS), torch.randn(2, 5, 12)
    gradients = []
    for recompute in (False, True):
        network.recompute = recompute
        network.zero_grad()
        network(latent, torch.tensor([3, 900]), None, text).pow(2).sum().backward()
        gradients.append([weights.grad.clone() for weights in network.parameters()])
    assert all(torch.allclose(kept, again) for kept, again in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    "config",
    [
        {"grid": Grid(frames=12)},
        {"attention": (True,)},
        {"multipliers": ()},
        {"channels": 40},
        {"channels": 96, "heads": 7},
        {"blocks": 0},
    ],
)
def test_impossible_sizes(config: dict) -> None:
    with pytest.raises(InputError):
        UnetConfig(**config)


@pytest.mark.parametrize("recompute", [False, True])
def test_autocast(recompute: bool) -> None:
    network = awake(replace(TINY, text_width=12))
    latent, text = torch.randn(2, 4, POSITIONS), torch.randn(2, 5, 12)
    exact = network(latent, torch.tensor([3, 900]), None, text)
    network.recompute = recompute
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(latent, torch.tensor([3, 900]), None, text)
    rough.float().sum().backward()
    assert (rough - exact).norm() <= 0.05 * exact.norm()
