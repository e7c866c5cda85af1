"""The loop of FIFO-Diffusion over tensors (arXiv 2405.11473, Alg. 1, with the lookahead of sec. 4.3); fifo.py explains
the queue.

Windows of one iteration never read what another has written, so one big batch, any order or separate devices give the
same numbers.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import LatentFrames, Latents
from longtake.decoding import Decoder, decode_pixels, pack_decoder, unpack_decoder
from longtake.guidance import guided
from longtake.model import Condition, PerFrameNoise
from longtake.noise import Noise
from longtake.ranks.world import ALONE, World
from longtake.sampler import Chunk, State
from longtake.samplers.anchors import Anchors
from longtake.samplers.clips import split_evenly
from longtake.samplers.fifo.plan import Compat, FifoPlan
from longtake.samplers.fifo.windows import Window
from longtake.samplers.step import Uniform
from longtake.schedule import Clip, Schedule, Spacing, step

Result = TypeVar("Result")

SPACING: dict[Compat, Spacing] = {"off": "trailing", "videocrafter2": "linspace", "opensora": "leading"}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What stays the same during a run."""

    model: PerFrameNoise
    plan: FifoPlan
    noise: Noise
    world: World
    condition: Condition
    schedule: Schedule
    anchors: Anchors

    def level(self, slot: int) -> int:
        """Return the noise level that a slot really has (the authors leave their head at the cleanest noisy level)."""
        return max(self.plan.level(slot), 0 if self.plan.settings.compat == "off" else 1)

    def label(self, slot: int) -> int:
        """Return the level that the network is told: a head only counts as clean for a network that has seen clean
        frames."""
        return max(self.level(slot), 0 if self.plan.spec.clean_frames else 1)

    def prompt(self, iteration: int, slot: int) -> int:
        """Return the row of the prompt table for a slot: that of its own frame (the authors switch all slots at
        once)."""
        frame = self.plan.frame(iteration, slot)
        if self.plan.settings.compat != "off":
            frame = self.plan.frame(iteration, self.plan.head)
        return self.row(frame)

    def row(self, frame: int) -> int:
        """Return the row of the prompt table for a latent frame: prompts start at pixel frames."""
        return 1 + self.plan.request.prompts.at(self.plan.spec.pixel_frames(max(frame, 0)))

    def draw(self, stream: str, *key: int) -> Float[Tensor, "channels height width"]:
        """Return the noise of one frame."""
        channels, _, height, width = self.plan.spec.latent_shape
        return self.noise((channels, height, width), stream, *key).to(self.model.device)


@dataclass(frozen=True, kw_only=True)
class Queue:
    """What changes: enough to go on from."""

    frames: LatentFrames
    """Head, then body, cleanest first."""
    iteration: int
    """The next one to compute."""
    first: LatentFrames
    """Frame 0 of the base clip, of which the warm-up frames are copies."""
    finished: LatentFrames
    """Emitted latents that are not decoded yet."""
    decoded: int
    """Latents of the video that are."""
    decoder: Decoder

    def state(self) -> dict[str, Tensor]:
        """Return this as named tensors."""
        counters = {"iteration": torch.tensor(self.iteration), "decoded": torch.tensor(self.decoded)}
        tensors = {"frames": self.frames, "first": self.first, "finished": self.finished}
        return {**tensors, **counters, **pack_decoder(self.decoder)}

    @classmethod
    def restored(cls, state: State, model: PerFrameNoise) -> "Queue":
        """Return the queue that `state` was made from."""
        return cls(
            frames=state["frames"].to(model.device),
            first=state["first"].to(model.device),
            finished=state["finished"].to(model.device),
            iteration=int(state["iteration"]),
            decoded=int(state["decoded"]),
            decoder=unpack_decoder(model, state),
        )


