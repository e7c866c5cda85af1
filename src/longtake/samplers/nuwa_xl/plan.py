"""NUWA-XL: diffusion over diffusion. First frames far apart, then those between them, and so on, from coarse to fine.

Yin et al., 2023, arXiv 2303.12346, section 3.3. This file holds the settings and the counts; ladder.py says which call
of the network makes which frames, loop.py holds the loop over tensors. The calls form a tree of tasks: of those
whose given frames are there, any may be next, here or on another machine.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from operator import add, mul
from typing import Annotated, ClassVar, Literal

from longtake.errors import CapabilityError, InputError
from longtake.model import Continuation, Infill, VideoModel, VideoSpec
from longtake.prompts import parse_prompts, source_text
from longtake.request import Guidance, PromptTimeline, Request, num_branches
from longtake.sampler import Plan, TaskSampler
from longtake.samplers.keyframes import init_pixels, keyframe_files
from longtake.samplers.nuwa_xl.ladder import Change, Fit, Ladder, Node, fitted_ladder, ladder_between
from longtake.samplers.planning import Batched, Stochastic, chosen_steps, one_branch
from longtake.samplers.workload import LATENT_BYTES, RankWork, Workload, gathered
from longtake.typed import Setting

Handoff = Literal["latent", "pixel"]

_BEFORE = "--sampler.before"


@dataclass(frozen=True, kw_only=True)
class NuwaXlPlan(Plan):
    """Which frames every call makes, and which of them are wanted."""

    settings: "NuwaXl"
    ladder: Ladder
    wanted: range
    """Frames that come out, in the numbers of the whole video."""
    stories: tuple[PromptTimeline, ...] = ()
    """What the story was before, oldest first."""

    @property
    def before(self) -> "NuwaXlPlan | None":
        """Return the plan of the story that this one changes; None for one that is told for the first time."""
        if not self.stories:
            return None
        return replace(self, request=replace(self.request, prompts=self.stories[-1]), stories=self.stories[:-1])

    @property
    def change(self) -> Change | None:
        """Return in what this story differs from the one before."""
        if not self.stories:
            return None
        return Change(ladder=self.ladder, before=self.stories[-1], now=self.request.prompts)

    def known(self, node: Node) -> list[int]:
        """Return the places of a call's window that it is given: from the call above it, or of the story before."""
        change, made = self.change, self.ladder.makes(node)
        places = {*range(self.ladder.lengths[node.level - 1])} - {*made}
        if self.given and node == Node(1, 0):
            places.add(0)
        return sorted(places.union(change.kept(node)) if change else places)

    def has_clips_by_prompt(self, node: Node) -> bool:
        """Return whether a call has a clip of the network for each of its prompts: a first call whose frames lie apart,
        by a model that learned neighbours only, where many frames of a scene would draw the few of another to theirs.
        """
        window = self.ladder.window(node)
        return node.level == 1 and window.step > max(self.spec.strides) == 1 < len({*self.texts(window)})

    def clips(self, node: Node) -> list[list[int]]:
        """Return the places that a call makes, by the clip of the network that makes them."""
        window, known = self.ladder.window(node), {*self.known(node)}
        made = [place for place in range(len(window)) if place not in known]
        if not self.has_clips_by_prompt(node):
            return [made] if made else []
        texts, clips = self.texts(window), dict[str, list[int]]()
        for place in made:
            clips.setdefault(texts[place], []).append(place)
        return list(clips.values())

    def call_guidance(self, level: int) -> Guidance:
        """Return the guidance of the calls of a level, 1 the coarsest."""
        for guidance in (self.settings.fine_guidance, self.spec.infill_guidance):
            if 1 < level == self.ladder.depth and guidance is not None:
                return guidance
        return self.guidance

    @property
    def guidances(self) -> frozenset[Guidance]:
        """Return the guidance of the calls of all levels."""
        return frozenset(map(self.call_guidance, range(1, self.ladder.depth + 1)))

    def latent_prompts(self, window: range) -> list[int]:
        """Return the row of the prompt table for every latent frame of a window of frames of the video."""
        timing, rows = self.spec.timing, self.prompts(window)
        return [rows[timing.pixel_frames(latent)] for latent in range(timing.latent_frames(len(window)))]

    def prompts(self, frames: range) -> list[int]:
        """Return the row of the prompt table (row 0 is the negative prompt) for frames; those after the end have the
        prompt of the last one."""
        last = sys.maxsize if self.request.frames is None else self.request.frames - 1
        return [1 + self.request.prompts.at(min(frame, last)) for frame in frames]

    def texts(self, frames: range) -> list[str]:
        """Return the prompts of frames."""
        return [self.request.prompts.texts[row - 1] for row in self.prompts(frames)]

    def together(self, start: int) -> range:
        """Return the wanted frames that come out together with `start`: those that a call at the finest level makes,
        and the last of its window; with frame 0, the first of it, too."""
        span = self.ladder.span(self.ladder.depth)
        return range(start, min(self.wanted.stop, max(0, start - 1) // span * span + span + 1))

    def seams(self, frames: int) -> Sequence[int]:
        """Return the numbers, among so many frames that come out, of those that another call made than the frame
        before: a frame that was given, and the next one."""
        start, owner = self.wanted.start, self.ladder.owner
        return [frame for frame in range(1, frames) if owner(start + frame) != owner(start + frame - 1)]

    def source(self, frames: range) -> Node:
        """Return the call in whose window all frames are that come out together."""
        owners = [self.ladder.owner(frame) for frame in frames]
        return max(owners, key=lambda node: node.level)


@dataclass(frozen=True, kw_only=True)
class NuwaXl(Batched, Stochastic, TaskSampler):
    """NUWA-XL: frames far apart first, then those between them, level by level; workers share the calls."""

    name: ClassVar[str] = "nuwa-xl"
    requires: ClassVar[tuple[type[VideoModel], ...]] = (Infill,)

    depth: int | None = None
    """Levels; as many as the length needs if not given. With fewer, trees follow each other, each going on from the
    last frame of the one before; a video can be made longer later, and its whole trees stay as they are."""
    fit: Fit = "cut"
    """What to do where the length is not that of a whole tree: cut plans a story to the end of the tree, of which the
    video is the first part; stretch takes frames off the first call, so that the story ends with the video."""
    keyframes: Annotated[str | None, Setting(metavar="FOLDER", unset="none")] = None
    """A folder of images, named in their order, in place of the first call's frames: from a storyboard, or another
    model. The levels below fill the gaps between them."""
    handoff: Handoff = "latent"
    """How a call is given its known frames: latent as they were made, pixel decoded and encoded again, as in the
    paper."""
    fine_guidance: float | None = None
    """Guidance of the finest level's calls, which see both ends of what they fill; the model's own value for these, or
    that of the other levels, if not given. 1 is off, and half the work."""
    before: Annotated[tuple[str, ...], Setting(metavar="FILE|TEXT ...", unset="none")] = ()
    """What the story was before, each time that it was told, oldest first. Frames whose prompt is the same stay as they
    were, and the calls that make others are shown them."""

    def __post_init__(self) -> None:
        """Read the stories that are files, so that what was asked for does not change with them."""
        super().__post_init__()
        object.__setattr__(self, "before", tuple(source_text(told, _BEFORE) for told in self.before))

    def plan(self, request: Request, spec: VideoSpec) -> NuwaXlPlan:
        """Lay out the tree and count the work. Raises InputError for settings that do not fit the model or each other,
        CapabilityError for latents that are not frames, and for a row of trees where the model cannot go on from a
        frame."""
        self.check_eta()
        self.check_window_batch()
        if self.fine_guidance is not None and not 0 <= self.fine_guidance <= 100:
            raise InputError(f"a fine_guidance of {self.fine_guidance} is out of range; use 0 to 100, usually 1 to 12")
        if not spec.frame_by_frame and spec.known != "pixel":
            raise CapabilityError(f"nuwa-xl needs a latent for every frame, which {spec.name} has not; use chunked")
        if spec.needs_pictures and self.keyframes is None:
            raise InputError(f"{spec.name} was always shown pictures in training; give a storyboard as keyframes")
        if spec.known == "pixel" and self.fit == "stretch":
            raise InputError(f"a call of {spec.name} has a fixed length, which stretch cannot change; use cut")
        if spec.known == "pixel" and self.handoff == "pixel":
            raise InputError(f"handoff has no effect on {spec.name}, which is always handed pixels; leave it out")
        ladder = self._ladder(request, spec)
        if self.fine_guidance is not None and ladder.depth == 1:
            raise InputError("fine_guidance has no effect on one level, which fills no gaps; leave it out")
        is_row = request.frames is None or ladder.span(1) < request.frames - 1
        if is_row and Continuation not in spec.capabilities:
            raise CapabilityError(
                f"with depth {self.depth} one tree follows another, for which {spec.name} would have to go on from the "
                "last frame of the one before (Continuation); leave depth out, or give a larger one"
            )
        given = len(init_pixels(request, spec, 1))
        if given and self.keyframes is not None:
            raise InputError("there are both --init and keyframes, of which the first one begins the video; give one")
        if given and (Continuation not in spec.capabilities or spec.known == "pixel"):
            raise CapabilityError(f"nuwa-xl cannot go on from given frames with {spec.name}; give them as keyframes")
        steps = chosen_steps(request, spec)
        plan = NuwaXlPlan(
            request=request,
            spec=spec,
            settings=self,
            ladder=ladder,
            wanted=range(sys.maxsize if request.frames is None else request.frames),
            forwards=None,
            forwards_per_frame=0.0,
            tasks=None,
            decoded=None,
            window_batch=self.window_batch,
            held_frames=0,
            window_frames=spec.num_frames,
            num_levels=steps,
            given=given,
            stories=self._stories(request, spec, is_row),
        )
        if self.fine_guidance not in (None, 1) and spec.learnt_guidance is not None:
            raise one_branch("fine_guidance", plan)
        per_call = steps * num_branches(plan.call_guidance(ladder.depth))
        plan = _counted(replace(plan, forwards_per_frame=per_call / (ladder.lengths[-1] - 2)))
        if self.window_batch > 1 == plan.window_batch:
            raise InputError("window_batch has no effect where no two calls can be made together; leave it out")
        return plan

    def _ladder(self, request: Request, spec: VideoSpec) -> Ladder:
        # A call makes frames of the video: where it is handed pixels, as many as its latents decode to.
        length = spec.timing.pixel_frames(spec.num_frames)
        if self.keyframes is None:
            return fitted_ladder(length, request.frames, self.depth, self.fit)
        if self.depth is not None or self.fit != "cut":
            raise InputError("depth and fit have no effect beside keyframes, which decide the tree; leave them out")
        return ladder_between(len(keyframe_files(self.keyframes, spec)), length, request.frames)

    def _stories(self, request: Request, spec: VideoSpec, is_row: bool) -> tuple[PromptTimeline, ...]:
        if not self.before:
            return ()
        if not spec.clean_frames:
            raise CapabilityError(
                f"before needs a model that has learned from known frames anywhere in a window, which {spec.name} has "
                "not; leave it out and all that waits for a changed frame is made anew, or take such a model: sprites"
            )
        if is_row or self.keyframes is not None or self.handoff == "pixel" or request.init is not None:
            raise InputError(
                "before is for a single tree that is handed down as latents and has neither keyframes nor --init; "
                "leave it out"
            )
        stories = tuple(parse_prompts(text, request.frames, spec.fps, _BEFORE) for text in self.before)
        for told, following in pairwise((*stories, request.prompts)):
            if told.spans(request.frames) == following.spans(request.frames):
                raise InputError("before says the same as what follows it, which changes nothing; leave it out")
        return stories

    def part(self, plan: Plan, frames: range) -> NuwaXlPlan:
        """Return the plan of these consecutive frames alone: the calls that make them, and those that these wait for.

        Raises InputError for frames that the video does not have.
        """
        assert isinstance(plan, NuwaXlPlan)
        if frames[0] < 0 or (plan.request.frames is not None and frames[-1] >= plan.request.frames):
            last = "0 and later" if plan.request.frames is None else f"0 to {plan.request.frames - 1}"
            raise InputError(f"there are no frames {frames[0]} to {frames[-1]}; the video has frames {last}")
        return _counted(replace(plan, wanted=frames))

    def check_ranks(self, plan: Plan, ranks: int) -> None:
        """Raise nothing: any number of processes can share the calls, if not all with profit."""


def _warnings(plan: NuwaXlPlan) -> tuple[str, ...]:
    spec, ladder, warnings = plan.spec, plan.ladder, []
    strides = [ladder.stride(level) for level in range(1 if plan.settings.keyframes is None else 2, ladder.depth + 1)]
    if unknown := ", ".join(str(stride) for stride in strides if stride not in spec.strides):
        known = ", ".join(map(str, spec.strides))
        warnings.append(
            f"{spec.name} has learned from frames that are {known} apart in the video, and here makes some that are "
            f"{unknown} apart: look whether things move too slowly, or jump; if so, make fewer frames, or try another "
            "model (their cards say how each fills a tree)"
        )
    if plan.change:
        made = [plan.change.num_made(level, plan.wanted) for level in range(1, ladder.depth + 1)]
        calls = sum(ladder.num_needed(level, plan.wanted) for level in range(1, ladder.depth + 1))
        clips = [made[0] and len(plan.clips(Node(1, 0))), *made[1:]]
        warnings.append(
            f"the change costs {sum(made):,} of {calls:,} calls, {_forwards(plan, clips):,} forwards, where what the "
            "story before made lies beside the output; what is missing is made again"
        )
    return tuple(warnings)


def _forwards(plan: NuwaXlPlan, clips: Sequence[int]) -> int:
    """Return the evaluations of so many clips at every level."""
    branches = [num_branches(plan.call_guidance(level)) for level in range(1, plan.ladder.depth + 1)]
    return plan.num_levels * sum(map(mul, clips, branches))


def _more_clips(plan: NuwaXlPlan, first_calls: int) -> int:
    """Return how many clips so many calls of the first level take beside one each."""
    # Only where the prompt changes is there more than one.
    stride, span = plan.ladder.stride(1), plan.ladder.span(1)
    changed = {max(0, -(-start // stride) * stride - 1) // span for start in plan.request.prompts.starts}
    return sum(max(0, len(plan.clips(Node(1, index))) - 1) for index in changed if index < first_calls)


def _counted(plan: NuwaXlPlan) -> NuwaXlPlan:
    """Return the plan with the counts of what its wanted frames take."""
    batches = _batches(plan)
    held_frames = sum(batches) * plan.spec.num_frames
    plan = replace(plan, warnings=_warnings(plan), window_batch=max(batches), held_frames=held_frames)
    if plan.request.frames is None and plan.wanted.stop == sys.maxsize:
        return plan
    ladder, handoff = plan.ladder, plan.settings.handoff
    counts = [ladder.num_needed(level, plan.wanted) for level in range(1, ladder.depth + 1)]
    # Later trees, and a first one that goes on, are given one frame, calls below the first level two.
    given = counts[0] - 1 + plan.given + 2 * sum(counts[1:])
    counts[0] -= plan.settings.keyframes is not None
    more, tellings = [0] * ladder.depth, _earlier(plan)
    for level, clips, is_more in tellings:
        counts[level - 1] += is_more
        more[level - 1] += clips - 1
    if plan.settings.keyframes is None and not tellings:
        more[0] = _more_clips(plan, counts[0])
    return replace(
        plan,
        forwards=_forwards(plan, list(map(add, counts, more))),
        tasks=sum(counts),
        stored_frames=sum(counts) * _stored(plan.spec),
        decoded=sum(counts) * plan.spec.num_frames
        if plan.spec.known == "pixel"
        else _decoded(plan) + (given if handoff == "pixel" else 0),
    )


def _batches(plan: NuwaXlPlan) -> list[int]:
    """Return how many calls are made together at every level, at most. Those of a tree wait for its first call, which
    is made alone."""
    batches, siblings = [1], 1
    for level in range(2, plan.ladder.depth + 1):
        siblings *= plan.ladder.lengths[level - 2] - 1
        batches.append(min(plan.settings.window_batch, siblings, plan.ladder.num_needed(level, plan.wanted)))
    return batches


def _stored(spec: VideoSpec) -> int:
    """Return how many latent frames, float32, take as much as the result of a call: its latents, or its pixels."""
    if spec.known == "latent":
        return spec.num_frames
    pixels = 3 * spec.height * spec.width * spec.timing.pixel_frames(spec.num_frames)
    return -(-pixels * spec.num_frames // (LATENT_BYTES * prod(spec.latent_shape)))


def _decoded(plan: NuwaXlPlan) -> int:
    """Return how many latent frames are decoded to have those that are wanted."""
    wanted, ladder = plan.wanted, plan.ladder
    if not plan.spec.clip_decoder:
        return len(wanted)
    # A frame on the border of two of the finest calls is decoded with the whole call that made it.
    steps = [ladder.stride(level) for level in range(1, ladder.depth)]
    on_grid = [0, *(len(range(-wanted.start % step, len(wanted), step)) for step in steps)]
    borders = sum(
        length * (count - above) for length, (above, count) in zip(ladder.lengths[:-1], pairwise(on_grid), strict=True)
    )
    return borders + ladder.lengths[-1] * len(ladder.makers(ladder.depth, wanted))


def _earlier(plan: NuwaXlPlan) -> list[tuple[int, int, bool]]:
    """Return of the tasks at the edges of all changes: their level, of how many clips they are, and whether they come
    beside those of the tree as it is told last."""
    tellings = list(reversed([*lineage(plan)]))
    changes = [told.change for told in tellings if told.change]
    edges = [{node for node in change.edges() if plan.ladder.covers(node, plan.wanted)} for change in changes]

    def made_by(node: Node, told: int) -> int:
        """Return by which of the first changes a call's result was last touched; 0 by none."""
        return max((number for number, change in enumerate(changes[:told], 1) if change.touches(node)), default=0)

    last = {(node, made_by(node, len(changes))) for nodes in edges for node in nodes}
    earlier = {(node, made_by(node, told)) for told, nodes in enumerate(edges) for node in nodes}
    return [(node.level, len(tellings[told].clips(node)), (node, told) not in last) for node, told in last | earlier]


def lineage(plan: NuwaXlPlan) -> Iterator[NuwaXlPlan]:
    """Yield the plan, and those of the stories before, newest first."""
    told: NuwaXlPlan | None = plan
    while told:
        yield told
        told = told.before


def tree_work(plan: Plan, ranks: int, width: int) -> Workload:
    """Return the rounds of a tree: a batch on every process, then all have all results, in float32 whatever `width`.

    Counted as if a level waited for the one before; the real order takes at most as many rounds, but for one.
    """
    assert isinstance(plan, NuwaXlPlan)
    counts = [plan.ladder.num_needed(level, plan.wanted) for level in range(1, plan.ladder.depth + 1)]
    if plan.settings.keyframes is not None:
        counts[0] = 0
    calls = [-(-count // ranks) for count in counts]
    rounds = sum(-(-count // most) for count, most in zip(calls, _batches(plan), strict=True))
    batch = sum(calls) / rounds if rounds else 1.0
    per_call = plan.num_levels * num_branches(plan.call_guidance(plan.ladder.depth))
    work = RankWork(
        evaluations=batch * (plan.forwards / plan.tasks if plan.forwards and plan.tasks else per_call),
        sent=gathered(round(batch * LATENT_BYTES * prod(plan.spec.latent_shape)), ranks),
        # The path to the present calls, and what others have finished at the same time.
        held_frames=plan.held_frames + (ranks - 1) * plan.window_batch * plan.spec.num_frames,
        window_batch=plan.window_batch,
        window_frames=plan.spec.num_frames,
    )
    return Workload(steps=rounds, first=0, ranks=(work,) * ranks)
