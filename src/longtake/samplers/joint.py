"""What the samplers share that denoise all frames of a video jointly: a state after every step, prompts that turn into
each other, the decoding of the finished video, and frames that processes ask each other for, layer by layer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from longtake.arrays import Latents
from longtake.attention import FrameMixer
from longtake.decoding import Decoder, decode_clip, decode_pixels, pack_decoder, unpack_decoder
from longtake.model import Condition, TemporalHooks, VideoModel
from longtake.noise import Noise
from longtake.ranks.world import Ask, Group
from longtake.request import PromptTimeline
from longtake.sampler import Chunk, Plan, State
from longtake.samplers.clips import Shuffled, around, halos
from longtake.samplers.planning import Joint
from longtake.samplers.run import Prompts, Run
from longtake.samplers.step import Windows, ddim_step, free


@dataclass(frozen=True, kw_only=True)
class JointRun(Run):
    """What stays the same during a run, on one process."""

    shares: tuple[range, ...]
    """Latent frames that every process holds; they tile what is denoised, the video or a little more."""
    copies: bool = False
    """Whether every process denoises all frames, and the first one alone answers for them."""
    held: Windows
    """The frames held here, as one window."""
    truncate: bool = False
    """Whether pixels are cut to 8 bits, not rounded."""

    @property
    def settings(self) -> Joint:
        """Return the settings of the sampler."""
        assert isinstance(self.plan.settings, Joint)
        return self.plan.settings

    @property
    def frames(self) -> range:
        """Return the frames held here."""
        return self.shares[self.world.clip.rank]

    @property
    def total(self) -> int:
        """Return the latent frames that are denoised."""
        return self.shares[-1].stop

    @property
    def wanted(self) -> int:
        """Return the latent frames that are decoded: those of the video."""
        assert self.plan.request.frames is not None
        return self.plan.spec.timing.latent_frames(self.plan.request.frames)

    def drawn(self, frames: Sequence[int], stream: str, *key: int) -> Latents:
        """Return the noise of these frames as one window."""
        return self.draw_frames(frames, stream, *key).to(self.model.device, self.dtype)[None]


def shuffled_by(noise: Noise) -> Shuffled:
    """Return what draws orders by name, as all noise is drawn."""
    return lambda start, count: noise((count,), "shuffle", start).argsort().tolist()


def run_jointly(
    setting: JointRun, draw: Callable[[], Latents], denoised: Callable[[Latents, int], Latents], resume: State | None
) -> Iterator[Chunk]:
    """Yield a chunk without frames after every step, then the video. States hold the latents of all processes.

    `draw` returns the noise of the frames held here, `denoised` these frames one level below the one it is given.
    """
    levels = setting.plan.num_levels
    if resume is None:
        x, level, decoded = draw(), levels, 0
    else:
        held = slice(None) if setting.copies else slice(setting.frames.start, setting.frames.stop)
        x = resume["latents"][None, :, held].to(setting.model.device)
        level, decoded = int(resume["level"]), int(resume["decoded"])
    while level:
        x, level = denoised(x, level), level - 1
        doing = f"step {levels - level} of {levels}"
        yield _chunk(0, setting.no_pixels(), {"latents": _whole(setting, x), "level": level}, doing)
    whole = _whole(setting, x)
    if setting.plan.spec.decodes_apart:
        yield from _decoded_apart(setting, x[0], whole, decoded)
    else:
        decoder = unpack_decoder(setting.model, resume) if resume and int(resume["decoded"]) else Decoder()
        yield from _decoded_in_turn(setting, whole, decoded, decoder)


def _whole(setting: JointRun, x: Latents) -> Tensor:
    return setting.at_rank_0(x, setting.shares, 2, range(setting.total))[0]


def _decoded_apart(setting: JointRun, x: Tensor, whole: Tensor, decoded: int) -> Iterator[Chunk]:
    """Decode frame by frame: every process its own, all at once; rank 0 then takes them in order."""
    ends = [min(frames.stop, setting.wanted) for frames in setting.shares]
    held = [
        range(max(decoded, frames.start), max(decoded, end)) for frames, end in zip(setting.shares, ends, strict=True)
    ]
    mine = held[setting.world.clip.rank]
    left = x[:, mine.start - setting.frames.start :][:, : len(mine)]
    parts = [torch.from_numpy(setting.no_pixels())]
    for part in left.split(setting.settings.decode_batch, dim=1) if left.shape[1] else ():
        parts.append(torch.from_numpy(decode_clip(setting.model, part, truncate=setting.truncate)))
    pixels_here = torch.cat(parts)
    for frames in held:
        for start in range(frames.start, frames.stop, setting.settings.decode_batch):
            batch = range(start, min(start + setting.settings.decode_batch, frames.stop))
            pixels = setting.at_rank_0(pixels_here, held, 0, batch)
            yield _chunk(start, pixels.numpy(), {"latents": whole, "level": 0, "decoded": batch.stop})


def _decoded_in_turn(setting: JointRun, whole: Tensor, decoded: int, decoder: Decoder) -> Iterator[Chunk]:
    """Decode a stream whose decoder remembers: rank 0 alone."""
    for first in range(decoded, setting.wanted, setting.settings.decode_batch):
        stop = min(first + setting.settings.decode_batch, setting.wanted)
        start, pixels = decoder.frames, setting.no_pixels()
        if setting.world.rank == 0:
            pixels, decoder = decode_pixels(setting.model, whole[:, first:stop], decoder, stop == setting.wanted)
        state = {"latents": whole, "level": 0, "decoded": stop, **pack_decoder(decoder)}
        yield _chunk(start, setting.cut(start, pixels), state)


def _chunk(start: int, pixels: np.ndarray, state: dict[str, Tensor | int], doing: str = "") -> Chunk:
    tensors = {name: torch.as_tensor(value) for name, value in {"decoded": 0, **state}.items()}
    return Chunk(start=start, frames=pixels, state=lambda: tensors, doing=doing)


def mixed_step(setting: JointRun, mixer: FrameMixer, x: Latents, level: int, z: Latents | None) -> Latents:
    """Return the frames held here, as one window whose frames meet in the mixer, one level lower."""
    model, held = setting.model, setting.held
    assert isinstance(model, TemporalHooks)
    denoiser = free(model, held, setting.plan.guidance, setting.world.cfg)
    with model.lock, model.mixing(mixer):
        return ddim_step(denoiser, x, level, held.schedule, setting.settings.eta, z, setting.plan.clip)[0]


def one_window(model: VideoModel, plan: Plan, frames: Sequence[int]) -> Windows:
    """Return latent frames of the video as one window: each has its prompt, or a mix of two."""
    assert isinstance(plan.settings, Joint)
    pixel_frames = [plan.spec.timing.pixel_frames(frame) for frame in frames]
    prompts, blend = Prompts(model, plan.request), plan.settings.blend
    condition, rows = blended(prompts, plan.request.prompts, pixel_frames, blend)
    index = torch.tensor([rows], device=model.device)
    return Windows(schedule=model.schedule(plan.num_levels), condition=condition, prompt_index=index)


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


class Neighbours:
    """The frames that one process holds, and those of the others around them, for which it asks in every layer.

    Only those frames and the moments of norms travel. What a layer gives does not depend on how many processes there
    are.
    """

    def __init__(self, held: Sequence[range], group: Group) -> None:
        """`held` are the frames of every rank, which tile the video."""
        self.held, self.group, self.total = tuple(held), group, held[-1].stop
        self.frames = self.held[group.rank]
        self._in_block = False

    def ask(self, parts: Sequence[Tensor], axis: int, reach: int) -> Callable[[], tuple[list[Tensor], int]]:
        """Ask for the frames within reach; the function returned gives all frames from there on, and the first's
        number."""
        coming = self.group.fetch(parts, axis, self.held, halos(self.held, reach, self.total))
        first = around(self.frames, reach, self.total).start

        def extended() -> tuple[list[Tensor], int]:
            return [self._joined(part, edges, axis, reach) for part, edges in zip(parts, coming(), strict=True)], first

        return extended

    def block(self, block: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """See FrameMixer. The frames that a convolution needs of others travel with the moments of the norm before it,
        as they are there; every process normalises them, too."""
        self._in_block = True
        try:
            return block(x)
        finally:
            self._in_block = False

    def convolve(self, convolution: nn.Conv3d, x: Tensor) -> Tensor:
        """See FrameMixer. Outside of a block, it asks for the frames that it needs."""
        if self._in_block:
            first, y = around(self.frames, 1, self.total).start, convolution(x)
        else:
            (extended,), first = self.ask([x], 2, 1)()
            y = convolution(extended)
        return y.narrow(2, self.frames.start - first, len(self.frames))

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """See FrameMixer: the moments are those of the whole video. In a block, also for a neighbour's frame on each
        side."""
        counts = [len(frames) for frames in self.held]
        if not self._in_block:
            return self.normalise_windows(norm, x, 1, counts)
        asked = Ask([x], 2, self.held, halos(self.held, 1, self.total))
        scale, shift, ((edges,),) = self._scales(norm, x, 1, counts, asked)
        return torch.addcmul(shift, self._joined(x, edges, 2, 1), scale)

    def normalise_windows(self, norm: nn.GroupNorm, x: Tensor, num_windows: int, counts: Sequence[int]) -> Tensor:
        """Return x, which holds so many windows one after the other, by the moments of all of them on all processes,
        of which every rank has so many frames."""
        scale, shift, _ = self._scales(norm, x, num_windows, counts)
        return torch.addcmul(shift, x, scale)

    def _joined(self, part: Tensor, edges: Tensor, axis: int, reach: int) -> Tensor:
        """Return the frames held here between those of others within reach."""
        left = self.frames.start - around(self.frames, reach, self.total).start
        before, after = edges.split([left, edges.shape[axis] - left], dim=axis)
        return torch.cat([before, part, after], dim=axis) if edges.shape[axis] else part

    def _scales(
        self, norm: nn.GroupNorm, x: Tensor, num_windows: int, counts: Sequence[int], *asked: Ask
    ) -> tuple[Tensor, Tensor, list[list[Tensor]]]:
        """Return what a norm multiplies by and adds, and the frames that are asked for besides."""
        # (frames of every window, batch, channels, height, width)
        rows = x.unflatten(0, (num_windows, -1)).permute(0, 3, 1, 2, 4, 5).flatten(0, 1)
        grouped = rows.unflatten(2, (norm.num_groups, -1)).flatten(3).float()
        variance, mean = torch.var_mean(grouped, dim=3, correction=0)
        mean, variance, answers = self.group.moments(mean, variance, counts, *asked)
        width = x.shape[1] // norm.num_groups
        deviation = (variance + norm.eps).rsqrt().repeat_interleave(width, 1)
        scale = norm.weight * deviation
        shift = norm.bias - mean.repeat_interleave(width, 1) * scale
        scale, shift = (each.repeat(num_windows, 1)[..., None, None, None].to(x.dtype) for each in (scale, shift))
        return scale, shift, answers
