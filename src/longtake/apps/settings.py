"""What can be set for a video: the arguments of `longtake generate` and `longtake plan`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Literal, TypeVar

from tyro.conf import Positional, arg

from longtake.apps.arguments import Flag, parse_arguments, value_of
from longtake.apps.workers import ExecutorName
from longtake.errors import InputError
from longtake.sampler import Sampler
from longtake.samplers import sampler_class
from longtake.samplers.presets import preset_settings

AnySampler = TypeVar("AnySampler", bound=Sampler)
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]

DEFAULT_SAMPLER = "fifo"


def _hint(default: str, metavar: str) -> object:
    return arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


@dataclass(frozen=True, kw_only=True)
class VideoSettings(Generic[AnySampler]):
    """Make a video. The same command continues an interrupted run; on a finished one it does nothing."""

    prompt: Annotated[Positional[str | None], arg(metavar="PROMPT", help_behavior_hint="")] = None
    """What the video shows."""
    frames: Annotated[str, arg(metavar="N|endless")] = "128"
    """How many frames to make; endless runs until it is stopped."""
    output: Annotated[str, arg(aliases=["-o"], metavar="PATH")] = "out.mp4"
    """Where to: .mp4 (H.264), .mkv (lossless), or a folder/ (PNG, lossless)."""
    model: Annotated[str, arg(metavar="NAME|FOLDER")] = "sprites"
    """A name that 'longtake models' lists, or a folder in the hub layout."""
    sampler: Annotated[str, arg(metavar="NAME")] = DEFAULT_SAMPLER
    """How the model is stretched to a long video; 'longtake samplers' lists them. Its own settings are below."""
    preset: Annotated[str | None, _hint("none", "NAME")] = None
    """Settings of the sampler that were chosen by measurement: realtime."""
    prompts: Annotated[str | None, _hint("none", "FILE|TEXT")] = None
    """Several prompts in turn, in place of PROMPT: 'a | b', '[0s-8s: a] [8s-16s: b]', or JSON {"0": "a", "64": "b"}."""
    negative_prompt: Annotated[str, _hint("none", "TEXT")] = ""
    """What guidance moves away from."""
    seed: int = 0
    """The same command with the same seed on the same machine makes the same file."""
    guidance: Annotated[float | None, _hint("the model's own", "FLOAT")] = None
    """How strongly the prompt is enforced; 1 is off, and halves the work."""
    steps: Annotated[int | None, _hint("the sampler's own", "INT")] = None
    """Denoising steps, for samplers that let you choose."""
    fps: Annotated[float | None, _hint("the model's own", "FLOAT")] = None
    """Frames per second of the file."""
    crf: int = 18
    """Quality of MP4: 0 is lossless, 18 looks so, 51 is worst."""
    scale: int = 1
    """Enlarge every pixel to a square of this side."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    dtype: Dtype = "auto"
    """Number format; auto is what the device computes fastest, and is said."""
    part: Annotated[str | None, arg(name="range", metavar="FIRST:STOP", help_behavior_hint="(default: all)")] = None
    """Make only these frames of the video, exactly as they are in the whole of it; nuwa-xl only."""
    executor: Annotated[ExecutorName | None, _hint("ranks under torchrun, else inline", "NAME")] = None
    """Who does the tasks of nuwa-xl: inline (this process), processes, ray, or ranks (torchrun's)."""
    workers: Annotated[int | None, _hint("one for every GPU, or processor", "N")] = None
    """How many processes, or Ray workers."""
    address: Annotated[str | None, _hint("one that is started here", "HOST:PORT")] = None
    """The Ray cluster."""
    split_guidance: Flag = False
    """Give the two halves of guidance to different processes; torchrun starts several."""
    overwrite: Flag = False
    """Start again where another run has written."""
    dry_run: Flag = False
    """Only say what would be done, as 'longtake plan' does."""
    json: Flag = False
    """Print one JSON object on standard output, and nothing else there."""
    repeat: Annotated[str | None, arg(name="from", metavar="OUT.JSON", help_behavior_hint="")] = None
    """Repeat the run that wrote this report; takes no other settings but -o and --overwrite."""
    method: Annotated[AnySampler, arg(name="sampler")]


def video_settings(command: str, arguments: Sequence[str]) -> VideoSettings[Sampler]:
    """Read the arguments of a command that makes or plans a video; the sampler's own ones with them.

    Raises InputError for unknown samplers, presets and options, and for values of the wrong kind.
    """
    default = default_settings(arguments)
    return parse_arguments(VideoSettings[type(default.method)], command, arguments, default=default)


def default_settings(arguments: Sequence[str]) -> VideoSettings[Sampler]:
    """Return what holds for everything that is not given: the sampler's and the preset's own settings with it.

    Raises InputError for unknown samplers and presets.
    """
    sampler = sampler_class(value_of("--sampler", arguments, DEFAULT_SAMPLER))
    preset = value_of("--preset", arguments, "")
    method = preset_settings(preset) if preset else sampler()
    if not isinstance(method, sampler):
        raise InputError(f"the preset {preset} is one of {method.name}; leave --preset out, or --sampler")
    return VideoSettings(method=method)
