"""What training a video diffusion model takes of a GPU's memory, counted on fake tensors: no GPU and no weights needed.

Counted: parameters, gradients, AdamW's two averages and what its step needs meanwhile, the averaged weights, the frozen
autoencoder where clips are encoded in each step, activations, and all temporary tensors that an operation returns.
Not counted: memory that a kernel takes for itself (cuDNN), what the allocator loses to gaps, the CUDA context, data.
"""

import gc
import math
import tempfile
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from lab.measure.unet_3d import Unet3d, Unet3dConfig
from longtake._generate import Output, generate
from longtake.model import Continuation, VideoSpec
from longtake.models.hub.fake import LiveBytes
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, UnetConfig
from longtake.models.pvdm.model import PvdmModel
from longtake.models.pvdm.unet import PositionAttention, PvdmUnet
from longtake.request import PromptTimeline, Request
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.train.fit.optimiser import Ema

GIB, MIB = 2**30, 2**20


def kept_bytes(build: Callable[[], Callable[[], object]]) -> int:
    """Return the bytes that a forward keeps for the gradient, its result included and weights left out.

    `build` makes the network and returns the forward.
    """
    with LiveBytes() as live:
        forward = build()
        before = live.now
        result = forward()
        kept = live.now - before
        del result
    return kept


CARD = 24 * GIB
"""Memory of the paper's GPU."""
BATCHES = (1, 7)
"""Whose peaks are reported: that of the paper's claim for other models, and for PVDM."""

Loss = Callable[[int], Tensor]
"""The loss of a batch of this size."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A way to train a network."""

    build: Callable[[], tuple[nn.Module, Loss]]
    """Returns the network that is trained, and its loss."""
    explicit: bool = False
    """Whether attention holds all its weights at once, as was usual before fused kernels."""


class Recomputed(nn.Module):
    """A layer whose activations are computed again for the gradient."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer gives."""
        return checkpoint(self.layer, x, use_reentrant=False)


def triplane(channels: int, recompute: bool = False) -> tuple[nn.Module, Loss]:
    """Return PVDM's UNet as it is trained here: on latents that were encoded beforehand."""
    unet = PvdmUnet(UnetConfig(channels=channels))
    unet.recompute = recompute
    return unet, lambda batch: _planes_loss(unet, _latents(batch), _latents(batch))


def triplane_of_the_authors(channels: int) -> tuple[nn.Module, Loss]:
    """Return PVDM's UNet as the authors train it: each attention computed again, clips encoded in every step.

    The frozen autoencoder runs in half precision, with its weights in single. It encodes the clip and the one before
    in turn, so one of the two is counted.
    """
    unet, autoencoder = PvdmUnet(UnetConfig(channels=channels)), PvdmAutoencoder(AutoencoderConfig(compat=True))
    autoencoder.requires_grad_(False)
    recompute_attention(unet)

    def loss(batch: int) -> Tensor:
        clip = torch.empty(batch, 3, 16, 256, 256)
        with torch.no_grad(), torch.autocast("cpu", torch.float16):
            latents = autoencoder.encode(clip).float()
        return _planes_loss(unet, latents, latents)

    return unet, loss


def pixels(side: int, channels: int) -> tuple[nn.Module, Loss]:
    """Return a video diffusion model over 16 frames of this side, as in Ho et al., 2022.

    Assumed: levels of 1, 2, 4 and 8 times the width, two blocks each, 8 heads; attention within frames where their side
    is 32 or less, over time on the same levels.
    """
    attends = (False, side <= 64, side <= 128, side <= 256)
    blocks = UnetConfig(channels=channels, multipliers=(1, 2, 4, 8), attention=attends)
    network = Unet3d(Unet3dConfig(blocks=blocks, over_time=attends, channels=3, entering=3))

    def loss(batch: int) -> Tensor:
        clip = torch.empty(batch, 3, 16, side, side)
        return (network(clip, torch.zeros(batch)) - torch.empty_like(clip)).square().mean()

    return network, loss


