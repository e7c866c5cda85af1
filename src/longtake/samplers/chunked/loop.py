"""The loop of plain chunk-by-chunk sampling over tensors; plan.py explains the windows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from longtake.arrays import LatentFrames
from longtake.decoding import Decoder, decode_pixels
from longtake.model import VideoModel, WholeClips
from longtake.noise import Noise
from longtake.ranks.world import ALONE, World
from longtake.sampler import Chunk, State
from longtake.samplers.chunked.plan import ChunkedPlan
from longtake.samplers.keyframes import Keyframes, encoded_init
from longtake.samplers.run import Pixels, Progress, Run
from longtake.samplers.step import ddim, free
from longtake.schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class Setting(Run):
    """What stays the same during a run."""

    plan: ChunkedPlan

    @cached_property
    def schedule(self) -> Schedule:
        """Return the noise levels."""
        return self.model.schedule(self.plan.num_levels)

    @cached_property
    def keyframes(self) -> Keyframes:
        """Return the given frames, encoded."""
        return Keyframes.of(self.model, self.plan, self.plan.settings.keyframes, self.plan.anchored)


def run(model: VideoModel, plan: ChunkedPlan, noise: Noise, world: World, resume: State | None) -> Iterator[Chunk]:
    """Yield the video, a window a chunk. Processes take windows in turn; rank 0 has the frames, the others none."""
    setting = prepare(model, plan, noise, world)
    done = Progress.restored(resume, model) if resume else Progress()
    while windows := plan.round(done.window, world.clip.size):
        tail, decoder, pixels = _computed(setting, done, windows)
        for window, frames in zip(windows, pixels, strict=True):
            start = done.decoder.frames
            done = Progress(window=window + 1, shown=tail, decoder=replace(decoder, frames=start + len(frames)))
            yield Chunk(start=start, frames=setting.cut(start, frames), state=done.state)


def prepare(model: VideoModel, plan: ChunkedPlan, noise: Noise, world: World = ALONE) -> Setting:
    """Fix what stays the same during a run."""
    return Setting(model=model, plan=plan, noise=noise, world=world)


def sample(setting: Setting, window: int, tail: LatentFrames | None) -> Tensor:
    """Sample the latents of a window, which begins with the finished frames `tail` (None: with none)."""
    if isinstance(setting.model, WholeClips):
        return _whole_clip(setting, setting.model, window, tail)
    plan, frames = setting.plan, setting.plan.frames(window)
    windows = setting.windows(setting.schedule, [plan.prompts(window)])
    denoiser = setting.keyframes.kept(free(setting.model, windows, plan.guidance, setting.world.cfg), [frames])

    def with_tail(x: Tensor, x0: Tensor | None, level: int) -> Tensor:
        if tail is None:
            return x
        noisy = tail
        if level:
            noise = setting.draw_frames(frames[: tail.shape[1]], "tail", level)
            noisy = setting.schedule.now(torch.tensor(level)).mix(tail, noise)
        return torch.cat([noisy[None], x[:, :, tail.shape[1] :]], dim=2)

    def noise(level: int) -> Tensor:
        return setting.draw_window(window, frames, "step", level)[None]

    x = with_tail(setting.draw_window(window, frames, "frame").to(setting.dtype)[None], None, plan.num_levels)
    return ddim(denoiser, x, setting.schedule, plan.settings.eta, noise, plan.clip, with_tail)[0]


def _whole_clip(setting: Setting, model: WholeClips, window: int, tail: LatentFrames | None) -> LatentFrames:
    """Have a pipeline make a window, which goes on from `tail`, or from what the video begins with."""
    plan, request, rows = setting.plan, setting.plan.request, setting.plan.prompts(window)
    asked = {
        "prompt": request.prompts.texts[rows[len(rows) // 2] - 1],
        "num_inference_steps": plan.num_levels,
        "guidance_scale": plan.guidance,
        # Without one, that of the pipeline holds.
        **({"negative_prompt": request.negative_prompt} if request.negative_prompt else {}),
    }
    known = encoded_init(model, plan) if plan.given and not window else tail
    seed = int(setting.noise((2,), "clip", window).view(torch.int64))
    with model.lock:
        made = model.clip({name: value for name, value in asked.items() if name in (plan.spec.call or {})}, seed, known)
    return made if known is None else torch.cat([known, made[:, known.shape[1] :]], dim=1)


def _computed(setting: Setting, done: Progress, windows: range) -> tuple[LatentFrames | None, Decoder, list[Pixels]]:
    """Compute the window of this process; return the next tail, the decoder after it, and the pixels of all windows."""
    plan, world = setting.plan, setting.world
    overlap = plan.overlap
    pixels, tail, decoder = setting.no_pixels(), None, Decoder()
    if world.clip.rank < len(windows):
        window = windows[world.clip.rank]
        latents = sample(setting, window, done.shown)
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
    length = setting.plan.spec.timing.pixel_frames(setting.plan.spec.num_frames)
    has_frames = setting.world.cfg.rank == 0
    held = [
        range(rank * length, (rank + 1) * length) if has_frames and rank < count else range(0)
        for rank in range(group.size)
    ]
    here = torch.from_numpy(pixels).to(setting.model.device)
    together = setting.at_rank_0(here, held, 0, range(sum(map(len, held))))
    if not len(together):
        return [together.cpu().numpy()] * count
    return [part.cpu().numpy() for part in together.split(length)]
