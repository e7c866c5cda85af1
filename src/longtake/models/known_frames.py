"""Infill and continuation by one call of a network: known frames among the noisy ones, or beside them.

`CleanFrames` puts them into the window at level 0, which is clean: right for a network that was trained with clean
frames among noisy ones. `KnownFrames` gives them beside a window that has all frames noisy, with a mask that says
which: as other networks were trained.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from longtake.arrays import FrameIndex, Latents
from longtake.errors import InputError
from longtake.model import Condition, Continuation, Infill, Known, PerFrameNoise, VideoSpec
from longtake.noise import seeded_noise
from longtake.schedule import Schedule

Mask = Float[Tensor, "windows frames"]
"""1 for the frames that are known, 0 for those to make."""


Shown = TypeVar("Shown")


def check_stretch(spec: VideoSpec, num_frames: int) -> None:
    """Raise InputError for a number of pixel frames that an autoencoder does not encode together, from their start."""
    timing = spec.timing
    if timing.pixel_frames(timing.latent_frames(num_frames)) != num_frames:
        raise InputError(
            f"{spec.name} encodes 1 frame and {timing.stride} for each further latent, not {num_frames}; give 1, "
            f"{1 + timing.stride}, {1 + 2 * timing.stride}, ..."
        )


class LastShown(Generic[Shown]):
    """What a network was shown in the last call, and of what: every step of a window asks for the same."""

    def __init__(self) -> None:
        self._last: tuple[Known | None, int, Shown] | None = None

    def of(self, known: Known | None, num_frames: int, show: Callable[[], Shown]) -> Shown:
        """Return what is shown of known frames in a window of so many latent frames, made where it is another."""
        if self._last is None or self._last[0] is not known or self._last[1] != num_frames:
            self._last = known, num_frames, show()
        return self._last[2]


class CleanFrames(PerFrameNoise, Infill, Continuation):
    """A model that infills and continues by `denoise` alone. Its spec says whether it was trained for that."""

    def denoise_between(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of windows of which some frames are known."""
        x, levels, places = x.clone(), level[:, None].repeat(1, x.shape[2]), list(known.places)
        x[:, :, places], levels[:, places] = known.latents.to(x), 0
        return self.denoise(x, levels, schedule, condition, prompt_index)

    def denoise_after(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of the frames x that follow known ones; both together fill the network's window."""
        num_known = known.latents.shape[2]
        levels = level[:, None].repeat(1, num_known + x.shape[2])
        levels[:, :num_known] = 0
        prompts = torch.cat([prompt_index[:, :1].repeat(1, num_known), prompt_index], dim=1)
        x0 = self.denoise(torch.cat([known.latents, x], dim=2), levels, schedule, condition, prompts)
        return x0[:, :, num_known:]


class KnownFrames(Infill, Continuation):
    """A model of one call, `denoise_known`, that does everything: from nothing, between two frames, after some."""

    @abstractmethod
    def denoise_known(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: tuple[Latents, Mask] | None,
    ) -> Latents:
        """Return x0 of windows; `known` are clean latents where the mask is 1, and zeros elsewhere; None where nothing
        is."""

    def denoise(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0 of windows of which nothing is known: those of a global diffusion."""
        return self.denoise_known(x, level, schedule, condition, prompt_index, None)

    def denoise_between(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of windows with known frames, noisy ones in x like all others: those of a local diffusion."""
        (given, mask), places = nothing_known(x), list(known.places)
        given[:, :, places], mask[:, places] = known.latents.to(x), 1
        return self.denoise_known(x, level, schedule, condition, prompt_index, (given, mask))

    def denoise_after(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of the frames x that follow known ones; both together fill the network's window."""
        window, prompts = whole_window(x, level, schedule, prompt_index, known)
        num_known = known.latents.shape[2]
        given = torch.cat([known.latents, torch.zeros_like(x)], dim=2)
        mask = (torch.arange(given.shape[2], device=x.device) < num_known).to(x).expand(len(x), -1)
        return self.denoise_known(window, level, schedule, condition, prompts, (given, mask))[:, :, num_known:]


def nothing_known(x: Latents) -> tuple[Latents, Mask]:
    """Return what windows are given of which nothing is known: zeros."""
    return torch.zeros_like(x), x.new_zeros(x.shape[0], x.shape[2])


def whole_window(
    x: Latents, level: Int[Tensor, "windows"], schedule: Schedule, prompt_index: FrameIndex, known: Known
) -> tuple[Tensor, Tensor]:
    """Return the windows that known frames and the frames x after them fill, noisy alike, and all their prompts.

    The noise of the known frames is the same at every level, as a DDIM that knew them would have it.
    """
    previous = known.latents
    noise = seeded_noise(0)(tuple(previous.shape[1:]), "known").to(x).expand_as(previous)
    noisy = schedule.now(level[:, None, None, None, None]).mix(previous, noise)
    prompts = torch.cat([prompt_index[:, :1].repeat(1, previous.shape[2]), prompt_index], dim=1)
    return torch.cat([noisy, x], dim=2), prompts
