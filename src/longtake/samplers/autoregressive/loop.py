"""The loop of clip-by-clip sampling over tensors; autoregressive.py explains the clips."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longtake.decoding import Decoder, decode_pixels, pack_decoder, unpack_decoder
from longtake.model import Condition, Continuation
from longtake.noise import Noise
from longtake.ranks.world import World
from longtake.sampler import Chunk, State
from longtake.samplers.autoregressive.plan import AutoregressivePlan
from longtake.samplers.step import Uniform, frame_noise

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What stays the same during a run."""

    model: Continuation
    plan: AutoregressivePlan
    noise: Noise
    world: World
    condition: Condition

    def draw(self, clip: int, stream: str, *key: int) -> Tensor:
        """Return noise for a clip, by frame where its latents have frames."""
        shape = self.plan.spec.latent_shape
        if len(shape) == 4:
            return frame_noise(self.noise, shape, self.plan.frames(clip), stream, *key).to(self.model.device)
        return self.noise(shape, stream, clip, *key).to(self.model.device)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What changes: enough to go on from."""

    clip: int
    """The next one to make."""
    previous: Tensor | None
    """Clean latents that it follows; None for the first."""
    decoder: Decoder = Decoder()

    def state(self) -> dict[str, Tensor]:
        """Return this as named tensors."""
        previous = {} if self.previous is None else {"previous": self.previous}
        return {"clip": torch.tensor(self.clip), **previous, **pack_decoder(self.decoder)}

    @classmethod
    def restored(cls, state: State, model: Continuation) -> "Progress":
        """Return the progress that `state` was made from."""
        return cls(
            clip=int(state["clip"]),
            previous=state["previous"].to(model.device) if "previous" in state else None,
            decoder=unpack_decoder(model, state),
        )


def run(
    model: Continuation, plan: AutoregressivePlan, noise: Noise, world: World, resume: State | None
) -> Iterator[Chunk]:
    """Yield the video, a clip a chunk. Processes that share guidance make all clips together; rank 0 has the frames."""
    condition = model.encode([plan.request.negative_prompt, *plan.request.prompts.texts])
    setting = Setting(model=model, plan=plan, noise=noise, world=world, condition=condition)
    done = Progress.restored(resume, model) if resume else Progress(clip=0, previous=None)
    while plan.clips is None or done.clip < plan.clips:
        latents = sample(setting, done.clip, done.previous)
        pixels, decoder = _decoded(setting, latents, done)
        start = done.decoder.frames
        if plan.request.frames is not None:
            pixels = pixels[: plan.request.frames - start]
        done = Progress(clip=done.clip + 1, previous=_shown(plan, latents, done.previous), decoder=decoder)
        yield Chunk(start=start, frames=pixels, state=done.state)


def sample(setting: Setting, clip: int, previous: Tensor | None) -> Tensor:
    """Sample the latents that a clip brings, from noise; it follows the clean latents `previous` (None: nothing)."""
    model, plan, settings = setting.model, setting.plan, setting.plan.settings
    uniform = Uniform(
        model=model,
        schedule=model.schedule(plan.steps(clip)),
        condition=setting.condition,
        prompts=torch.tensor([plan.prompts(clip)], device=model.device),
        guidance=plan.guidance,
        cfg=setting.world.cfg,
        eta=1.0 if settings.solver == "ddpm" else settings.eta,
        clip="x0_and_eps" if settings.solver == "ddpm" and plan.spec.bounded else None,
        previous=None if previous is None else previous[None],
    )
    x = setting.draw(clip, "frame").to(torch.promote_types(model.dtype, torch.float32))[None]
    x0 = None
    for level in range(plan.steps(clip), 0, -1):
        if settings.solver == "dpmpp":
            x, x0 = uniform.second_order(x, level, x0)
        else:
            z = setting.draw(clip, "step", level)[None] if uniform.eta else None
            x, _ = uniform.stepped(x, level, z)
    return x[0]


def _shown(plan: AutoregressivePlan, latents: Tensor, previous: Tensor | None) -> Tensor:
    """Return what the next clip is shown of this one, and of those before where this one is shorter."""
    if not plan.context:
        return latents
    known = latents if previous is None else torch.cat([previous, latents], dim=1)
    return known[:, -plan.context :]


def _decoded(setting: Setting, latents: Tensor, done: Progress) -> tuple[Pixels, Decoder]:
    """Return the pixels that a clip brings and the decoder after it; no frames on processes that do not write."""
    if setting.world.rank:
        return np.zeros((0, setting.plan.spec.height, setting.plan.spec.width, 3), np.uint8), done.decoder
    return decode_pixels(setting.model, latents, done.decoder, last=done.clip + 1 == setting.plan.clips)
