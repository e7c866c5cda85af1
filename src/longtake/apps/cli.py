"""The command `longtake`. A command's code is imported when it is called, so that help and mistakes cost nothing."""

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from longtake import __version__
from longtake.apps.generate.stopping import StoppedError
from longtake.apps.terminal import settle_terminal
from longtake.errors import InputError, LongtakeError, LongtakeWarning, unknown_name
from longtake.lazy import named
from longtake.machine import sleep_while_waiting
from longtake.metrics import METRICS
from longtake.ranks.torchrun import Launch, launched
from longtake.words import plain


@dataclass(frozen=True)
class Command:
    """A command: where its code is, and a line for the list."""

    function: str
    """module:function, given the arguments after the command's name; returns the exit status."""
    summary: str
    given: tuple[str, ...] = ()
    """What comes before the arguments of the user."""


COMMANDS: dict[str, Command] = {
    "generate": Command("longtake.apps.generate.command:generate_command", "make a video, or continue one"),
    "extend": Command("longtake.apps.steer:extend_command", "make a video longer, as if it had been so from the start"),
    "redo": Command("longtake.apps.steer:redo_command", "make a video otherwise from a frame on, or a branch of it"),
    "plan": Command("longtake.apps.plan.command:plan_command", "say what that takes: work, memory, disk, time"),
    "batch": Command("longtake.apps.batch:batch_command", "make many videos, by a list of prompts or a number"),
    "serve": Command("longtake.apps.serve:serve_command", "make videos for whoever asks by HTTP, from a queue"),
    "compare": Command("longtake.apps.compare.command:compare_command", "make videos by several samplers, and compare"),
    "report": Command("longtake.apps.compare.report:report_command", "put finished videos on one page"),
    "check": Command(
        "longtake.apps.check:check_command", "say whether a model runs here as it should, before a long run"
    ),
    "models": Command("longtake.apps.catalog:models_command", "list the models, and the samplers that run on them"),
    "samplers": Command("longtake.apps.catalog:samplers_command", "list the samplers, and what they need"),
    **{
        f"evaluate {name}": Command("longtake.apps.evaluate:evaluate_command", row.summary, (name,))
        for name, row in METRICS.items()
    },
    "convert videocrafter2": Command("longtake.apps.convert:videocrafter2_command", "make a model folder of its UNet"),
    "convert safetensors": Command("longtake.apps.convert:safetensors_command", "make a model folder of one with .bin"),
    "convert pvdm": Command("longtake.apps.convert:pvdm_command", "make a model folder of its authors' checkpoints"),
    "data sprites": Command(
        "longtake.apps.catalog:sprites_command", "look at the worlds that the embedded model knows"
    ),
    "data shards": Command(
        "longtake.apps.shards:shards_command", "write finished videos as captioned clips, to train on"
    ),
    "train embedded": Command("longtake.apps.train.embedded:embedded_command", "train the models of the package again"),
    "train pvdm-autoencoder": Command("longtake.apps.train.pvdm:autoencoder_command", "train PVDM on videos: stage 1"),
    "train pvdm": Command("longtake.apps.train.pvdm:diffusion_command", "train PVDM on videos: stage 2"),
    "train nuwa-xl": Command("longtake.apps.train.nuwa_xl:nuwa_xl_command", "train NUWA-XL on videos with captions"),
    "train adapt": Command(
        "longtake.apps.train.adapt:adapt_command", "train a LoRA: guidance in one branch, or a level a frame"
    ),
    "train judge": Command("longtake.apps.train.embedded:judge_command", "train the classifier that scores videos"),
}

GROUPS = {
    "evaluate": "score videos",
    "convert": "make a model folder of what authors have released",
    "data": "worlds, and clips to train on",
    "train": "train models",
}
"""What the commands of two words are for, by the first."""

EXAMPLE = 'longtake generate "a rocket flies up through the night sky" --frames 256 --seed 7 --scale 4 -o rocket.mp4'


