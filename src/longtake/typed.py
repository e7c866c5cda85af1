"""A dataclass is the configuration: what code and JSON give it is checked here, and what a command line shows of it is
found.

A field's default is the only default, and the string under it is its help; `Setting` adds what neither can say.
"""

import ast
import functools
import inspect
import json
import numbers
import operator
import os
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from longtake.errors import InputError, LongtakeError, unknown_name
from longtake.reading import parse_json
from longtake.words import an, plain

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

Kind = TypeVar("Kind")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a command line has to know of a field beside its type, its default and its docstring; for `Annotated`."""

    name: str | None = None
    """Its name there, where it is another than the field's; "" for a group whose settings count as those around it."""
    boxed: bool = False
    """For a group: its settings stand in a box with its name, and by themselves without it."""
    short: str | None = None
    """A second name of one letter: -o."""
    metavar: str | None = None
    """What stands for the value in the help."""
    unset: str | None = None
    """What holds where the value is None or empty, in words: the model's own."""
    read: Callable[[str], Any] | None = None
    """Turns the word that is given into the value; raises InputError for one that it cannot be."""
    positional: bool = False
    """Given by its place rather than by its name."""
    repeated: bool = False
    """Given once for every value, rather than once for all."""
    switch: bool = False
    """Off unless it is given, without a value."""
    option: bool = True
    """Whether it can be given there at all."""

    @property
    def names_file(self) -> bool:
        """Whether a text is the name of a file or a folder, or may be one, for which code may give a Path."""
        return re.search("FILE|FOLDER|PATH", self.metavar or "") is not None


def number_or_endless(text: str) -> int | None:
    """Return the frames that a word asks for; None for endless. Raises InputError for anything else."""
    try:
        return None if text == "endless" else int(text)
    except ValueError:
        raise InputError(f"--frames {text!r} is neither a whole number nor 'endless'") from None


Flag = Annotated[bool, Setting(switch=True)]
"""A switch that is off unless it is given."""

_SHOWN = 60
_NONE = object()
"""What fits nowhere."""
_WORDS: dict[Any, str] = {
    bool: "True or False",
    float: "a number",
    int: "a whole number",
    str: "a text",
    Path: "a path",
    type(None): "None",
}
_TAKES = {
    "bool_type": "true or false",
    "dataclass_type": "an object",
    "dict_type": "an object",
    "finite_number": "a number that is finite",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "none_required": "null",
    "string_type": "a text",
    "tuple_type": "a list",
}


_BOUNDS = {
    "greater_than": "a number above {}",
    "greater_than_equal": "{} or more",
    "less_than": "a number below {}",
    "less_than_equal": "{} at most",
}


class Typed:
    """Base of dataclasses of settings, whose fields hold what they declare: what a type checker would refuse, they do,
    too."""

    def __post_init__(self) -> None:
        """Raise InputError, with field and value, for one of another type; see `fitting`."""
        for field, kind in _kinds(type(self)).items():
            value = getattr(self, field)
            if (fitted := fitting(value, kind, field, type(self).__name__)) is not value:
                object.__setattr__(self, field, fitted)


@functools.cache
def _kinds(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}  # pyright: ignore[reportArgumentType]


def fitting(value: Any, kind: Any, name: str, where: str = "", takes: str = "") -> Any:
    """Return what was given for a field or an argument as its type has it.

    Taken are a text as a path, a path as a text that names a file, a list, a range or an array as a tuple, and numbers
    and truth values of other libraries; True is no number, and a text is none. Raises InputError for all else, of the
    `name` in `where`, with what it `takes` if its type does not say so in words.
    """
    fitted = _fitted(value, kind)
    if fitted is _NONE:
        takes = takes or _words(kind)
        if isinstance(value, str) and _fitted((value,), kind) is not _NONE:
            takes += f": {name}={[value]}"
        raise refused(value, name, takes, where)
    return fitted


