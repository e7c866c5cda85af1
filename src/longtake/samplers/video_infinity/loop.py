"""The loop of Video-Infinity over tensors (arXiv 2406.16260): every process denoises its clips; plan.py has
the settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from longtake.arrays import Latents
from longtake.model import TemporalHooks
from longtake.noise import Noise
from longtake.ranks.world import World
from longtake.sampler import Chunk, State
from longtake.samplers.joint import JointRun, mixed_step, one_window, run_jointly
from longtake.samplers.video_infinity.dual_scope import Scope
from longtake.samplers.video_infinity.mixer import ClipMixer
from longtake.samplers.video_infinity.plan import VideoInfinityPlan


@dataclass(frozen=True, kw_only=True)
class Setting(JointRun):
    """What stays the same during a run, on one process."""

    model: TemporalHooks
    plan: VideoInfinityPlan
    mixer: ClipMixer

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