def run(model: PerFrameNoise, plan: FifoPlan, noise: Noise, world: World, resume: State | None) -> Iterator[Chunk]:
    """Yield the video. A chunk's state is the queue: a run that goes on from it makes the same frames.

    Frames are decoded while the next iteration is denoised, where a processor is idle.
    """
    setting = prepare(model, plan, noise, world)
    queue = Queue.restored(resume, model) if resume else fill(setting, base_clip(setting))
    with ThreadPoolExecutor(1) as worker:
        start = worker.submit if _processor_is_idle(setting) else _at_once
        decoding: tuple[Queue, Future[tuple[np.ndarray, Decoder]]] | None = None
        while plan.iterations is None or queue.iteration < plan.iterations:
            updated, emitted = advance(setting, queue)
            queue = shift(setting, queue, updated, emitted)
            if decoding:
                handed, future = decoding
                after, chunk = delivered(setting, handed, *future.result())
                decoding, queue = None, replace(queue, decoder=after.decoder)
                yield chunk
            if queue.iteration == plan.iterations:
                yield delivered(setting, queue, *decode(setting, queue))[1]
            elif queue.finished.shape[1] >= plan.settings.decode_batch:
                decoding = queue, start(decode, setting, queue)
                queue = _handed_over(queue)
            elif queue.decoded == 0 and queue.iteration % plan.spec.num_frames == 0:
                yield Chunk(start=0, frames=_no_pixels(plan), state=queue.state)


def prepare(model: PerFrameNoise, plan: FifoPlan, noise: Noise, world: World = ALONE) -> Setting:
    """Encode the prompts and fix the noise levels."""
    schedule = model.schedule(plan.num_levels, SPACING[plan.settings.compat])
    if plan.settings.compat == "videocrafter2":
        schedule = _without_scale(schedule)
    condition = model.encode([plan.request.negative_prompt, *plan.request.prompts.texts])
    return Setting(
        model=model,
        plan=plan,
        noise=noise,
        world=world,
        condition=condition,
        schedule=schedule,
        anchors=Anchors.of(model, plan.settings.keyframes, plan.anchored),
    )


def base_clip(setting: Setting) -> LatentFrames:
    """Sample the first f frames by ordinary DDIM over the same T levels."""
    model, plan, schedule = setting.model, setting.plan, setting.schedule
    clip_shape, dtype = plan.spec.latent_shape, torch.promote_types(model.dtype, torch.float32)
    x = setting.noise(clip_shape, "base").to(model.device, dtype)[None]
    frames = range(clip_shape[1])
    prompts = torch.tensor([[setting.row(frame) for frame in frames]], device=model.device)
    if plan.settings.compat != "off":
        prompts = torch.ones_like(prompts)
    uniform = Uniform(
        model=model,
        schedule=schedule,
        condition=setting.condition,
        prompts=prompts,
        guidance=plan.guidance,
        cfg=setting.world.cfg,
        eta=plan.settings.eta,
        clip=_clip(plan),
        known=setting.anchors.within([frames]),
    )
    for level in range(plan.num_levels, 0, -1):
        z = setting.noise(clip_shape, "base_step", level).to(model.device)[None] if plan.settings.eta else None
        x, x0 = uniform.stepped(x, level, z)
        if plan.settings.compat == "videocrafter2":
            x = x + _scale_correction(model.schedule(plan.num_levels, "linspace"), schedule, level) * x0
    return x[0]


def fill(setting: Setting, base: LatentFrames) -> Queue:
    """Fill the queue from the base clip: its frames at the noisy end, noised copies of frame 0 in front of them."""
    plan = setting.plan
    frames = [
        _noised(setting, base[:, max(plan.frame(0, slot), 0)], slot, setting.draw("queue", slot))
        for slot in range(plan.queue_length)
    ]
    return Queue(
        frames=torch.stack(frames, dim=1),
        iteration=0,
        first=base[:, :1],
        finished=base[:, :0],
        decoded=0,
        decoder=Decoder(),
    )


def advance(setting: Setting, queue: Queue) -> tuple[LatentFrames, LatentFrames]:
    """Denoise every computed slot by one level; return the frames after it, and the latents emitted.

    Processes share the windows. All read the queue of the start, so who computes what changes nothing.
    """
    plan, iteration, group = setting.plan, queue.iteration, setting.world.clip
    frames = _copies_renoised(setting, queue) if plan.settings.short_warmup else queue.frames
    shares = plan.shares(iteration, group.size)
    computed = [frames[:, :0]]
    for batch in shares[group.rank]:
        windows = [plan.windows[index] for index in batch]
        x0 = _denoised(setting, frames, windows, iteration, plan.guidance if plan.guided(batch[0]) else 1.0)
        for window, x0_window in zip(windows, x0, strict=True):
            computed += [_stepped(setting, frames, x0_window, window, iteration, k) for k in _kept(plan, window)]
    slots = [_slots(plan, share) for share in shares]
    every = sorted(slot for share in slots for slot in share)
    (exchanged,) = group.fetch([torch.cat(computed, dim=1)], 1, slots, [every] * group.size)()
    updated = frames.clone()
    body = [place for place, slot in enumerate(every) if slot >= 0]
    updated[:, [every[place] for place in body]] = exchanged[:, body]
    k = plan.settings.frames_per_level
    return updated, exchanged[:, :1] if every[0] < 0 else updated[:, plan.head : plan.head + k]


