"""Metrics of one delivered video, of which the report beside it says what was asked for."""

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from longtake.data.sprite_captions import Shot, parse_caption
from longtake.errors import InputError, LongtakeError, OutputError
from longtake.metrics.metric import Bound, Metric
from longtake.metrics.sprite_state import BOUNDS
from longtake.models import model_spec
from longtake.models.hub.precision import DeviceChoice, choose_hardware
from longtake.prompts import parse_prompts
from longtake.reading import check_is_file
from longtake.report import Order, read_order, report_path
from longtake.request import PromptTimeline
from longtake.samplers.planning import checked_plan
from longtake.typed import Setting
from longtake.video.output import refuse_inputs

if TYPE_CHECKING:
    from longtake.metrics.consistency import Consistency
    from longtake.metrics.video_networks import VideoNetwork

Frames = NDArray[np.uint8]
Item = TypeVar("Item")

DEFAULT_FPS = 8.0
SMALLEST = 16
"""Side in pixels of the tiles in which videos are compared."""
NOT_COMPARABLE = "not comparable with VBench, nor with other features"
STAND_IN = "the looks of the sprite judge, good for ranking videos of one kind"
_REAL = "what real sprite worlds of 128 to 512 frames keep to"
_CARD = "the bars of the card of sprites"


@dataclass(frozen=True, kw_only=True)
class OfVideo(Metric):
    """A metric of a video that was made."""

    path: Annotated[Path, Setting(positional=True, metavar="VIDEO")]
    """A video file, or a folder of numbered PNG files."""
    scale: Annotated[int | None, Setting(metavar="INT", unset="from the report beside it, or 1")] = None
    """The enlargement to undo."""

    @abstractmethod
    def figures(self, frames: Iterator[Frames], order: Order | None) -> dict[str, Any]:
        """Return the figures of consecutive frames, uint8 (n, height, width, 3), from the first one on, at the size at
        which they were made; `order` is what was asked for, if that is known. Raises as `measure` does."""

    def check(self) -> None:
        """Raise InputError for options that clash or have no effect, CheckpointError for networks that are none."""

    def measure(self) -> dict[str, Any]:
        """Return the figures of the whole file."""
        order = self.order()
        # Imports av.
        from longtake.video.read import read_frames

        return self.judged(read_frames(self.path, scale=self.enlargement(order)), order)

    def judged(self, frames: Iterator[Frames], order: Order | None) -> dict[str, Any]:
        """Return the figures, and which of them are out of order, where bounds are known; otherwise as `figures`."""
        found = self.figures(frames, order)
        return found if "flags" in found or not self.bounds else {**found, "flags": self.flags(found)}

    def order(self) -> Order | None:
        """Return what the report beside it says was asked for. Raises InputError for a video that is not there."""
        if not self.path.exists():
            raise InputError(f"there is no {self.path}; give a video file or a folder of numbered PNG files")
        if self.scale is not None and self.scale < 1:
            raise InputError(f"scale {self.scale} is below 1; give the enlargement of the video")
        report = report_path(self.path)
        return read_order(str(report)) if report.is_file() else None

    def timeline(self, order: Order | None, prompts: str | None) -> PromptTimeline:
        """Return what was asked for: these prompts, else those of the report. Raises InputError for neither."""
        if prompts is not None:
            return parse_prompts(prompts, order.request.frames if order else None, self.fps(order))
        if order is None:
            raise InputError(f"{report_path(self.path)} is not there to say what was asked for; give --prompts")
        return order.prompts

    def fps(self, order: Order | None) -> float:
        """Return the frames per second: those of the file, else what was asked for, else 8."""
        # Imports av.
        from longtake.video.read import open_video

        try:
            found = open_video(self.path).fps if self.path.is_file() else None
        except InputError:
            # What can be read of a damaged file is measured all the same.
            found = None
        return found or (order.output.fps if order else None) or DEFAULT_FPS

    def enlargement(self, order: Order | None) -> int:
        """Return by how much its pixels are enlarged."""
        return self.scale or (order.output.scale if order else 1)


