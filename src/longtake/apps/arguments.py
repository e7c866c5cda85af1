"""Command lines into settings: a dataclass is the configuration, its defaults and its field docstrings the help."""

import ast
import contextlib
import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, Suppress, UseAppendAction, arg
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from longtake.errors import InputError, OutputError, unknown_name
from longtake.models.hub.precision import DeviceSettings
from longtake.reading import refuse_device, refuse_name, refuse_no_place, refuse_unwritable
from longtake.typed import Flag, Setting, Typed, declared, field_docs
from longtake.video.output import refuse_inputs
from longtake.words import known_names

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class Answer(Typed):
    """How a command answers; its settings extend this."""

    json: Flag = False
    """Print one JSON object on standard output, and nothing else there."""


@dataclass(frozen=True, kw_only=True)
class Computing(DeviceSettings, Answer):
    """Where a command computes that runs a network; its settings extend this."""


@dataclass(frozen=True, kw_only=True)
class OneFile(Answer):
    """What a command leaves that writes one file; its settings extend this."""

    output: Annotated[Path, Setting(short="-o", metavar="PATH")]
    overwrite: Flag = False
    """Replace a file that is there."""

    def check_output(self, *inputs: str | Path) -> None:
        """Raise OutputError for a file that cannot be written, for one that is there and is not to be replaced, and
        for one of the `inputs`, or what belongs to a video among them."""
        path = self.output
        refuse_name(path)
        refuse_inputs(path, inputs)
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; choose another -o")
        refuse_device(path)
        refuse_no_place(path, folder=False)
        if path.exists() and not self.overwrite:
            raise OutputError(f"{path} exists; choose another -o, or --overwrite it")
        refuse_unwritable(path, path.absolute().parent)


# tyro frames its messages with these characters, or with their ASCII stand-ins.
_RULE = re.compile("[-\u2500]{8,}")
_FRAME = "\u2502|\u256d\u256e\u256f\u2570+ "
_PLAIN: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"Error parsing (\S+): (empty; give .*)"), r"\1 is \2"),
    (
        re.compile(
            r"Error parsing (\S+): (?:no type matching .* instantiated from|Could not find .*:) "
            r"""\[((?:'[^']*'|"[^"]*"|, )*)\].*"""
        ),
        lambda found: _unfit(found[1], ast.literal_eval(f"[{found[2]}]")),
    ),
    (re.compile(r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)"), r"\1 \2 is no whole number"),
    (re.compile(r"Error parsing (\S+): could not convert string to float: (.*)"), r"\1 \2 is no number"),
    (re.compile(r"Missing value for argument '(\S+)'.*"), r"\1 needs a value"),
    (
        re.compile(r"invalid choice (.*) for argument '(\S+)'\. Expected one of \((.*)\)"),
        lambda found: _no_choice(found[2], found[1], re.findall(r"'(.*?)'", found[3])),
    ),
    (re.compile(r"Missing from [^:]*: (.*) \(required\)"), lambda found: _missing(found[1].split(" (required) "))),
)
_TEXTS, _PATHS = (str, str | None), (Path, Path | None)
# In the left column of the help alone: its sentences speak of options of other commands, too.
_OPTION = re.compile(r"^[^\w\n-]{0,2}(?:-\w[^-\n]*, )?(--[a-z][\w.-]*)", re.MULTILINE)


def parse_arguments(
    settings: type[Settings], command: str, arguments: Sequence[str], default: Settings | None = None
) -> Settings:
    """Read the arguments of a command; --help prints and exits. `default` replaces the defaults of the fields.

    Raises InputError, with the nearest name for an unknown option, for what it cannot take.
    """
    program = f"longtake {command}"
    _refuse_values(arguments, dict(_switches(settings, default)))
    with in_one_line(program):
        parsed, rest = _parsed(settings, program, arguments, default, return_unknown_args=True)
    if rest:
        raise _by_its_place(rest, settings, program) or _unknown(rest, options(settings, default), program)
    return parsed


@contextlib.contextmanager
def in_one_line(program: str) -> Iterator[None]:
    """Turn what tyro says of arguments that it cannot take into InputError."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as leaving:
        if leaving.code:
            raise InputError(f"{_first_box(said.getvalue())}; '{program} --help' shows what is possible") from None
        raise


def options(settings: type[Settings], default: Settings | None = None) -> set[str]:
    """Return the options that the help of these settings shows."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        _parsed(settings, "longtake", ["--help"], default)
    return set(_OPTION.findall(shown.getvalue()))