def _kept(plan: FifoPlan, window: Window) -> list[slice]:
    """Return the slots that a window writes; the authors' Open-Sora-Plan code emits slot 0 as well."""
    kept = slice(window.keep_start, window.keep_stop)
    return [slice(0, 1), kept] if plan.settings.compat == "opensora" and window.start == 0 else [kept]


def _slots(plan: FifoPlan, share: list[list[int]]) -> list[int]:
    """Return the slots that these batches write, in their order; -1 where slot 0 is emitted but not kept."""
    slots: list[int] = []
    for window in (plan.windows[index] for batch in share for index in batch):
        extra, kept = [-1] * (len(_kept(plan, window)) - 1), range(window.keep_start, window.keep_stop)
        slots += [*extra, *kept]
    return slots


def shift(setting: Setting, queue: Queue, updated: LatentFrames, emitted: LatentFrames) -> Queue:
    """Move the queue on: what was emitted joins the head, fresh noise enters at the end."""
    plan, k = setting.plan, setting.plan.settings.frames_per_level
    entering = [plan.frame(queue.iteration + 1, slot) for slot in range(plan.queue_length - k, plan.queue_length)]
    fresh = torch.stack([setting.draw("enqueue", frame) for frame in entering], dim=1).to(updated)
    leaving = [plan.frame(queue.iteration, plan.head + i) for i in range(k)]
    last = plan.latent_frames
    wanted = [i for i, frame in enumerate(leaving) if frame >= 0 and (last is None or frame < last)]
    return replace(
        queue,
        frames=torch.cat([updated[:, k:], fresh], dim=1),
        iteration=queue.iteration + 1,
        finished=torch.cat([queue.finished, emitted[:, wanted]], dim=1),
    )


def decode(setting: Setting, queue: Queue) -> tuple[np.ndarray, Decoder]:
    """Decode this process's share of the finished latents; return pixels and the decoder after them."""
    plan, share = setting.plan, _decoding_shares(setting, queue)[setting.world.clip.rank]
    if not len(share):
        return _no_pixels(plan), queue.decoder
    latents, last = queue.finished[:, share.start : share.stop], queue.iteration == plan.iterations
    return decode_pixels(setting.model, latents, queue.decoder, last, truncate=plan.settings.compat != "off")


def delivered(setting: Setting, queue: Queue, pixels: np.ndarray, decoder: Decoder) -> tuple[Queue, Chunk]:
    """Bring the decoded frames of all processes to the first and wrap them up; also return the queue without them."""
    plan, group = setting.plan, setting.world.clip
    shares = _decoding_shares(setting, queue)
    start = queue.decoder.frames
    if group.size > 1 and len(shares[-1]):
        wanted = [range(shares[-1].stop), *[()] * (group.size - 1)]
        (gathered,) = group.fetch([torch.from_numpy(pixels).to(setting.model.device)], 0, shares, wanted)()
        pixels = gathered.cpu().numpy()
    after = replace(_handed_over(queue), decoder=replace(decoder, frames=start + len(pixels)))
    if plan.request.frames is not None:
        pixels = pixels[: plan.request.frames - start]
    return after, Chunk(start=start, frames=pixels, state=after.state)


def _decoding_shares(setting: Setting, queue: Queue) -> tuple[range, ...]:
    """Return which finished latents every process decodes: all of them the first, where a decoder remembers."""
    count, ranks = queue.finished.shape[1], setting.world.clip.size
    if ranks > 1 and setting.plan.spec.decodes_apart:
        return split_evenly(count, ranks)
    return (range(count), *[range(0)] * (ranks - 1))


