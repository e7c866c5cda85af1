"""Inputs of nodes, made from the dataclasses of longtake: the type of a field decides the widget, its default and the
string under it are those of the widget, and what is given is checked by the dataclass itself.
"""

# ComfyUI is installed beside this, never with it.
# pyright: reportMissingImports=false

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from comfy_api.latest import io

from longtake.errors import InputError
from longtake.typed import Setting, declared, field_docs, read_typed

Kind = TypeVar("Kind")

# What JavaScript still counts exactly. Without limits of their own, widgets of numbers end at 2048.
MOST = 2**53 - 1
UNSET = "default"
"""The choice of a list where a field may be left to the model or the sampler."""
NAMES = {
    ("Loading", "window"): "context_length",
    ("Chunked", "overlap"): "context_overlap",
    ("Autoregressive", "context"): "context_overlap",
}
"""What fields are called here because ComfyUI's context windows call the same thing so."""
PICTURES = {"init": "start_images", "keyframes": "keyframes"}
"""Fields that name files and take pictures of the graph instead, and what they are called then."""
LEFT_OUT = {("Output", name) for name in ("path", "overwrite", "part")} | {
    ("Weights", name) for name in ("json", "loading", "model")
}
"""Fields that a graph says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A field of a dataclass, as the input of a node."""

    field: str
    id: str
    about: str
    default: Any
    types: tuple[Any, ...]
    """What a value may be, choices and None apart."""
    choices: tuple[str, ...]
    setting: Setting
    pictures: bool
    optional: bool
    """Whether the value may be None."""

    @property
    def is_number(self) -> bool:
        """Return whether a number is shown, rather than the text of one that may be missing."""
        return type(self.default) in (int, float)

    @property
    def is_lines(self) -> bool:
        """Return whether the value is several texts, a line each."""
        return tuple[str, ...] in self.types


def entries(kind: type) -> list[Entry]:
    """Return the fields of a dataclass that a node shows."""
    hints, docs = get_type_hints(kind, include_extras=True), field_docs(kind)
    shown = [field for field in fields(kind) if (kind.__name__, field.name) not in LEFT_OUT]
    made = [_entry(kind.__name__, field, hints[field.name], docs.get(field.name, "")) for field in shown]
    return [entry for entry in made if entry.setting.option]


def inputs_of(kind: type) -> list[io.Input]:
    """Return the inputs by which a node asks for the fields of a dataclass; a graph may leave each out."""
    return [_widget(entry) for entry in entries(kind)]


def read_inputs(kind: type[Kind], given: Mapping[str, Any], node: str, **more: Any) -> Kind:
    """Return the dataclass that the inputs of a node say, given `more` of its fields as JSON has them.

    Raises InputError, with the name of the field, for what it cannot take. Pictures must be paths by now.
    """
    content = {entry.field: _value(entry, given[entry.id]) for entry in entries(kind) if entry.id in given}
    return read_typed(kind, content | more, node)


def _entry(owner: str, field: Field[Any], hint: Any, about: str) -> Entry:
    _, setting = declared(hint)
    members = _members(hint)
    choices = [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]
    pictures = PICTURES.get(field.name)
    return Entry(
        field=field.name,
        id=pictures or NAMES.get((owner, field.name), field.name),
        about=about,
        default=None if field.default is MISSING else field.default,
        types=tuple(member for member in members if get_origin(member) is not Literal and member is not type(None)),
        choices=tuple(choices),
        setting=setting,
        pictures=pictures is not None,
        optional=type(None) in members,
    )


def _members(hint: Any) -> Sequence[Any]:
    """Return the members of a union, those of unions in it too."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) in (None, Literal, tuple):
        return [hint]
    return [member for part in get_args(hint) for member in _members(part)]


def _widget(entry: Entry) -> io.Input:
    told = {"optional": True, "tooltip": _tooltip(entry)}
    if entry.pictures:
        return io.Image.Input(entry.id, **told)
    if entry.choices:
        options = [*([UNSET] if entry.optional else []), *entry.choices]
        return io.Combo.Input(entry.id, options=options, default=entry.default or UNSET, **told)
    if isinstance(entry.default, bool):
        return io.Boolean.Input(entry.id, default=entry.default, **told)
    if entry.is_number and float in entry.types:
        return io.Float.Input(entry.id, default=entry.default, min=-1e6, max=1e6, step=0.01, **told)
    if entry.is_number:
        # ComfyUI would draw another seed after every run, and an interrupted video would never be gone on with.
        fixed = False if entry.field == "seed" else None
        return io.Int.Input(entry.id, default=entry.default, min=0, max=MOST, control_after_generate=fixed, **told)
    shown, unset = _text(entry), entry.setting.unset
    return io.String.Input(entry.id, default=shown, multiline=entry.is_lines, placeholder=unset, **told)


def _tooltip(entry: Entry) -> str:
    if not entry.optional or entry.pictures:
        return entry.about
    word = UNSET if entry.choices else "0" if entry.is_number else "empty"
    return f"{entry.about} ({word}: {entry.setting.unset or 'none'})"


def _text(entry: Entry) -> str:
    if entry.default in (None, ()):
        return ""
    return entry.default if isinstance(entry.default, str) else json.dumps(entry.default)


def _value(entry: Entry, given: Any) -> Any:
    """Return what a widget says, as JSON has it."""
    if entry.choices:
        return None if entry.optional and given == UNSET else given
    if entry.optional and (given is None or given == "" or (entry.is_number and given == 0)):
        return None
    if not isinstance(given, str) or isinstance(entry.default, bool):
        return given
    if entry.is_lines:
        return [line.strip() for line in given.splitlines() if line.strip()]
    if entry.setting.read:
        return entry.setting.read(given)
    return given if str in entry.types else _json(entry, given)


def _json(entry: Entry, given: str) -> Any:
    try:
        return json.loads(given)
    except ValueError:
        example = f", such as {_text(entry)}" if entry.default is not None else ""
        raise InputError(
            f"{entry.id} {given!r} is no number or list{example}; leave it empty for the default"
        ) from None
