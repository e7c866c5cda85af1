"""The loop of FreeNoise over tensors (arXiv 2310.15169): all frames go through the network together, level after level,
and attend there in sliding windows; plan.py has the settings."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from longtake.arrays import Latents
from longtake.attention import FrameMixer, Rotate, attention
from longtake.model import TemporalHooks
from longtake.noise import Noise
from longtake.ranks.world import World
from longtake.sampler import Chunk, State
from longtake.samplers.clips import noise_sources, split_evenly
from longtake.samplers.freenoise.plan import FreeNoisePlan
from longtake.samplers.joint import JointRun, Neighbours, mixed_step, one_window, run_jointly, shuffled_by


@dataclass(frozen=True, kw_only=True)
class Setting(JointRun):
    """What stays the same during a run, on one process."""

    model: TemporalHooks
    plan: FreeNoisePlan
    mixer: "WindowMixer"

    def draw(self) -> Latents:
        """Return the noise with which the frames held here begin: that of the first window, again and again."""
        plan, kind = self.plan, self.plan.settings.noise_type
        sources = noise_sources(plan.latent_frames, plan.window, plan.stride, kind, shuffled_by(self.noise))
        return self.drawn([sources[frame] for frame in self.frames], "frame")


def run(model: TemporalHooks, plan: FreeNoisePlan, noise: Noise, world: World, resume: State | None) -> Iterator[Chunk]:
    """Yield a chunk without frames after every step, then the video. States hold the latents of all processes."""
    setting = prepare(model, plan, noise, world)
    return run_jointly(setting, setting.draw, partial(denoised, setting), resume)


def prepare(model: TemporalHooks, plan: FreeNoisePlan, noise: Noise, world: World) -> Setting:
    """Choose the frames of this process, encode their prompts, and fix the noise levels."""
    near = Neighbours(split_evenly(plan.latent_frames, world.clip.size), world.clip)
    return Setting(
        model=model,
        plan=plan,
        noise=noise,
        world=world,
        shares=near.held,
        mixer=WindowMixer(plan.windows, plan.weights, near),
        held=one_window(model, plan, near.frames),
    )


def denoised(setting: Setting, x: Latents, level: int) -> Latents:
    """Return the frames held here one level lower."""
    z = setting.drawn(setting.frames, "step", level) if setting.plan.settings.eta else None
    return mixed_step(setting, setting.mixer, x, level, z)


class WindowMixer(FrameMixer):
    """Mixes the frames that one process holds with what it asks of the others: attention in sliding windows, whose
    answers for a frame are averaged (section 3.3), while all other layers over time see the whole video."""

    def __init__(self, windows: Sequence[range], weights: Sequence[Sequence[float]], near: Neighbours) -> None:
        """`windows` are of one length and cover the video; `weights` say how much each counts in its frames."""
        self.length, self.near = len(windows[0]), near
        totals, best = [0.0] * near.total, [(-1.0, 0)] * near.total
        for window, counts in zip(windows, weights, strict=True):
            for place, (frame, weight) in enumerate(zip(window, counts, strict=True)):
                totals[frame] += weight
                best[frame] = max(best[frame], (weight, place))
        self.home = [place for _, place in best[near.frames.start : near.frames.stop]]
        """The place of every frame held here in the window that counts most."""
        self.mine = [window for window in windows if _common(window, near.frames)]
        """Windows that say something of frames held here."""
        self.shares = {
            window: [weight / totals[frame] for frame, weight in zip(window, counts, strict=True)]
            for window, counts in zip(windows, weights, strict=True)
        }
        self._is_inside = False

    def attend(
        self, key: Tensor, value: Tensor, tokens: int = 1, rotate: Rotate | None = None
    ) -> Callable[[Tensor], Tensor]:
        """See FrameMixer. Each layer by itself is averaged over windows, as by the authors; inside `placed`, where a
        network has absolute positions, all layers there together, as by diffusers."""

        def within(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            if rotate:
                query, key = (rotate(part, range(self.length)) for part in (query, key))
            return attention(query, key, value)

        if self._is_inside:
            return lambda query: within(query, key, value)
        coming = self._ask([key, value], tokens)
        return lambda query: self._averaged(within, [self._ask([query], tokens), coming], tokens)

    def placed(self, layers: Callable[..., Tensor], *parts: Tensor) -> Tensor:
        """See FrameMixer. A frame has a place in every window that holds it."""

        def within(*parts: Tensor) -> Tensor:
            with self._inside():
                return layers(*parts)

        return self._averaged(within, [self._ask(parts, 1)], 1)

    def places(self) -> Sequence[tuple[int, int]]:
        """See FrameMixer. Outside of windows, that in the window which counts most."""
        places = range(self.length) if self._is_inside else self.home
        return [(place, self.length) for place in places]

    def convolve(self, convolution: nn.Conv3d, x: Tensor) -> Tensor:
        """See FrameMixer."""
        return self.near.convolve(convolution, x)

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """See FrameMixer."""
        return self.near.normalise(norm, x)

    def block(self, block: Callable[[Tensor], Tensor], x: Tensor, reach: int) -> Tensor:
        """See FrameMixer."""
        return self.near.block(block, x)

    @contextmanager
    def _inside(self) -> Iterator[None]:
        self._is_inside = True
        try:
            yield
        finally:
            self._is_inside = False

    def _ask(self, parts: Sequence[Tensor], tokens: int) -> Callable[[], tuple[list[Tensor], int]]:
        """Ask for the frames of all windows that hold one of those here."""
        return self.near.ask([part.unflatten(1, (-1, tokens)) for part in parts], 1, self.length - 1)

    def _averaged(
        self, within: Callable[..., Tensor], coming: Sequence[Callable[[], tuple[list[Tensor], int]]], tokens: int
    ) -> Tensor:
        """Return the mean of what `within` gives, by the shares of windows, for the frames held here."""
        arrived = [each() for each in coming]
        parts, first, own = [part for parts, _ in arrived for part in parts], arrived[0][1], self.near.frames
        kind = torch.promote_types(parts[0].dtype, torch.float32)
        mean = torch.zeros((), dtype=kind, device=parts[0].device)
        # Together as many frames as are held: then no layer takes more memory than the others.
        size = max(1, len(own) // self.length)
        for start in range(0, len(self.mine), size):
            batch = self.mine[start : start + size]
            spans = [slice(window.start - first, window.stop - first) for window in batch]
            made = within(*(torch.cat([part[:, span] for span in spans]).flatten(1, 2) for part in parts))
            answers = made.unflatten(1, (-1, tokens)).chunk(len(batch))
            if not mean.ndim:
                mean = mean.expand(len(answers[0]), len(own), *answers[0].shape[2:]).clone()
            for window, answer in zip(batch, answers, strict=True):
                self._add(mean, window, answer)
        return mean.flatten(1, 2).to(parts[0].dtype)

    def _add(self, mean: Tensor, window: range, answer: Tensor) -> None:
        """Add a window's share to the mean of the frames held here."""
        own, common = self.near.frames, _common(window, self.near.frames)
        inside = slice(common.start - window.start, common.stop - window.start)
        share = torch.tensor(self.shares[window][inside], dtype=mean.dtype, device=mean.device)
        weighed = answer[:, inside] * share.view(-1, *[1] * (answer.ndim - 2))
        mean[:, common.start - own.start : common.stop - own.start] += weighed


def _common(window: range, frames: range) -> range:
    return range(max(window.start, frames.start), min(window.stop, frames.stop))