def _handed_over(queue: Queue) -> Queue:
    """Return the queue without its finished frames, which somebody decodes."""
    return replace(queue, finished=queue.finished[:, :0], decoded=queue.decoded + queue.finished.shape[1])


def _processor_is_idle(setting: Setting) -> bool:
    """Return whether the CPU has nothing else to do: two sets of threads on the same cores take twice the time."""
    busy = setting.world.size * torch.get_num_threads()
    return setting.model.device.type != "cpu" or busy < (os.cpu_count() or 1)


def _at_once(function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
    """Return the future of a call that is over already."""
    future: Future[Result] = Future()
    future.set_result(function(*arguments))
    return future


def _no_pixels(plan: FifoPlan) -> np.ndarray:
    return np.zeros((0, plan.spec.height, plan.spec.width, 3), np.uint8)


def _denoised(
    setting: Setting, frames: LatentFrames, windows: list[Window], iteration: int, guidance: float
) -> Latents:
    """Return x0 of the windows, in one batch."""
    slots = [range(window.start, window.stop) for window in windows]
    device = setting.model.device
    level = torch.tensor([[setting.label(slot) for slot in window] for window in slots], device=device)
    prompt = torch.tensor([[setting.prompt(iteration, slot) for slot in window] for window in slots], device=device)
    x = torch.stack([frames[:, window.start : window.stop] for window in windows])
    known = setting.anchors.within([[setting.plan.frame(iteration, slot) for slot in window] for window in slots])
    if known:
        x, level = known.shown(x, level)
    branch = partial(setting.model.denoise, x, level, setting.schedule, setting.condition)
    x0 = guided(branch, prompt, guidance, setting.world.cfg)
    return known.kept(x0) if known else x0


def _stepped(
    setting: Setting, frames: LatentFrames, x0: LatentFrames, window: Window, iteration: int, kept: slice
) -> LatentFrames:
    """Return the `kept` slots of the queue one level lower, given x0 of the whole window."""
    plan, slots = setting.plan, range(kept.start, kept.stop)
    levels = [setting.level(slot) for slot in slots]
    at: Int[Tensor, "frames 1 1"] = torch.tensor(levels)[:, None, None]
    z = None
    if plan.settings.eta:
        named = [(plan.frame(iteration, slot), level) for slot, level in zip(slots, levels, strict=True)]
        z = torch.stack([setting.draw("step", *name) for name in named], dim=1)
    x0 = x0[:, kept.start - window.start : kept.stop - window.start]
    now, next = setting.schedule.now(at), setting.schedule.next(at)
    return step(frames[:, kept], x0, now, next, plan.settings.eta, z, _clip(plan))


def _noised(setting: Setting, x0: Tensor, slot: int, z: Tensor) -> Tensor:
    """Noise one clean frame to the level of a slot (the authors' clean frames still carry the noise of abar[0])."""
    return setting.schedule.now(torch.tensor(setting.level(slot))).mix(x0, z)


def _copies_renoised(setting: Setting, queue: Queue) -> LatentFrames:
    """Return the queue with its warm-up copies noised to their levels once more, instead of denoised."""
    plan, frames = setting.plan, queue.frames.clone()
    for slot in range(plan.queue_length):
        frame = plan.frame(queue.iteration, slot)
        if frame < 0:
            frames[:, slot] = _noised(setting, queue.first[:, 0], slot, setting.draw("queue", frame))
    return frames


def _clip(plan: FifoPlan) -> Clip | None:
    return "x0_and_eps" if plan.settings.compat == "opensora" else None


def _without_scale(schedule: Schedule) -> Schedule:
    """Return the schedule with alpha^2 + sigma^2 = 1, as the authors' queue uses it even where training scaled x0."""
    alpha, alpha_next = (1 - schedule.sigma**2).sqrt(), (1 - schedule.sigma_next**2).sqrt()
    return replace(schedule, alpha=alpha, alpha_next=alpha_next)


def _scale_correction(scaled: Schedule, plain: Schedule, level: int) -> Tensor:
    """Return what the authors' base clip adds to a plain step, per x0: they rescale x0 there, and only there."""
    at = torch.tensor(level)
    scale = torch.where(plain.alpha > 0, scaled.alpha / plain.alpha, 1.0)
    return plain.next(at).alpha * (scale[level - 1] / scale[level] - 1)
