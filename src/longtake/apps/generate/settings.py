"""The arguments of `longtake generate` and `longtake plan`: a request, an output, a sampler, and who makes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from longtake.apps.arguments import Computing, parse_arguments, value_of
from longtake.apps.generate.workers import Workers
from longtake.errors import InputError
from longtake.models.hub.precision import DtypeChoice
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers import PRESETS, preset_settings, sampler_class
from longtake.typed import Flag, Setting
from longtake.video.output import Output

DEFAULT_SAMPLER = "fifo"
_UNREAD = PromptTimeline.constant("what PROMPT or --prompts says")


@dataclass(frozen=True, kw_only=True)
class VideoSettings(Computing):
    """Make a video. The same command continues an interrupted run; on a finished one it does nothing."""

    prompt: Annotated[str | None, Setting(positional=True, metavar="PROMPT")] = None
    """What the video shows."""
    prompts: Annotated[str | None, Setting(metavar="FILE|TEXT", unset="none")] = None
    """Several prompts in turn, in place of PROMPT: 'a | b', '[0s: a] [8s: b]', or a file: JSON, subtitles, or such
    text."""
    request: Annotated[Request, Setting(boxed=True)] = Request(prompts=_UNREAD)
    output: Annotated[Output, Setting(boxed=True)] = Output()
    model: Annotated[str, Setting(metavar="NAME|FOLDER")] = "sprites"
    """A name that 'longtake models' lists, or a folder in the hub layout."""
    sampler: Annotated[str, Setting(metavar="NAME")] = DEFAULT_SAMPLER
    """How the model is stretched to a long video; 'longtake samplers' lists them. Its own settings are below."""
    preset: Annotated[str | None, Setting(metavar="|".join(PRESETS), unset="none")] = None
    """Settings of the sampler that were chosen by measurement."""
    dtype: DtypeChoice = "auto"
    """Number format; auto is what the device computes fastest, and is said."""
    workers: Annotated[Workers, Setting(boxed=True)] = Workers()
    split_guidance: Flag = False
    """Give the two halves of guidance to different processes; torchrun starts several."""
    dry_run: Flag = False
    """Only say what would be done, as 'longtake plan' does."""
    repeat: Annotated[str | None, Setting(name="from", metavar="OUT.JSON", unset="none")] = None
    """Repeat the run that wrote this report; takes no other settings but -o and --overwrite."""
    method: Annotated[Sampler, Setting(name="sampler")]


def video_settings(arguments: Sequence[str]) -> VideoSettings:
    """Read the arguments of a command that makes a video; the sampler's own ones with them.

    Raises InputError for unknown samplers, presets and options, and for values of the wrong kind.
    """
    return parse_arguments(VideoSettings, "generate", arguments, default=default_settings(arguments))


def default_settings(arguments: Sequence[str]) -> VideoSettings:
    """Return what holds for everything that is not given: the sampler's and the preset's own settings with it.

    Raises InputError for unknown samplers and presets.
    """
    sampler = sampler_class(value_of("--sampler", arguments, DEFAULT_SAMPLER))
    preset = value_of("--preset", arguments, "")
    method = preset_settings(preset) if preset else sampler()
    if not isinstance(method, sampler):
        raise InputError(f"the preset {preset} is one of {method.name}; leave --preset out, or --sampler")
    return VideoSettings(method=method)
