"""The loop of NUWA-XL over tensors (arXiv 2303.12346, eq. 18 to 20); plan.py and ladder.py explain the tree."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from longtake.arrays import LatentFrames
from longtake.decoding import Decoder, decode_clip, decode_pixels, pack_decoder, unpack_decoder
from longtake.model import Continuation, Infill, Known, Strided, VideoModel
from longtake.noise import Noise
from longtake.ranks.world import World
from longtake.sampler import Chunk, State
from longtake.samplers.keyframes import encoded_init, init_digest, keyframe_pixels
from longtake.samplers.nuwa_xl.ladder import Node
from longtake.samplers.nuwa_xl.plan import NuwaXlPlan, lineage
from longtake.samplers.run import Pixels, Run
from longtake.samplers.step import after, between, ddim, free
from longtake.schedule import Schedule
from longtake.tasks.task import Executor, Store, Task, Work, run_tasks, task_key

NODE = "node."


@dataclass(frozen=True, kw_only=True)
class Setting(Run):
    """What all calls have in common."""

    model: Infill
    plan: NuwaXlPlan
    schedule: Schedule

    def draw(self, num_frames: int, stream: str, *key: int) -> Tensor:
        """Return noise for a window of one call."""
        channels, _, height, width = self.plan.spec.latent_shape
        return self.noise((channels, num_frames, height, width), stream, *key).to(self.model.device)[None]


def node_work(model: Infill, plan: NuwaXlPlan, noise: Noise, world: World) -> Work:
    """Return what makes calls of one kind: a task's name is its node, its result the latents of the node's window."""
    schedule = model.schedule(plan.num_levels)
    settings = [Setting(model=model, plan=told, noise=noise, world=world, schedule=schedule) for told in lineage(plan)]

    def work(tasks: Sequence[Task], given: Tensor | None) -> Tensor:
        told_since = sum(tasks[0].name[2:])
        return sample(settings[told_since], [Node(*task.name[:2]) for task in tasks], given)

    return work


def sample(setting: Setting, nodes: Sequence[Node], given: Tensor | None) -> Tensor:
    """Return the frames of the windows of nodes of one level, of which as much is known, (nodes, ...), on the CPU, as
    latents or as pixels, the given ones among them bit for bit.

    `given`, (nodes, ...): none for the first call of all, the frame that a later tree goes on from, or the frames of
    the windows that are known, in their order.
    """
    plan, node = setting.plan, nodes[0]
    window, places, clips = plan.ladder.window(node), plan.known(node), plan.clips(node)
    if given is not None and not clips:
        return given
    if not plan.has_clips_by_prompt(node):
        prompts = [plan.latent_prompts(plan.ladder.window(each)) for each in nodes]
        return _clip(setting, nodes, prompts, given, places)
    texts, rows, made = plan.texts(window), plan.prompts(window), None
    for clip in clips:
        # Of the frames that are known a clip is shown those of its own prompt.
        shown = [number for number, place in enumerate(places) if texts[place] == texts[clip[0]]]
        seen = given[:, :, shown] if given is not None and shown else None
        prompts = [[rows[clip[0]]] * len(plan.latent_prompts(window))] * len(nodes)
        part = _clip(setting, nodes, prompts, seen, [places[number] for number in shown])
        made = torch.empty_like(part) if made is None else made
        made[:, :, clip] = part[:, :, clip]
    assert made is not None, "a call without known frames makes some"
    if given is not None:
        made[:, :, places] = given
    return made


def _clip(
    setting: Setting, nodes: Sequence[Node], prompts: Sequence[list[int]], given: Tensor | None, places: Sequence[int]
) -> Tensor:
    """Return whole windows, of which the given frames are known, from noise that is that of the nodes alone."""
    model, plan, node = setting.model, setting.plan, nodes[0]
    # A window is whole, with noise at known places too, but for one that goes on: its known frame comes beside it.
    goes_on = given is not None and node.level == 1 and (node.index > 0 or plan.given > 0)
    rows = [row[1 if goes_on else 0 :] for row in prompts]
    windows, guidance = setting.windows(setting.schedule, rows), plan.call_guidance(node.level)
    known = None if given is None else _handed(setting, given, () if goes_on else places)
    if known is None:
        denoiser = free(model, windows, guidance, setting.world.cfg)
    elif goes_on:
        assert isinstance(model, Continuation)
        denoiser = after(model, windows, guidance, known, setting.world.cfg)
    else:
        denoiser = between(model, windows, guidance, known, setting.world.cfg)

    def noise(level: int) -> Tensor:
        return torch.cat([setting.draw(len(rows[0]), "node-step", *each, level) for each in nodes])

    x = torch.cat([setting.draw(len(rows[0]), "node", *each) for each in nodes]).to(setting.dtype)
    step = plan.ladder.stride(node.level)
    with model.lock, model.strided(step) if isinstance(model, Strided) else nullcontext():
        made = ddim(denoiser, x, setting.schedule, plan.settings.eta, noise, plan.clip)
    if known and goes_on:
        made = torch.cat([known.latents.to(made), made], dim=2)
    made = torch.stack([_as_handed(model, each) for each in made])
    if given is not None:
        made[:, :, places] = given
    return made


def _as_handed(model: VideoModel, latents: LatentFrames) -> Tensor:
    """Return the result of a call as others are given it, on the CPU: as latents, or as pixels of 8 bits, decoded from
    the call's own start, (3, frames, height, width)."""
    if model.spec.known == "latent":
        return latents.cpu()
    return torch.from_numpy(decode_clip(model, latents)).permute(3, 0, 1, 2).contiguous()


