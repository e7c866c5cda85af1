"""What the authors' two codes of FIFO-Diffusion do otherwise than their paper, as settings of the one loop."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from longtake.samplers.step import Adjust
from longtake.schedule import Clip, Schedule, Spacing


@dataclass(frozen=True, kw_only=True)
class Release:
    """The quirks of a code; without any it is the paper."""

    spacing: Spacing = "trailing"
    """How timesteps are chosen."""
    clip: Clip | None = None
    """How x0 is bounded."""
    cleanest: int = 0
    """Level of frames that are finished: 1 leaves the head at the cleanest noisy level."""
    one_prompt: bool = False
    """All slots have the prompt of the frame that comes out next, and the base clip has the first one."""
    truncates: bool = False
    """Pixels are cut to whole numbers, not rounded."""
    rescales_base: bool = False
    """Where training scaled x0, the base clip does so too, and the queue does not."""
    emits_oldest: bool = False
    """What comes out is the oldest frame of the head, denoised once more with the first window."""

    def queue_schedule(self, schedule: Schedule) -> Schedule:
        """Return a model's schedule as the queue uses it: with alpha^2 + sigma^2 = 1 even where training scaled x0."""
        if not self.rescales_base:
            return schedule
        alpha, alpha_next = (1 - schedule.sigma**2).sqrt(), (1 - schedule.sigma_next**2).sqrt()
        return replace(schedule, alpha=alpha, alpha_next=alpha_next)

    def base_adjust(self, scaled: Schedule) -> Adjust | None:
        """Return what rescales x0 in a step of the base clip; `scaled` is the model's own schedule."""
        if not self.rescales_base:
            return None
        plain = self.queue_schedule(scaled)
        scale = torch.where(plain.alpha > 0, scaled.alpha / plain.alpha, 1.0)

        def adjust(x: Tensor, x0: Tensor, level: int) -> Tensor:
            alpha = plain.next(torch.tensor(level + 1)).alpha
            return x + alpha * (scale[level] / scale[level + 1] - 1) * x0

        return adjust


_BOTH = Release(cleanest=1, one_prompt=True, truncates=True)

RELEASES = {
    "off": Release(),
    "videocrafter2": replace(_BOTH, spacing="linspace", rescales_base=True),
    "opensora": replace(_BOTH, spacing="leading", clip="x0_and_eps", emits_oldest=True),
}
"""By the setting `compat`."""
