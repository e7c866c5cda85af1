"""The loop of clip-by-clip sampling over tensors; plan.py explains the clips."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from longtake.decoding import Decoder, decode_clip, decode_pixels
from longtake.model import Continuation, Known
from longtake.noise import Noise
from longtake.ranks.world import ALONE, World
from longtake.sampler import Chunk, State
from longtake.samplers.autoregressive.plan import AutoregressivePlan
from longtake.samplers.keyframes import init_pixels
from longtake.samplers.run import Pixels, Progress, Run
from longtake.samplers.step import after, ddim, dpmpp, free, joined


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
        known, start = _known(setting, done), done.decoder.frames
        if plan.first_is_given and known is not None and not done.window:
            known, made = None, known.latents[0]
        else:
            made = sample(setting, done.window, known)
        bring = _clip_apart if plan.shown_pixels else _stream
        pixels, done = bring(setting, known, made, done)
        yield Chunk(start=start, frames=setting.cut(start, pixels), state=done.state)


def run_together(
    model: Continuation, plans: Sequence[AutoregressivePlan], noises: Sequence[Noise]
) -> list[list[Chunk]]:
    """Make videos whose plans differ in their prompts alone, each call of the network for all of them: the chunks of
    each, in memory."""
    settings = [prepare(model, plan, noise) for plan, noise in zip(plans, noises, strict=True)]
    done, chunks = [Progress() for _ in plans], [[] for _ in plans]
    for clip in range(plans[0].clips or 0):
        knowns = [_known(setting, so_far) for setting, so_far in zip(settings, done, strict=True)]
        made = sample_together(settings, clip, _stacked(knowns))
        for number, (setting, known) in enumerate(zip(settings, knowns, strict=True)):
            start = done[number].decoder.frames
            bring = _clip_apart if setting.plan.shown_pixels else _stream
            pixels, done[number] = bring(setting, known, made[number], done[number])
            chunks[number].append(Chunk(start=start, frames=setting.cut(start, pixels), state=done[number].state))
    return chunks


def _stacked(knowns: Sequence[Known | None]) -> Known | None:
    """Return what is known of several videos, a row each."""
    given = [known for known in knowns if known is not None]
    if not given:
        return None
    pixels = [known.pixels for known in given if known.pixels is not None]
    latents = torch.cat([known.latents for known in given])
    return replace(given[0], latents=latents, pixels=torch.cat(pixels) if pixels else None)


def prepare(model: Continuation, plan: AutoregressivePlan, noise: Noise, world: World = ALONE) -> Setting:
    """Fix what stays the same during a run."""
    return Setting(model=model, plan=plan, noise=noise, world=world)


def sample(setting: Setting, clip: int, known: Known | None) -> Tensor:
    """Sample the latents that a clip brings, from noise; it follows the known frames (None: nothing)."""
    return sample_together([setting], clip, known)[0]


def sample_together(settings: Sequence[Setting], clip: int, known: Known | None) -> Tensor:
    """Sample that clip of videos that differ in prompts and noise alone, (videos, ...), each call of the network for
    all of them; `known` has a row a video."""
    one = settings[0]
    model, plan, method = one.model, one.plan, one.plan.settings
    frames, schedule = plan.frames(clip), model.schedule(plan.steps(clip))
    windows = joined([each.windows(schedule, [each.plan.prompts_of(frames)]) for each in settings])
    if known is None:
        denoiser = free(model, windows, plan.guidance, one.world.cfg)
    else:
        denoiser = after(model, windows, plan.guidance, known, one.world.cfg)

    def draw(stream: str, *key: int) -> Tensor:
        return torch.stack([each.draw_window(clip, frames, stream, *key) for each in settings])

    x = draw("frame").to(one.dtype)
    if method.solver == "dpmpp":
        return dpmpp(denoiser, x, schedule, plan.spec.bounded)

    def noise(level: int) -> Tensor:
        return draw("step", level)

    if method.solver == "ddim":
        return ddim(denoiser, x, schedule, method.eta, noise, plan.clip)
    return ddim(denoiser, x, schedule, 1.0, noise, "x0_and_eps" if plan.spec.bounded else None)


def _known(setting: Setting, done: Progress) -> Known | None:
    """Return what the next clip goes on from: nothing, what the video begins with, or the end of the video."""
    plan, shown = setting.plan, done.shown
    if shown is None and plan.given:
        shown = torch.from_numpy(init_pixels(plan.request, plan.spec, plan.given))
    elif shown is None or not plan.shown_pixels:
        return None if shown is None else Known(latents=shown[None])
    frames = shown.to(setting.model.device).permute(0, 3, 1, 2) / 255
    with setting.model.lock:
        latents = setting.model.encode_frames(frames).to(setting.dtype)
    return Known(latents=latents[None], pixels=frames[None])


def _clip_apart(setting: Setting, known: Known | None, made: Tensor, done: Progress) -> tuple[Pixels, Progress]:
    """Return the pixels that a clip brings, which is decoded by itself together with what it goes on from, and how far
    the video is then. Every process decodes: all show the next clip the same frames."""
    latents = made if known is None else torch.cat([known.latents[0], made], dim=1)
    clip = decode_clip(setting.model, latents)
    shown = torch.from_numpy(clip[-setting.plan.shown_pixels :].copy()).to(setting.model.device)
    new = clip[setting.plan.shown_pixels if done.window else 0 :]
    after = Progress(window=done.window + 1, shown=shown, decoder=Decoder(frames=done.decoder.frames + len(new)))
    return setting.no_pixels() if setting.world.rank else new, after


def _stream(setting: Setting, known: Known | None, made: Tensor, done: Progress) -> tuple[Pixels, Progress]:
    """Return the pixels that a clip brings, decoded as what comes next of one stream, and how far the video is then; no
    frames on processes that do not write."""
    plan = setting.plan
    # What the video begins with is part of it.
    latents = made if done.window or known is None else torch.cat([known.latents[0], made], dim=1)
    after = Progress(window=done.window + 1, shown=_shown(plan, latents, done.shown), decoder=done.decoder)
    if setting.world.rank:
        return setting.no_pixels(), after
    pixels, decoder = decode_pixels(setting.model, latents, done.decoder, last=after.window == plan.clips)
    return pixels, replace(after, decoder=decoder)


def _shown(plan: AutoregressivePlan, latents: Tensor, previous: Tensor | None) -> Tensor:
    """Return what the next clip is shown of this one, and of those before where this one is shorter."""
    if not plan.context:
        return latents
    known = latents if previous is None else torch.cat([previous, latents], dim=1)
    return known[:, -plan.context :]
