"""The arguments of `longtake generate` and `longtake plan`: a request, an output, a sampler, and who makes it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from longtake.apps.arguments import Computing, parse_arguments, value_of
from longtake.errors import InputError
from longtake.models import DEFAULT_MODEL, load_model
from longtake.models.hub.loading import Loading
from longtake.models.hub.precision import DtypeChoice
from longtake.ranks.torchrun import launched
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler, TaskSampler
from longtake.samplers import DEFAULT_SAMPLER, PRESETS, preset_settings, sampler_class, start_work
from longtake.tasks.task import Executor
from longtake.typed import Flag, Setting, Typed
from longtake.video.output import Output

if TYPE_CHECKING:
    import torch

    from longtake.model import VideoModel
    from longtake.report import Order

ExecutorName = Literal["inline", "processes", "ray", "ranks"]

_UNREAD = PromptTimeline.constant("what PROMPT or --prompts says")


@dataclass(frozen=True, kw_only=True)
class Workers(Typed):
    """Who does the tasks of nuwa-xl; this decides no frame."""

    executor: Annotated[ExecutorName | None, Setting(metavar="NAME", unset="ranks under torchrun, else inline")] = None
    """Who does the tasks of nuwa-xl: inline (this process), processes, ray, or ranks (torchrun's)."""
    workers: Annotated[int | None, Setting(metavar="N", unset="one for every GPU, or processor")] = None
    """How many processes, or Ray workers."""
    address: Annotated[str | None, Setting(metavar="HOST:PORT", unset="one that is started here")] = None
    """The Ray cluster."""

    @property
    def elsewhere(self) -> bool:
        """Return whether processes of their own do the tasks, rather than this one or those that torchrun started."""
        return self.executor in ("processes", "ray")

    def check(self, sampler: Sampler) -> None:
        """Raise InputError for a choice that has no effect."""
        if self.workers is not None and not self.elsewhere:
            raise InputError(
                "--workers has no effect without --executor processes or ray; add it, or leave --workers out"
            )
        if self.workers is not None and self.workers < 1:
            raise InputError(f"{self.workers} workers cannot do anything; give 1 or more")
        if self.address is not None and self.executor != "ray":
            raise InputError("--address has no effect without --executor ray; add it, or leave --address out")
        if self.executor is not None and not isinstance(sampler, TaskSampler):
            raise InputError(f"{sampler.name} has no tasks to share out; leave --executor out, or use nuwa-xl")
        ranks = launched().size
        if self.executor == "ranks" and ranks == 1:
            raise InputError(
                "there is one process; start several: torchrun --nproc-per-node 2 -m longtake generate ..."
            )
        if self.executor not in (None, "ranks") and ranks > 1:
            raise InputError(
                f"{ranks} processes were started, which share the tasks; leave --executor {self.executor} out"
            )

    def opened(self, order: "Order", device: str, dtype: "torch.dtype") -> AbstractContextManager[Executor | None]:
        """Start the workers of a run, each with a model of its own; the end of the block lets them go."""
        if not self.elsewhere:
            return nullcontext()
        assert isinstance(order.sampler, TaskSampler)
        load = partial(numbered_model, order.model, device, dtype, **order.loading.told)
        start = partial(start_work, load, order.request, order.sampler, order.output.part)
        if self.executor == "ray":
            from longtake.tasks.ray_workers import RayWorkers

            return RayWorkers(start, self.workers, self.address, gpus=device == "cuda")
        from longtake.tasks.processes import Processes, num_units

        return Processes(start, self.workers or num_units(device))


@dataclass(frozen=True, kw_only=True)
class Weights(Computing):
    """Which model, and how it is loaded; settings of commands that run one extend this."""

    model: Annotated[str, Setting(metavar="NAME|FOLDER")] = DEFAULT_MODEL
    """A name that 'longtake models' lists, a folder in the hub layout, or a hub id that is in the local cache."""
    loading: Annotated[Loading, Setting(boxed=True)] = Loading()
    dtype: DtypeChoice = "auto"
    """Number format; auto is what the device computes fastest, and is said."""


@dataclass(frozen=True, kw_only=True)
class Making(Weights):
    """What is made, by which model and method."""

    request: Annotated[Request, Setting(boxed=True)] = Request(prompts=_UNREAD)
    output: Annotated[Output, Setting(boxed=True)] = Output()
    sampler: Annotated[str, Setting(metavar="NAME")] = DEFAULT_SAMPLER
    """How the model is stretched to a long video; 'longtake samplers' lists them. Its own settings are below."""
    preset: Annotated[str | None, Setting(metavar="|".join(PRESETS), unset="none")] = None
    """A sampler with settings that were chosen by measurement: a video whose end joins its start, or one that is made
    faster than it plays."""
    method: Annotated[Sampler, Setting(name="sampler")]


@dataclass(frozen=True, kw_only=True)
class VideoSettings(Making):
    """Make a video. The same command continues an interrupted run; on a finished one it does nothing."""

    prompt: Annotated[str | None, Setting(positional=True, metavar="PROMPT", read=str)] = None
    """What the video shows."""
    prompts: Annotated[str | None, Setting(metavar="FILE|TEXT", unset="none")] = None
    """Several prompts in turn, in place of PROMPT: 'a | b', '[0s: a] [8s: b]', or a file: JSON, subtitles, or such
    text."""
    workers: Annotated[Workers, Setting(boxed=True)] = Workers()
    split_guidance: Flag = False
    """Give the two halves of guidance to different processes; torchrun starts several."""
    dry_run: Flag = False
    """Only say what would be done, as 'longtake plan' does."""
    repeat: Annotated[str | None, Setting(name="from", metavar="OUT.JSON", unset="none")] = None
    """Repeat the run that wrote this report; takes no other settings but -o and --overwrite."""


def video_settings(arguments: Sequence[str]) -> VideoSettings:
    """Read the arguments of a command that makes a video; the sampler's own ones with them.

    Raises InputError for unknown samplers, presets and options, and for values of the wrong kind.
    """
    return parse_arguments(
        VideoSettings, "generate", arguments, default=VideoSettings(method=default_method(arguments))
    )


def default_method(arguments: Sequence[str]) -> Sampler:
    """Return the settings that hold where a command line says nothing of them: the sampler's own, or the preset's.

    Raises InputError for unknown samplers and presets.
    """
    preset = value_of("--preset", arguments, "")
    own = preset_settings(preset).name if preset else DEFAULT_SAMPLER
    sampler = sampler_class(value_of("--sampler", arguments, own))
    method = preset_settings(preset) if preset else sampler()
    if not isinstance(method, sampler):
        raise InputError(f"the preset {preset} is one of {method.name}; leave --preset out, or --sampler")
    return method


def numbered_model(name: str, device: str, dtype: "torch.dtype", number: int, **loading: Any) -> "VideoModel":
    """Load the model of a worker, where there are several GPUs on that of its number."""
    if device == "cuda":
        import torch

        device = f"cuda:{number % torch.cuda.device_count()}"
    return load_model(name, device, dtype, **loading)
