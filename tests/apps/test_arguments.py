"""A dataclass is the arguments of a command: names, defaults and help come from its fields."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import pytest

from longtake.apps.arguments import options, parse_arguments
from longtake.apps.cli import COMMANDS
from longtake.apps.generate.settings import VideoSettings, default_method
from longtake.errors import InputError
from longtake.lazy import named
from longtake.metrics import METRICS
from longtake.metrics.metric import Metric
from longtake.request import Request
from longtake.typed import Flag, Setting, field_docs
from longtake.video.output import Output


def rate(text: str) -> float:
    if text == "never":
        raise InputError("never is no rate")
    return float(text) / 2


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Settings of their own."""

    width: int = 3
    """How wide."""
    hidden: Annotated[int, Setting(option=False)] = 4
    """Not for the command line."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"width cannot be {self.width}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Do something."""

    what: Annotated[str | None, Setting(positional=True, metavar="WHAT")] = None
    """What to do."""
    place: Annotated[Path, Setting(name="output", short="-o", metavar="PATH")] = Path("out")
    """Where to, and a line
    that goes on."""
    speed: Annotated[float | None, Setting(metavar="RATE", unset="as it was", read=rate)] = None
    """How fast."""
    loud: Flag = False
    """Say more."""
    boxed: Annotated[Inner, Setting(boxed=True)] = Inner()
    part: Inner = Inner(width=7)


def parsed(*arguments: str) -> Outer:
    return parse_arguments(Outer, "try", arguments)


def test_what_is_given_and_what_is_not() -> None:
    assert parsed() == Outer()
    given = parsed("it", "-o", "x", "--speed", "8", "--loud", "--width", "5", "--part.width", "6")
    assert given == Outer(what="it", place=Path("x"), speed=4.0, loud=True, boxed=Inner(width=5), part=Inner(width=6))


def test_only_options_can_be_given() -> None:
    assert options(Outer) == {"--help", "--output", "--speed", "--loud", "--width", "--part.width"}
    with pytest.raises(InputError, match="no option '--hidden'"):
        parsed("--hidden", "3")


def test_what_a_value_cannot_be_is_said_by_who_reads_it() -> None:
    with pytest.raises(InputError, match=r"^never is no rate$"):
        parsed("--speed", "never")
    with pytest.raises(InputError, match=r"^width cannot be 0$"):
        parsed("--part.width", "0")
    with pytest.raises(InputError, match="'fast' is no"):
        parsed("--speed", "fast")


def test_help_says_default_or_what_holds_instead(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--help")
    shown = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    assert "-o PATH, --output PATH Where to, and a line that goes on. (default: out)" in shown
    assert "--speed RATE How fast. (default: as it was)" in shown
    assert "--width INT How wide. (default: 3)" in shown and "--part.width INT How wide. (default: 7)" in shown
    assert "Settings of their own." in shown


def test_docstrings_of_fields_are_found_in_what_a_class_extends() -> None:
    @dataclass(frozen=True, kw_only=True)
    class More(Inner):
        depth: int = 1
        """How deep."""

    assert field_docs(More) == {"width": "How wide.", "hidden": "Not for the command line.", "depth": "How deep."}


def test_a_video_has_the_options_of_request_and_output() -> None:
    """Each is declared once: in the dataclass that the package itself uses."""
    shown = options(VideoSettings, VideoSettings(method=default_method(())))
    names = {"--frames", "--seed", "--guidance", "--negative-prompt", "--steps", "--told-fps"}
    names |= {"--output", "--fps", "--crf", "--scale", "--overwrite", "--range"}
    assert names <= shown
    own = set(VideoSettings.__dataclass_fields__)
    assert not own & {*Request.__dataclass_fields__, *Output.__dataclass_fields__} - {"prompts"}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_a_command_with_its_own_options(longtake: Callable, name: str) -> None:
    ran = longtake("evaluate", name, "--help")
    assert ran.status == 0 and "--json" in ran.out
    assert COMMANDS[f"evaluate {name}"].summary in longtake("evaluate").out
    kind = named(METRICS[name].kind)
    assert issubclass(kind, Metric) and kind.__doc__
    assert set(field_docs(kind)) == {field.name for field in fields(kind)}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["--model", "--prompts", "--lora"])
def test_no_command_suggests_an_option_that_it_does_not_have(longtake: Callable, name: str, option: str) -> None:
    ran = longtake(*name.split(), option, "x")
    assert ran.status == 2
    assert f"no option '{option}'; did you mean '{option}'" not in ran.err
