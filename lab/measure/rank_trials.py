"""What `measure scaling` runs on several processes. In each, rank 0 alone and all together take turns, so that a
busy machine slows both alike."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lab.common import measured_model, seconds
from longtake.model import PerFrameNoise
from longtake.models.modelscope.model import frame_mixing
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE, Group, World
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.clips import split_evenly, spread_frames
from longtake.samplers.fifo.loop import advance, base_clip, fill, prepare
from longtake.samplers.fifo.plan import Fifo, FifoPlan
from longtake.samplers.video_infinity.dual_scope import Scope
from longtake.samplers.video_infinity.loop import ClipMixer
from longtake.train.sprites.build import SpriteSizes, build_unet

CELLS = 16
"""Height and width of the latents."""
SIZES = SpriteSizes(
    picture=8 * CELLS, latent_channels=4, unet_channels=(32, 64), head_width=4, text_width=16, norm_groups=8
)
"""The random network of the trials."""
PADDING, TOP_K = 8, 16


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A video that goes through the network once, clip by clip."""

    frames: int
    clips: int
    compat: bool
    """As the authors released it, else exactly as if the video were whole."""

    def mixer(self, group: Group) -> ClipMixer:
        """Return what mixes the frames of a process."""
        scope = Scope(
            total=self.frames,
            padding=PADDING,
            global_frames=spread_frames(self.frames, TOP_K),
            zeros=self.compat,
            repeats=self.compat,
        )
        clips = split_evenly(self.frames, self.clips)
        return ClipMixer(clips, group, scope, joint_norms=not self.compat, windowed_blocks=self.compat)


@torch.inference_mode()
def forward_trial(world: World, trial: Trial, repeats: int) -> dict[str, list[float]]:
    """Return, for every repeat, seconds alone (on rank 0), together, and apart: all at once, each with a video of its
    own of its share's length, so that nothing is sent; and what this process waited for and sent together."""
    torch.manual_seed(0)
    unet = build_unet(SIZES).eval()
    together, alone = forward_call(unet, trial, world.clip), forward_call(unet, trial, Group())
    own = replace(trial, frames=trial.frames // world.size, clips=trial.clips // world.size)
    apart = forward_call(unet, own, Group())
    together()
    apart()
    if world.rank == 0:
        alone()
    taken: dict[str, list[float]] = {
        name: [] for name in ("alone", "apart", "together", "waiting", "messages", "bytes")
    }
    for _ in range(repeats):
        _meet(world)
        if world.rank == 0:
            taken["alone"].append(seconds(alone))
        _meet(world)
        taken["apart"].append(seconds(apart))
        _meet(world)
        traffic = world.clip.traffic
        before = (traffic.seconds, traffic.messages, traffic.bytes)
        taken["together"].append(seconds(together))
        after = (traffic.seconds, traffic.messages, traffic.bytes)
        for name, start, stop in zip(("waiting", "messages", "bytes"), before, after, strict=True):
            taken[name].append(stop - start)
    return taken


def exchange_trial(world: World, sizes: Sequence[int], repeats: int) -> list[float]:
    """Return the seconds in which two processes exchange a message of so many bytes each way, over and over: the
    median of several rounds."""
    held, wanted = [[0], [1]], [[1], [0]]
    medians = []
    for size in sizes:
        part = torch.zeros((1, size // 4))

        def rounds(part: Tensor = part) -> None:
            for _ in range(repeats):
                world.clip.fetch([part], 0, held, wanted)()

        _meet(world)
        medians.append(statistics.median(seconds(rounds) / repeats for _ in range(5)))
    return medians


@torch.inference_mode()
def fifo_trial(world: World, model_name: str, fifo: Fifo, repeats: int) -> dict[str, list[float]]:
    """Return, for every repeat, seconds per frame of video alone (on rank 0) and together: of the iterations, and with
    the decoding, which one process does beside the next iteration on a second core."""
    model, _ = measured_model(model_name, PerFrameNoise)
    request = Request(prompts=PromptTimeline.constant("a rocket flies up through the night sky"), frames=None, seed=1)
    plan = fifo.plan(request, model.spec)
    with_others, by_itself = (_fifo_calls(model, plan, where) for where in (world, ALONE))
    taken: dict[str, list[float]] = {name: [] for name in ("alone", "together", "alone decoded", "together decoded")}
    for _ in range(repeats):
        for name, place in (("", 0), (" decoded", 1)):
            _meet(world)
            if world.rank == 0:
                taken[f"alone{name}"].append(seconds(by_itself[place]) / fifo.decode_batch)
            _meet(world)
            taken[f"together{name}"].append(seconds(with_others[place]) / fifo.decode_batch)
    return taken


def _fifo_calls(model: PerFrameNoise, plan: FifoPlan, world: World) -> tuple[Callable[[], object], ...]:
    """Return a call that denoises a batch of frames, and one that makes it whole; both past the warm-up."""
    stream = run_plan(model, plan, seeded_noise(1), world, None)
    setting = prepare(model, plan, seeded_noise(1), world)
    queue = fill(setting, base_clip(setting)) if world.rank == 0 or world.size > 1 else None

    def denoise() -> None:
        for _ in range(plan.settings.decode_batch):
            assert queue is not None
            advance(setting, queue)

    if queue is not None:
        for _ in range(plan.warmup_frames // plan.spec.num_frames + 2):
            next(stream)
        denoise()
    return denoise, lambda: next(stream)


def forward_call(unet: Any, trial: Trial, group: Group) -> Callable[[], Tensor]:
    """Return a call that sends the frames of one process through the network."""
    mixer = trial.mixer(group)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((1, SIZES.latent_channels, trial.frames, CELLS, CELLS), generator=generator)
    x = x[:, :, mixer.frames.start : mixer.frames.stop]
    text = torch.randn((1, 8, SIZES.text_width), generator=generator)

    def call() -> Tensor:
        with frame_mixing(unet, mixer):
            return unet(x, torch.tensor([900]), text, return_dict=False)[0]

    return call


def _meet(world: World) -> None:
    world.all.gather(torch.zeros(1))
