"""The video that a run has left or is making, and what its run becomes."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from longtake.errors import CheckpointError, InputError, OutputError
from longtake.lazy import named
from longtake.model import VideoSpec
from longtake.models import model_spec
from longtake.reading import read_file
from longtake.report import Order, belongs, order_target, read_order
from longtake.sampler import Plan
from longtake.samplers.planning import checked_plan
from longtake.video.files import report_path, state_folder, subtitle_path
from longtake.video.kept import Kept, usable_states
from longtake.video.record import Record, changed, check_length, differing, read_record

_NOTE = "steer-"


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video that is there, as it was asked for last, with what its run has left."""

    path: Path
    order: Order
    spec: VideoSpec
    plan: Plan
    record: Record

    @property
    def fps(self) -> float:
        """Return the frames per second of the file."""
        return self.order.output.fps or self.spec.fps

    @property
    def is_complete(self) -> bool:
        """Return whether its run is over, report and all."""
        if not (self.record.finished and belongs(self.path) and subtitle_path(self.path).exists()):
            return False
        report = json.loads(read_file(report_path(self.path)))
        return report.get("complete") is True and read_order(str(report_path(self.path))).request == self.order.request

    def states(self, most: int | None) -> list[Kept]:
        """Return the states from which it can go on, up to so many frames, in order."""
        states = usable_states(self.path, self.record)
        return [state for state in states if most is None or state.next_frame <= most]

    def is_as_written(self, mark: dict[str, int], *, complete: bool = False) -> bool:
        """Return whether the output still has, up to a mark, what its run wrote; it is read whole."""
        target = order_target(self.order, self.plan)
        writer = named(target.format.writer)(self.path, target.video)
        try:
            if complete:
                check_length(self.path, self.record)
            writer.verify(mark, self.record.next_frame, complete=complete)
        except (CheckpointError, FileNotFoundError):
            return False
        finally:
            writer.close()
        return True


def find_video(file: str | Path) -> Video | None:
    """Return the video that a run has made or begun; None for a file of other origin.

    Raises InputError where its report is gone, OutputError or CheckpointError where report and state do not fit.
    """
    path = Path(file)
    record = read_record(path)
    if record is None:
        return None
    if not belongs(path):
        how = "not there; bring it back, or give the command that made the video again, which writes it anew"
        if report_path(path).exists():
            how = "damaged, or of a video of another name; bring it back, or give all files their old names"
        raise InputError(f"{report_path(path)}, the report of {path}, is {how}")
    # A kill may leave a note of what the run is now, before its report says so.
    videos = [_video(path, note, record) for note in (report_path(path), *notes(path))]
    fitting = [
        video for video in videos if not differing(record.settings, order_target(video.order, video.plan).settings)
    ]
    if not fitting:
        changes = changed(record.settings, order_target(videos[0].order, videos[0].plan).settings)
        raise OutputError(
            f"{path} was begun with other settings than would hold now: {', '.join(changes)}; bring the old ones back, "
            f"or let 'longtake generate --init {shlex.quote(str(path))}' with another -o go on from its last frames"
        )
    return fitting[-1]


def order_settings(order: Order) -> Mapping[str, object]:
    """Return the settings of an order's run, as its record has them."""
    spec = model_spec(order.model, **order.loading.told)
    return order_target(order, checked_plan(spec, order.request, order.sampler, order.output.part)).settings


def note_path(path: Path, call: str) -> Path:
    """Return where it is noted what the run of an output becomes by a call."""
    return state_folder(path) / f"{_NOTE}{call}.json"


def notes(path: Path) -> list[Path]:
    """Return the notes that lie beside the record of an output's run."""
    return sorted(state_folder(path).glob(f"{_NOTE}*.json"))


def _video(path: Path, report: Path, record: Record) -> Video:
    order = read_order(str(report))
    order = replace(order, output=replace(order.output, path=path))
    try:
        spec = model_spec(order.model, **order.loading.told)
    except InputError as reason:
        raise InputError(
            f"{path} was made by {order.model}, whose files are not found here ({str(reason).split('; ')[0]}): bring "
            "them back, or, where it was a pipeline given to longtake.from_pipe, which lies in no folder, make a video "
            f"that begins with its last frames (generate --init {path}), or the whole anew of that pipeline"
        ) from None
    plan = checked_plan(spec, order.request, order.sampler, order.output.part)
    return Video(path=path, order=order, spec=spec, plan=plan, record=record)
