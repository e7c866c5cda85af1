"""Steers a video, from the plan to the bytes, and one that is being made whose prompts are told anew."""

from collections.abc import Callable
from pathlib import Path

from longtake._generate import Result, generate
from longtake.errors import CheckpointError
from longtake.journal import Progress, check_progress
from longtake.lazy import named
from longtake.model import VideoModel
from longtake.models import load_model, model_spec
from longtake.models.hub.precision import choose_hardware
from longtake.report import Order, order_target, write_order
from longtake.request import PromptTimeline
from longtake.sampler import Plan
from longtake.samplers import pieces_of
from longtake.steer.plan import Prompts, Steering, plan_extension, plan_redo, spliced
from longtake.steer.video import note_path, notes, order_settings
from longtake.typed import fitting
from longtake.video import durable
from longtake.video.durable import Lock
from longtake.video.files import state_folder, subtitle_path
from longtake.video.kept import check_state, go_on_from, link


def extend(
    file: str | Path,
    frames: int,
    prompts: Prompts | None = None,
    output: str | Path | None = None,
    *,
    model: VideoModel | None = None,
    progress: Progress | None = None,
) -> Result:
    """Make a video longer by so many frames, itself or as a new one; a run of N frames becomes the one of N + M, byte
    for byte. The same call after an interruption goes on. See `plan_extension`; `model` may be loaded already."""
    file, output, prompts = _checked(file, prompts, output, model, progress)
    frames = fitting(frames, int, "frames")
    return carried_out(plan_extension(file, frames, prompts, output), model, progress)


def redo(
    file: str | Path,
    frame: int,
    prompts: Prompts | None = None,
    seed: int | None = None,
    output: str | Path | None = None,
    *,
    keep_queue: bool = False,
    model: VideoModel | None = None,
    progress: Progress | None = None,
) -> Result:
    """Make a video otherwise from a frame on, itself or as a branch that shares what comes before. The same call after
    an interruption goes on. See `plan_redo`; `model` may be loaded already."""
    file, output, prompts = _checked(file, prompts, output, model, progress)
    frame, seed = fitting(frame, int, "frame"), fitting(seed, int | None, "seed")
    keep_queue = fitting(keep_queue, bool, "keep_queue")
    return carried_out(plan_redo(file, frame, prompts, seed, output, keep_queue=keep_queue), model, progress)


def _checked(
    file: object, prompts: object, output: object, model: object, progress: object
) -> tuple[Path, Path | None, Prompts | None]:
    """Return both paths, and the prompts. Raises InputError for arguments of another type."""
    check_progress(progress)
    fitting(model, VideoModel | None, "model", takes="a model, as load_model and from_pipe return one, or None")
    told = fitting(prompts, Prompts | None, "prompts")
    return fitting(file, Path, "file"), fitting(output, Path | None, "output"), told


def carried_out(steering: Steering, model: VideoModel | None = None, progress: Progress | None = None) -> Result:
    """Do what was planned. Raises CheckpointError for other weights or another encoder than made the video."""
    order = steering.order
    if model is None:
        spec = steering.video.spec if steering.video else model_spec(order.model, **order.loading.told)
        hardware = choose_hardware(order.device, order.dtype, spec.released)
        order.check_files()
        model = load_model(order.model, hardware.device, hardware.dtype, **order.loading.told)
    order.check_weights(model.digest)
    begin(steering)
    return generate(model, order.request, order.sampler, order.output, progress=progress)


def begin(steering: Steering) -> None:
    """Bring the output to where the run goes on. Raises CheckpointError where another encoder made the video or its
    state is damaged, OutputError where somebody writes the output."""
    video, output = steering.video, steering.order.output.path
    if video is None or steering.under_way:
        return
    if steering.state:
        target = order_target(steering.order, video.plan)
        here, was = named(target.format.writer)(output, target.video).encoder(), video.record.environment["encoder"]
        if here != was:
            raise CheckpointError(
                f"{video.path} was encoded by {was}, here is {here}: what it adds would not fit; use the version that "
                "began it, or make the video anew with generate --from"
            )
        check_state(video.path, video.record, steering.state)
    settings = order_settings(steering.order)
    state_folder(output).mkdir(exist_ok=True)
    # Nothing is touched while somebody writes.
    lock = Lock(state_folder(output) / "lock", output)
    try:
        if steering.in_place:
            _note(steering)
        go_on_from(video.path, output, steering.state, settings)
        if steering.in_place:
            for note in notes(video.path):
                if note != note_path(video.path, steering.call):
                    note.unlink()
        else:
            _share_nodes(video.path, output)
    finally:
        lock.close()


def _note(steering: Steering) -> None:
    """Note what the run of a video becomes, before it does."""
    path = steering.order.output.path
    write_order(steering.order, note_path(path, steering.call))
    # Subtitles of what was asked for before do not make a run complete.
    subtitle_path(path).unlink(missing_ok=True)
    durable.reach("steering-noted")


def _share_nodes(source: Path, target: Path) -> None:
    """Give a branch what the calls of a tree have made so far."""
    nodes = state_folder(source) / "nodes"
    if not nodes.is_dir():
        return
    (state_folder(target) / "nodes").mkdir(exist_ok=True)
    for file in nodes.glob("*.safetensors"):
        link(file, state_folder(target) / "nodes" / file.name)


class EditedError(Exception):
    """The story of a run says otherwise what has not begun: its run has to turn (`plan_retelling`)."""

    def __init__(self, prompts: PromptTimeline) -> None:
        super().__init__("the story was edited")
        self.prompts = prompts
        """Of the whole video, as they are told now."""


class Story:
    """The story of a run that is under way: looked at whenever another segment has filled."""

    def __init__(self, order: Order, plan: Plan, told_anew: Callable[[], PromptTimeline | None]) -> None:
        """`told_anew` returns the prompts of the whole video, where they were told since it was called last."""
        self._order, self._plan, self._told_anew = order, plan, told_anew
        self._segments: int | None = None

    def check(self, frames: int) -> None:
        """Raise EditedError where the story was told otherwise, once so many frames have filled another segment."""
        segments = frames // self._order.output.segment
        begun, self._segments = self._segments is None or segments == self._segments, segments
        told = None if begun else self._told_anew()
        if told is None:
            return
        pieces = pieces_of(self._plan)
        assert pieces is not None
        ahead, now = frames + pieces.begun, self._order.request.prompts
        if spliced(now, told.after(ahead), ahead) != now:
            raise EditedError(told)
