"""What a network says of windows, whatever kind of model it is, and the loops of ordinary sampling over that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from longtake.arrays import FrameIndex
from longtake.errors import NonFiniteError
from longtake.finite import ADVICE, is_finite
from longtake.guidance import guided, scale_at
from longtake.model import Condition, Continuation, Infill, Known, PerFrameNoise, VideoModel
from longtake.ranks.world import ALONE, Group
from longtake.request import Guidance
from longtake.schedule import Clip, Level, Schedule, step

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""Returns x0 of windows x at integer levels (windows, frames); all that a loop knows of a model, its prompts and its
guidance."""

Adjust = Callable[[Tensor, Tensor, int], Tensor]
"""Returns what becomes of windows between two steps, given them, their x0 and the level that they have reached."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Windows of a video, but for their latents."""

    schedule: Schedule
    condition: Condition
    prompt_index: FrameIndex


def joined(windows: Sequence[Windows]) -> Windows:
    """Return the windows of several videos at one schedule, whose tables of prompts begin with the same row."""
    rows = [len(next(iter(each.condition.rows.values()), ())) for each in windows]
    starts = [sum(rows[:number]) for number in range(len(rows))]
    index = [each.prompt_index + start for each, start in zip(windows, starts, strict=True)]
    tables = {name: torch.cat([each.condition.rows[name] for each in windows]) for name in windows[0].condition.rows}
    return Windows(schedule=windows[0].schedule, condition=Condition(tables), prompt_index=torch.cat(index))


def free(model: VideoModel, windows: Windows, guidance: Guidance, cfg: Group = ALONE.cfg) -> Denoiser:
    """Return the denoiser of windows of which nothing is known. Two processes in `cfg` compute a branch of guidance
    each."""
    return _guided(model, windows, guidance, cfg, model.denoise, is_per_frame=isinstance(model, PerFrameNoise))


def between(model: Infill, windows: Windows, guidance: Guidance, known: Known, cfg: Group = ALONE.cfg) -> Denoiser:
    """Return the denoiser of windows of which some frames are known."""
    return _guided(model, windows, guidance, cfg, model.denoise_between, known)


def after(model: Continuation, windows: Windows, guidance: Guidance, known: Known, cfg: Group = ALONE.cfg) -> Denoiser:
    """Return the denoiser of what follows known frames."""
    return _guided(model, windows, guidance, cfg, model.denoise_after, known)


def _guided(
    model: VideoModel,
    windows: Windows,
    guidance: Guidance,
    cfg: Group,
    denoise: Callable[..., Tensor],
    *known: Known,
    is_per_frame: bool = False,
) -> Denoiser:
    def denoiser(x: Tensor, levels: Tensor) -> Tensor:
        level = levels if is_per_frame else one_level(levels)

        def branch(rows: Tensor) -> Tensor:
            with model.lock:
                return denoise(x, level, windows.schedule, windows.condition, rows, *known)

        x0 = guided(branch, windows.prompt_index, scale_at(guidance, levels, windows.schedule, x), cfg)
        _check_finite(x0, levels, windows.schedule.num_levels)
        return x0

    return denoiser


def _check_finite(x0: Tensor, levels: Tensor, num_levels: int) -> None:
    """Raise NonFiniteError, which names step and frame, where x0 of windows at these levels is no number."""
    if is_finite(x0):
        return
    window, _, frame = (~torch.isfinite(x0)).nonzero()[0, :3].tolist()
    place = f"frame {frame} of its window" if x0.ndim == 5 else "its clip"
    step = num_levels - int(levels[window, frame]) + 1
    raise NonFiniteError(
        f"in step {step} of {num_levels} the network makes of {place} what is not finite (NaN, or infinite); {ADVICE}"
    )


def one_level(levels: Tensor) -> Tensor:
    """Return the level of every window, for a model that takes no more than one; it must be that of all its frames."""
    assert bool((levels == levels[:, :1]).all()), "this model takes one level a window"
    return levels[:, 0]


def ddim_step(
    denoiser: Denoiser,
    x: Tensor,
    level: int,
    schedule: Schedule,
    eta: float = 0.0,
    z: Tensor | None = None,
    clip: Clip | None = None,
) -> tuple[Tensor, Tensor]:
    """Return windows x one level below `level`, and their x0 (Song et al., 2020, eq. 12); see `schedule.step`."""
    x0, at = denoiser(x, _everywhere(x, level)), torch.tensor(level)
    return step(x, x0, schedule.now(at), schedule.next(at), eta, z, clip), x0


def ddim(
    denoiser: Denoiser,
    x: Tensor,
    schedule: Schedule,
    eta: float = 0.0,
    noise: Callable[[int], Tensor] | None = None,
    clip: Clip | None = None,
    adjust: Adjust | None = None,
) -> Tensor:
    """Return windows made of the noise x, all frames of a window at one level.

    `noise` draws that of the step from a level; it is needed exactly if eta > 0.
    """
    for level in range(schedule.num_levels, 0, -1):
        z = noise(level) if eta and noise else None
        x, x0 = ddim_step(denoiser, x, level, schedule, eta, z, clip)
        if adjust:
            x = adjust(x, x0, level - 1)
    return x


def dpmpp(denoiser: Denoiser, x: Tensor, schedule: Schedule, bounded: bool) -> Tensor:
    """Return windows made of the noise x by DPM-Solver++(2M) (Lu et al., 2022, arXiv 2211.01095), without fresh noise.

    The first step is DDIM's. `bounded` keeps x0 in [-1, 1].
    """
    before = None
    for level in range(schedule.num_levels, 0, -1):
        x0, at = denoiser(x, _everywhere(x, level)), torch.tensor(level)
        x0 = x0.clamp(-1, 1) if bounded else x0
        now, next = schedule.now(at), schedule.next(at)
        aim = x0 if before is None else _extrapolated(x0, before, schedule.now(at + 1), now, next)
        x, before = step(x, aim, now, next), x0
    return x


def _extrapolated(x0: Tensor, before: Tensor, previous: Level, now: Level, next: Level) -> Tensor:
    """Return x0 moved on along its change since `before`, the x0 of the step from `previous` to `now`.

    With it a `step` without eta, from `now` to `next`, is DPM-Solver++(2M) (Lu et al., 2022, arXiv 2211.01095, alg. 2):
    x0 + (x0 - before) h' / (2 h)  with h the last and h' the coming change of log(alpha / sigma). A step to sigma = 0
    is endless in these terms and stays of first order.
    """
    start, middle, end = ((level.alpha / level.sigma).log() for level in (previous, now, next))
    weight = torch.where(next.sigma > 0, (end - middle) / (2 * (middle - start)), 0.0)
    return x0 + weight.to(x0) * (x0 - before)


def _everywhere(x: Tensor, level: int) -> Tensor:
    """Return the levels of windows whose frames all have one."""
    return torch.full((x.shape[0], x.shape[2]), level, device=x.device)