@dataclass(frozen=True, kw_only=True)
class State(OfVideo):
    """Score a video of the sprite worlds by drawing every frame again with the true sprites: are the shapes sharp and
    right, is it one object all along that comes back when it leaves, does it move as real ones do, is what no prompt
    says kept? About 8 frames a second."""

    spoken: ClassVar[Mapping[str, str]] = {
        "identity": "same object after {}",
        "steps": "step {}, real is 1",
        "kept": "kept after {}",
    }
    bounds: ClassVar[Mapping[str, Bound]] = {
        name: bound for name, bound in BOUNDS.items() if name not in ("identity", "steps", "kept")
    }
    ideals: ClassVar[Mapping[str, float]] = {
        **dict.fromkeys(("outline", "margin", "object", "scene", "phase", "returned"), inf),
        "speed": 1,
    }

    prompts: Annotated[str | None, Setting(metavar="FILE|TEXT", unset="from the report beside it, if any")] = None
    """What was asked for, as in 'longtake generate --prompts'; without it, object, scene and steps stay open."""
    stop: Annotated[int | None, Setting(metavar="INT", unset="the end")] = None
    """First frame that is not read any more."""
    track: Annotated[Path | None, Setting(metavar="FILE", unset="none")] = None
    """Write the state of every frame there, as JSON."""

    def order(self) -> Order | None:
        """Return what the report beside it says was asked for. Raises OutputError where the states would replace it, or
        the video."""
        if self.track is not None:
            refuse_inputs(self.track, [self.path, self.prompts], "--track")
        return super().order()

    def figures(self, frames: Iterator[Frames], order: Order | None) -> dict[str, Any]:
        """Return the figures over all frames."""
        told = self.prompts is not None or order is not None
        shots = _shots(self.timeline(order, self.prompts)) if told else None
        from longtake.metrics.sprite_state.figures import state_figures
        from longtake.metrics.sprite_state.reader import read_states

        states = read_states(_cut(frames, 0, self.stop), shots)
        if self.track is not None:
            _write(self.track, json.dumps([asdict(state) for state in states], indent=1))
        return asdict(state_figures(states, shots))


@dataclass(frozen=True, kw_only=True)
class _OfPrompts(OfVideo):
    """A metric of how a video follows what was asked for."""

    prompts: Annotated[str | None, Setting(metavar="FILE|TEXT", unset="from the report beside it")] = None
    """What was asked for, as in 'longtake generate --prompts'."""


@dataclass(frozen=True, kw_only=True)
class Prompts(_OfPrompts):
    """Score a video of the sprite worlds: the share of clips that a classifier reads as what the prompts ask for."""

    bounds: ClassVar[Mapping[str, Bound]] = {
        "object": Bound(0.9, None, _CARD),
        "scene": Bound(0.95, None, _CARD),
        "motion": Bound(0.75, None, _CARD),
    }
    ideals: ClassVar[Mapping[str, float]] = dict.fromkeys(("object", "scene", "motion", "all"), inf)

    start: int = 0
    """First frame that counts."""
    stop: Annotated[int | None, Setting(metavar="INT", unset="the end")] = None
    """First frame that does not count any more."""

    def figures(self, frames: Iterator[Frames], order: Order | None) -> dict[str, Any]:
        """Return the shares of clips."""
        shots = _shots(self.timeline(order, self.prompts))
        from longtake.metrics.prompt_accuracy import prompt_accuracy

        return dict(prompt_accuracy(_cut(frames, self.start, self.stop), shots, start=self.start))


@dataclass(frozen=True, kw_only=True)
class Drift(OfVideo):
    """Score a video: does it change as it goes on, does it jump, freeze or repeat itself?"""

    bounds: ClassVar[Mapping[str, Bound]] = {
        "seam_ratio": Bound(None, 1.4, _REAL),
        "colour_drift": Bound(None, 60, _REAL),
        "contrast_ratio": Bound(0.8, 1.2, _REAL),
        "sharpness_ratio": Bound(0.7, 1.3, _REAL),
        "step_ratio": Bound(0.05, 4, _REAL),
        "longest_freeze": Bound(None, 1, _REAL),
        "loop_score": Bound(0.3, None, _REAL),
    }
    ideals: ClassVar[Mapping[str, float]] = {"seam_ratio": 1, "longest_freeze": -inf}

    block: int = 64
    """Frames at the start that are compared with as many at the end."""

    def figures(self, frames: Iterator[Frames], order: Order | None) -> dict[str, Any]:
        """Return the figures of one pass over the video."""
        seams, unknown = _seams(order)
        if self.block < 8:
            raise InputError(f"a block of {self.block} frames says nothing; use 8 or more")
        from longtake.metrics.consistency import consistency

        first, frames = peeked(frames)
        if first is None:
            raise InputError(f"{self.path} has no frames, so nothing can be measured")
        if min(first.shape[1:3]) < SMALLEST:
            raise InputError(f"{self.path} has no frames of {SMALLEST} pixels or more, so nothing can be measured")
        figures = consistency(frames, seams=seams, cuts=_cuts(order), block=self.block)
        return {**asdict(figures), "warnings": [*unknown, *self._left_out(figures)]}

    def _left_out(self, figures: "Consistency") -> list[str]:
        """Return why start and end are not compared, where they are not."""
        if figures.colour_drift is not None:
            return []
        names, frames = "no colour drift, contrast, sharpness and step ratio", figures.num_frames
        if frames >= 2 * self.block:
            return [f"{names}: the prompts ask for something else between the first {self.block} frames and the last"]
        return [
            f"{names}: the first {self.block} frames are compared with the last {self.block}, which needs "
            f"{2 * self.block} or more, and there are {frames}"
        ]


