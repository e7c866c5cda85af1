"""Bytes are counted as torch keeps them, and long videos of PVDM take no more memory than short ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from lab.measure import memory
from lab.measure.memory import GIB, MIB, Recomputed, Training, recompute_attention
from lab.measure.pvdm import activations, network, speed
from longtake.models.hub.fake import LiveBytes
from longtake.models.pvdm.config import Grid, UnetConfig
from longtake.models.pvdm.unet import PvdmUnet

GRID = Grid(frames=4, rows=4, columns=4)
UNET = UnetConfig(grid=GRID, channels=8, multipliers=(1, 2), blocks=1, attention=(True, False), heads=2, groups=4)


def saved_by_autograd(name: str) -> int:
    """Return the bytes that autograd says it saves, in a real forward."""
    unet, forward = network(name, UNET)
    own = {weights.untyped_storage().data_ptr() for weights in unet.parameters()}
    storages = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result
    return sum(storage.nbytes() for place, storage in storages.items() if place not in own)


def test_counted_activations_are_those_that_autograd_saves() -> None:
    counted = activations(UNET)
    for name in ("planes", "3-D"):
        assert counted[name] == pytest.approx(saved_by_autograd(name), rel=0.02)
    assert counted["planes, recompute"] < counted["planes"] / 4


def test_the_networks_compared_have_the_same_weights() -> None:
    """So neither is the larger one: where one has attention over all planes, the other has attention over time."""
    planes, frames = (network(name, UNET)[0] for name in ("planes", "3-D"))
    shapes = [sorted(tuple(weights.shape) for weights in unet.parameters()) for unet in (planes, frames)]
    assert shapes[0] == shapes[1]


def test_all_frames_of_the_3d_network_see_each_other() -> None:
    unet, _ = network("3-D", UNET)
    for weights in unet.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    x = torch.randn(1, 8, 4, 4, 4)
    changed = x.clone()
    changed[:, :, 0] += 1
    difference = (unet(changed, torch.ones(1)) - unet(x, torch.ones(1))).abs().amax(dim=(0, 1, 3, 4))
    assert difference.shape == (4,) and difference.min() > 1e-4


def test_live_bytes_come_and_go() -> None:
    with FakeTensorMode(), LiveBytes() as live:
        x = torch.empty(MIB)
        view = x.view(2, -1)
        assert live.now == 4 * MIB
        more = x + 1
        del x, more
        assert (live.now, live.peak) == (4 * MIB, 8 * MIB)
        del view
        assert live.now == 0


def test_training_counts_weights_averages_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest batch is the last that the card holds."""

    def build() -> tuple[torch.nn.Module, memory.Loss]:
        layer = torch.nn.Linear(1024, 1024, bias=False)
        return layer, lambda batch: layer(torch.empty(batch * 1024, 1024)).square().mean()

    monkeypatch.setattr(memory, "CARD", 150 * MIB)
    report = memory.training_memory(Training(build=build))
    # 4 MiB each: weights, their average and two of AdamW; gradients in its step, which needs as much again.
    assert report["between_steps"] == pytest.approx(16 / 1024, rel=0.01)
    assert report["in_optimizer"] == pytest.approx(24 / 1024, rel=0.01)
    largest, more = report["largest_batch"], report["a_clip_more"] * GIB
    assert report["peak_at_batch"][7] * GIB + (largest - 7) * more == pytest.approx(150 * MIB, abs=more)


def test_recomputed_attention_gives_the_same() -> None:
    torch.manual_seed(0)
    unet = PvdmUnet(UNET)
    x = torch.randn(1, 4, GRID.positions)
    before = unet(x, torch.ones(1))
    recompute_attention(unet)
    assert any(isinstance(module, Recomputed) for module in unet.modules())
    assert torch.equal(unet(x, torch.ones(1)), before)


def test_every_speed_is_measured() -> None:
    taken = speed(UNET, repeats=1)
    assert taken["3-D"]["forward and backward"] > taken["3-D"]["forward"] > 0


@pytest.mark.slow
def test_16_clips_take_the_memory_of_2() -> None:
    """The bytes of tensors and of arrays, up to the finished file. The frames of 14 clips are 2.6 MiB."""
    # In a process of its own: what other tests have left behind decides how soon Python collects rubbish.
    command = [sys.executable, "-m", "lab", "measure", "pvdm", "--parts", "sampling"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    report = json.loads(done.stdout)["sampling"]
    for kind in ("tensors", "arrays"):
        assert 16 * 64 * 64 * 3 < report["2 clips"][kind] < 5 * MIB
        assert report["16 clips"][kind] < 1.05 * report["2 clips"][kind]
