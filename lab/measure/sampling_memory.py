"""The most memory that a video of a PVDM takes, from the request to the finished file."""

import gc
import tempfile
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import torch

from lab.measure.live_bytes import LiveBytes
from longtake._generate import Output, generate
from longtake.model import Continuation, VideoSpec
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, UnetConfig
from longtake.models.pvdm.model import PvdmModel
from longtake.models.pvdm.unet import PvdmUnet
from longtake.request import PromptTimeline, Request
from longtake.samplers.autoregressive.plan import Autoregressive


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
