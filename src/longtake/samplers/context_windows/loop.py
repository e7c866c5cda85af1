"""The loop of context windows over tensors; plan.py explains the windows."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from longtake.arrays import Latents
from longtake.model import VideoModel
from longtake.noise import Noise
from longtake.ranks.world import World
from longtake.sampler import Chunk, State
from longtake.samplers.clips import noise_sources, split_evenly
from longtake.samplers.context_windows.plan import ContextWindowsPlan
from longtake.samplers.joint import JointRun, one_window, run_jointly, shuffled_by
from longtake.samplers.step import Windows, ddim_step, free


@dataclass(frozen=True, kw_only=True)
class Setting(JointRun):
    """What stays the same during a run. Every process has all frames, and denoises its share of the windows."""

    plan: ContextWindowsPlan

    def draw(self) -> Latents:
        """Return the noise with which the video begins."""
        plan, frames = self.plan, range(self.plan.latent_frames)
        if not plan.settings.freenoise:
            return self.drawn(frames, "frame")
        stride = plan.window - plan.overlap
        sources = noise_sources(len(frames), plan.window, stride, "shuffle_context", shuffled_by(self.noise))
        return self.drawn(sources, "frame")


def run(
    model: VideoModel, plan: ContextWindowsPlan, noise: Noise, world: World, resume: State | None
) -> Iterator[Chunk]:
    """Yield a chunk without frames after every step, then the video. States hold all latents."""
    total, others = plan.latent_frames, world.clip.size - 1
    setting = Setting(
        model=model,
        plan=plan,
        noise=noise,
        world=world,
        shares=(range(total), *[range(total, total)] * others),
        copies=True,
        held=one_window(model, plan, range(total)),
    )
    return run_jointly(setting, setting.draw, partial(denoised, setting), resume)


def denoised(setting: Setting, x: Latents, level: int) -> Latents:
    """Return the video one level lower."""
    plan = setting.plan
    z = setting.drawn(range(plan.latent_frames), "step", level) if plan.settings.eta else None

    def averaged(x: Tensor, levels: Tensor) -> Tensor:
        return averaged_x0(setting, x, levels)

    return ddim_step(averaged, x, level, setting.held.schedule, plan.settings.eta, z, plan.clip)[0]


def averaged_x0(setting: Setting, x: Latents, levels: Tensor) -> Latents:
    """Return x0 of the video at one level: the mean of what its windows say, each given its neighbours alone."""
    plan, group = setting.plan, setting.world.clip
    windows = plan.windows(plan.num_levels - int(levels[0, 0]))
    weights = [torch.tensor(weight, dtype=x.dtype, device=x.device) for weight in plan.weights(windows)]
    total, count = torch.zeros_like(x), x.new_zeros(x.shape[2])
    for window, weight in zip(windows, weights, strict=True):
        count[list(window)] += weight
    mine = split_evenly(len(windows), group.size)[group.rank]
    for start in range(mine.start, mine.stop, plan.window_batch):
        batch = slice(start, min(start + plan.window_batch, mine.stop))
        answers = _x0(setting, x, levels, windows[batch])
        for window, weight, x0 in zip(windows[batch], weights[batch], answers, strict=True):
            total[0, :, list(window)] += x0 * weight[:, None, None]
    return group.gather(total).sum(0) / count[:, None, None]


def _x0(setting: Setting, x: Latents, levels: Tensor, windows: list[tuple[int, ...]]) -> Tensor:
    held, is_told_once = setting.held, setting.plan.spec.prompts == "window"
    # One prompt for all frames: that of the middle one.
    told = [[window[len(window) // 2]] * len(window) if is_told_once else window for window in windows]
    index = held.prompt_index[0, torch.tensor(told, device=x.device)]
    given = Windows(schedule=held.schedule, condition=held.condition, prompt_index=index)
    picked = torch.cat([x[:, :, list(window)] for window in windows])
    denoiser = free(setting.model, given, setting.plan.guidance, setting.world.cfg)
    return denoiser(picked, levels[:, : picked.shape[2]].expand(len(picked), -1))