def refused(value: object, name: str, takes: str, where: str = "") -> InputError:
    """Return the error for what a field or an argument cannot be, with what it takes instead."""
    shown = plain(" ".join(repr(value).split()))
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return InputError(f"{where}{': ' * bool(where)}{name} is {shown}, which it cannot be; it takes {takes}")


def _fitted(value: Any, kind: Any, *, named: bool = False) -> Any:
    """Return a value as its type has it, _NONE where it is none; `named`: whether a text is the name of a file."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _fitted(value, parts[0], named=named or declared(kind)[1].names_file)
    if origin in (Union, types.UnionType):
        return next((found for each in parts if (found := _fitted(value, each, named=named)) is not _NONE), _NONE)
    if origin is Literal:
        return value if isinstance(value, str) and value in parts else _NONE
    if origin is tuple:
        return _fitted_tuple(value, parts, named=named)
    if kind in (int, float) and not isinstance(value, bool):
        if isinstance(value, numbers.Integral):
            return value if isinstance(value, int) else int(value)
        is_number = kind is float and isinstance(value, numbers.Real)
        return _NONE if not is_number else value if isinstance(value, float) else float(value)
    if kind is str and isinstance(value, os.PathLike):
        return str(value) if named else _NONE
    if kind is bool and _is_of_numpy(value, "bool_"):
        return bool(value)
    if kind is Path and isinstance(value, str | os.PathLike):
        return value if isinstance(value, Path) else Path(value)
    is_one = kind is Any or isinstance(value, origin or kind)
    return value if is_one and not (kind in (int, float) and isinstance(value, bool)) else _NONE


def _fitted_tuple(value: Any, parts: tuple[Any, ...], *, named: bool) -> Any:
    """Return a tuple, or what is like one, as a tuple of such items: any number of one kind, or one of each."""
    if _is_of_numpy(value, "ndarray"):
        value = value.tolist()
    if not isinstance(value, tuple | list | range):
        return _NONE
    kinds = [parts[0]] * len(value) if parts[1:] == (...,) else parts
    if len(kinds) != len(value):
        return _NONE
    items = tuple(_fitted(item, kind, named=named) for item, kind in zip(value, kinds, strict=True))
    same = isinstance(value, tuple) and all(map(operator.is_, items, value))
    return _NONE if _NONE in items else value if same else items


def _is_of_numpy(value: object, name: str) -> bool:
    """Whether a value is of a type of numpy, which nobody has who has not imported it."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, getattr(numpy, name))


