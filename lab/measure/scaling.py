"""What more processes bring: python -m lab measure scaling [--parts link fifo ...] [--report out.json].

Measured here, one thread a process, gloo over loopback: forwards of a small random network whose video is shared out as
clips (time, waiting, messages, bytes; compat and exact); FIFO's windows shared out; the link's latency and bandwidth,
and how well the model of `longtake plan --ranks` predicts 2 and 4 processes from it; banded attention beside dense.
Simulated: tables at 1 to 64 processes.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch

from lab.common import machine, median_seconds
from lab.measure.processes import on_ranks
from lab.measure.rank_trials import (
    CELLS,
    PADDING,
    SIZES,
    TOP_K,
    Trial,
    exchange_trial,
    fifo_trial,
    forward_trial,
)
from longtake.apps.plan.forecast import LINKS, Link, Machines, forecast, weak_forecast
from longtake.attention import attention
from longtake.model import PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.modelscope.spec import temporal_layers
from longtake.ranks.world import Group
from longtake.request import PromptTimeline, Request
from longtake.samplers.clips import split_evenly, spread_frames
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.video_infinity.plan import VideoInfinity, forward_traffic
from longtake.samplers.workload import Sent
from longtake.train.sprites.build import build_unet

FRAMES = 48
LONGER = (96, 192, 384)
EXCHANGES = tuple(2**power for power in range(8, 23, 2))
MODES = {"compat": True, "exact": False}
Part = Literal["longer", "link", "fifo", "attention", "tables"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    parts: tuple[Part, ...] = ("longer", "link", "fifo", "attention", "tables")
    repeats: int = 15


def longer(repeats: int) -> dict[str, Any]:
    """Return one and two processes on longer videos: messages stay as many and as large, the work grows."""
    return {
        f"{frames} frames, {name}": _forwards(2, frames, compat, max(repeats // 4, 3))
        for frames in LONGER
        for name, compat in MODES.items()
    }


def link(repeats: int) -> dict[str, Any]:
    """Return the link's constants, and what they predict for 2 and 4 processes beside what was measured: the time that
    the processes take for their shares when they need nothing of each other, plus the messages."""
    times = on_ranks(2, exchange_trial, EXCHANGES, 10 * repeats)[0]
    fitted = fit_link(EXCHANGES, times)
    report: dict[str, Any] = {
        "latency_us": fitted.latency * 1e6,
        "bandwidth_gb": fitted.bandwidth / 1e9,
        "exchanges": [{"bytes": size, "seconds": taken} for size, taken in zip(EXCHANGES, times, strict=True)],
    }
    for ranks in (2, 4):
        for name, compat in MODES.items():
            measured = _forwards(ranks, FRAMES, compat, repeats)
            messages = max(fitted.seconds(sent) for sent in _traffic(ranks, compat))
            predicted = measured["seconds_apart"] + messages
            report[f"{ranks} processes, {name}"] = {
                **measured,
                "predicted_seconds": predicted,
                "error": predicted / measured["seconds_together"] - 1,
            }
    return report


def fit_link(sizes: Sequence[int], seconds: Sequence[float]) -> Link:
    """Return the latency and the bandwidth that come nearest to these times; relative errors count, squared."""
    rows = np.array([[1.0, size] for size in sizes]) / np.array(seconds)[:, None]
    (latency, per_byte), *_ = np.linalg.lstsq(rows, np.ones(len(sizes)), rcond=None)
    return Link(latency=float(latency), bandwidth=float(1 / per_byte), source="fitted to exchanges measured here")


def fifo(repeats: int) -> dict[str, Any]:
    """Return FIFO on one and two processes."""
    taken = on_ranks(2, fifo_trial, "sprites", Fifo(partitions=2), repeats)
    return {
        name: _compared([part[f"together{ending}"] for part in taken], taken[0][f"alone{ending}"])
        for name, ending in (("iterations", ""), ("with decoding", " decoded"))
    }


@torch.inference_mode()
def banded(repeats: int) -> list[dict[str, float]]:
    """Return the time of one layer's attention over clips of growing length: in blocks, and dense with a mask."""
    rows = []
    for frames in (24, 48, 96, 192, 384):
        trial = Trial(frames=frames, clips=1, compat=False)
        mixer = trial.mixer(Group())
        query, key, value = (torch.randn((CELLS**2, frames, 8, 4)) for _ in range(3))
        far = list(spread_frames(frames, TOP_K))
        key_all, value_all = (torch.cat([part, part[:, far]], dim=1) for part in (key, value))
        mask = _mask(frames, far)
        in_blocks = median_seconds(lambda q=query, k=key, v=value, m=mixer: m.attend(k, v)(q), repeats)
        dense = median_seconds(lambda q=query, k=key_all, v=value_all, m=mask: attention(q, k, v, m), repeats)
        rows.append({"frames": frames, "banded_seconds": in_blocks, "dense_seconds": dense})
    return rows