def _parsed(settings: type, program: str, arguments: Sequence[str], default: object, **more: Any) -> Any:
    return tyro.cli(settings, prog=program, args=list(arguments), default=default, registry=_registry(), **more)


@functools.cache
def _registry() -> ConstructorRegistry:
    registry = ConstructorRegistry()
    registry.struct_rule(_dataclass_rule)
    registry.primitive_rule(_path_rule)
    return registry


def _path_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Say to tyro that an empty text is no path; by itself it would be the folder that one is in."""
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda words: Path(_given(words[0], "PATH, or leave it out")),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


def _given(text: str, wanted: str) -> str:
    if not text:
        raise ValueError(f"empty; give {wanted}")
    return text


def _dataclass_rule(info: StructTypeInfo) -> StructConstructorSpec | None:
    """Say to tyro what `Setting` says of the fields of a dataclass."""
    kind = info.type
    if not is_dataclass(kind):
        return None
    hints, given = get_type_hints(kind, include_extras=True), isinstance(info.default, kind)
    shown = [
        StructFieldSpec(
            name=field.name,
            type=_for_tyro(hints[field.name], empty=field.default == ""),
            default=getattr(info.default, field.name) if given else _default(field),
            helptext=functools.partial(_help, kind, field.name),
        )
        for field in fields(kind)
    ]
    return StructConstructorSpec(instantiate=kind, fields=tuple(shown))


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return tyro.MISSING if field.default is MISSING else field.default


def _help(kind: type, name: str) -> str | None:
    return field_docs(kind).get(name)


def _for_tyro(hint: Any, *, empty: bool) -> Any:
    """Return the type of a field with what tyro has to know of it; `empty`: whether its default is an empty text."""
    kind, setting = declared(hint)
    if not (empty or setting.read):
        hint = kind = _not_empty(kind, setting)
    if setting == Setting():
        return hint
    if setting.boxed:
        return OmitArgPrefixes[kind]
    if not setting.option:
        return Suppress[kind]
    if setting.switch:
        return Annotated[kind, FlagCreatePairsOff, arg(help_behavior_hint="")]
    aliases = [setting.short] if setting.short else None
    shown = arg(name=setting.name, aliases=aliases, metavar=setting.metavar, help_behavior_hint=_hint(setting))
    if setting.repeated:
        return UseAppendAction[Annotated[kind, shown]]
    if setting.read:
        kind = Annotated[kind, _word(setting.read, setting.metavar or "")]
    return Positional[Annotated[kind, shown]] if setting.positional else Annotated[kind, shown]


def _not_empty(kind: Any, setting: Setting) -> Any:
    """Return the type of a field as one that takes no empty text; what is no text or path, and no list of them, as it
    is."""
    metavar = setting.metavar or "TEXT"
    wanted = "one" if setting.positional else f"{metavar}, or leave it out"
    if kind in _TEXTS:
        return Annotated[kind, _word(lambda word: _given(word, wanted), metavar)]
    if kind in _PATHS:
        return Annotated[kind, _word(lambda word: Path(_given(word, wanted)), metavar)]
    if kind in (tuple[str, ...], tuple[Path, ...]):
        (each, _) = get_args(kind)
        return tuple[_not_empty(each, setting), ...]
    return kind


def _hint(setting: Setting) -> Callable[[str], str] | str | None:
    if setting.positional:
        return ""
    unset = setting.unset
    if unset is None:
        return None
    return lambda shown: f"(default: {unset if shown in ('None', '', chr(39) * 2, '[]') else shown})"


def _word(read: Callable[[str], Any], metavar: str) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        # An empty list stands for a place that nothing took, beside an option that is unknown.
        instance_from_str=lambda words: read(words[0]) if isinstance(words[0], str) else None,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(value)],
    )


def given(arguments: Sequence[str]) -> list[str]:
    """Return the options that a command line gives, without their values."""
    return [argument.split("=")[0] for argument in arguments if re.match("--?[a-z]", argument)]


def value_of(option: str, arguments: Sequence[str], default: str) -> str:
    """Return the value of an option before the command line as a whole is read. Raises InputError for two values."""
    values: list[str] = []
    for place, argument in enumerate(arguments):
        if argument == option:
            values.append("".join(arguments[place + 1 : place + 2]))
        elif argument.startswith(f"{option}="):
            values.append(argument.removeprefix(f"{option}="))
    if len(set(values)) > 1:
        raise InputError(f"{option} is given as {' and as '.join(map(repr, values))}; give it once")
    return values[0] if values else default


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


def _unfit(option: str, words: Sequence[str]) -> str:
    if "" in words:
        return f"{option} is empty; give {'a value, or leave it out' if option.startswith('-') else 'one'}"
    if len(words) == 1:
        return f"{option} {words[0]!r} is no number"
    return f"{option} cannot be {' '.join(words)!r}"


def _no_choice(option: str, word: str, choices: Sequence[str]) -> str:
    # tyro counts among them what stands for a value that is not given.
    known = [choice for choice in choices if choice != "None"]
    return f"{option} cannot be {word}; {known_names(ast.literal_eval(word), known)}"


def _missing(told: Sequence[str]) -> str:
    """Return what is missing, of which tyro tells the name, what stands for the value, and the help."""
    parted = [re.match(r"((?:-\S+(?:, -\S+)* )?\S+) ?(.*)", text) for text in told]
    names = [found[1] for found in parted if found]
    helps = [found[2].rstrip(".") for found in parted if found and found[2]]
    give = f"; give {helps[0][:1].lower()}{helps[0][1:]}" if len(told) == len(helps) == 1 else ""
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing{give}"


def _refuse_values(arguments: Sequence[str], switches: Mapping[str, str]) -> None:
    """Raise InputError for a switch with a value, which would be taken for the next argument."""
    for word in arguments:
        option, equals, _ = word.partition("=")
        option = option.replace("_", "-")
        if equals and option in switches:
            raise InputError(f"{option} takes no value; write {option}{switches[option]}")


def _switches(kind: Any, default: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the options of settings that take no value, with what else to write than the option alone."""
    for field in fields(kind):
        inner, setting = declared(get_type_hints(kind, include_extras=True)[field.name])
        name = field.name.replace("_", "-") if setting.name is None else setting.name
        value = getattr(default, field.name) if isinstance(default, kind) else _default(field)
        if is_dataclass(value) or is_dataclass(inner):
            deeper = prefix if setting.boxed or not name else f"{prefix}{name}."
            yield from _switches(type(value) if is_dataclass(value) else inner, value, deeper)
        elif inner is bool and setting.switch:
            yield f"--{prefix}{name}", ", or leave it out"
        elif inner is bool and setting.option:
            on, off = f"--{prefix}{name}", f"--{prefix}no-{name}"
            yield from ((on, f", or {off}"), (off, f", or {on}"))


