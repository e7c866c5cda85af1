"""The loop of clip-by-clip sampling over tensors; plan.py explains the clips."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.decoding import Decoder, decode_pixels
from longtake.model import Continuation, Known
from longtake.noise import Noise
from longtake.ranks.world import ALONE, World
from longtake.sampler import Chunk, State
from longtake.samplers.autoregressive.plan import AutoregressivePlan
from longtake.samplers.run import Pixels, Progress, Run
from longtake.samplers.step import after, ddim, dpmpp, free


@dataclass(frozen=True, kw_only=True)
class Setting(Run):
    """What stays the same during a run."""

    model: Continuation
    plan: AutoregressivePlan


def run(
    model: Continuation, plan: AutoregressivePlan, noise: Noise, world: World, resume: State | None
) -> Iterator[Chunk]:
    """Yield the video, a clip a chunk. Processes that share guidance make all clips together; rank 0 has the frames."""
    setting = prepare(model, plan, noise, world)
    done = Progress.restored(resume, model) if resume else Progress()
    while plan.clips is None or done.window < plan.clips:
        latents = sample(setting, done.window, done.shown)
        pixels, decoder = _decoded(setting, latents, done)
        start = done.decoder.frames
        done = Progress(window=done.window + 1, shown=_shown(plan, latents, done.shown), decoder=decoder)
        yield Chunk(start=start, frames=setting.cut(start, pixels), state=done.state)


def prepare(model: Continuation, plan: AutoregressivePlan, noise: Noise, world: World = ALONE) -> Setting:
    """Fix what stays the same during a run."""
    return Setting(model=model, plan=plan, noise=noise, world=world)


def sample(setting: Setting, clip: int, previous: Tensor | None) -> Tensor:
    """Sample the latents that a clip brings, from noise; it follows the clean latents `previous` (None: nothing)."""
    model, plan, settings = setting.model, setting.plan, setting.plan.settings
    frames, schedule = plan.frames(clip), model.schedule(plan.steps(clip))
    windows = setting.windows(schedule, [plan.prompts_of(frames)])
    if previous is None:
        denoiser = free(model, windows, plan.guidance, setting.world.cfg)
    else:
        denoiser = after(model, windows, plan.guidance, Known(latents=previous[None]), setting.world.cfg)
    x = setting.draw_window(clip, frames, "frame").to(setting.dtype)[None]
    if settings.solver == "dpmpp":
        return dpmpp(denoiser, x, schedule, plan.spec.bounded)[0]

    def noise(level: int) -> Tensor:
        return setting.draw_window(clip, frames, "step", level)[None]

    if settings.solver == "ddim":
        return ddim(denoiser, x, schedule, settings.eta, noise, setting.clip)[0]
    return ddim(denoiser, x, schedule, 1.0, noise, "x0_and_eps" if plan.spec.bounded else None)[0]


def _shown(plan: AutoregressivePlan, latents: Tensor, previous: Tensor | None) -> Tensor:
    """Return what the next clip is shown of this one, and of those before where this one is shorter."""
    if not plan.context:
        return latents
    known = latents if previous is None else torch.cat([previous, latents], dim=1)
    return known[:, -plan.context :]


def _decoded(setting: Setting, latents: Tensor, done: Progress) -> tuple[Pixels, Decoder]:
    """Return the pixels that a clip brings and the decoder after it; no frames on processes that do not write."""
    if setting.world.rank:
        return setting.no_pixels(), done.decoder
    return decode_pixels(setting.model, latents, done.decoder, last=done.window + 1 == setting.plan.clips)
