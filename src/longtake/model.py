"""What a video model offers: the base that every model has, and capabilities that some have.

A sampler sees only this. Nothing here imports torch, so that a plan can be made before the weights are there.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, device, dtype, nn

    from longtake.arrays import FrameIndex, FrameLevels, Frames, LatentFrames, Latents
    from longtake.schedule import Schedule, Spacing


@dataclass(frozen=True, kw_only=True)
class VideoSpec:
    """Everything about a model that can be known before its weights are loaded."""

    name: str
    num_frames: int
    """Latent frames in one call of the network (the window, FIFO's f)."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    fps: float
    """Frames per second that the model was trained at."""
    latent_shape: tuple[int, ...]
    """One window of latents: (channels, frames, height, width) where they go frame by frame, else the model's own."""
    temporal_stride: int = 1
    """Pixel frames per latent frame; a causal VAE's first latent frame is one pixel frame."""
    guidance: float
    """The guidance that suits the model."""
    capabilities: frozenset[type["VideoModel"]]
    """Capabilities that the loaded model has, beside VideoModel itself."""
    clean_frames: bool = False
    """Whether the network was trained with finished frames among noisy ones, labelled so."""
    vocabulary: frozenset[str] | None = None
    """Every word the model knows, where that is a closed list."""
    parameters: int = 0
    """Number of weights of all parts together."""
    forward_flops: int | None = None
    """Floating-point operations of one network evaluation (one window, one guidance branch)."""
    decode_flops: int | None = None
    """Floating-point operations to decode one latent frame."""

    def pixel_frames(self, latent_frames: int) -> int:
        """Return how many pixel frames so many latent frames decode to, from the start of a video."""
        return 1 + (latent_frames - 1) * self.temporal_stride if latent_frames else 0

    def latent_frames(self, pixel_frames: int) -> int:
        """Return how many latent frames, from the start of a video, hold so many pixel frames."""
        return 1 + -(-(pixel_frames - 1) // self.temporal_stride)


@dataclass(frozen=True)
class Condition:
    """A table of prompt embeddings, one row a prompt; what a row holds is the model's own affair."""

    table: "Tensor"


@dataclass(frozen=True)
class TemporalLayer:
    """A layer that mixes frames: where a sampler that spreads one video over clips has to step in."""

    kind: Literal["convolution", "attention", "norm"]
    module: "nn.Module"
    frame_axis: int
    """Axis of the module's input along which the frames lie."""


class VideoModel(ABC):
    """A text-to-video model. Levels are indices into a `Schedule`; what it hands out is always x0."""

    spec: VideoSpec
    digest: str
    """The hub revision, or a hash of the weights."""
    device: "device"
    dtype: "dtype"

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Condition:
        """Embed prompts, a row each. Row 0 is by custom the negative prompt."""

    @abstractmethod
    def schedule(self, num_levels: int, spacing: "Spacing" = "trailing") -> "Schedule":
        """Return `num_levels` noise levels for this model; InputError where it has no such spacing."""

    @abstractmethod
    def denoise(
        self, x: "Tensor", level: "Tensor", schedule: "Schedule", condition: Condition, prompt_index: "Tensor"
    ) -> "Tensor":
        """Return x0 of one guidance branch for a batch of windows; one level a window."""

    @abstractmethod
    def decode(self, latents: "LatentFrames", state: Any) -> tuple["Frames", Any]:
        """Decode the next latents of a stream.

        `state` is None at the start of a video, then what the last call returned: a dict of tensors, empty or None for
        a decoder without memory.
        """

    @abstractmethod
    def encode_frames(self, frames: "Frames") -> "LatentFrames":
        """Encode pixels to clean latents."""


class PerFrameNoise(VideoModel):
    """A model that takes a noise level for every frame."""

    @abstractmethod
    def denoise(
        self,
        x: "Latents",
        level: "FrameLevels",
        schedule: "Schedule",
        condition: Condition,
        prompt_index: "FrameIndex",
    ) -> "Latents":
        """Return x0 of one guidance branch for a batch of windows; a level and a prompt for every frame."""


class TemporalHooks(VideoModel):
    """A model whose layers that mix frames can be reached."""

    @abstractmethod
    def temporal_layers(self) -> Sequence[TemporalLayer]:
        """Return the layers that mix frames, in the order in which they run."""


class Infill(VideoModel):
    """A model that fills the gap between two known frames."""

    @abstractmethod
    def denoise_between(
        self,
        x: "Latents",
        level: "Tensor",
        schedule: "Schedule",
        condition: Condition,
        prompt_index: "FrameIndex",
        first: "Tensor",
        last: "Tensor",
    ) -> "Latents":
        """Return x0 of windows whose first and last frames (windows, channels, height, width) are known; one level a
        window."""


class Continuation(VideoModel):
    """A model that goes on from known frames."""

    @abstractmethod
    def denoise_after(
        self,
        x: "Tensor",
        level: "Tensor",
        schedule: "Schedule",
        condition: Condition,
        prompt_index: "Tensor",
        previous: "Tensor",
    ) -> "Tensor":
        """Return x0 of windows that follow the latents `previous`; one level a window."""
