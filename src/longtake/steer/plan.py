"""What is to become of a video: checked from end to end, and nothing is touched."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from longtake.errors import CapabilityError, InputError, OutputError
from longtake.model import VideoSpec
from longtake.models import model_spec
from longtake.prompts import parse_several
from longtake.reading import refuse_missing_file
from longtake.report import Order, check_sidecars, read_order, told_by_frame
from longtake.request import PromptTimeline, Request, Turn
from longtake.sampler import Plan
from longtake.samplers import pieces_of
from longtake.samplers.nuwa_xl.plan import NuwaXl, NuwaXlPlan
from longtake.samplers.planning import Pieces, checked_plan
from longtake.steer.video import Video, find_video, note_path, order_settings
from longtake.typed import Setting
from longtake.video.kept import Kept
from longtake.video.output import check_output, output_format
from longtake.video.record import check_length, check_settings, read_record

Prompts = Annotated[str, Setting(metavar="FILE|TEXT")] | PromptTimeline
"""A prompt, several in any spelling of `--prompts`, or a file with some; frame 0 is the first that they are for."""


_FIRST = "let the command that began it go on first"


@dataclass(frozen=True, kw_only=True)
class Steering:
    """What is to become of a video, checked; nothing is touched before `begin`."""

    video: Video | None
    """That which goes on; none where only its last frames are taken."""
    order: Order
    """The whole of what is to be made, and where."""
    state: Kept | None = None
    """From where the run goes on; None from nothing."""
    call: str = ""
    """Tells what was asked for from other calls."""
    under_way: bool = False
    """The same call has begun it before."""
    holds: int | None = None
    """About from which frame on the new prompts hold fully."""
    dissolves: bool = False
    """Whether frames of the scene before are in view of the first of a new one, so that what it shows may stay."""
    notes: tuple[str, ...] = ()
    """What else its owner should know."""

    @property
    def in_place(self) -> bool:
        """Return whether the video itself goes on, rather than a branch of it."""
        return self.video is not None and self.video.path == self.order.output.path

    @property
    def made_from(self) -> int:
        """Return the first frame that is made, some of them again."""
        return self.state.next_frame if self.state else 0


def plan_extension(
    file: str | Path,
    frames: int,
    prompts: Prompts | None = None,
    output: str | Path | None = None,
    other: Order | None = None,
) -> Steering:
    """Return how a video becomes longer by so many frames, itself or as `output`. Frames that are there stay.

    Without other `prompts` for what is added the last one holds. Where there is no state to go on from, `output` begins
    with the last frames of the file, as `--init` does; for a file of other origin `other` says by which model and
    method.
    Raises as `find_video`, and InputError, CapabilityError or OutputError for what cannot be.
    """
    if frames < 1:
        raise InputError(f"{frames} frames more are none; ask for 1 or more")
    video, call = find_video(file), _call("extend", frames, prompts)
    if video is None or (output is None and _is_begun(video, call)):
        return _under_way(video, call) if video else _from_frames(Path(file), other, frames, prompts, output)
    order, end = video.order, video.order.request.frames
    if end is None:
        raise InputError(f"{video.path} is endless; the command that began it goes on")
    if order.output.part is not None:
        raise InputError(f"{video.path} is a part of a video; make the next one with --range")
    if not video.record.next_frame:
        raise InputError(f"{video.path} has no state yet to go on from; {_FIRST}")
    told = None if prompts is None else told_prompts(prompts, frames, video.fps)
    request = replace(order.request, frames=end + frames)
    if isinstance(order.sampler, NuwaXl):
        return _longer_tree(video, request, told, call, output)
    pieces = _pieces(video.plan)
    if "keyframes" in asdict(order.sampler) and asdict(order.sampler)["keyframes"]:  # pyright: ignore
        raise InputError("keyframes are spread over the whole video, and all would move; make the longer video anew")
    states = video.states(pieces.free)
    if not states and (pieces.free is None or pieces.free >= order.output.segment):
        if not video.is_complete and output is None:
            raise InputError(f"{video.path} has no state yet to go on from; {_FIRST}")
        return _from_frames(video.path, order, frames, prompts, output)
    after = request.prompts if told is None else spliced(request.prompts, told, end)
    # Who says the last prompt again means the longer video, too.
    turns = after != request.prompts
    if turns:
        request = _turned(request, end, _seed(request), after, keep_begun=False)
    holds = end + pieces.later - 1 + pieces.begun if turns else None
    return _checked(video, request, call, output, states[-1] if states else None, holds=holds)


def plan_redo(
    file: str | Path,
    frame: int,
    prompts: Prompts | None = None,
    seed: int | None = None,
    output: str | Path | None = None,
    *,
    keep_queue: bool = False,
) -> Steering:
    """Return how a video is made otherwise from a frame on, itself or as the branch `output`.

    Pieces before that frame stay; the piece with it is made again, and all after it: of `seed`, and with `prompts`
    from the frame on. FIFO's queue, half made there, begins anew; `keep_queue` goes on with it, so that new prompts
    take hold softly. Without anything new, what is not as its run wrote it is made again. Raises as `plan_extension`.
    """
    video, call = find_video(file), _call("redo", frame, prompts, seed, keep_queue)
    if video is None:
        if not Path(file).exists():
            raise InputError(f"there is no {file}; give a video")
        raise InputError(
            f"no run of longtake has left a state beside {file}, without which it cannot be made otherwise; extend "
            "goes on from its last frames"
        )
    if output is None and _is_begun(video, call):
        return _under_way(video, call)
    order, made = video.order, video.record.next_frame
    if not made:
        raise InputError(f"{video.path} has no state yet to go on from; {_FIRST}")
    if not 0 <= frame < made:
        raise InputError(f"{video.path} has frames 0 to {made - 1} so far, not {frame}; give one of them")
    if prompts is None and seed is None:
        return _repaired(video, frame, call, output)
    rest = None if order.frames is None else order.frames - frame
    told = order.prompts.after(frame) if prompts is None else told_prompts(prompts, rest, video.fps)
    after = spliced(order.prompts, told, frame)
    if isinstance(order.sampler, NuwaXl):
        return _other_tree(video, after, seed, keep_queue, call, output)
    pieces, request = _pieces(video.plan), order.request
    if keep_queue and not pieces.begun:
        raise InputError(f"{order.sampler.name} has no queue to keep; leave --keep-queue out")
    cut = pieces.before(frame)
    seed = _seed(request, cut) if seed is None else seed
    if cut:
        request = _turned(request, cut, seed, after, keep_begun=keep_queue)
    else:
        request = replace(request, prompts=after, seed=seed, turns=())
    if request == order.request and output is None:
        # It was made so before.
        return _under_way(video, call)
    if request == order.request:
        raise InputError("nothing would change: it is so already; give other --prompts, or another --seed")
    states = video.states(frame) if cut else []
    first = max(pieces.holds_from(frame), cut + pieces.later - 1 + pieces.begun if cut else 0)
    holds = None if after == order.prompts else first
    notes = () if holds is None else _ahead(video.spec, cut, frame)
    steering = _checked(video, request, call, output, states[-1] if states else None, holds=holds, notes=notes)
    return replace(steering, dissolves=cut > 0 and pieces.begun > 0 and frame in after.starts)


def _ahead(spec: VideoSpec, cut: int, frame: int) -> tuple[str, ...]:
    """Return what is to be known of frames from `cut` on, before the one that others were asked for from."""
    start = max(cut, frame - spec.timing.pixel_frames(spec.num_frames) // 2)
    if spec.prompts == "frame" or start >= frame:
        return ()
    return (
        f"frames {start} to {frame - 1} may follow the new prompts, too: {spec.name} takes one prompt for all frames "
        "of a window, that of its middle",
    )


def plan_retelling(file: str | Path, prompts: PromptTimeline) -> Steering | None:
    """Return how a run that is not finished, and that nobody continues at the moment, goes on with other prompts in
    what has not begun; None where these do not differ there.

    `prompts` count frames from the start of the video. Raises as `plan_extension`.
    """
    video = find_video(file)
    if video is None or video.record.finished:
        return None
    request, made, pieces = video.order.request, video.record.next_frame, _pieces(video.plan)
    states = video.states(made)
    state = states[-1] if states and states[-1].next_frame == made else None
    begun = made + pieces.begun if state else 0
    after = spliced(request.prompts, prompts.after(begun), begun)
    if after == request.prompts:
        return None
    if state is None:
        changed = replace(request, prompts=after, seed=_seed(request, 0), turns=())
    else:
        changed = _turned(request, made, _seed(request), after, keep_begun=True)
    return _checked(video, changed, _call("retell", after), None, state, holds=pieces.holds_from(begun))


def told_prompts(prompts: Prompts, frames: int | None, fps: float) -> PromptTimeline:
    """Return prompts of so many frames as a timeline; a text that looks like neither several nor a file is one.

    Raises as `parse_prompts`, and InputError for the name of a file that is not there.
    """
    if isinstance(prompts, PromptTimeline):
        return prompts
    if several := parse_several(prompts, frames, fps):
        return several
    refuse_missing_file(prompts)
    return PromptTimeline.constant(prompts)


def spliced(before: PromptTimeline, after: PromptTimeline, frame: int) -> PromptTimeline:
    """Return the prompts that are those of `before` up to a frame, and then those of `after`, which counts from it."""
    told = [(start, text) for start, text in zip(before.starts, before.texts, strict=True) if start < frame]
    for start, text in zip(after.starts, after.texts, strict=True):
        if not told or told[-1][1] != text:
            told.append((frame + start, text))
    return PromptTimeline(tuple(start for start, _ in told), tuple(text for _, text in told))


def _repaired(video: Video, frame: int, call: str, output: str | Path | None) -> Steering:
    """Return how what somebody changed from a frame on, or before, becomes again what the run wrote."""
    if output is not None or video.is_as_written(video.record.mark, complete=video.record.finished):
        raise InputError("nothing would change; give --prompts, or another --seed")
    # Each is held against the file up to its mark, which is read from the start: the last that fits is enough.
    state = next((state for state in reversed(video.states(frame)) if video.is_as_written(state.mark)), None)
    note = f"{video.path} is not as its run wrote it: the same frames are made again"
    return Steering(video=video, order=video.order, state=state, call=call, notes=(note,))


def _pieces(plan: Plan) -> Pieces:
    pieces = pieces_of(plan)
    if pieces is None:
        raise CapabilityError(
            f"{plan.settings.name} makes all frames together, so that a video of it is made whole or not at all; "
            "autoregressive, chunked, fifo and nuwa-xl can go on"
        )
    return pieces


def _seed(request: Request, frame: int | None = None) -> int:
    """Return the seed of the noise before a frame; that of the end for None."""
    seeds = [turn.seed for turn in request.turns if frame is None or turn.frame < frame]
    return [request.seed, *seeds][-1]


def _turned(request: Request, frame: int, seed: int, after: PromptTimeline, *, keep_begun: bool) -> Request:
    """Return a request that takes a turn at a frame, in place of those that it took from there on."""
    turns = tuple(turn for turn in request.turns if turn.frame < frame)
    before = [*(turn.prompts for turn in request.turns), request.prompts][len(turns)]
    turn = Turn(frame=frame, seed=seed, prompts=before, keep_begun=keep_begun)
    return replace(request, prompts=after, turns=(*turns, turn))


def _checked(
    video: Video,
    request: Request,
    call: str,
    output: str | Path | None,
    state: Kept | None,
    *,
    sampler: NuwaXl | None = None,
    holds: int | None = None,
    notes: tuple[str, ...] = (),
) -> Steering:
    """Return the steering, where its output may be written; that a branch is under way is found here."""
    path = video.path if output is None else Path(output)
    asked = replace(video.order.output, path=path)
    order = replace(video.order, request=request, sampler=sampler or video.order.sampler, output=asked)
    steering = Steering(video=video, order=order, state=state, call=call, holds=holds, notes=notes)
    checked_plan(video.spec, request, order.sampler)
    if state:
        check_length(video.path, video.record)
    if steering.in_place:
        return steering
    if check_output(path) != output_format(video.path):
        example = output_format(video.path).example(path.with_suffix(""))
        raise OutputError(f"a branch shares the bytes of {video.path} and has its form; give -o {example}")
    check_sidecars(path, overwrite=False)
    record = read_record(path)
    if record is not None:
        check_settings(path, record, order_settings(order))
    return replace(steering, under_way=record is not None and bool(record.mark))


def _from_frames(
    path: Path, base: Order | None, frames: int, prompts: Prompts | None, output: str | Path | None
) -> Steering:
    """Return how a new video begins with the last frames of a file, and goes on."""
    what = f"{path} has no state that a run could go on from"
    if not path.exists():
        raise InputError(f"there is no {path}; give a video")
    if base is None:
        raise InputError(f"{what}, and it is not known which model made it; say with which one, and its sampler")
    if output is None or Path(output) == path:
        raise OutputError(f"{what}, only frames: a new video can begin with the last of them; give -o with its name")
    spec = model_spec(base.model, **base.loading.told)
    fps = base.output.fps or spec.fps
    last = PromptTimeline.constant(base.request.prompts.texts[-1])
    told = last if prompts is None else told_prompts(prompts, frames, fps)
    request = replace(base.request, prompts=told, init=str(path.resolve()), frames=None, turns=())
    given = checked_plan(spec, request, base.sampler).given
    request = replace(request, prompts=spliced(told, told, given), frames=given + frames)
    order = replace(base, request=request, init=None, output=replace(base.output, path=Path(output)))
    checked_plan(spec, request, order.sampler)
    check_output(Path(output))
    note = (
        f"{what}: the new video begins with its last {given} frames, decoded, and goes on from them; that is not the "
        "video that a longer run would have made"
    )
    return Steering(video=None, order=order, notes=(note,))


def _longer_tree(
    video: Video, request: Request, told: PromptTimeline | None, call: str, output: str | Path | None
) -> Steering:
    """Return how a video of nuwa-xl becomes longer: its calls stay where a longer one has the same levels."""
    order, before = video.order, video.plan
    assert isinstance(order.sampler, NuwaXl) and isinstance(before, NuwaXlPlan) and order.request.frames is not None
    sampler, end = order.sampler, order.request.frames
    if told is not None:
        sampler = _with_story(before)
        request = replace(request, prompts=spliced(request.prompts, told, end))
    after = checked_plan(video.spec, request, sampler)
    assert isinstance(after, NuwaXlPlan)
    if after.ladder.lengths != before.ladder.lengths:
        raise CapabilityError(
            f"nuwa-xl lays {request.frames} frames out in other levels than {end}, so that none would stay; give "
            "--sampler.depth from the start to make a video longer later, or make the longer one anew"
        )
    return _checked(video, request, call, output, None, sampler=sampler, notes=(_CALLS,))


def _other_tree(
    video: Video, after: PromptTimeline, seed: int | None, keep_queue: bool, call: str, output: str | Path | None
) -> Steering:
    """Return how a story of nuwa-xl is told otherwise: the calls that make frames of other prompts are made again."""
    order = video.order
    assert isinstance(order.sampler, NuwaXl)
    if seed is not None or keep_queue:
        raise InputError("nuwa-xl makes a story otherwise by its --prompts alone; leave --seed and --keep-queue out")
    if after == order.request.prompts:
        raise InputError("nothing would change: it is so already; give other --prompts")
    assert isinstance(video.plan, NuwaXlPlan)
    sampler, request = _with_story(video.plan), replace(order.request, prompts=after)
    notes = (_CALLS,) if sampler.before != order.sampler.before else (_CALLS, _WAITING)
    return _checked(video, request, call, output, None, sampler=sampler, notes=notes)


_CALLS = "calls whose frames stay are not made again; the file is written anew from what they made"
_WAITING = (
    "it is told without the story before: calls that wait for a changed one are made again, so that earlier frames may "
    "become others, too"
)


def _with_story(plan: NuwaXlPlan) -> NuwaXl:
    """Return the sampler with the story so far as one before, to which frames that do not change are held; without it
    where trees follow each other, or it cannot hold them."""
    sampler, frames = plan.settings, plan.request.frames
    is_tree = frames is not None and plan.ladder.span(1) >= frames - 1
    if not (is_tree and plan.spec.clean_frames and sampler.keyframes is None and sampler.handoff == "latent"):
        return sampler
    return replace(sampler, before=(*sampler.before, json.dumps(told_by_frame(plan.request.prompts))))


def _call(*asked: object) -> str:
    told = [asdict(one) if isinstance(one, PromptTimeline) else one for one in asked]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _is_begun(video: Video, call: str) -> bool:
    """Return whether the last thing that a video was asked for is this call, and it is not complete."""
    note = note_path(video.path, call)
    return note.exists() and not video.is_complete and read_order(str(note)).request == video.order.request


def _under_way(video: Video, call: str) -> Steering:
    return Steering(video=video, order=video.order, call=call, under_way=True)
