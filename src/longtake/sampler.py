"""A sampler turns a request into a plan, by index arithmetic alone, and a plan into chunks of video."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from longtake.model import VideoModel, VideoSpec
from longtake.request import Guidance, Request, num_branches
from longtake.typed import Typed

if TYPE_CHECKING:
    from torch import Tensor

    from longtake.schedule import Clip

State = Mapping[str, "Tensor"]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The next frames of the video, and what it takes to go on from here."""

    start: int
    """Number of the first of these frames in the video, on the process that has them."""
    frames: np.ndarray
    """uint8 (frames, height, width, 3); no frames at all is a chance to commit in the middle of a computation."""
    state: Callable[[], State]
    """Called when the sink commits: named tensors with which `run` continues after this chunk."""
    doing: str = ""
    """What goes on while no frames come, in a few words, for whoever waits."""


def bounded_clip(guidance: Guidance) -> "Clip":
    """Return how x0 is bounded in a step of DDIM, for a model whose clean latents have bounds."""
    # PVDM keeps eps where x0 is cut off, and samples without guidance, so that little is. Guidance throws x0 out of its
    # bounds in most steps; with eps kept, x moves by what is cut off each time, and 400 steps lead astray.
    return "x0_and_eps" if num_branches(guidance) == 2 else "x0"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sampler is going to do: counts that are true of the run, known without weights."""

    request: Request
    spec: VideoSpec
    settings: "Sampler"
    """The sampler that made it."""
    forwards: int | float | None
    """Network evaluations, each window (of the model's length) and guidance branch one; None for an endless run."""
    forwards_per_frame: float
    """The same per frame of the video, which is a frame of pixels, once the run is under way."""
    tasks: int | None
    """How many there are of what `Sampler.task` names, in all or in the fullest step; None for an endless run."""
    decoded: int | None
    """Latent frames decoded in all; None for an endless run."""
    window_batch: int
    """Windows in one call of the network."""
    held_frames: int
    """Latent frames in memory at any time, in all processes together."""
    window_frames: int
    """Latent frames in one evaluation."""
    num_levels: int
    """Denoising steps, which are noise levels; of several schedules the most."""
    stored_frames: int = 0
    """Latent frames, float32, that lie on the disk beside the video in the end."""
    given: int = 0
    """Frames of the video that are given at its start (`Request.init`)."""
    anchored: tuple[int, ...] = ()
    """Frames of the video that are given, where the sampler leaves such as they are."""
    warnings: tuple[str, ...] = ()
    """What the user should know of these settings with this model."""

    @property
    def guidance(self) -> Guidance:
        """Return the guidance that holds: the request's, else the model's."""
        return self.spec.guidance if self.request.guidance is None else self.request.guidance

    @property
    def guidances(self) -> frozenset[Guidance]:
        """Return the guidance of every call of the network: one, where the sampler has no other for some."""
        return frozenset({self.guidance})

    @property
    def clip(self) -> "Clip | None":
        """Return how x0 is bounded in a step of DDIM; None for a model whose clean latents have no bounds."""
        return bounded_clip(self.guidance) if self.spec.bounded else None

    def prompts_of(self, frames: Iterable[int]) -> list[int]:
        """Return the row of the prompt table (row 0 is the negative prompt) for latent frames of the video; prompts
        start at pixel frames, and what comes before the video has the first one."""
        return [1 + self.request.prompts.at(self.spec.timing.pixel_frames(frame)) for frame in frames]

    def seams(self, frames: int) -> Sequence[int]:
        """Return the numbers, among so many frames that come out, of those where one window meets another."""
        return range(self.spec.num_frames, frames, self.spec.num_frames)


class Sampler(Typed, ABC):
    """A method that makes long videos. Implementations are frozen keyword-only dataclasses: their fields are the
    settings. The loop that carries out its plans stands beside it in the table `samplers.SAMPLERS`."""

    name: ClassVar[str]
    requires: ClassVar[tuple[type[VideoModel], ...]]
    """Capabilities that the model must have."""
    task: ClassVar[str] = "window"
    """What `Plan.tasks` counts."""

    @abstractmethod
    def plan(self, request: Request, spec: VideoSpec) -> Plan:
        """Work out what will be done. Raises InputError for settings that do not fit the model or each other."""

    @abstractmethod
    def check_ranks(self, plan: Plan, ranks: int) -> None:
        """Raise InputError where so many processes cannot share the frames of this plan; 1 always can."""


class TaskSampler(Sampler):
    """A sampler whose work falls into tasks, which any number of workers may do."""

    @abstractmethod
    def part(self, plan: Plan, frames: range) -> Plan:
        """Return the plan of these consecutive frames alone, which come out as in the whole video. Raises InputError
        for frames that it does not have."""
