"""What PVDM costs: python -m lab measure pvdm [--parts speed activations training sampling] [--report out.json].

Reports, for the UNet of PVDM-S on clips of 16 x 256 x 256, on one thread: the time of a forward and of a forward with
its backward, and what a forward keeps for the gradient, each also for a 3-D UNet of the same widths and blocks on the
latents that the planes stand for; the GPU memory of training, counted without a GPU; and the memory of long videos.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from lab.common import in_turn, machine, released, seconds
from lab.measure.memory import MIB, TRAININGS, kept_bytes, random_pvdm, sampling_peak, training_memory
from lab.measure.unet_3d import Unet3d, Unet3dConfig
from longtake.model import Known
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.models.pvdm.convert import autoencoder_config, our_autoencoder, our_unet, unet_config
from longtake.models.pvdm.unet import PvdmUnet
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.autoregressive.plan import Autoregressive

PVDM_S = UnetConfig(channels=128)
THEIRS = ("models.ddpm.unet", "models.autoencoder.autoencoder_vit", "losses.ddpm")
"""Modules of the authors' repository."""
THEIR_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 128,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "cond_model": True,
}
"""PVDM-S."""
THEIR_AUTOENCODER = {"splits": 1, "timesteps": 16, "resolution": 256, "channels": 384}
NETWORKS = ("planes", "planes, recompute", "3-D")
Part = Literal["speed", "activations", "training", "sampling"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    parts: tuple[Part, ...] = ("speed", "activations", "training", "sampling")
    repeats: int = 3  # how often the speed is measured


def network(name: str, config: UnetConfig) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return one of the networks that are compared, and a forward of one clip after another.

    The 3-D UNet has the same widths and blocks; attention over time stands where the planes attend to each other.
    """
    grid, channels = config.grid, config.latent_channels
    if name == "3-D":
        over_time = (True,) * len(config.multipliers)
        unet = Unet3d(Unet3dConfig(blocks=config, over_time=over_time, channels=channels, entering=2 * channels))
        x = torch.randn(1, 2 * channels, grid.frames, grid.rows, grid.columns)
        return unet, lambda: unet(x, torch.zeros(1))
    planes = PvdmUnet(config)
    planes.recompute = name.endswith("recompute")
    latents, previous = torch.randn(2, 1, channels, grid.positions)
    return planes, lambda: planes(latents, torch.zeros(1), previous)


def activations(config: UnetConfig) -> dict[str, int]:
    """Return the bytes that a forward of each network keeps for the gradient, weights left out; counted, not run."""
    with FakeTensorMode():
        return {name: kept_bytes(lambda name=name: network(name, config)[1]) for name in NETWORKS}


def speed(config: UnetConfig, repeats: int) -> dict[str, dict[str, float]]:
    """Return median seconds of every network, of this process alone.

    They take turns, so that a busy machine slows all alike.
    """
    calls = {}
    for name in NETWORKS:
        unet, forward = network(name, config)
        calls[name] = {"forward": torch.no_grad()(forward), "forward and backward": _backward(unet, forward)}
        calls[name]["forward"]()
    taken: dict[str, dict[str, list[float]]] = {name: {call: [] for call in calls[name]} for name in NETWORKS}
    for _ in range(repeats):
        for name in NETWORKS:
            for call, times in taken[name].items():
                times.append(seconds(calls[name][call], time.process_time))
    return {name: {call: statistics.median(times) for call, times in kinds.items()} for name, kinds in taken.items()}


def sampling() -> dict[str, Any]:
    """Return the peaks of videos of 2 and 16 clips of a very small PVDM, and the growth from one to the other."""
    grid = Grid(frames=16, rows=8, columns=8)
    autoencoder = AutoencoderConfig(grid=grid, width=16, depth=1, heads=1, pool_depth=1, pool_heads=1)
    unet = UnetConfig(grid=grid, channels=8, multipliers=(1,), blocks=1, attention=(False,), heads=1, groups=4)
    model = random_pvdm(autoencoder, unet)
    # What is imported and set up once belongs to neither.
    sampling_peak(model, 1)
    short, long = (asdict(sampling_peak(model, clips)) for clips in (2, 16))
    return {"2 clips": short, "16 clips": long, "growth": sum(long.values()) / sum(short.values()) - 1}


class Beside:
    """The released networks and sampler of the authors (sihyun-yu/PVDM), and ours, with the same random weights."""

    def __init__(self, checkout: Path, steps: int) -> None:
        with released(checkout, ("torchvision", "torchvision.utils")):
            unet, autoencoder, ddpm = map(import_module, THEIRS)
        ddpm.tqdm = lambda pairs, **_: pairs  # pyright: ignore[reportAttributeAccessIssue]
        torch.manual_seed(0)
        self.unet = unet.UNetModel(**THEIR_UNET).eval()
        for parameter in self.unet.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
        self.decoder = autoencoder.ViTAutoencoder(4, THEIR_AUTOENCODER).eval()
        self.ddpm = ddpm.DDPM(
            unet.DiffusionWrapper(self.unet), channels=4, sampling_timesteps=steps, ddim_sampling_eta=0.0, w=0.0
        )
        parts = (our_autoencoder(self.decoder.state_dict()), our_unet(self.unet.state_dict()))
        self.model = random_pvdm(autoencoder_config(parts[0]), unet_config(parts[1], Grid()))
        for network, tensors in zip((self.model.pipeline.autoencoder, self.model.pipeline.unet), parts, strict=True):
            network.load_state_dict(tensors)
        request = Request(prompts=PromptTimeline.constant("anything"), frames=2 * Grid().frames, seed=1, steps=steps)
        self.plan = Autoregressive(eta=0.0).plan(request, self.model.spec)
        self.latents, self.previous = torch.randn(2, 1, *self.model.spec.latent_shape)

    def theirs(self) -> list[Tensor]:
        """Return the latents of two clips by their sampler, the second in view of the first one's."""
        clips: list[Tensor] = []
        for clip in range(2):
            torch.manual_seed(clip)
            clips.append(self.ddpm.sample(batch_size=1, cond=clips[-1] if clips else None))
        return clips

    def ours(self) -> list[Tensor]:
        """Return the same by our loop, of which nothing is decoded."""
        clips: list[Tensor] = []
        spec = self.model.spec
        blank = torch.zeros(spec.num_frames, 3, spec.height, spec.width)

        def noise(shape: Sequence[int], stream: str, *key: int) -> Tensor:
            torch.manual_seed(key[0])
            return torch.randn(tuple(shape))

        def noted(latents: Tensor, state: Any, last: bool) -> tuple[Tensor, Any]:
            clips.append(latents[None])
            return blank, state

        decode, self.model.decode = self.model.decode, noted
        try:
            list(run_plan(self.model, self.plan, noise, ALONE, None))
        finally:
            self.model.decode = decode
        return clips

    def pixels(self, latents: Tensor) -> dict[str, Callable[[], Tensor]]:
        """Return both decoders of a clip, to (frames, 3, height, width) in [0, 1]."""
        return {
            "theirs": lambda: (self.decoder.decode_from_sample(latents).clamp(-1, 1) + 1) / 2,
            "ours": lambda: self.model.decode(latents[0], None, last=True)[0],
        }

    def steps(self) -> dict[str, dict[str, Callable[[], object]]]:
        """Return a step of a clip by both, of a first clip and of a later one."""
        level, ours = self.plan.num_levels, self.model
        schedule, predict = ours.schedule(level), self.ddpm.model_predictions
        timestep, at = schedule.timestep[[level]], torch.tensor([level])
        rows, condition = torch.zeros((1, Grid().frames), dtype=torch.long), ours.encode(["anything"])
        known = Known(latents=self.previous)
        return {
            "a step of the first clip": {
                "theirs": lambda: predict(self.latents, None, timestep, None, True),
                "ours": lambda: ours.denoise(self.latents, at, schedule, condition, rows),
            },
            "a step of a later clip": {
                "theirs": lambda: predict(self.latents, self.previous, timestep, None, True),
                "ours": lambda: ours.denoise_after(self.latents, at, schedule, condition, rows, known),
            },
        }


def _timed(calls: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what calls return, and the processor seconds of each, once."""
    results, taken = dict[str, Any](), dict[str, float]()
    for name, call in calls.items():
        start = time.process_time()
        results[name] = call()
        taken[name] = time.process_time() - start
    return results, taken


@torch.inference_mode()
def beside(checkout: Path, steps: int, repeats: int) -> dict[str, Any]:
    """Return both codes at equal output, PVDM-S: the distances of two clips' latents and of the last one's pixels, and
    seconds of the processor, of steps the median, of the rest once."""
    trial = Beside(checkout, steps)
    clips, sampled = _timed({"theirs": trial.theirs, "ours": trial.ours})
    there, here = torch.cat(clips["theirs"]), torch.cat(clips["ours"])
    frames, decoded = _timed(trial.pixels(clips["theirs"][-1]))
    taken = {"two clips, not decoded": sampled, "a clip decoded": decoded}
    taken |= {part: in_turn(calls, repeats) for part, calls in trial.steps().items()}
    return {
        "steps a clip": steps,
        "largest difference of a latent": float((there - here).abs().max()),
        "deviation of a latent": float(here.std()),
        "largest difference in grey levels": 255 * float((frames["theirs"] - frames["ours"]).abs().max()),
        "deviation of a pixel": 255 * float(frames["ours"].std()),
        "seconds": taken,
        "over theirs": {part: seconds["ours"] / seconds["theirs"] for part, seconds in taken.items()},
    }


def _backward(unet: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], None]:
    """Return a call of the network and of its gradient."""

    def call() -> None:
        forward().square().mean().backward()
        unet.zero_grad()

    return call


PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "speed": lambda repeats: speed(PVDM_S, repeats),
    "activations": lambda repeats: {name: size / MIB for name, size in activations(PVDM_S).items()},
    "training": lambda repeats: {name: training_memory(training) for name, training in TRAININGS.items()},
    "sampling": lambda repeats: sampling(),
}


def measure(chosen: Settings) -> dict[str, object]:
    """Return the report: seconds, MiB of activations, GiB of training, bytes of sampling."""
    torch.set_num_threads(1)
    return {"machine": machine(), **{part: PARTS[part](chosen.repeats) for part in chosen.parts}}