def _words(kind: Any) -> str:
    """Return what a type takes, for people to read."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(parts[0])
    if origin in (Union, types.UnionType):
        return " or ".join(map(_words, parts))
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin is tuple and parts[1:] == (...,):
        return f"a tuple, every item {_words(parts[0])}"
    if origin is tuple:
        return f"a tuple of {', '.join(map(_words, parts))}"
    return _WORDS.get(kind) or an(kind.__name__)


def read_typed(
    kind: type[Kind],
    content: object,
    where: str,
    *,
    error: type[LongtakeError] = InputError,
    complete: bool = False,
) -> Kind:
    """Return JSON as an object of this kind, mostly a dataclass; lists become tuples where the fields say so.

    `content` is the text of a file as bytes, or what has been read of one. Nothing is converted but whole numbers to
    floats. `where` is the file, or what else the message should name; `complete` asks for every field, those with a
    default too. Raises `error`, with the key and the nearest known name, for fields that are unknown, missing or of
    another type, and for what the dataclass itself refuses.
    """
    from pydantic import ValidationError

    try:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        # A byte order mark, which some editors write, is no part of the text.
        text = text.removeprefix(b"\xef\xbb\xbf")
        # Within a tuple, since an adapter takes its settings from a dataclass itself, which says none.
        (value,) = _adapter(kind).validate_json(b"[" + text + b"\n]")
        if complete:
            for name in _missing(value, json.loads(text)):
                raise InputError(f"{name} is missing")
    except ValidationError as problems:
        raise error(f"{where}: {_problem(kind, problems.errors(include_url=False)[0])}") from None
    except (LongtakeError, ValueError, RecursionError) as problem:
        raise error(f"{where}: {problem}") from None
    return value


def to_json(value: object) -> Any:
    """Return a dataclass, or what else holds some, as `json.dumps` takes it: tuples as lists, paths as texts."""
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)


def read_word(text: str) -> Any:
    """Return the value that a word says as JSON; the word itself where it is none."""
    try:
        return parse_json(text)
    except ValueError:
        return text


def declared(hint: Any) -> tuple[Any, Setting]:
    """Return the type of a field, and the setting that stands beside it."""
    kind, *said = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    return kind, next((one for one in said if isinstance(one, Setting)), Setting())


@functools.cache
def field_docs(kind: type) -> dict[str, str]:
    """Return the string under each field of a dataclass, and of those that it extends, as one line."""
    docs: dict[str, str] = {}
    for base in (base for base in reversed(kind.__mro__) if is_dataclass(base)):
        (found,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(found, ast.ClassDef)
        for field, text in zip(found.body, found.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    docs[name] = " ".join(said.split())
    return docs


@functools.cache
def _adapter(kind: Any) -> "TypeAdapter[tuple[Any]]":
    # Takes a fifth of a second to import, which most commands can do without.
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    return TypeAdapter(tuple[kind], config=config)  # pyright: ignore[reportInvalidTypeForm]


def _problem(kind: Any, problem: "ErrorDetails") -> str:
    """Return what is wrong in a few words."""
    key, found = ".".join(map(str, problem["loc"][1:])), json.dumps(problem["input"], default=str)[:_SHOWN]
    match problem["type"]:
        case _ if not problem["loc"]:
            return f"it is no JSON ({problem.get('ctx', {}).get('error', 'text follows its end')})"
        case "missing" if not key:
            return "it is no JSON (there is nothing in it)"
        case "missing" if isinstance(problem["loc"][-1], int):
            return f"{key.rpartition('.')[0]} is {found}, which it cannot be; it takes more items"
        case "missing" | "missing_keyword_only_argument" | "missing_argument":
            return f"{key} is missing"
        case "unexpected_keyword_argument" | "extra_forbidden":
            *parents, name = problem["loc"][1:]
            known = [field.name for field in fields(_dataclass_at(kind, parents))]
            return str(
                unknown_name(f"field in {key.removesuffix(f'.{name}')}:" if parents else "field", str(name), known)
            )
        case "literal_error":
            return f"{key or 'it'} is {found}, which it cannot be; known: {problem.get('ctx', {}).get('expected', '')}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal" as bound:
            ((_, limit),) = problem.get("ctx", {}).items()
            return f"{key or 'it'} is {found}, which it cannot be; it takes {_BOUNDS[bound].format(f'{limit:g}')}"
        case other:
            takes = _TAKES.get(other, problem["msg"][:1].lower() + problem["msg"][1:])
            return f"{key or 'it'} is {found}, which it cannot be; it takes {takes}"


def _dataclass_at(kind: Any, path: Sequence[int | str]) -> Any:
    """Return the dataclass in which a path of keys ends: items of lists and values of mappings are of one kind."""
    for key in path:
        kind = _dataclass_in(get_type_hints(kind).get(str(key), kind))
    return kind


def _dataclass_in(kind: Any) -> Any:
    return kind if is_dataclass(kind) else next(filter(None, map(_dataclass_in, get_args(kind))), None)


def _missing(value: object, content: Any, prefix: str = "") -> Iterator[str]:
    """Yield the fields of a dataclass that its JSON does not name."""
    if not is_dataclass(value):
        return
    for field in fields(value):
        if field.name not in content:
            yield prefix + field.name
        else:
            yield from _missing(getattr(value, field.name), content[field.name], f"{prefix}{field.name}.")
