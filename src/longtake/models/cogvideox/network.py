"""What takes the place of norms of CogVideoXTransformer3DModel for the length of a call: a noise level for every frame.

Text and video are rows of one sequence (Yang et al., 2024, arXiv 2408.06072, section 2.2), and every norm turns the
embedding of one timestep a window into a shift, a scale and a gate for either. Here the network is given a timestep for
every frame and, after these, one for every window's text; its own layers embed them together, and the norms share out
what comes.

Shapes: W windows, F frames, P tokens of a frame, T tokens of text, D width.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from jaxtyping import Float
from torch import Tensor, nn

from longtake.arrays import Latents
from longtake.models.hooks import swapped

Text = Float[Tensor, "windows tokens text_width"]
Rotation = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class FrameGate:
    """What the answer of a layer is multiplied by: a row for every frame, in place of one a window."""

    gate_WF1D: Tensor

    def __mul__(self, answer: Tensor) -> Tensor:
        """Return (windows, frames x tokens, width), each token times the gate of its frame."""
        return (self.gate_WF1D * answer.unflatten(1, (self.gate_WF1D.shape[1], -1))).flatten(1, 2)


class FrameNorm(nn.Module):
    """Stands in for a CogVideoXLayerNormZero: `temb` has a row for every frame, then one for every window's text."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor
    ) -> tuple[Tensor, Tensor, FrameGate, Tensor]:
        """Return video and text, normed, and the gates of both."""
        own, windows = self.norm, len(hidden_states)
        entries = own.linear(own.silu(temb)).chunk(6, dim=1)
        shift, scale, gate = (_by_frame(entry, windows) for entry in entries[:3])
        text_shift, text_scale, text_gate = (entry[-windows:, None] for entry in entries[3:])
        video_WFPD = own.norm(hidden_states).unflatten(1, (shift.shape[1], -1)) * (1 + scale) + shift
        text_WTD = own.norm(encoder_hidden_states) * (1 + text_scale) + text_shift
        return video_WFPD.flatten(1, 2), text_WTD, FrameGate(gate), text_gate


class LastFrameNorm(nn.Module):
    """Stands in for the AdaLayerNorm before the last projection, which only the video goes through."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        """Return the video, normed; see `FrameNorm`."""
        own = self.norm
        shift, scale = (_by_frame(entry, len(x)) for entry in own.linear(own.silu(temb)).chunk(2, dim=1))
        return (own.norm(x).unflatten(1, (shift.shape[1], -1)) * (1 + scale) + shift).flatten(1, 2)


def _by_frame(entry: Tensor, windows: int) -> Float[Tensor, "windows frames 1 width"]:
    return entry[:-windows].unflatten(0, (windows, -1))[:, :, None]


@contextmanager
def frame_levels_in(transformer: CogVideoXTransformer3DModel) -> Iterator[None]:
    """Let the network take a timestep for every frame and one for every window's text, while the context lasts."""
    network: Any = transformer
    with ExitStack() as stack:
        for block in network.transformer_blocks:
            for name in ("norm1", "norm2"):
                stack.enter_context(swapped(block, name, FrameNorm(getattr(block, name))))
        stack.enter_context(swapped(network, "norm_out", LastFrameNorm(network.norm_out)))
        yield


def predict(
    transformer: CogVideoXTransformer3DModel,
    x: Latents,
    timestep: Float[Tensor, "windows frames"],
    text: Text,
    rotation: Rotation | None,
) -> Latents:
    """Return what the network predicts; the rows of a window's text have the mean of its frames' timesteps.

    No training has shown the network a text that sees frames of several levels. The mean is nearest to all of them at
    once, and the timestep itself where they agree.
    """
    with frame_levels_in(transformer):
        (predicted,) = transformer(
            hidden_states=x.transpose(1, 2),
            encoder_hidden_states=text,
            timestep=torch.cat([timestep.flatten(), timestep.mean(dim=1)]),
            image_rotary_emb=rotation,
            return_dict=False,
        )
    return predicted.transpose(1, 2)