def _handed(setting: Setting, given: Tensor, places: Sequence[int]) -> Known:
    """Return known frames of windows as the network is shown them: at their places, or as what it goes on from."""
    given, model = given.to(setting.model.device), setting.model
    if model.spec.known == "pixel":
        frames = given.transpose(1, 2) / 255
        with model.lock:
            encoded = [torch.cat([model.encode_frames(frame[None]) for frame in window], dim=1) for window in frames]
        return Known(latents=torch.stack(encoded).to(setting.dtype), places=tuple(places), pixels=frames)
    if setting.plan.settings.handoff == "latent":
        return Known(latents=given, places=tuple(places))
    frames = torch.stack([model.decode(window, None, last=True)[0] for window in given])
    with model.lock:
        encoded = [model.encode_frames(window) for window in frames]
    return Known(latents=torch.stack(encoded).to(given.dtype), places=tuple(places), pixels=frames)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The calls of a plan as tasks."""

    plan: NuwaXlPlan
    wanted: range
    """Frames that are still to come."""
    common: str
    """What decides the result of every call."""
    keyframes: Pixels | None
    """The frames of the first call, if they are given."""
    init: LatentFrames | None = None
    """The frame that the first call goes on from, if it is given."""
    before: "Tree | None" = None
    """That of the story that this one changes."""
    told_since: int = 0
    """How many stories have come after this one."""

    @classmethod
    def of(cls, model: VideoModel, plan: NuwaXlPlan, told_since: int = 0) -> "Tree":
        """Return the tree of a whole plan, and those of the stories before it."""
        request, settings = plan.request, plan.settings
        common = {
            "model": [model.digest, str(model.dtype), model.device.type],
            "sampler": [
                plan.num_levels,
                plan.guidance,
                plan.call_guidance(plan.ladder.depth),
                settings.handoff,
                settings.eta,
            ],
            "request": [request.seed, request.negative_prompt],
        }
        keyframes = None
        if settings.keyframes is not None:
            keyframes = keyframe_pixels(settings.keyframes, plan.spec)
            common["keyframes"] = [hashlib.sha256(keyframes.tobytes()).hexdigest()]
        init = None
        if plan.given:
            init, common["init"] = encoded_init(model, plan).cpu(), [init_digest(plan)]
        before = None if plan.before is None else cls.of(model, plan.before, told_since + 1)
        return cls(
            plan=plan,
            wanted=plan.wanted,
            common=json.dumps(common),
            keyframes=keyframes,
            init=init,
            before=before,
            told_since=told_since,
        )

    def lay_keyframes(self, model: VideoModel, store: Store) -> None:
        """Put given keyframes where the result of the first call would be."""
        key = self._task(Node(1, 0), None).key
        if self.keyframes is not None and key not in store:
            if model.spec.known == "pixel":
                store.put(key, torch.tensor(self.keyframes).permute(3, 0, 1, 2).contiguous())
                return
            frames = torch.from_numpy(self.keyframes).to(model.device, torch.float32).permute(0, 3, 1, 2) / 255
            with model.lock:
                latents = model.encode_frames(frames)
            store.put(key, latents.to(torch.promote_types(model.dtype, torch.float32)).cpu())

    def first(self, store: Store) -> Task:
        """Return the task to begin with: the last tree before the wanted frames whose first call is in the store."""
        task = begin = self._task(Node(1, 0), None)
        while task.name[1] < max(0, self.wanted.start - 1) // self.plan.ladder.span(1):
            task = self._task(Node(1, task.name[1] + 1), task.key)
            begin = task if task.key in store else begin
        return begin

    def children(self, task: Task) -> Iterator[Task]:
        """Yield the tasks that wait for a task and are needed."""
        for node in self.plan.ladder.children(Node(*task.name[:2]), self.wanted):
            yield self._task(node, task.key)

    def shown_again(self, executor: Executor, store: Store) -> Iterator[Task]:
        """Do what the calls of this story have to see of the story before, as far as it is not in the store."""
        if self.before is None or self.plan.change is None:
            return
        before, edges = replace(self.before, wanted=self.wanted), self.plan.change.edges()
        yield from before.shown_again(executor, store)

        def children(task: Task) -> Iterator[Task]:
            return (child for child in before.children(task) if Node(*child.name[:2]) in edges)

        if edges:
            first, most = before.first(store), self.plan.window_batch
            yield from run_tasks(first, children, partial(before.given, store), executor, store, most)

    def given(self, store: Store, tasks: Sequence[Task]) -> Tensor | None:
        """Return the frames that tasks of one kind are given: of their parents' results, and of what they were in the
        story before."""
        frames = [part for part in (self._given(store, task) for task in tasks) if part is not None]
        return torch.stack(frames) if frames else None

    def _given(self, store: Store, task: Task) -> Tensor | None:
        node = Node(*task.name[:2])
        places = self.plan.ladder.given(node)
        parts = [] if self.init is None else [self.init]
        if task.parent is not None:
            parts = list(store.get(task.parent)[:, places.start : places.stop].split(1, 1))
        kept = self.plan.change.kept(node) if self.plan.change else []
        if self.before and kept:
            parts.insert(min(1, len(parts)), store.get(self.before.key(node))[:, kept])
        return torch.cat(parts, dim=1) if parts else None

    def key(self, node: Node, parent: str | None = None) -> str:
        """Return the digest of all that decides a call's result; `parent` is that of the call above, where it is known.

        What a change of the story does not touch has the key that it had before.
        """
        change, above, window = self.plan.change, self.plan.ladder.parent(node), self.plan.ladder.window(node)
        if self.before and change and not change.touches(node):
            return self.before.key(node)
        if above and parent is None:
            parent = self.key(above)
        clips = self.plan.clips(node) if self.plan.has_clips_by_prompt(node) else ()
        parts = self.common, node, [window.start, window.step], self.plan.texts(window), parent, *clips
        if self.before and change and (kept := change.kept(node)):
            return task_key(*parts, kept, self.before.key(node))
        return task_key(*parts)

    def _task(self, node: Node, parent: str | None) -> Task:
        window = self.plan.ladder.window(node)
        name = (*node, self.told_since) if self.told_since else tuple(node)
        return Task(
            order=(window.start, node.level),
            name=name,
            key=self.key(node, parent),
            parent=parent,
            kind=(self.told_since, node.level, *self.plan.known(node)),
        )


def drive(
    model: VideoModel, plan: NuwaXlPlan, executor: Executor, store: Store, resume: State | None, *, writes: bool
) -> Iterator[Chunk]:
    """Yield the wanted frames as soon as they and those before them are there, numbered as in the whole video.

    A call above the finest level gives a chunk without frames. `writes`: whether to decode.
    """
    start, decoder = plan.wanted.start, Decoder()
    tree = Tree.of(model, plan)
    if resume:
        start = int(resume["next"])
        decoder = unpack_decoder(model, resume)
        store.restore({name.removeprefix(NODE): tensor for name, tensor in resume.items() if name.startswith(NODE)})
    tree = replace(tree, wanted=range(start, plan.wanted.stop))
    tree.lay_keyframes(model, store)
    for task in tree.shown_again(executor, store):
        yield _chunk(plan, decoder, None, _state(store, start, decoder), doing=_words(plan, task))
    given = partial(tree.given, store)
    finished = run_tasks(tree.first(store), tree.children, given, executor, store, plan.window_batch)
    done: dict[Node, str] = {}
    while start < plan.wanted.stop:
        frames = plan.together(start)
        source = plan.source(frames)
        while source not in done:
            task = next(finished)
            done[Node(*task.name[:2])] = task.key
            if source not in done and task.name[0] < plan.ladder.depth:
                yield _chunk(plan, decoder, None, _state(store, start, decoder), doing=_words(plan, task))
        pixels, before, start = None, decoder, frames.stop
        if writes and plan.spec.known == "pixel":
            places = [plan.ladder.window(source).index(frame) for frame in frames]
            pixels = store.get(done[source])[:, places].permute(1, 2, 3, 0).numpy()
            decoder = replace(decoder, frames=decoder.frames + len(frames))
        elif writes and plan.spec.clip_decoder:
            pixels = _decoded_apart(model, plan, frames, lambda node: store.get(done[node]))
            decoder = replace(decoder, frames=decoder.frames + len(frames))
        elif writes:
            places = [plan.ladder.window(source).index(frame) for frame in frames]
            latents = store.get(done[source])[:, places[0] : places[-1] + 1].to(model.device)
            pixels, decoder = decode_pixels(model, latents, decoder, last=start == plan.wanted.stop)
        _forget(plan, start, done, store)
        yield _chunk(plan, before, pixels, _state(store, start, decoder))


def _decoded_apart(
    model: VideoModel, plan: NuwaXlPlan, frames: range, result: Callable[[Node], LatentFrames]
) -> Pixels:
    """Return frames, each decoded as one of the clip of the call that made it."""
    parts = []
    for node, made in groupby(frames, plan.ladder.owner):
        places = [plan.ladder.window(node).index(frame) for frame in made]
        clip, _ = decode_pixels(model, result(node).to(model.device), Decoder(), last=True)
        parts.append(clip[places])
    return np.concatenate(parts)


def _forget(plan: NuwaXlPlan, start: int, done: dict[Node, str], store: Store) -> None:
    """Drop the results that no frame from `start` on needs."""
    for node in list(done):
        last = plan.ladder.window(node)[-1]
        # The next tree goes on from the last frame of this one.
        if last < start - 1 or (last == start - 1 and node.level > 1):
            store.drop(done.pop(node))


def _state(store: Store, start: int, decoder: Decoder) -> Callable[[], State]:
    nodes = {NODE + key: result for key, result in store.state().items()}
    return lambda: {"next": torch.tensor(start), **nodes, **pack_decoder(decoder)}


def _chunk(
    plan: NuwaXlPlan, before: Decoder, frames: Pixels | None, state: Callable[[], State], doing: str = ""
) -> Chunk:
    none = np.zeros((0, plan.spec.height, plan.spec.width, 3), np.uint8)
    start = plan.wanted.start + before.frames
    return Chunk(start=start, frames=none if frames is None else frames, state=state, doing=doing)


def _words(plan: NuwaXlPlan, task: Task) -> str:
    window = plan.ladder.window(Node(*task.name[:2]))
    apart = f", {window.step} apart," if window.step > 1 else ""
    return f"frames {window[0]} to {window[-1]}{apart} are made"