def main() -> None:
    """Run the command line.

    Exits with 0, 2 for a mistake of the user, 1 for one of ours, 130 after Ctrl-C, 143 after SIGTERM.
    """
    settle_terminal()
    sleep_while_waiting()
    warnings.showwarning = partial(_show_warning, warnings.showwarning)
    sys.exit(_status(sys.argv[1:]))


def _status(arguments: Sequence[str]) -> int:
    try:
        return _run(arguments)
    except LongtakeError as error:
        return _complain(str(error))
    except BrokenPipeError:
        # The reader of our output has seen enough; Python must not complain again when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        gone = "the folder that this was called in is not there any more; go to one that is"
        return _complain(gone if _is_nowhere() else f"{error.filename or 'the system'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _say("stopped by Ctrl-C")
        return 130
    except StoppedError as stopped:
        _say(str(stopped))
        return stopped.status
    except Exception:
        # A fault of ours, for the report of which everything is needed.
        _say(traceback.format_exc().rstrip())
        return 1


def _is_nowhere() -> bool:
    """Whether the folder that the command was called in is gone, without which no relative path means anything."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _show_warning(otherwise: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any) -> None:
    """Print what `warnings.warn` was given: ours as a line, of a job that of the first process."""
    if not issubclass(category, LongtakeWarning):
        otherwise(message, category, *where)
    elif launched().rank == 0:
        print(plain(f"warning: {message}"), file=sys.stderr)


def _complain(problem: str) -> int:
    _say(plain(f"longtake: {' '.join(problem.split())}"))
    return 2


def _say(line: str) -> None:
    """Say why the command ends; of the processes of a job, only the first with a reason does."""
    try:
        launch = launched()
    except InputError:
        launch = Launch()
    if launch.size == 1:
        print(line, file=sys.stderr)
        return
    # Imports torch, which takes a second.
    from longtake.ranks.watchdog import say_once

    say_once(launch, line)


def _run(arguments: Sequence[str]) -> int:
    match arguments:
        case [] | ["-h" | "--help" | "help", *_]:
            print(_main_help())
            return 0
        case ["--version", *_]:
            print(__version__)
            return 0
        case [first, *_]:
            name, rest = _command(first, arguments[1:])
    if name not in COMMANDS:
        print(_table({full: command.summary for full, command in COMMANDS.items() if full.startswith(f"{name} ")}))
        return 0
    run: Callable[[Sequence[str]], int] = named(COMMANDS[name].function)
    return run([*COMMANDS[name].given, *rest])


def _command(first: str, rest: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the name of the command and its arguments; a group alone, such as `evaluate`, returns the group."""
    if first in COMMANDS:
        return first, rest
    if not (members := _members(first)):
        raise unknown_name("command", first, {name.split()[0] for name in COMMANDS})
    if not rest or rest[0] in ("-h", "--help"):
        return first, ()
    if rest[0] not in members:
        raise unknown_name("command", f"{first} {rest[0]}", {f"{first} {member}" for member in members})
    return f"{first} {rest[0]}", rest[1:]


def _main_help() -> str:
    # The members of a group are a command away.
    groups = {group: f"{what}: {', '.join(_members(group))}" for group, what in GROUPS.items()}
    shown = {name.split()[0]: groups.get(name.split()[0], command.summary) for name, command in COMMANDS.items()}
    return f"longtake makes long video from short-clip diffusion models.\n\n{_table(shown)}\n{EXAMPLE}"


def _members(group: str) -> list[str]:
    return [name.split()[1] for name in COMMANDS if name.startswith(f"{group} ")]


def _table(summaries: Mapping[str, str]) -> str:
    width = max(map(len, summaries))
    lines = [f"  {name:{width}}  {summary}" for name, summary in summaries.items()]
    return "\n".join([*lines, "", "'longtake COMMAND --help' shows the settings of a command."])
