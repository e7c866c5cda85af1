"""What a video model offers: the base that every model has, and capabilities that some have.

A sampler sees only this. Nothing here imports torch, so that a plan can be made before the weights are there.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

from longtake.machine import Demands
from longtake.request import Guidance

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

    from longtake.arrays import FrameIndex, FrameLevels, Frames, LatentFrames, Latents
    from longtake.attention import FrameMixer
    from longtake.schedule import Schedule, Spacing


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How latent frames and frames of the video, which are pixel frames, follow from each other."""

    stride: int = 1
    """Pixel frames per latent frame; the first latent frame of a causal autoencoder is one pixel frame."""
    window_lengths: range = range(1, 2**16)
    """Latent frames that the network can be given at once."""

    def pixel_frames(self, latent_frames: int) -> int:
        """Return how many pixel frames so many latent frames decode to, from the start of a video."""
        return 1 + (latent_frames - 1) * self.stride if latent_frames else 0

    def latent_frames(self, pixel_frames: int) -> int:
        """Return how many latent frames, from the start of a video, hold so many pixel frames."""
        return 1 + -(-(pixel_frames - 1) // self.stride)


@dataclass(frozen=True, kw_only=True)
class VideoSpec(Demands):
    """Everything about a model that can be known before its weights are loaded."""

    name: str
    num_frames: int
    """Latent frames in one call of the network (the window, FIFO's f)."""
    height: int
    """Of a frame of the video, in pixels."""
    width: int
    fps: float
    """Frames per second of the videos that it was trained on, and makes."""
    latent_shape: tuple[int, ...]
    """One window of latents: (channels, frames, height, width) where they go frame by frame, else the model's own."""
    timing: Timing = Timing()
    sigmas: tuple[float, ...] = ()
    """Shares of noise, rising to 1, of the steps that the network was distilled to; none where any will do."""
    known: Literal["latent", "pixel"] = "latent"
    """How a window's known frames are given: as latents of their stream, or as pixels, with which it begins one of its
    own (a causal autoencoder that training always saw from its start)."""
    continues_from: int | None = None
    """Latent frames that the network was trained to go on from; None for any number."""
    needs_pictures: bool = False
    """Whether the network was trained with known frames in every window."""
    clip_decoder: bool = False
    """Whether the decoder takes whole calls of the network, and what becomes of a frame depends on the others there."""
    decoder_history: int = 0
    """How many of a stream's last latents bring back, bit for bit, what the decoder remembers of all; 0 for nothing."""
    decoder_held: int = 0
    """Latents that the decoder holds back, rounded up: it has taken so many more than have come out, until the last."""
    decoder_piece: int = 1
    """Latents that the decoder takes together, but for the first of a stream: it is taken up again where such a piece
    begins, with up to one piece more than its history."""
    guidance: Guidance
    """The guidance that suits the model; by the noise where it has two experts."""
    learnt_guidance: Guidance | None = None
    """What one branch of the network says by itself, so that it takes no guidance but 1."""
    takes_guidance: str = ""
    """The name of a model like it that takes any; empty where none is known."""
    infill_guidance: float | None = None
    """The guidance that suits windows of frames in a row with known ends; the same as for others if None."""
    capabilities: frozenset[type["VideoModel"]]
    """Capabilities that the loaded model has, beside VideoModel itself."""
    prompts: Literal["frame", "window"] = "frame"
    """What has a prompt of its own: every frame, or only a whole window (joint attention over text and video)."""
    blends: bool = False
    """Whether the mean of the rows of two prompts is a prompt between the two."""
    clean_frames: bool = False
    """Whether the network was trained with finished frames among noisy ones, labelled so."""
    strides: tuple[int, ...] = (1,)
    """Distances, in frames of the video, between neighbours in a window that the network was trained at."""
    num_levels: int | None = None
    """Noise levels that the network was trained at, which no run can have more of; None for a flow, which has any."""
    call: Mapping[str, Any] | None = None
    """What the pipeline takes, by name, with its defaults, where the model is `WholeClips`."""
    no_levels: str = ""
    """Why its frames cannot have noise levels of their own, where that is known of one that is `WholeClips`."""
    bounded: bool = False
    """Whether clean latents lie in [-1, 1], so that samplers bound x0."""
    vocabulary: frozenset[str] | None = None
    """Every word that the model knows; None where any word may mean something to it."""
    released: Literal["float16", "bfloat16"] = "float16"
    """The format of 16 bits that the network is known to work in, which auto takes on a GPU."""
    drops_sound: bool = False
    """Whether the network makes sound, too, which is not made here."""

    @property
    def frame_by_frame(self) -> bool:
        """Return whether every frame of the video has a latent of its own."""
        return len(self.latent_shape) == 4 and self.timing.stride == 1

    @property
    def decodes_apart(self) -> bool:
        """Return whether every latent is one frame of the video, decoded without a look at the others."""
        return self.frame_by_frame and not self.decoder_history and not self.clip_decoder


@dataclass(frozen=True)
class Condition:
    """Prompts as a model reads them."""

    rows: Mapping[str, "Tensor"]
    """Tensors by names of the model's own, with a row a prompt."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """Frames that are given to a batch of windows."""

    latents: "Tensor"
    """Clean: (windows, channels, known, height, width), or whole windows of the model's own shape."""
    places: Sequence[int] = ()
    """Which frames of a window they are; those that come before a window have none."""
    pixels: "Tensor | None" = None
    """(windows, known, 3, height, width) in [0, 1], where the sampler has them: for a model that encodes them anew."""


class VideoModel(ABC):
    """A text-to-video model. Levels are indices into a `Schedule`; what it hands out is always x0."""

    spec: VideoSpec
    digest: str
    """The hub revision, or a hash of the weights."""
    origin: str = ""
    """The name by which `load_model` finds it again; empty for a model that was made otherwise."""
    loading: Mapping[str, Any] = {}
    """What else `load_model` was told."""
    takes_turns: bool = False
    """Whether its parts use the device in turn, so that to decode beside denoising would only move them to and fro."""
    device: "device"
    dtype: "dtype"

    @property
    def lock(self) -> AbstractContextManager[Any]:
        """Return what a sampler holds while it encodes or denoises, and while a context changes how the model denoises.

        Models put other layers in their network meanwhile, and threads may share a model. Its holder may take it again.
        """
        # One step for all threads: whoever comes first brings the lock.
        return vars(self).setdefault("_lock", RLock())

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
        """Return x0 of one guidance branch for windows; a level a window, a prompt a frame (but see `spec.prompts`)."""

    @abstractmethod
    def decode(self, latents: "LatentFrames", state: Any, last: bool) -> tuple["Frames", Any]:
        """Decode the next latents of a stream; return the frames that come, and the next `state`.

        `state` is None at the start of a stream, then what the last call returned, which this one uses up. A decoder
        may hold frames back until it has seen what comes after them; `last` says that nothing does. The frames are the
        same however a stream is cut, a decoder that remembers after the last `spec.decoder_history` latents alone.
        """

    @abstractmethod
    def encode_frames(self, frames: "Frames") -> "LatentFrames":
        """Encode pixels to clean latents."""


class LongNegative(VideoModel):
    """A model whose negative prompt depends on how long the prompts are that it is set against."""

    @abstractmethod
    def encode_negative(self, prompt: str, against: Sequence[str]) -> Condition:
        """Embed the negative prompt of a story of these prompts, as row 0 of all of them together would be."""


class PerFrameNoise(VideoModel):
    """A model that takes a noise level for every frame."""

    @abstractmethod
    def denoise(
        self, x: "Latents", level: "FrameLevels", schedule: "Schedule", condition: Condition, prompt_index: "FrameIndex"
    ) -> "Latents":
        """Return x0 of one guidance branch for a batch of windows; a level and a prompt for every frame."""


class TemporalHooks(VideoModel):
    """A model whose mixing of frames a sampler can take over. Then `denoise` takes any number of frames."""

    @abstractmethod
    def mixing(self, mixer: "FrameMixer") -> "AbstractContextManager[None]":
        """Let `mixer` mix the frames of every `denoise` inside the context, in place of the model's own layers."""


class ToldFps(VideoModel):
    """A model whose network is told of frames per second."""

    @abstractmethod
    def told(self, fps: float) -> "VideoModel":
        """Return the model that tells its network of this rate; it shares everything else with this one."""


class Infill(VideoModel):
    """A model that fills gaps between known frames: at least between the first and the last of a window."""

    @abstractmethod
    def denoise_between(
        self,
        x: "Latents",
        level: "Tensor",
        schedule: "Schedule",
        condition: Condition,
        prompt_index: "FrameIndex",
        known: Known,
    ) -> "Latents":
        """Return x0 of windows of which some frames are known, noise in x at their places, too; one level a window."""


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
        known: Known,
    ) -> "Tensor":
        """Return x0 of what follows the known frames, which are not in x; one level a window."""


class Strided(VideoModel):
    """A model that is told how far apart in the video the frames of a window lie."""

    @abstractmethod
    def strided(self, stride: int) -> "AbstractContextManager[None]":
        """Say that neighbours in windows denoised inside the context lie `stride` frames of the video apart, not 1."""


class WholeClips(VideoModel):
    """A model of which only the call of its whole pipeline is known: no noise level, no x0. Its latents are pixels."""

    @abstractmethod
    def clip(self, told: Mapping[str, Any], seed: int, known: "LatentFrames | None") -> "LatentFrames":
        """Return a clip; `told` goes to the pipeline by name, and the clip begins with the frames that are known."""
