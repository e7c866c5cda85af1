"""What PVDM costs: python -m lab measure pvdm [--parts speed activations training sampling] [--report out.json].

Reports, for the UNet of PVDM-S on clips of 16 x 256 x 256, on one thread: the time of a forward and of a forward with
its backward, and what a forward keeps for the gradient, each also for a 3-D UNet of the same widths and blocks on the
latents that the planes stand for; the GPU memory of training, counted without a GPU; and the memory of long videos.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from lab.common import machine, seconds
from lab.measure.memory import MIB, TRAININGS, kept_bytes, random_pvdm, sampling_peak, training_memory
from lab.measure.unet_3d import Unet3d, Unet3dConfig
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.unet import PvdmUnet

PVDM_S = UnetConfig(channels=128)
NETWORKS = ("planes", "planes, recompute", "3-D")
Part = Literal["speed", "activations", "training", "sampling"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    parts: tuple[Part, ...] = ("speed", "activations", "training", "sampling")
    repeats: int = 3  # how often the speed is measured


def network(name: str, config: UnetConfig) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return one of the networks that are compared, and a forward of one clip after another.

    The 3-D UNet has the same widths and blocks; attention over time stands where the planes attend to each other.
    """
    grid, channels = config.grid, config.latent_channels
    if name == "3-D":
        over_time = (True,) * len(config.multipliers)
        unet = Unet3d(Unet3dConfig(blocks=config, over_time=over_time, channels=channels, entering=2 * channels))
        x = torch.randn(1, 2 * channels, grid.frames, grid.rows, grid.columns)
        return unet, lambda: unet(x, torch.zeros(1))
    planes = PvdmUnet(config)
    planes.recompute = name.endswith("recompute")
    latents, previous = torch.randn(2, 1, channels, grid.positions)
    return planes, lambda: planes(latents, torch.zeros(1), previous)


def activations(config: UnetConfig) -> dict[str, int]:
    """Return the bytes that a forward of each network keeps for the gradient, weights left out; counted, not run."""
    with FakeTensorMode():
        return {name: kept_bytes(lambda name=name: network(name, config)[1]) for name in NETWORKS}


def speed(config: UnetConfig, repeats: int) -> dict[str, dict[str, float]]:
    """Return median seconds of every network, of this process alone.

    They take turns, so that a busy machine slows all alike.
    """
    calls = {}
    for name in NETWORKS:
        unet, forward = network(name, config)
        calls[name] = {"forward": torch.no_grad()(forward), "forward and backward": _backward(unet, forward)}
        calls[name]["forward"]()
    taken: dict[str, dict[str, list[float]]] = {name: {call: [] for call in calls[name]} for name in NETWORKS}
    for _ in range(repeats):
        for name in NETWORKS:
            for call, times in taken[name].items():
                times.append(seconds(calls[name][call], time.process_time))
    return {name: {call: statistics.median(times) for call, times in kinds.items()} for name, kinds in taken.items()}


def sampling() -> dict[str, Any]:
    """Return the peaks of videos of 2 and 16 clips of a very small PVDM, and the growth from one to the other."""
    grid = Grid(frames=16, rows=8, columns=8)
    autoencoder = AutoencoderConfig(grid=grid, width=16, depth=1, heads=1, pool_depth=1, pool_heads=1)
    unet = UnetConfig(grid=grid, channels=8, multipliers=(1,), blocks=1, attention=(False,), heads=1, groups=4)
    model = random_pvdm(autoencoder, unet)
    # What is imported and set up once belongs to neither.
    sampling_peak(model, 1)
    short, long = (asdict(sampling_peak(model, clips)) for clips in (2, 16))
    return {"2 clips": short, "16 clips": long, "growth": sum(long.values()) / sum(short.values()) - 1}


def _backward(unet: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a call of the network and of its gradient."""

    def call() -> None:
        forward().square().mean().backward()
        unet.zero_grad()

    return call


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "speed": lambda repeats: speed(PVDM_S, repeats),
    "activations": lambda repeats: {name: size / MIB for name, size in activations(PVDM_S).items()},
    "training": lambda repeats: {name: training_memory(training) for name, training in TRAININGS.items()},
    "sampling": lambda repeats: sampling(),
}


def measure(chosen: Settings) -> dict[str, object]:
    """Return the report: seconds, MiB of activations, GiB of training, bytes of sampling."""
    torch.set_num_threads(1)
    return {"machine": machine(), **{part: PARTS[part](chosen.repeats) for part in chosen.parts}}