def recompute_attention(network: nn.Module) -> None:
    """Let the attentions of a network, and nothing else, be computed again for the gradient."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, PositionAttention):
                setattr(module, name, Recomputed(child))


def _trainings() -> dict[str, Training]:
    """Return what is counted, by name."""
    trainings = {}
    for name, width in (("PVDM-S", 128), ("PVDM-L", 256)):
        trainings[name] = Training(build=partial(triplane, width))
        trainings[f"{name}, recompute"] = Training(build=partial(triplane, width, recompute=True))
        trainings[f"{name}, as the authors"] = Training(build=partial(triplane_of_the_authors, width), explicit=True)
    for side, width in ((128, 64), (128, 128), (128, 256), (256, 64)):
        trainings[f"pixels {side}, width {width}"] = Training(build=partial(pixels, side, width))
    for width in (64, 128):
        trainings[f"pixels 128, width {width}, explicit"] = Training(build=partial(pixels, 128, width), explicit=True)
    return trainings


TRAININGS = _trainings()


def training_memory(training: Training) -> dict[str, Any]:
    """Return what a training takes, in GiB, and the largest batch for which the card has room (0: none)."""
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        live = stack.enter_context(LiveBytes())
        if training.explicit:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        network, loss = training.build()
        optimizer, _average = _first_step(network)
        resting, in_step = live.now, live.peak

        @cache
        def peak(batch: int) -> int:
            live.peak = live.now
            loss(batch).backward()
            optimizer.zero_grad()
            return live.peak

        largest = 0 if in_step > CARD else _largest(peak)
        some = max(1, largest)
        return {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "between_steps": resting / GIB,
            "in_optimizer": in_step / GIB,
            "peak_at_batch": {batch: max(peak(batch), in_step) / GIB for batch in BATCHES},
            "a_clip_more": (peak(some + 1) - peak(some)) / GIB,
            "largest_batch": largest,
        }


def _first_step(network: nn.Module) -> tuple[torch.optim.Optimizer, Ema]:
    """Return optimizer and averaged weights once both hold all that they ever will."""
    average = Ema(network, decay=0.9999, every=1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, foreach=True)
    for parameter in network.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer, average


def _largest(peak: Callable[[int], int]) -> int:
    """Return the largest batch for which the card has room, given the peak of a batch."""
    few, many = 7, 56
    # Peaks grow in proportion once activations outweigh gradients, so the second guess is next to the truth.
    for _ in range(2):
        a_clip_more = (peak(many) - peak(few)) / (many - few)
        few, many = many, max(1, many + math.floor((CARD - peak(many)) / a_clip_more))
        if few == many:
            break
    while many and peak(many) > CARD:
        many -= 1
    while peak(many + 1) <= CARD:
        many += 1
    return many


def _latents(batch: int) -> Tensor:
    return torch.empty(batch, 4, UnetConfig().grid.positions)


def _planes_loss(unet: nn.Module, previous: Tensor, latents: Tensor) -> Tensor:
    noise = torch.empty_like(latents)
    return (unet(latents + noise, torch.zeros(len(latents)), previous) - noise).square().mean()


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most bytes at any time of a run."""

    tensors: int
    """Of torch, without the model's weights."""
    arrays: int
    """Of Python and NumPy, which hold the pixels on their way to the file."""


def random_pvdm(autoencoder: AutoencoderConfig, unet: UnetConfig) -> PvdmModel:
    """Return a PVDM with random weights."""
    torch.manual_seed(0)
    grid = unet.grid
    spec = VideoSpec(
        name="random-pvdm",
        num_frames=grid.frames,
        height=grid.rows * autoencoder.patch,
        width=grid.columns * autoencoder.patch,
        fps=8.0,
        latent_shape=(unet.latent_channels, grid.positions),
        guidance=1.0,
        capabilities=frozenset({Continuation}),
        bounded=True,
    )
    parts = SimpleNamespace(autoencoder=PvdmAutoencoder(autoencoder).eval(), unet=PvdmUnet(unet).eval())
    for network in (parts.autoencoder, parts.unet):
        network.requires_grad_(False)
    return PvdmModel(parts, spec, digest="random")


def sampling_peak(model: PvdmModel, clips: int) -> Peak:
    """Return the peak of making so many clips, one step each, into a lossless file.

    Of the encoder's own memory, outside Python, nothing is seen.
    """
    request = Request(
        prompts=PromptTimeline.constant("anything"), frames=clips * model.spec.num_frames, seed=1, steps=1
    )
    gc.collect()
    with tempfile.TemporaryDirectory() as folder, LiveBytes() as live:
        tracemalloc.start()
        try:
            generate(model, request, Autoregressive(), Output(path=Path(folder) / "video.mkv"))
            return Peak(tensors=live.peak, arrays=tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