def _mask(frames: int, far: Sequence[int]) -> torch.Tensor:
    """Return what is added to the logits of (queries, all frames and the global frames)."""
    place = torch.arange(frames)
    near = (place[:, None] - place).abs() <= PADDING
    distant = (place[:, None] - torch.tensor(far)).abs() > PADDING
    seen = torch.cat([near, distant], dim=1)
    return torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)


def _forwards(ranks: int, frames: int, compat: bool, repeats: int) -> dict[str, Any]:
    trial = Trial(frames=frames, clips=ranks, compat=compat)
    taken = on_ranks(ranks, forward_trial, trial, repeats)
    slowest = [max(each) for each in zip(*(part["apart"] for part in taken), strict=True)]
    return {
        **_compared([part["together"] for part in taken], taken[0]["alone"]),
        "seconds_apart": statistics.median(slowest),
        "waiting_seconds": max(statistics.median(part["waiting"]) for part in taken),
        "messages": max(part["messages"][0] for part in taken),
        "mebibytes": max(part["bytes"][0] for part in taken) / 2**20,
    }


def _compared(together: Sequence[Sequence[float]], alone: Sequence[float]) -> dict[str, float]:
    """Return medians; the slowest process of every repeat counts."""
    slowest = [max(each) for each in zip(*together, strict=True)]
    return {
        "seconds_alone": statistics.median(alone),
        "seconds_together": statistics.median(slowest),
        "speed_up": statistics.median(one / many for one, many in zip(alone, slowest, strict=True)),
    }


def _traffic(ranks: int, compat: bool) -> list[Sent]:
    return forward_traffic(
        temporal_layers(dict(build_unet(SIZES).config), (CELLS, CELLS)),
        split_evenly(FRAMES, ranks),
        ranks,
        padding=PADDING,
        global_frames=spread_frames(FRAMES, TOP_K),
        compat=compat,
        width=4,
    )


PARTS: dict[str, Callable[[int], Any]] = {
    "longer": longer,
    "link": link,
    "fifo": fifo,
    "attention": banded,
    "tables": lambda repeats: simulated_tables(),
}


def measure(chosen: Settings) -> dict[str, object]:
    """Return the report."""
    torch.set_num_threads(1)
    return {"machine": machine(), **{part: PARTS[part](chosen.repeats) for part in chosen.parts}}


RANKS = (1, 2, 4, 8, 16, 32, 64)
HEIGHT, WIDTH = 40, 64
FORWARD_SECONDS = 0.28
"""One evaluation of 16 frames: what 2,300 frames in 5 minutes on 8 GPUs come to (300 s / 60 evaluations / 18 windows),
so that this row of the table agrees with the published one by construction."""
FIFO_FORWARD_SECONDS = 12.37 / 16
"""The same for FIFO-Diffusion: 12.37 s a frame on one GPU, 8 windows and 2 branches."""


def videocrafter2_shape() -> VideoSpec:
    """Return a spec with the sizes of VideoCrafter2: 512x320 pixels, 16 frames, the widths of UNet3DConditionModel."""
    return VideoSpec(
        name="videocrafter2",
        num_frames=16,
        height=8 * HEIGHT,
        width=8 * WIDTH,
        fps=8.0,
        latent_shape=(4, 16, HEIGHT, WIDTH),
        guidance=12.0,
        capabilities=frozenset({PerFrameNoise, TemporalHooks}),
        temporal_layers=temporal_layers({}, (HEIGHT, WIDTH)),
    )


def simulated_tables() -> Mapping[str, Any]:
    """Return forecasts of both methods by link and by kind of scaling."""
    tables: dict[str, Any] = {}
    for name, link in LINKS.items():
        machines = Machines(link=link, forward_seconds=FORWARD_SECONDS, width=2)
        for compat in (True, False):
            strong, weak = (_clips(frames, compat, machines) for frames in (2304, None))
            tables[f"video-infinity {'compat' if compat else 'exact'}, {name}"] = {"strong": strong, "weak": weak}
        tables[f"fifo, {name}"] = _fifo(Machines(link=link, forward_seconds=FIFO_FORWARD_SECONDS, width=2))
    return tables


def _clips(frames: int | None, compat: bool, machines: Machines) -> list[dict[str, Any]]:
    """Return forecasts of a video of 64 clips, or of one of 288 frames on every process."""
    spec, rows = videocrafter2_shape(), []
    for ranks in RANKS:
        sampler = VideoInfinity(clips=64 if frames else ranks, padding=8, compat=compat)
        plan = VideoInfinity(clips=64 if frames else 1, padding=8, compat=compat).plan(_request(frames or 288), spec)
        rows.append(asdict((forecast if frames else weak_forecast)(sampler, plan, ranks, machines)))
    return rows


def _fifo(machines: Machines) -> list[dict[str, Any]]:
    """Return forecasts of 1,024 frames by the authors' queue of 8 windows."""
    fifo = Fifo(partitions=4)
    plan = fifo.plan(_request(1024), videocrafter2_shape())
    return [asdict(forecast(fifo, plan, ranks, machines)) for ranks in RANKS if ranks <= len(plan.windows)]


def _request(frames: int) -> Request:
    return Request(prompts=PromptTimeline.constant("a video"), frames=frames)
