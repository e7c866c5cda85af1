"""The loop of Video-Infinity over tensors (Tan et al., 2024, arXiv 2406.16260): every process denoises its clips, whose
frames meet in the network layer by layer; plan.py has the settings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from longtake.arrays import Latents
from longtake.attention import FrameMixer, Rotate
from longtake.model import TemporalHooks
from longtake.noise import Noise
from longtake.ranks.world import Group, World
from longtake.sampler import Chunk, State
from longtake.samplers.clips import around, held_frames, missing
from longtake.samplers.joint import JointRun, Neighbours, mixed_step, one_window, run_jointly
from longtake.samplers.video_infinity.dual_scope import SMALLEST_BLOCK, Block, DualScope, Scope
from longtake.samplers.video_infinity.plan import VideoInfinityPlan


@dataclass(frozen=True, kw_only=True)
class Setting(JointRun):
    """What stays the same during a run, on one process."""

    model: TemporalHooks
    plan: VideoInfinityPlan
    mixer: "ClipMixer"

    def draw(self, stream: str, *key: int) -> Latents:
        """Return noise for the frames held here: a draw per frame, in compat one per clip."""
        shape = self.plan.spec.latent_shape
        if self.plan.settings.compat:
            channels, _, height, width = shape
            numbered = [(number, clip) for number, clip in enumerate(self.plan.clips) if clip.start in self.frames]
            drawn = [
                self.noise((channels, len(clip), height, width), f"clip {stream}", number, *key)
                for number, clip in numbered
            ]
            return torch.cat(drawn, dim=1).to(self.model.device, self.dtype)[None]
        return self.drawn(self.frames, stream, *key)


def run(
    model: TemporalHooks, plan: VideoInfinityPlan, noise: Noise, world: World, resume: State | None
) -> Iterator[Chunk]:
    """Yield a chunk without frames after every step, then the video. States hold the latents of all processes."""
    setting = prepare(model, plan, noise, world)
    return run_jointly(setting, partial(setting.draw, "frame"), partial(denoised, setting), resume)


def prepare(model: TemporalHooks, plan: VideoInfinityPlan, noise: Noise, world: World) -> Setting:
    """Choose the frames of this process, encode their prompts, and fix the noise levels."""
    settings, compat = plan.settings, plan.settings.compat
    scope = Scope(
        total=plan.latent_frames,
        padding=settings.padding,
        global_frames=plan.global_frames,
        zeros=compat,
        repeats=compat,
        attn_scale=settings.attn_scale,
        token_num_scale=settings.token_num_scale,
    )
    mixer = ClipMixer(plan.clips, world.clip, scope, joint_norms=not compat, windowed_blocks=compat)
    return Setting(
        model=model,
        plan=plan,
        noise=noise,
        world=world,
        shares=mixer.held,
        truncate=compat,
        mixer=mixer,
        held=one_window(model, plan, [plan.prompt_frame(frame) for frame in mixer.frames]),
    )


def denoised(setting: Setting, x: Latents, level: int) -> Latents:
    """Return the frames held here one level lower."""
    plan = setting.plan
    setting.mixer.weights = plan.weights(float(setting.held.schedule.timestep[level]))
    z = setting.draw("step", level) if plan.settings.eta else None
    return mixed_step(setting, setting.mixer, x, level, z)


class ClipMixer(FrameMixer):
    """Mixes the frames that one process holds with what it asks of the others: convolutions, norms and attention over
    time reach across the borders of clips. Only neighbouring frames, global frames and the moments of norms travel."""

    def __init__(
        self, clips: Sequence[range], group: Group, scope: Scope, *, joint_norms: bool, windowed_blocks: bool
    ) -> None:
        """`joint_norms`: moments over the whole video, else over each clip. `windowed_blocks`: run a stack of
        convolutions on each clip with frames of its neighbours around it, zeros beyond the ends (as released), else
        convolution by convolution, exactly."""
        self.total, self.group = scope.total, group
        self.joint_norms, self.windowed_blocks = joint_norms, windowed_blocks
        self.held = held_frames(clips, group.size)
        self.frames = self.held[group.rank]
        self._near = Neighbours(self.held, group)
        self.all_clips = tuple(clips)
        self.clips = [clip for clip in clips if clip.start in self.frames]
        self.weights = (0.0, 0.0)
        """Added to the logits of local and of global frames, in the present phase."""
        self._dual = DualScope(scope, self.frames)
        self._global = [scope.global_frames] * group.size
        self._padding = scope.padding
        self._in_windows = False

    def attend(
        self, key: Tensor, value: Tensor, tokens: int = 1, rotate: Rotate | None = None
    ) -> Callable[[Tensor], Tensor]:
        """See FrameMixer. Messages leave at once; blocks of queries that need no neighbour are computed meanwhile."""
        parts = [part.unflatten(1, (-1, tokens)) for part in (key, value)]
        far_coming = self.group.fetch(parts, 1, self.held, self._global)
        near_coming = self._near.ask(parts, 1, self._padding)

        def answer(query: Tensor) -> Tensor:
            scaled = self._dual.scaled(query.unflatten(1, (-1, tokens)))
            far = far_coming()

            def found(block: Block, near: Sequence[Tensor], first: int) -> Tensor:
                local = [_frames(part, block.local, first) for part in near]
                own = _frames(scaled, block.queries, self.frames.start)
                return self._dual.attend(block, own, local, far, self.weights, rotate)

            size = 1 if rotate else max(SMALLEST_BLOCK, self._padding)
            blocks = [block for clip in self.clips for block in self._dual.blocks(clip, size)]
            answers = {
                block: found(block, parts, self.frames.start)
                for block in blocks
                if not missing(block.local, self.frames)
            }
            extended, first = near_coming()
            answers |= {block: found(block, extended, first) for block in blocks if block not in answers}
            return torch.cat([answers[block] for block in blocks], dim=1).flatten(1, 2)

        return answer

    def convolve(self, convolution: nn.Conv3d, x: Tensor) -> Tensor:
        """See FrameMixer."""
        return convolution(x) if self._in_windows else self._near.convolve(convolution, x)

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """See FrameMixer. Inside a windowed block, x holds the clips' windows one after the other."""
        if self.joint_norms and self._in_windows:
            return self._near.normalise_windows(norm, x, len(self.clips), self._row_counts(x.shape[2]))
        if self.joint_norms:
            return self._near.normalise(norm, x)
        if self._in_windows or len(self.clips) == 1:
            return norm(x)
        return torch.cat([norm(part) for part in x.split([len(clip) for clip in self.clips], dim=2)], dim=2)

    def block(self, block: Callable[[Tensor], Tensor], x: Tensor, reach: int) -> Tensor:
        """See FrameMixer."""
        if not self.windowed_blocks:
            return self._near.block(block, x) if self.joint_norms else block(x)
        (extended,), first = self._near.ask([x], 2, reach)()
        windows = torch.cat([self._window(extended, clip, reach, first) for clip in self.clips])
        self._in_windows = True
        try:
            done = block(windows)
        finally:
            self._in_windows = False
        inside = done.narrow(2, reach, done.shape[2] - 2 * reach)
        return torch.cat(inside.chunk(len(self.clips)), dim=2)

    def placed(self, layers: Callable[..., Tensor], *parts: Tensor) -> Tensor:
        """See FrameMixer. A frame has one place, that in its clip."""
        return layers(*parts)

    def places(self) -> Sequence[tuple[int, int]]:
        """See FrameMixer."""
        return [(place, len(clip)) for clip in self.clips for place in range(len(clip))]

    def _window(self, x: Tensor, clip: range, reach: int, first: int) -> Tensor:
        """Return a clip's frames with `reach` more on each side, zeros beyond the ends of the video."""
        inside = around(clip, reach, self.total)
        before, after = inside.start - clip.start + reach, clip.stop + reach - inside.stop
        return pad(x[:, :, inside.start - first : inside.stop - first], (0, 0, 0, 0, before, after))

    def _row_counts(self, num_frames: int) -> list[int]:
        """Return how many frames every process normalises in windows, which are of one length."""
        return [num_frames * sum(clip.start in frames for clip in self.all_clips) for frames in self.held]


def _frames(part: Tensor, frames: range, first: int) -> Tensor:
    return part[:, frames.start - first : frames.stop - first]