@dataclass(frozen=True, kw_only=True)
class _ByFeatures(OfVideo):
    """A metric of how frames look to a network."""

    network: Annotated[Path | None, Setting(metavar="FILE", unset="a small stand-in")] = None
    """A TorchScript network of features of pictures, such as DINO: it gets pixels in 0 to 255, (frames, 3, height,
    width). Loading it runs code inside: give only files that you trust."""
    device: DeviceChoice = "auto"
    """Where that network runs; auto takes a GPU if there is one."""

    def check(self) -> None:
        """Open the network. Raises as `opened` does."""
        self.opened()

    def opened(self) -> "VideoNetwork":
        """Return the network. Raises InputError for a file that is not there, and for a device without one."""
        if self.network is None and self.device != "auto":
            raise InputError("--device has no effect without --network: the stand-in runs on the processor")
        if self.network is not None:
            check_is_file(self.network, "--network")
        # Imports torch.
        from longtake.metrics.video_networks import script_frames, stand_in_looks

        if self.network is None:
            return stand_in_looks()
        return script_frames(self.network, choose_hardware(self.device, "float32").device)

    def rows(self, network: "VideoNetwork", frames: Iterator[Frames]) -> Iterator[NDArray[np.float32]]:
        """Yield features of frames, (n, numbers). Raises InputError where there are none."""
        first, frames = peeked(frames)
        if first is None:
            raise InputError(f"{self.path} has no frames, so nothing can be measured")
        return (network.read(batch[:, None]) for batch in frames)

    def labels(self, *names: str) -> dict[str, str]:
        """Return what these figures cannot be compared with."""
        return {} if self.network else dict.fromkeys(names, f"{NOT_COMPARABLE}: {STAND_IN}")


@dataclass(frozen=True, kw_only=True)
class Similarity(_ByFeatures):
    """Score a video: do its frames stay like its start, and like those before them? By features that are named."""

    spoken: ClassVar[Mapping[str, str]] = {"lags": "similar after {}"}
    bounds: ClassVar[Mapping[str, Bound]] = {
        "start": Bound(0.95, None, _REAL),
        "end": Bound(0.9, None, _REAL),
    }

    def figures(self, frames: Iterator[Frames], order: Order | None) -> dict[str, Any]:
        """Return the similarities, and by which features."""
        network = self.opened()
        from longtake.metrics.similarity import similarity

        figures = similarity(self.rows(network, frames), _cuts(order))
        return {**asdict(figures), "features": network.name, "labels": self.labels("start", "end", "lags")}


@dataclass(frozen=True, kw_only=True)
class Switches(_OfPrompts, _ByFeatures):
    """Score a video: how many frames after a change of its prompts does it look like what comes?"""

    spoken: ClassVar[Mapping[str, str]] = {"delays": "delay at frame {}"}
    bounds: ClassVar[Mapping[str, Bound]] = {
        "unfollowed": Bound(None, 0, "what was asked for"),
        "delay": Bound(None, 16, "one clip of the embedded model"),
    }
    # A delay is of those changes alone that are followed.
    ideals: ClassVar[Mapping[str, float]] = {"unfollowed": -inf}

    def figures(self, frames: Iterator[Frames], order: Order | None) -> dict[str, Any]:
        """Return the delay of every change that is reached; None where the video does not follow."""
        told = self.timeline(order, self.prompts)
        network = self.opened()
        from longtake.metrics.similarity import delays

        found = delays(self.rows(network, frames), told.starts[1:])
        followed = [delay for delay in found.values() if delay is not None]
        return {
            "switches": len(found),
            "unfollowed": len(found) - len(followed),
            "delay": float(np.mean(followed)) if followed else None,
            "delays": found,
            "features": network.name,
            "labels": self.labels("delay"),
        }


def _cuts(order: Order | None) -> Sequence[int]:
    return order.prompts.starts[1:] if order else ()


def peeked(batches: Iterator[Item]) -> tuple[Item | None, Iterator[Item]]:
    """Return the first of some, None where there is none, and all of them."""
    first = next(batches, None)
    return first, batches if first is None else chain([first], batches)


def _cut(batches: Iterable[Frames], start: int, stop: int | None) -> Iterator[Frames]:
    """Yield the frames start to stop."""
    place = 0
    for batch in batches:
        if stop is not None and place >= stop:
            return
        wanted = batch[max(0, start - place) : None if stop is None else stop - place]
        place += len(batch)
        if len(wanted):
            yield wanted


def _seams(order: Order | None) -> tuple[Sequence[int], list[str]]:
    """Return the frames at which a run's pieces of work meet, and why that is not known of one that has a report."""
    if order is None:
        return (), []
    try:
        # LoRAs, which may be gone by now, change no spec.
        spec = model_spec(order.model, **replace(order.loading, lora=()).told)
        plan = checked_plan(spec, order.request, order.sampler, order.output.part)
    except LongtakeError as error:
        return (), [f"where its windows meet is not known, so that there is no seam ratio: {error}"]
    return plan.seams(order.frames or 0), []


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another --track") from None


def _shots(timeline: PromptTimeline) -> dict[int, Shot]:
    shots = {}
    for start, text in zip(timeline.starts, timeline.texts, strict=True):
        shot = parse_caption(text)
        if shot is None:
            raise InputError(
                f"the prompt {text!r} names no object, scene and motion of the sprite worlds, so it cannot be judged; "
                "'longtake data sprites --preview' shows them"
            )
        shots[start] = shot
    return shots
