"""The loop of plain chunk-by-chunk sampling over tensors; chunked.py explains the windows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.arrays import LatentFrames
from longtake.decoding import Decoder, decode_pixels, pack_decoder, unpack_decoder
from longtake.model import Condition, VideoModel
from longtake.noise import Noise
from longtake.ranks.world import World
from longtake.sampler import Chunk, State
from longtake.samplers.anchors import Anchors
from longtake.samplers.chunked.plan import ChunkedPlan
from longtake.samplers.step import Uniform, frame_noise
from longtake.schedule import Schedule

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What stays the same during a run."""

    model: VideoModel
    plan: ChunkedPlan
    noise: Noise
    world: World
    condition: Condition
    schedule: Schedule
    anchors: Anchors

    def draw(self, window: int, stream: str, *key: int) -> Tensor:
        """Return noise for a window, by frame where its latents have frames, so that the windows do not show in it."""
        shape = self.plan.spec.latent_shape
        if len(shape) == 4:
            return frame_noise(self.noise, shape, self.plan.frames(window), stream, *key).to(self.model.device)
        return self.noise(shape, stream, window, *key).to(self.model.device)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What changes: enough to go on from."""

    window: int
    """The next one to compute."""
    tail: LatentFrames | None
    """Latents that the next window shares with the last one; None without overlap."""
    decoder: Decoder = Decoder()

    def state(self) -> dict[str, Tensor]:
        """Return this as named tensors."""
        tail = {} if self.tail is None else {"tail": self.tail}
        return {"window": torch.tensor(self.window), **tail, **pack_decoder(self.decoder)}

    @classmethod
    def restored(cls, state: State, model: VideoModel) -> "Progress":
        """Return the progress that `state` was made from."""
        return cls(
            window=int(state["window"]),
            tail=state["tail"].to(model.device) if "tail" in state else None,
            decoder=unpack_decoder(model, state),
        )


def run(model: VideoModel, plan: ChunkedPlan, noise: Noise, world: World, resume: State | None) -> Iterator[Chunk]:
    """Yield the video, a window a chunk. Processes take windows in turn; rank 0 has the frames, the others none."""
    setting = Setting(
        model=model,
        plan=plan,
        noise=noise,
        world=world,
        condition=model.encode([plan.request.negative_prompt, *plan.request.prompts.texts]),
        schedule=model.schedule(plan.steps),
        anchors=Anchors.of(model, plan.settings.keyframes, plan.anchored),
    )
    done = Progress.restored(resume, model) if resume else Progress(window=0, tail=None)
    while windows := plan.round(done.window, world.clip.size):
        tail, decoder, pixels = _computed(setting, done, windows)
        for window, frames in zip(windows, pixels, strict=True):
            start = done.decoder.frames
            done = Progress(window=window + 1, tail=tail, decoder=replace(decoder, frames=start + len(frames)))
            if plan.request.frames is not None:
                frames = frames[: plan.request.frames - start]
            yield Chunk(start=start, frames=frames, state=done.state)


def sample(setting: Setting, window: int, tail: LatentFrames | None) -> Tensor:
    """Sample the latents of a window, which begins with the finished frames `tail` (None: with none)."""
    model, plan = setting.model, setting.plan
    uniform = Uniform(
        model=model,
        schedule=setting.schedule,
        condition=setting.condition,
        prompts=torch.tensor([plan.prompts(window)], device=model.device),
        guidance=plan.guidance,
        cfg=setting.world.cfg,
        eta=plan.settings.eta,
        known=setting.anchors.within([plan.frames(window)]),
    )
    x = setting.draw(window, "frame").to(torch.promote_types(model.dtype, torch.float32))[None]
    for level in range(plan.steps, 0, -1):
        if tail is not None:
            noisy = setting.schedule.now(torch.tensor(level)).mix(tail, _tail_noise(setting, window, level))
            x = torch.cat([noisy[None], x[:, :, tail.shape[1] :]], dim=2)
        z = setting.draw(window, "step", level)[None] if plan.settings.eta else None
        x, _ = uniform.stepped(x, level, z)
    return x[0] if tail is None else torch.cat([tail, x[0, :, tail.shape[1] :]], dim=1)


def _tail_noise(setting: Setting, window: int, level: int) -> Tensor:
    frames = setting.plan.frames(window)[: setting.plan.shared(window)]
    return frame_noise(setting.noise, setting.plan.spec.latent_shape, frames, "tail", level).to(setting.model.device)


def _computed(setting: Setting, done: Progress, windows: range) -> tuple[LatentFrames | None, Decoder, list[Pixels]]:
    """Compute the window of this process; return the next tail, the decoder after it, and the pixels of all windows."""
    plan, world = setting.plan, setting.world
    overlap = plan.settings.overlap
    pixels, tail, decoder = np.zeros((0, plan.spec.height, plan.spec.width, 3), np.uint8), None, Decoder()
    if world.clip.rank < len(windows):
        window = windows[world.clip.rank]
        latents = sample(setting, window, done.tail)
        if overlap:
            tail, latents = latents[:, -overlap:], latents[:, plan.shared(window) :]
        if world.cfg.rank == 0:
            # Clips that know nothing of each other are decoded apart, too.
            stream, last = (done.decoder, window + 1 == plan.windows) if overlap else (Decoder(), True)
            pixels, after = decode_pixels(setting.model, latents, stream, last)
            decoder = after if overlap else decoder
    return tail, decoder, _gathered(setting, pixels, len(windows))


def _gathered(setting: Setting, pixels: Pixels, count: int) -> list[Pixels]:
    """Return the pixels of `count` windows, of which each process has one; on other processes than rank 0 no frames."""
    group = setting.world.clip
    if group.size == 1:
        return [pixels]
    length = setting.plan.spec.pixel_frames(setting.plan.spec.num_frames)
    has_frames = setting.world.cfg.rank == 0
    held = [
        range(rank * length, (rank + 1) * length) if has_frames and rank < count else range(0)
        for rank in range(group.size)
    ]
    wanted = [[frame for frames in held for frame in frames], *([[]] * (group.size - 1))]
    here = torch.from_numpy(pixels).to(setting.model.device)
    (together,) = group.fetch([here], 0, held, wanted)()
    if not len(together):
        return [together.cpu().numpy()] * count
    return [part.cpu().numpy() for part in together.split(length)]