def _by_its_place(rest: Sequence[str], settings: type, program: str) -> InputError | None:
    """Return the error for what is given by its name where it has none; None where there is no such thing."""
    for name, hint in get_type_hints(settings, include_extras=True).items():
        _, setting = declared(hint)
        option = f"--{setting.name or name.replace('_', '-')}"
        if setting.positional and any(word.split("=")[0] == option for word in rest):
            what = setting.metavar or name.upper()
            return InputError(f"{program} takes {what} without {option} before it; write '{program} {what}'")
    return None


def _unknown(rest: Sequence[str], known: set[str], program: str) -> InputError:
    option = next((token for token in rest if token.startswith("-")), None)
    if option is None:
        return InputError(f"{rest[0]!r} is one word too many; put a text of several words in quotes")
    name = option.split("=")[0]
    prefix, last = name[: name.rfind(".") + 1], name.lstrip("-").rpartition(".")[2]
    elsewhere = sorted(other for other in known if other.lstrip("-").rpartition(".")[2] == last)
    members = {other.removeprefix(prefix) for other in known if prefix and other.startswith(prefix)}
    if elsewhere:
        problem = f"there is no option {name!r}; did you mean {elsewhere[0]!r}?"
    elif members:
        problem = str(unknown_name(f"{prefix.strip('-.')} setting", name.removeprefix(prefix), members))
    else:
        # All options of a command would fill the screen: the nearest, or the way to the list.
        problem = str(unknown_name("option", name, known)).split("known: ")[0].rstrip("; ")
    ending = "" if problem.endswith("?") else ";"
    return InputError(f"{problem}{ending} '{program} --help' shows all")
