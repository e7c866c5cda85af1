"""What takes the place of parts of diffusers' video UNets for the length of one call.

A noise level and a prompt per frame, for a network made for one of each per clip: UNet3DConditionModel repeats its time
embedding and its text over the frames, UNetMotionModel the former. They are put in its place already repeated: the
embedding through a stand-in for the layer that makes it, the text through attention processors that know its keys and
values. And a mixer in the place of layers that mix frames, and gradients in the place of none.

For good, and not for a call: what convolutions see beyond the sides of a picture (`join_sides`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from longtake.attention import FrameMixer, attention

FrameEmbedding = Float[Tensor, "windows_x_frames width"]
Text = Float[Tensor, "prompts tokens width"]
TextTable = Float[Tensor, "prompts entries"]
HeadedText = Float[Tensor, "texts tokens heads headwidth"]
_LEARNS: ContextVar[bool] = ContextVar("learns", default=False)


@dataclass(frozen=True)
class RepeatedEmbedding:
    """An embedding that is per frame already: what UNet3DConditionModel does to one per clip leaves it as it is."""

    frames: Tensor

    @property
    def shape(self) -> torch.Size:
        """Return the shape of which the UNet multiplies the first number by that of the frames."""
        return self.frames.shape

    def repeat_interleave(self, num_frames: int, dim: int, output_size: int) -> Tensor:
        """Return the embedding of every frame of every clip."""
        return self.frames


class GivenEmbedding(nn.Module):
    """Stands in for `unet.time_embedding` and answers with an embedding per frame."""

    def __init__(self, frames: FrameEmbedding) -> None:
        super().__init__()
        self.answer = RepeatedEmbedding(frames)

    def forward(self, projected: Tensor, condition: Tensor | None = None) -> RepeatedEmbedding:
        """Return the given embedding, whatever the timesteps."""
        return self.answer


@dataclass(frozen=True)
class TextAttention:
    """Attention processor of a layer whose keys and values are known beforehand: of every frame, or one text for all.

    One text lets the queries of all frames go through as a single long sequence.
    """

    keys: HeadedText
    values: HeadedText

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Return what the layer adds. The text that the UNet hands on is ignored."""
        texts, _, heads, width = self.keys.shape
        query = attn.to_q(hidden_states).view(texts, -1, heads, width)
        mixed = attention(query, self.keys, self.values)
        return cast(nn.ModuleList, attn.to_out)[0](mixed.reshape(len(hidden_states), -1, heads * width))


@dataclass(frozen=True)
class SelfAttention:
    """Attention processor for cells or frames that attend to each other: the library's, but for the kernel's format."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Return what the layer adds."""
        projections = [cast(nn.Module, projection) for projection in (attn.to_q, attn.to_k, attn.to_v)]
        headed = [projection(hidden_states).unflatten(-1, (attn.heads, -1)) for projection in projections]
        return cast(nn.ModuleList, attn.to_out)[0](attention(*headed).flatten(2))


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


def spread_places(places: Sequence[tuple[int, int]], trained: int) -> list[float]:
    """Return the position over time of every frame, from its place in its clip and the clip's length.

    Where a clip is longer than the `trained` number of frames, its frames are spread evenly over the trained range, at
    fractions of a position.
    """
    return [place * min(1.0, (trained - 1) / max(length - 1, 1)) for place, length in places]


def text_layers(unet: UNet3DConditionModel) -> list[Attention]:
    """Return the layers that attend to the text."""
    transformers = [module for module in unet.modules() if isinstance(module, Transformer2DModel)]
    return [cast(Attention, block.attn2) for transformer in transformers for block in transformer.transformer_blocks]


def self_attention_layers(unet: UNet3DConditionModel) -> list[Attention]:
    """Return the layers that attend to anything else: the cells of a frame, or the frames of a cell."""
    others = {id(layer) for layer in text_layers(unet)}
    return [module for module in unet.modules() if isinstance(module, Attention) and id(module) not in others]


def text_table(layers: Sequence[Attention], text: Text) -> TextTable:
    """Return a row per prompt: the keys and values of its tokens in all the layers, one after the other."""
    projections = [cast(nn.Module, projection) for layer in layers for projection in (layer.to_k, layer.to_v)]
    return torch.cat([projection(text).flatten(1) for projection in projections], dim=1)


