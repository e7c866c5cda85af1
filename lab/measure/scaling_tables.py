"""Simulated tables: the authors' models on 1 to 64 processes. No figure here is measured."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from longtake.apps.plan.forecast import LINKS, Machines, forecast, weak_forecast
from longtake.model import PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.modelscope.spec import temporal_layers
from longtake.request import PromptTimeline, Request
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.video_infinity.plan import VideoInfinity

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
