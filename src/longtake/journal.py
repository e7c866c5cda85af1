"""Tells of a run while it goes on, and writes what it did beside its output: the report (out.json) and the prompts as
subtitles (out.vtt).
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from longtake.errors import NonFiniteError
from longtake.machine import peak_memory, processor
from longtake.reading import read_file
from longtake.report import LAYOUT, Order, belongs, check_sidecars, order_content
from longtake.sampler import Plan
from longtake.samplers.planning import plan_warnings
from longtake.typed import fitting
from longtake.video.durable import replace_durable
from longtake.video.encoding import exact_rate, without_controls
from longtake.video.files import report_path, subtitle_path
from longtake.video.record import read_record
from longtake.words import counted, plain

if TYPE_CHECKING:
    from longtake.video.sink import Sink

SAVE_SECONDS = 10.0
LINE_SECONDS = 10.0
# The scores compare 16 x 16 tiles, and a video with itself.
SMALLEST_MEASURED = 16

Progress = Callable[[int, tuple[str, ...], str], None]
"""Told before the first chunk and after every one: frames so far, new warnings, and what goes on while no frames come
(or nothing)."""


def check_progress(progress: object) -> None:
    """Raise InputError for what is told of no progress, before there is some."""
    takes = "a function that is called with frames, warnings and what goes on, or None"
    fitting(progress, Callable | None, "progress", takes=takes)


class Lines:
    """Tells of a run on standard error: its warnings at once, how far it is every ten seconds."""

    def __init__(self, total: int | None) -> None:
        self._total, self._at = total, time.monotonic()

    def __call__(self, frames: int, warnings: tuple[str, ...], doing: str) -> None:
        """Take what a `Progress` is told."""
        for warning in warnings:
            print(plain(f"warning: {warning}"), file=sys.stderr)
        if time.monotonic() - self._at >= LINE_SECONDS:
            self._at = time.monotonic()
            of = "" if self._total is None else f" of {self._total}"
            print(plain(", ".join([f"frame {frames}{of}", *filter(None, [doing])])), file=sys.stderr)


class Journal:
    """The report of a run that is under way. Seconds and peak memory add up over the interruptions of a run."""

    def __init__(self, order: Order, plan: Plan, ranks: int, progress: Progress | None) -> None:
        """`progress` is told of it; by default a line on standard error is. Raises as `check_sidecars` does."""
        check_sidecars(order.output.path, overwrite=order.output.overwrite)
        self._order, self._plan, self._output, self._ranks = order, plan, order.output.path, ranks
        self._progress = progress or Lines(order.frames)
        self.earlier: Mapping[str, Any] = {}
        """The report that an earlier process of this run has left."""
        if not order.output.overwrite and read_record(self._output) is not None and belongs(self._output):
            self.earlier = json.loads(read_file(report_path(self._output)))
        self._begin = self._saved = time.monotonic()

    @property
    def complete(self) -> bool:
        """Whether the report of the finished video is there already."""
        return self.earlier.get("complete") is True and subtitle_path(self._output).exists()

    @property
    def seconds(self) -> float:
        """Seconds of this process and of those before it."""
        return time.monotonic() - self._begin + _earlier_number(self.earlier, "seconds")

    def warnings(self, sink: "Sink") -> tuple[str, ...]:
        """Return what the file's owner should know."""
        return tuple(dict.fromkeys([*plan_warnings(self._plan), *sink.warnings]))

    @contextlib.contextmanager
    def kept(self, sink: "Sink") -> Iterator[None]:
        """Tell of the start; where the block ends early, close the report over the frames that the sink has."""
        warnings = self.warnings(sink)
        try:
            if not self.earlier:
                # Whoever steers a run that was killed asks its report; as in `note`, a full disk is the sink's to say.
                with contextlib.suppress(OSError):
                    self._save(self._content(sink.next_frame, complete=False, warnings=warnings))
            self._progress(sink.next_frame, warnings, "")
            yield
        except BaseException as error:
            # Frames that the sink took in the call that was interrupted are in the file too.
            with contextlib.suppress(OSError):
                self.close(sink.next_frame, complete=False, warnings=warnings)
            self._progress(sink.next_frame, (), "")
            if isinstance(error, NonFiniteError):
                kept = f"stopped at frame {sink.next_frame}; the frames before it are kept"
                raise NonFiniteError(f"{kept}; {error}") from error
            raise

    def note(self, frames: int, doing: str) -> None:
        """Tell how far the run is, and save the report now and then, so that a kill loses little of it."""
        if time.monotonic() - self._saved > SAVE_SECONDS:
            # A full disk is the sink's to report; the frames are worth more than the report of the moment.
            with contextlib.suppress(OSError):
                self._save(self._content(frames, complete=False, warnings=()))
        self._progress(frames, (), doing)

    def close(self, frames: int, *, complete: bool, warnings: tuple[str, ...]) -> dict[str, Any]:
        """Write the report and the subtitles; return the report."""
        content = self._content(frames, complete=complete, warnings=warnings)
        content["quality"] = _quality(self._order, self._plan) if complete else {"reason": "the video is not complete"}
        self._save(content)
        spans = [(start, stop or frames, text) for start, stop, text in self._order.prompts.spans(frames)]
        text = webvtt(spans, self._order.output.fps or self._plan.spec.fps)
        notes = []
        if self._plan.given:
            begun = (
                f"The first {counted(self._plan.given, 'frame')} are" if self._plan.given > 1 else "The first frame is"
            )
            notes.append(f"{begun} given, not made as the prompt says: see init in {report_path(self._output).name}.")
        if not complete:
            notes.append(f"The video is not complete: it ends at frame {frames}; the same command continues it.")
        if self._plan.spec.prompts == "window" and len(spans) > 1:
            notes.append("All frames of a window share a prompt: it may hold up to half a window sooner or later.")
        text = text.replace("WEBVTT\n", "WEBVTT\n" + "".join(f"\nNOTE {note}\n" for note in notes), 1)
        replace_durable(subtitle_path(self._output), text.encode())
        return content

    def _save(self, content: Mapping[str, Any]) -> None:
        replace_durable(report_path(self._output), (json.dumps(content, indent=2) + "\n").encode())
        self._saved = time.monotonic()

    def _content(self, frames: int, *, complete: bool, warnings: tuple[str, ...]) -> dict[str, Any]:
        record = read_record(self._output)
        plan = self._plan
        return {
            "longtake": LAYOUT,
            "complete": complete,
            "frames": frames,
            **order_content(self._order),
            "plan": {
                "forwards": plan.forwards,
                "forwards_per_frame": plan.forwards_per_frame,
                "tasks": plan.tasks,
                "guidance": plan.guidance,
            },
            "run": {
                "seconds": round(self.seconds, 3),
                "frames_per_second": round(frames / max(self.seconds, 1e-9), 3),
                "peak_memory_bytes": max(peak_memory(), int(_earlier_number(self.earlier, "peak_memory_bytes"))),
                "ranks": self._ranks,
                "processes": 1 + int(_earlier_number(self.earlier, "processes")),
            },
            "environment": {**(record.environment if record else {}), "processor": processor()},
            "quality": None,
            "warnings": list(warnings),
        }


