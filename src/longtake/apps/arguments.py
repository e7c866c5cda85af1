"""Command lines into settings: a dataclass is the configuration, its defaults and its field docstrings the help."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import TypeVar

import tyro

from longtake.errors import InputError, unknown_name

Settings = TypeVar("Settings")

# tyro frames its messages with these characters, or with their ASCII stand-ins.
_RULE = re.compile("[-\u2500]{8,}")
_FRAME = "\u2502|\u256d\u256e\u256f\u2570+ "
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")


def parse_arguments(settings: type[Settings], command: str, arguments: Sequence[str]) -> Settings:
    """Read the arguments of a command; --help prints and exits.

    Raises InputError, with the nearest name for an unknown option, for what it cannot take.
    """
    program, said = f"longtake {command}", io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed, rest = tyro.cli(settings, prog=program, args=list(arguments), return_unknown_args=True)
    except SystemExit as leaving:
        if leaving.code:
            raise InputError(f"{_first_box(said.getvalue())}; '{program} --help' shows what is possible") from None
        raise
    if rest:
        raise _unknown(rest, options(settings), program)
    return parsed


def options(settings: type) -> set[str]:
    """Return the options that the help of these settings shows."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        tyro.cli(settings, prog="longtake", args=["--help"])
    return set(_OPTION.findall(shown.getvalue()))


def given(arguments: Sequence[str]) -> list[str]:
    """Return the options that a command line gives, without their values."""
    return [argument.split("=")[0] for argument in arguments if re.match("--?[a-z]", argument)]


def value_of(option: str, arguments: Sequence[str], default: str) -> str:
    """Return the value of an option before the command line as a whole is read."""
    value = default
    for argument, following in zip(arguments, [*arguments[1:], default], strict=True):
        if argument == option:
            value = following
        elif argument.startswith(f"{option}="):
            value = argument.removeprefix(f"{option}=")
    return value


def _first_box(text: str) -> str:
    """Return the first paragraph of tyro's framed message as one line."""
    lines = [line.strip(_FRAME) for line in text.splitlines()[1:]]
    end = next((number for number, line in enumerate(lines) if _RULE.fullmatch(line)), len(lines))
    return " ".join(line for line in lines[:end] if line).rstrip(".")


def _unknown(rest: Sequence[str], known: set[str], program: str) -> InputError:
    option = next((token for token in rest if token.startswith("-")), None)
    if option is None:
        return InputError(f"{rest[0]!r} is one word too many; put a text of several words in quotes")
    name = option.split("=")[0]
    prefix = name[: name.rfind(".") + 1]
    alike = {other for other in known if other.startswith(prefix)} if prefix else known
    if prefix and alike:
        return unknown_name("option", name, alike)
    nearest = str(unknown_name("option", name, known)).split("known:")[0].rstrip("; ")
    return InputError(f"{nearest} '{program} --help' shows all")
