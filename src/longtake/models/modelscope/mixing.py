"""Lets a FrameMixer take over the layers of UNet3DConditionModel that mix frames, for the length of a context."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn

from longtake.attention import FrameMixer
from longtake.models.hooks import swapped

REACH = 4
"""Frames to each side that an output of TemporalConvLayer sees: four convolutions over 3 frames."""


@dataclass(frozen=True)
class MixedAttention:
    """Attention processor of a layer over time: frames meet in the mixer."""

    mixer: FrameMixer

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Return what the layer adds; queries are computed while keys and values travel."""
        to_q, to_k, to_v = (cast(nn.Module, projection) for projection in (attn.to_q, attn.to_k, attn.to_v))
        key, value = (projection(hidden_states).unflatten(-1, (attn.heads, -1)) for projection in (to_k, to_v))
        attend = self.mixer.attend(key, value)
        mixed = attend(to_q(hidden_states).unflatten(-1, (attn.heads, -1)))
        return cast(nn.ModuleList, attn.to_out)[0](mixed.flatten(2))


class Mixed(nn.Module):
    """Stands in for a convolution or a norm over time."""

    def __init__(self, layer: nn.Module, mix: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.mix = layer, mix

    def forward(self, x: Tensor) -> Tensor:
        """Return what the mixer makes of (windows, channels, frames, height, width)."""
        return self.mix(self.layer, x)


class MixedBlock(nn.Module):
    """Stands in for TemporalConvLayer, which is given (windows x frames, channels, height, width)."""

    def __init__(self, layer: TemporalConvLayer, mixer: FrameMixer) -> None:
        super().__init__()
        self.layer, self.mixer = layer, mixer

    def forward(self, x: Tensor, num_frames: int) -> Tensor:
        """Return the frames after the convolutions."""
        mixed = self.mixer.block(self._run, _with_time(x, num_frames), REACH)
        return _without_time(mixed)

    def _run(self, x: Tensor) -> Tensor:
        return _with_time(self.layer(_without_time(x), num_frames=x.shape[2]), x.shape[2])


def layers_over_time(unet: UNet3DConditionModel) -> list[Attention]:
    """Return the layers in which the frames of a cell attend to each other."""
    owners = [module for module in unet.modules() if isinstance(module, TransformerTemporalModel)]
    return [module for owner in owners for module in owner.modules() if isinstance(module, Attention)]


@contextmanager
def frame_mixing(unet: UNet3DConditionModel, mixer: FrameMixer) -> Iterator[None]:
    """Let `mixer` mix the frames of every forward inside the context."""
    with ExitStack() as stack:
        for layer in layers_over_time(unet):
            stack.enter_context(swapped(layer, "processor", MixedAttention(mixer)))
        for owner in list(unet.modules()):
            if isinstance(owner, TransformerTemporalModel):
                stack.enter_context(swapped(owner, "norm", Mixed(owner.norm, mixer.normalise)))
            elif isinstance(owner, TemporalConvLayer):
                _mix_stages(owner, mixer, stack)
            else:
                for name, child in list(owner.named_children()):
                    if isinstance(child, TemporalConvLayer):
                        stack.enter_context(swapped(owner, name, MixedBlock(child, mixer)))
        yield


def _mix_stages(layer: TemporalConvLayer, mixer: FrameMixer, stack: ExitStack) -> None:
    """Let the mixer take the norms and the convolutions inside a block."""
    for stage in (layer.conv1, layer.conv2, layer.conv3, layer.conv4):
        for name, child in list(stage.named_children()):
            if isinstance(child, nn.GroupNorm):
                stack.enter_context(swapped(stage, name, Mixed(child, mixer.normalise)))
            elif isinstance(child, nn.Conv3d):
                stack.enter_context(swapped(stage, name, Mixed(child, mixer.convolve)))


def _with_time(x: Tensor, num_frames: int) -> Tensor:
    return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


def _without_time(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(0, 1)
