"""The autoencoder: the authors' numbers, other sizes, and what `compat` keeps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from longtake.errors import InputError
from longtake.models.pvdm.autoencoder import PvdmAutoencoder, over_space, over_time
from longtake.models.pvdm.config import AutoencoderConfig, Grid

from .goldens import arrays, each_golden, golden_autoencoder, largest, meta

TINY = AutoencoderConfig(grid=Grid(frames=3, rows=2, columns=4), width=16, depth=1, heads=2, pool_depth=2, pool_heads=2)


def golden_errors(network: PvdmAutoencoder, golden: Path) -> tuple[float, float]:
    case = arrays(golden, "ae")
    with torch.no_grad():
        latent = network.encode(case["x"])
        frames = network.decode(case["z_random"]).transpose(1, 2).flatten(0, 1)
    return largest(latent - case["extract"]), largest(frames - case["decode_random"])


@each_golden
def test_numbers_of_the_authors(golden: Path) -> None:
    network = golden_autoencoder(golden)
    assert max(golden_errors(network, golden)) <= 1e-5
    assert sum(weights.numel() for weights in network.parameters()) == meta(golden)["tiny_ae_params"]


@each_golden
def test_compat_needs_unequal_angles_over_time(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def corrected(frames, width, compat, device):
        return over_time(frames, width, False, device)

    monkeypatch.setattr("longtake.models.pvdm.autoencoder.over_time", corrected)
    assert min(golden_errors(golden_autoencoder(golden), golden)) > 1e-3


@each_golden
def test_compat_reads_the_first_cell(golden: Path) -> None:
    network = golden_autoencoder(golden)
    for pool in network.pools.values():
        pool.read = slice(pool.positions.shape[1] - 1, None)
    encoded, decoded = golden_errors(network, golden)
    assert encoded > 1e-2 and decoded <= 1e-5


@each_golden
def test_angles_of_the_authors(golden: Path) -> None:
    case, grid = arrays(golden, "ae"), golden_autoencoder(golden).config.grid
    time = over_time(grid.frames, 64, True, torch.device("cpu"))
    space = over_space(grid.rows, grid.columns, 64, torch.device("cpu"))
    for ours, theirs in ((time.cosine, "frame_cos"), (time.sine, "frame_sin")):
        assert largest(ours - case[theirs][0]) <= 1e-6
    for ours, theirs in ((space.cosine, "image_cos"), (space.sine, "image_sin")):
        assert largest(ours - case[theirs][0]) <= 1e-6


def test_corrected_rotation_knows_only_distances() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 64).expand(2, 1, 6, 1, 64)
    rotate = over_time(6, 64, False, torch.device("cpu"))
    scores = torch.einsum("snhd,smhd->nm", rotate(query), rotate(key))
    assert largest(scores[1:, 1:] - scores[:-1, :-1]) <= 1e-4
    rotate = over_time(6, 64, True, torch.device("cpu"))
    scores = torch.einsum("snhd,smhd->nm", rotate(query), rotate(key))
    assert largest(scores[1:, 1:] - scores[:-1, :-1]) > 1e-2


@pytest.mark.parametrize("compat", [True, False])
def test_any_size(compat: bool) -> None:
    torch.manual_seed(0)
    network = PvdmAutoencoder(replace(TINY, compat=compat))
    video = torch.rand(2, 3, 3, 16, 32) * 2 - 1
    latent = network.encode(video)
    assert latent.shape == (2, 4, 2 * 4 + 3 * 4 + 3 * 2)
    assert largest(latent) < 1
    assert network.decode(latent).shape == video.shape


def test_corrected_form_trains_the_learned_token() -> None:
    torch.manual_seed(0)
    video = torch.rand(1, 3, 3, 16, 32)
    without_attention = PvdmAutoencoder(replace(TINY, pool_depth=1))
    pool = without_attention.pools["time"]
    torch.nn.init.zeros_(pool.layers[0].attention.out.weight)
    without_attention.encode(video).sum().backward()
    assert largest(pool.token.grad) > 0


def test_recomputing_changes_no_gradient() -> None:
    torch.manual_seed(0)
    network, video = PvdmAutoencoder(TINY), torch.rand(1, 3, 3, 16, 32)
    gradients = []
    for recompute in (False, True):
        network.recompute = recompute
        network.zero_grad()
        network(video).pow(2).sum().backward()
        gradients.append([weights.grad.clone() for weights in network.parameters()])
    assert all(torch.equal(kept, again) for kept, again in zip(*gradients, strict=True))


def test_official_size() -> None:
    with torch.device("meta"):
        network = PvdmAutoencoder(AutoencoderConfig(compat=True))
    assert sum(weights.numel() for weights in network.parameters()) == 62_064_399


@pytest.mark.parametrize("config", [{"width": 20}, {"depth": 0}, {"grid": Grid(frames=0)}])
def test_impossible_sizes(config: dict) -> None:
    with pytest.raises(InputError):
        AutoencoderConfig(**config)


@pytest.mark.parametrize("recompute", [False, True])
def test_autocast(recompute: bool) -> None:
    torch.manual_seed(0)
    network, video = PvdmAutoencoder(TINY), torch.rand(1, 3, 3, 16, 32)
    exact = network(video)
    network.recompute = recompute
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(video)
    rough.float().sum().backward()
    assert (rough - exact).norm() <= 0.05 * exact.norm()