@contextmanager
def frame_conditions(
    unet: UNet3DConditionModel,
    layers: Sequence[Attention],
    embedding: FrameEmbedding,
    table: TextTable,
    rows: Int[Tensor, "windows_x_frames"],
) -> Iterator[None]:
    """Give every frame its own time embedding and its own row of a `text_table` while the context lasts."""
    first = int(rows[0])
    chosen = table[first : first + 1] if bool((rows == first).all()) else table[rows]
    widths = [layer.inner_kv_dim for layer in layers]
    num_tokens = chosen.shape[1] // (2 * sum(widths))
    columns = chosen.split([num_tokens * width for width in widths for _ in range(2)], dim=1)
    with ExitStack() as stack:
        stack.enter_context(swapped(unet, "time_embedding", GivenEmbedding(embedding)))
        for i, layer in enumerate(layers):
            keys, values = (part.view(len(chosen), num_tokens, layer.heads, -1) for part in columns[2 * i : 2 * i + 2])
            stack.enter_context(swapped(layer, "processor", TextAttention(keys, values)))
        yield


@contextmanager
def self_attention(layers: Sequence[Attention]) -> Iterator[None]:
    """Let these layers attend in the number format that is fastest for it while the context lasts."""
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(swapped(layer, "processor", SelfAttention()))
        yield


FramesByRow = Sequence[Int[Tensor, "_frames"]]
"""For every row of texts the frames, counted through all windows, that attend to it."""


def frames_by_row(rows: Int[Tensor, "windows_x_frames"], num_rows: int) -> FramesByRow:
    """Return the frames of so many texts, of the text of every frame."""
    return [(rows == row).nonzero()[:, 0] for row in range(num_rows)]


def attended_by_row(
    query: Float[Tensor, "windows tokens heads headwidth"],
    frames: FramesByRow,
    attend: Callable[[Tensor, int], Tensor],
) -> Float[Tensor, "windows tokens width"]:
    """Return what the queries of frames get, each of its own text; `attend` answers those of one text, by its row."""
    by_frame = query.flatten(0, 1).unflatten(0, (sum(map(len, frames)), -1))
    mixed = torch.empty_like(by_frame)
    for row, own in enumerate(frames):
        # One text: its queries of all frames go through as a single long sequence.
        mixed[own] = attend(by_frame[own].flatten(0, 1)[None], row)[0].unflatten(0, (len(own), -1))
    return mixed.view(query.shape).flatten(2)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return x with every pair of neighbouring channels turned by an angle; in float32, as the library does it."""
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2).type_as(x)


def turned_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return x with every pair of channels turned that lie half a head apart, as `turned` does neighbours."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).type_as(x)


@dataclass(frozen=True)
class Around:
    """What a convolution is given in place of its input: beyond each side of the picture, what lies at the other."""

    left: int
    right: int
    below: int = 0

    def __call__(self, layer: nn.Module, given: tuple[Tensor]) -> Tensor:
        """Return the input with so many columns more, and rows of zeros below."""
        wider = pad(given[0], (self.left, self.right, 0, 0), mode="circular")
        return pad(wider, (0, 0, 0, self.below))


def join_sides(network: nn.Module) -> None:
    """Join the right side of a network's pictures to the left, as on a cylinder: where its convolutions see zeros
    beyond a side, let them see the other. Then it treats all columns alike, but for the steps in which it halves them.
    """
    for module in list(network.modules()):
        if isinstance(module, Downsample2D) and module.use_conv and module.padding == 0:
            # It adds a column and a row by itself otherwise, to the right and below.
            module.padding = 1
            module.conv.register_forward_pre_hook(Around(left=0, right=1, below=1))
        elif isinstance(module, nn.Conv2d) and isinstance(module.padding, tuple) and module.padding[1]:
            rows, columns = module.padding
            module.padding = (rows, 0)
            module.register_forward_pre_hook(Around(left=columns, right=columns))


@contextmanager
def swapped(owner: object, name: str, replacement: Any) -> Iterator[None]:
    """Put `replacement` in the place of an attribute while the context lasts."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def learning() -> Iterator[None]:
    """Let gradients flow through calls of networks that are made inside this context, of models that can learn."""
    token = _LEARNS.set(True)
    try:
        yield
    finally:
        _LEARNS.reset(token)


def network_call() -> AbstractContextManager[Any]:
    """Return what a call of the network that denoises is made in: without gradients, but for `learning`."""
    return nullcontext() if _LEARNS.get() else torch.inference_mode()
