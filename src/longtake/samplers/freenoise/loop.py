"""The loop of FreeNoise over tensors (arXiv 2310.15169): all frames go through the network together, level after level;
plan.py has the settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from longtake.arrays import Latents
from longtake.model import TemporalHooks
from longtake.noise import Noise
from longtake.ranks.world import World
from longtake.sampler import Chunk, State
from longtake.samplers.clips import noise_sources, split_evenly
from longtake.samplers.freenoise.mixer import WindowMixer
from longtake.samplers.freenoise.plan import FreeNoisePlan
from longtake.samplers.joint import JointRun, mixed_step, one_window, run_jointly, shuffled_by
from longtake.samplers.neighbours import Neighbours


@dataclass(frozen=True, kw_only=True)
class Setting(JointRun):
    """What stays the same during a run, on one process."""

    model: TemporalHooks
    plan: FreeNoisePlan
    mixer: WindowMixer

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