def _earlier_number(report: Mapping[str, Any], name: str) -> float:
    run = report.get("run")
    value = run.get(name) if isinstance(run, dict) else None
    return float(value) if isinstance(value, int | float) else 0.0


def _quality(order: Order, plan: Plan) -> dict[str, Any]:
    """Return drift and seam figures of the delivered file, read back once."""
    if min(plan.spec.height, plan.spec.width) < SMALLEST_MEASURED:
        return {"reason": f"frames below {SMALLEST_MEASURED} pixels are not measured"}
    from longtake.metrics.consistency import consistency
    from longtake.video.read import read_frames

    seams, cuts = plan.seams(order.frames or 0), order.prompts.starts[1:]
    found = asdict(consistency(read_frames(order.output.path, scale=order.output.scale), seams=seams, cuts=cuts))
    return {name: value for name, value in found.items() if name != "curves"}


def webvtt(timeline: Iterable[tuple[int, int, str]], fps: float) -> str:
    """Return the text of a .vtt file for prompts that each hold from a frame to before another.

    `timeline`: (start frame, stop frame, prompt). Raises InputError for a rate that a video cannot have.
    """
    rate = exact_rate(fps)
    cues = [
        f"{_time(Fraction(start * 1000) / rate)} --> {_time(Fraction(stop * 1000) / rate)}\n{_escaped(text)}\n"
        for start, stop, text in timeline
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _time(milliseconds: Fraction) -> str:
    seconds, rest = divmod(round(milliseconds), 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _escaped(text: str) -> str:
    # A line break would end the cue, "-->" would begin another.
    text = " ".join(without_controls(text).split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
