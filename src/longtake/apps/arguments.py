"""Command lines into settings: a dataclass is the configuration, its defaults and its field docstrings the help."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Annotated, TypeVar

import tyro
from tyro.conf import FlagCreatePairsOff, arg

from longtake.errors import InputError, unknown_name

Settings = TypeVar("Settings")
Flag = Annotated[bool, FlagCreatePairsOff, arg(help_behavior_hint="")]
"""A switch that is off unless it is given."""

# tyro frames its messages with these characters, or with their ASCII stand-ins.
_RULE = re.compile("[-\u2500]{8,}")
_FRAME = "\u2502|\u256d\u256e\u256f\u2570+ "
_PLAIN = (
    (re.compile(r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)"), r"\1 \2 is no whole number"),
    (re.compile(r"Error parsing (\S+): could not convert string to float: (.*)"), r"\1 \2 is no number"),
    (re.compile(r"Error parsing (\S+): no type matching .* instantiated from \['(.*?)'\].*"), r"\1 '\2' is no number"),
    (re.compile(r"Missing value for argument '(\S+)'.*"), r"\1 needs a value"),
)
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")


def parse_arguments(
    settings: type[Settings], command: str, arguments: Sequence[str], default: Settings | None = None
) -> Settings:
    """Read the arguments of a command; --help prints and exits. `default` replaces the defaults of the fields.

    Raises InputError, with the nearest name for an unknown option, for what it cannot take.
    """
    program, said = f"longtake {command}", io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed, rest = tyro.cli(
                settings, prog=program, args=list(arguments), default=default, return_unknown_args=True
            )
    except SystemExit as leaving:
        if leaving.code:
            raise InputError(f"{_first_box(said.getvalue())}; '{program} --help' shows what is possible") from None
        raise
    if rest:
        raise _unknown(rest, options(settings), program)
    # None only means "no default" to tyro; its types let it come back.
    assert parsed is not None
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
    for place, argument in enumerate(arguments):
        if argument == option:
            value = "".join(arguments[place + 1 : place + 2])
        elif argument.startswith(f"{option}="):
            value = argument.removeprefix(f"{option}=")
    return value


def _first_box(text: str) -> str:
    """Return the first paragraph of tyro's framed message, below its title, as one line."""
    groups: list[list[str]] = [[]]
    for line in text.splitlines():
        if _RULE.fullmatch(line.strip(_FRAME)):
            groups.append([])
        else:
            groups[-1].append(line.strip(_FRAME))
    # A drawn frame has the title in its border, one of ASCII has it on a line of its own above a rule.
    lines = groups[0][1:] if text.startswith("\u256d") else groups[min(1, len(groups) - 1)]
    message = " ".join(line for line in lines if line).rstrip(".")
    for jargon, plain in _PLAIN:
        message = jargon.sub(plain, message)
    return message


def _unknown(rest: Sequence[str], known: set[str], program: str) -> InputError:
    option = next((token for token in rest if token.startswith("-")), None)
    if option is None:
        return InputError(f"{rest[0]!r} is one word too many; put a text of several words in quotes")
    name = option.split("=")[0]
    prefix = name[: name.rfind(".") + 1]
    members = {other.removeprefix(prefix) for other in known if prefix and other.startswith(prefix)}
    if members:
        problem = str(unknown_name(f"{prefix.strip('-.')} setting", name.removeprefix(prefix), members))
    else:
        # All options of a command would fill the screen: the nearest, or the way to the list.
        problem = str(unknown_name("option", name, known)).split("known: ")[0].rstrip("; ")
    ending = "" if problem.endswith("?") else ";"
    return InputError(f"{problem}{ending} '{program} --help' shows all")
