"""The loop of Video-Infinity over tensors (arXiv 2406.16260): every process denoises its clips; plan.py has
the settings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from longtake.arrays import Latents
from longtake.decoding import Decoder, decode_clip, decode_pixels, pack_decoder, unpack_decoder
from longtake.model import Condition, TemporalHooks
from longtake.noise import Noise
from longtake.ranks.world import World
from longtake.request import PromptTimeline
from longtake.sampler import Chunk, State
from longtake.samplers.run import Prompts, Run
from longtake.samplers.step import Windows, ddim_step, free
from longtake.samplers.video_infinity.dual_scope import Scope
from longtake.samplers.video_infinity.mixer import ClipMixer
from longtake.samplers.video_infinity.plan import VideoInfinityPlan


@dataclass(frozen=True, kw_only=True)
class Setting(Run):
    """What stays the same during a run, on one process."""

    model: TemporalHooks
    plan: VideoInfinityPlan
    mixer: ClipMixer
    held: Windows
    """The frames held here, as one window."""

    @property
    def frames(self) -> range:
        """Return the frames held here."""
        return self.mixer.frames

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
            together = torch.cat(drawn, dim=1)
        else:
            together = self.draw_frames(self.frames, stream, *key)
        return together.to(self.model.device, self.dtype)[None]


def run(
    model: TemporalHooks, plan: VideoInfinityPlan, noise: Noise, world: World, resume: State | None
) -> Iterator[Chunk]:
    """Yield a chunk without frames after every step, then the video. States hold the latents of all processes."""
    setting = prepare(model, plan, noise, world)
    if resume is None:
        x, level, decoded = setting.draw("frame"), plan.num_levels, 0
    else:
        held = slice(setting.frames.start, setting.frames.stop)
        x = resume["latents"][None, :, held].to(model.device)
        level, decoded = int(resume["level"]), int(resume["decoded"])
    while level:
        x, level = denoised(setting, x, level), level - 1
        whole = setting.at_rank_0(x, setting.mixer.held, 2, range(plan.latent_frames))[0]
        doing = f"step {plan.num_levels - level} of {plan.num_levels}"
        yield _chunk(0, setting.no_pixels(), {"latents": whole, "level": level}, doing)
    whole = setting.at_rank_0(x, setting.mixer.held, 2, range(plan.latent_frames))[0]
    if plan.spec.decodes_apart:
        yield from _decoded_apart(setting, x[0], whole, decoded)
    else:
        yield from _decoded_in_turn(setting, whole, decoded, _decoder(model, resume))


def _decoder(model: TemporalHooks, resume: State | None) -> Decoder:
    return unpack_decoder(model, resume) if resume and int(resume["decoded"]) else Decoder()


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
    pixel_frames = [plan.spec.timing.pixel_frames(plan.prompt_frame(frame)) for frame in mixer.frames]
    condition, rows = blended(Prompts(model, plan.request), plan.request.prompts, pixel_frames, settings.blend)
    rows = torch.tensor([rows], device=model.device)
    return Setting(
        model=model,
        plan=plan,
        noise=noise,
        world=world,
        mixer=mixer,
        held=Windows(schedule=model.schedule(plan.num_levels), condition=condition, prompt_index=rows),
    )


def denoised(setting: Setting, x: Latents, level: int) -> Latents:
    """Return the frames held here one level lower."""
    plan, schedule, eta = setting.plan, setting.held.schedule, setting.plan.settings.eta
    setting.mixer.weights = plan.weights(float(schedule.timestep[level]))
    denoiser = free(setting.model, setting.held, plan.guidance, setting.world.cfg)
    z = setting.draw("step", level) if eta else None
    with setting.model.lock, setting.model.mixing(setting.mixer):
        return ddim_step(denoiser, x, level, schedule, eta, z, setting.clip)[0]


def _decoded_apart(setting: Setting, x: Tensor, whole: Tensor, decoded: int) -> Iterator[Chunk]:
    """Decode frame by frame: every process its own, all at once; rank 0 then takes them in order."""
    plan, group = setting.plan, setting.world.clip
    held = [range(max(decoded, frames.start), max(decoded, frames.stop)) for frames in setting.mixer.held]
    left = x[:, x.shape[1] - len(held[group.rank]) :]
    parts = [torch.from_numpy(setting.no_pixels())]
    for part in left.split(plan.settings.decode_batch, dim=1) if left.shape[1] else ():
        parts.append(torch.from_numpy(decode_clip(setting.model, part, truncate=plan.settings.compat)))
    mine = torch.cat(parts)
    for frames in held:
        for start in range(frames.start, frames.stop, plan.settings.decode_batch):
            batch = range(start, min(start + plan.settings.decode_batch, frames.stop))
            pixels = setting.at_rank_0(mine, held, 0, batch)
            yield _chunk(start, pixels.numpy(), {"latents": whole, "level": 0, "decoded": batch.stop})


def _decoded_in_turn(setting: Setting, whole: Tensor, decoded: int, decoder: Decoder) -> Iterator[Chunk]:
    """Decode a stream whose decoder remembers: rank 0 alone."""
    plan = setting.plan
    for first in range(decoded, plan.latent_frames, plan.settings.decode_batch):
        stop = min(first + plan.settings.decode_batch, plan.latent_frames)
        start, pixels = decoder.frames, setting.no_pixels()
        if setting.world.rank == 0:
            pixels, decoder = decode_pixels(setting.model, whole[:, first:stop], decoder, stop == plan.latent_frames)
        state = {"latents": whole, "level": 0, "decoded": stop, **pack_decoder(decoder)}
        yield _chunk(start, setting.cut(start, pixels), state)


def _chunk(start: int, pixels: np.ndarray, state: dict[str, Tensor | int], doing: str = "") -> Chunk:
    tensors = {name: torch.as_tensor(value) for name, value in {"decoded": 0, **state}.items()}
    return Chunk(start=start, frames=pixels, state=lambda: tensors, doing=doing)


def blended(
    prompts: Prompts, timeline: PromptTimeline, frames: Sequence[int], blend: int
) -> tuple[Condition, list[int]]:
    """Return prompts for these frames and the row of each, where neighbouring prompts mix over `blend` frames.

    They are the negative prompt and then the prompts that the frames need; mixed rows are added after them. The mix is
    even at the frame where the new prompt starts.
    """
    shares = [_share(timeline, frame, blend) for frame in frames]
    olds = {new for new, share in shares if share < 1}
    condition, places = prompts.used({1 + new for new, _ in shares} | olds)
    rows, mixes = [], []
    for new, share in shares:
        if share >= 1:
            rows.append(places[1 + new])
        else:
            rows.append(len(places) + len(mixes))
            mixes.append((places[new], places[1 + new], share))
    return (_with_mixes(condition, mixes) if mixes else condition), rows


def _with_mixes(condition: Condition, mixes: Sequence[tuple[int, int, float]]) -> Condition:
    """Return prompts with a row more for every two of them that are mixed, and the share of the second."""
    return Condition(
        {
            name: torch.stack([*rows, *(torch.lerp(rows[old], rows[new], share) for old, new, share in mixes)])
            for name, rows in condition.rows.items()
        }
    )


def _share(timeline: PromptTimeline, frame: int, blend: int) -> tuple[int, float]:
    """Return which prompt is next to hold at a frame, or holds already, and its share there; the rest is the one
    before."""
    new = timeline.at(frame + blend // 2)
    return new, (frame - timeline.starts[new] + blend / 2 + 0.5) / blend if blend and new else 1.0
