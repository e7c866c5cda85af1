"""Training pictures before video: the denoiser without its layers over time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from diffusers import UNet3DConditionModel
from torch import Tensor, nn

from longtake.models.hooks import swapped


class _SameFrames(nn.Module):
    """Stands in for a convolution over time."""

    def forward(self, hidden_states: Tensor, num_frames: int) -> Tensor:
        return hidden_states


class _SameFramesTuple(nn.Module):
    """Stands in for an attention over time."""

    def forward(
        self, hidden_states: Tensor, num_frames: int, cross_attention_kwargs: None, return_dict: bool
    ) -> tuple[Tensor]:
        return (hidden_states,)


@contextmanager
def without_time(unet: UNet3DConditionModel) -> Iterator[None]:
    """Skip every layer over time inside this context; new networks give the same frames with and without."""
    with ExitStack() as stack:
        stack.enter_context(swapped(unet, "transformer_in", _SameFramesTuple()))
        for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks]:
            parts = {"temp_convs": _SameFrames, "temp_attentions": _SameFramesTuple}
            for name, layers in list(block.named_children()):
                if name in parts:
                    stack.enter_context(swapped(block, name, nn.ModuleList(parts[name]() for _ in layers)))
        yield
