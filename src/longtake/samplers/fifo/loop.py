"""The loop of FIFO-Diffusion over tensors (arXiv 2405.11473, Alg. 1, with the lookahead of sec. 4.3); plan.py explains
the queue.

Windows of one iteration never read what another has written, so one big batch, any order or separate devices give the
same numbers.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from longtake.arrays import LatentFrames, Latents
from longtake.decoding import Decoder, decode_pixels, pack_decoder, unpack_decoder
from longtake.model import PerFrameNoise
from longtake.noise import Noise
from longtake.ranks.world import ALONE, World
from longtake.request import Guidance
from longtake.sampler import Chunk, State
from longtake.samplers.clips import split_evenly
from longtake.samplers.fifo.plan import FifoPlan, Window
from longtake.samplers.fifo.released import RELEASES, Release
from longtake.samplers.keyframes import Keyframes
from longtake.samplers.run import Run
from longtake.samplers.step import ddim, free
from longtake.schedule import Schedule, step

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Setting(Run):
    """What stays the same during a run."""

    model: PerFrameNoise
    plan: FifoPlan
    release: Release
    schedule: Schedule
    keyframes: Keyframes

    def level(self, slot: int) -> int:
        """Return the noise level that a slot really has."""
        return max(self.plan.level(slot), self.release.cleanest)

    def label(self, slot: int) -> int:
        """Return the level that the network is told: a head only counts as clean for a network that has seen clean
        frames."""
        return max(self.level(slot), 0 if self.plan.spec.clean_frames else 1)

    def prompt(self, iteration: int, slot: int) -> int:
        """Return the row of the prompt table for a slot: that of its own frame."""
        named = self.plan.head if self.release.one_prompt else slot
        return self.plan.prompts_of([self.plan.frame(iteration, named)])[0]


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
                # By the same thread as all others: what a decoder works with is kept by each thread that has called it.
                yield delivered(setting, queue, *start(decode, setting, queue).result())[1]
            elif queue.finished.shape[1] >= plan.settings.decode_batch:
                decoding = queue, start(decode, setting, queue)
                queue = _handed_over(queue)
            elif queue.decoded == 0 and queue.iteration % plan.spec.num_frames == 0:
                yield Chunk(start=0, frames=setting.no_pixels(), state=queue.state)


def prepare(model: PerFrameNoise, plan: FifoPlan, noise: Noise, world: World = ALONE) -> Setting:
    """Fix what stays the same during a run."""
    release = RELEASES[plan.settings.compat]
    return Setting(
        model=model,
        plan=plan,
        noise=noise,
        world=world,
        release=release,
        schedule=release.queue_schedule(model.schedule(plan.num_levels, release.spacing)),
        keyframes=Keyframes.of(model, plan, plan.settings.keyframes, plan.anchored),
    )


def base_clip(setting: Setting) -> LatentFrames:
    """Sample the first f frames by ordinary DDIM over the same T levels."""
    model, plan, release = setting.model, setting.plan, setting.release
    shape, frames = plan.spec.latent_shape, range(plan.spec.num_frames)
    rows = plan.prompts_of([0] * len(frames) if release.one_prompt else frames)
    denoiser = free(model, setting.windows(setting.schedule, [rows]), plan.guidance, setting.world.cfg)

    def noise(level: int) -> Tensor:
        return setting.noise(shape, "base_step", level).to(model.device)[None]

    return ddim(
        setting.keyframes.kept(denoiser, [frames]),
        setting.noise(shape, "base").to(model.device, setting.dtype)[None],
        setting.schedule,
        plan.settings.eta,
        noise,
        release.clip or plan.clip,
        release.base_adjust(model.schedule(plan.num_levels, release.spacing)),
    )[0]


def fill(setting: Setting, base: LatentFrames) -> Queue:
    """Fill the queue from the base clip: its frames at the noisy end, noised copies of frame 0 in front of them."""
    plan = setting.plan
    frames = [
        _noised(setting, base[:, max(plan.frame(0, slot), 0)], slot, setting.draw_frame("queue", slot))
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


def renewed(model: PerFrameNoise, plan: FifoPlan, noise: Noise, world: World, state: State) -> State:
    """Return a queue whose frames begin anew where the video turns: the last finished one, noised to their levels."""
    setting, queue = prepare(model, plan, noise, world), Queue.restored(state, model)
    body = range(plan.head, plan.queue_length)
    # Without a head the cleanest of the body is the nearest to finished that there is.
    last = queue.frames[:, max(plan.head - 1, 0)]
    drawn = [setting.draw_frame("renewed", plan.frame(queue.iteration, slot)) for slot in body]
    anew = [_noised(setting, last, slot, z) for slot, z in zip(body, drawn, strict=True)]
    return replace(queue, frames=torch.stack([*queue.frames[:, : plan.head].unbind(1), *anew], dim=1)).state()


def advance(setting: Setting, queue: Queue) -> tuple[LatentFrames, LatentFrames]:
    """Denoise every computed slot by one level; return the frames after it, and the latents emitted.

    Processes share the windows. All read the queue of the start, so who computes what changes nothing.
    """
    plan, iteration, group = setting.plan, queue.iteration, setting.world.clip
    frames = _copies_renoised(setting, queue) if plan.settings.short_warmup else queue.frames
    shares = plan.shares(iteration, group.size)
    clean: dict[int, LatentFrames] = {}
    for batch in shares[group.rank]:
        windows = [plan.windows[index] for index in batch]
        x0 = _denoised(setting, frames, windows, iteration, plan.guidance if plan.guided(batch[0]) else 1.0)
        clean |= zip(batch, x0, strict=True)
    computed = [
        _stepped(setting, frames, x0, plan.windows[index], iteration, plan.windows[index].kept)
        for index, x0 in clean.items()
    ]
    slots = [plan.slots(share) for share in shares]
    every = sorted(slot for share in slots for slot in share)
    joined = torch.cat([frames[:, :0], *computed], dim=1)
    updated = frames.clone()
    (updated[:, every],) = group.fetch([joined], 1, slots, [every] * group.size)()
    if setting.release.emits_oldest:
        owners = [[0] if any(0 in batch for batch in share) else [] for share in shares]
        oldest = frames[:, :0]
        if 0 in clean:
            oldest = _stepped(setting, frames, clean[0], plan.windows[0], iteration, range(1))
        return updated, group.fetch([oldest], 1, owners, [[0]] * group.size)()[0]
    return updated, updated[:, plan.head : plan.head + plan.settings.frames_per_level]


def shift(setting: Setting, queue: Queue, updated: LatentFrames, emitted: LatentFrames) -> Queue:
    """Move the queue on: what was emitted joins the head, fresh noise enters at the end."""
    plan, k = setting.plan, setting.plan.settings.frames_per_level
    entering = [plan.frame(queue.iteration + 1, slot) for slot in range(plan.queue_length - k, plan.queue_length)]
    fresh = setting.draw_frames(entering, "enqueue").to(updated)
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
        return setting.no_pixels(), queue.decoder
    latents, last = queue.finished[:, share.start : share.stop], queue.iteration == plan.iterations
    return decode_pixels(setting.model, latents, queue.decoder, last, truncate=setting.release.truncates)


def delivered(setting: Setting, queue: Queue, pixels: np.ndarray, decoder: Decoder) -> tuple[Queue, Chunk]:
    """Bring the decoded frames of all processes to the first and wrap them up; also return the queue without them."""
    shares = _decoding_shares(setting, queue)
    start = queue.decoder.frames
    if setting.world.clip.size > 1 and len(shares[-1]):
        here = torch.from_numpy(pixels).to(setting.model.device)
        pixels = setting.at_rank_0(here, shares, 0, range(shares[-1].stop)).cpu().numpy()
    after = replace(_handed_over(queue), decoder=replace(decoder, frames=start + len(pixels)))
    return after, Chunk(start=start, frames=setting.cut(start, pixels), state=after.state)


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
    """Return whether a thread may decode: two sets of threads on the same cores take twice the time."""
    if setting.model.takes_turns:
        return False
    busy = setting.world.size * torch.get_num_threads()
    return setting.model.device.type != "cpu" or busy < (os.cpu_count() or 1)


def _at_once(function: Callable[..., Result], *arguments: Any) -> "Future[Result]":
    """Return the future of a call that is over already."""
    future: Future[Result] = Future()
    future.set_result(function(*arguments))
    return future


def _denoised(
    setting: Setting, frames: LatentFrames, windows: list[Window], iteration: int, guidance: Guidance
) -> Latents:
    """Return x0 of the windows, in one batch."""
    plan, device = setting.plan, setting.model.device
    slots = [range(window.start, window.stop) for window in windows]
    levels = torch.tensor([[setting.label(slot) for slot in window] for window in slots], device=device)
    x = torch.stack([frames[:, window.start : window.stop] for window in windows])
    rows = [[setting.prompt(iteration, slot) for slot in window] for window in slots]
    denoiser = free(setting.model, setting.windows(setting.schedule, rows), guidance, setting.world.cfg)
    held = [[plan.frame(iteration, slot) for slot in window] for window in slots]
    return setting.keyframes.kept(denoiser, held)(x, levels)


def _stepped(
    setting: Setting, frames: LatentFrames, x0: LatentFrames, window: Window, iteration: int, slots: range
) -> LatentFrames:
    """Return these slots of the queue one level lower, given x0 of the whole window."""
    plan = setting.plan
    levels = [setting.level(slot) for slot in slots]
    at: Int[Tensor, "frames 1 1"] = torch.tensor(levels)[:, None, None]
    z = None
    if plan.settings.eta:
        named = [(plan.frame(iteration, slot), level) for slot, level in zip(slots, levels, strict=True)]
        z = torch.stack([setting.draw_frame("step", *name) for name in named], dim=1)
    x0 = x0[:, slots.start - window.start : slots.stop - window.start]
    now, next = setting.schedule.now(at), setting.schedule.next(at)
    return step(frames[:, slots.start : slots.stop], x0, now, next, plan.settings.eta, z, setting.release.clip)


def _noised(setting: Setting, x0: Tensor, slot: int, z: Tensor) -> Tensor:
    """Noise one clean frame to the level of a slot."""
    return setting.schedule.now(torch.tensor(setting.level(slot))).mix(x0, z)


def _copies_renoised(setting: Setting, queue: Queue) -> LatentFrames:
    """Return the queue with its warm-up copies noised to their levels once more, instead of denoised."""
    plan, frames = setting.plan, queue.frames.clone()
    for slot in range(plan.queue_length):
        frame = plan.frame(queue.iteration, slot)
        if frame < 0:
            frames[:, slot] = _noised(setting, queue.first[:, 0], slot, setting.draw_frame("queue", frame))
    return frames
