import json
import re
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import numpy as np
import pytest

import longtake
from longtake.errors import CheckpointError, InputError
from longtake.lazy import named
from longtake.metrics import METRICS
from longtake.samplers import SAMPLERS, sampler_class
from longtake.typed import Setting, Typed, read_typed, to_json


@dataclass(frozen=True, kw_only=True)
class Grid:
    rows: int = 2
    columns: int = 3

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError(f"rows cannot be {self.rows}")


@dataclass(frozen=True, kw_only=True)
class Network:
    name: str
    grid: Grid = Grid()
    widths: tuple[int, ...] = (1, 2)
    betas: tuple[float, float] = (0.5, 0.9)
    rate: float | None = None
    kind: Literal["plain", "gated"] = "plain"
    file: Path = Path("weights")
    parts: tuple[Grid, ...] = ()
    by_name: dict[str, Grid] | None = None


def test_what_is_written_is_read_back_with_its_tuples_and_paths() -> None:
    network = Network(
        name="n", widths=(4, 5, 6), rate=2.5, file=Path("a/b"), parts=(Grid(rows=7),), by_name={"x": Grid()}
    )
    assert read_typed(Network, json.dumps(to_json(network)).encode(), "n.json") == network
    assert read_typed(Network, to_json(network), "n.json") == network


def test_a_whole_number_is_a_number() -> None:
    rate = read_typed(Network, {"name": "n", "rate": 8}, "n.json").rate
    assert rate == 8.0
    assert isinstance(rate, float)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert read_typed(Grid, b'\xef\xbb\xbf{"rows": 4}', "g.json") == Grid(rows=4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "n", "grid": {"row": 1}}, "n.json: there is no field in grid: 'row'; did you mean 'rows'?"),
        ({"name": "n", "parts": [{"row": 1}]}, "n.json: there is no field in parts.0: 'row'; did you mean 'rows'?"),
        ({"name": "n", "by_name": {"x": {"row": 1}}}, "no field in by_name.x: 'row'; did you mean 'rows'?"),
        ({"name": "n", "width": [1]}, "n.json: there is no field 'width'; did you mean 'widths'?"),
        ({}, "n.json: name is missing"),
        ({"name": 3}, "n.json: name is 3, which it cannot be; it takes a text"),
        ({"name": "n", "grid": {"rows": 2.0}}, "grid.rows is 2.0, which it cannot be; it takes a whole number"),
        ({"name": "n", "grid": {"rows": True}}, "grid.rows is true, which it cannot be; it takes a whole number"),
        ({"name": "n", "grid": {"rows": "2"}}, 'grid.rows is "2", which it cannot be; it takes a whole number'),
        ({"name": "n", "grid": 4}, "grid is 4, which it cannot be; it takes an object"),
        ({"name": "n", "widths": [1, "2"]}, 'widths.1 is "2", which it cannot be; it takes a whole number'),
        ({"name": "n", "betas": [1]}, "betas is [1], which it cannot be; it takes more items"),
        ({"name": "n", "rate": "fast"}, 'rate is "fast", which it cannot be; it takes a number'),
        ({"name": "n", "rate": float("nan")}, "rate is NaN, which it cannot be; it takes a number that is finite"),
        ({"name": "n", "kind": "pla"}, "kind is \"pla\", which it cannot be; known: 'plain' or 'gated'"),
        ({"name": "n", "grid": {"rows": 0}}, "n.json: rows cannot be 0"),
        ([1], "n.json: it is [1], which it cannot be; it takes an object"),
        (b'{"name": ', "n.json: it is no JSON"),
        (b"[" * 100_000, "n.json: it is no JSON"),
        (b'{"name": "\xff"}', "n.json: it is no JSON"),
        (b"", "n.json: it is no JSON"),
        (b"{}, {}", "n.json: it is no JSON"),
    ],
)
def test_what_does_not_fit_is_one_line_with_file_and_key(content: Any, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_typed(Network, content, "n.json", error=CheckpointError)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_complete_asks_for_fields_with_a_default_too() -> None:
    with pytest.raises(InputError, match=r"grid\.columns is missing"):
        read_typed(Network, to_json(Network(name="n")) | {"grid": {"rows": 1}}, "n.json", complete=True)
    assert read_typed(Grid, {"rows": 1, "columns": 1}, "g.json", complete=True) == Grid(rows=1, columns=1)


@dataclass(frozen=True, kw_only=True)
class Chosen(Typed):
    rows: int = 1
    rate: float | None = None
    name: str = "n"
    file: Path | None = None
    kind: Literal["plain", "gated"] = "plain"
    fast: bool = False
    widths: tuple[int, ...] = ()
    span: tuple[int, float] | None = None
    grid: Grid = Grid()
    place: Annotated[str | None, Setting(metavar="FOLDER|ID")] = None
    files: Annotated[tuple[str, ...], Setting(metavar="FILE ...")] = ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": Path("a")}, "which it cannot be; it takes a text"),
        ({"files": "a"}, "files is 'a', which it cannot be; it takes a tuple, every item a text: files=['a']"),
        ({"widths": np.array([0.5])}, "which it cannot be; it takes a tuple, every item a whole number"),
        ({"widths": np.int64(3)}, "which it cannot be; it takes a tuple, every item a whole number"),
        ({"rows": np.True_}, "which it cannot be; it takes a whole number"),
        ({"rows": "2"}, "Chosen: rows is '2', which it cannot be; it takes a whole number"),
        ({"rows": True}, "rows is True, which it cannot be; it takes a whole number"),
        ({"rows": 1.5}, "rows is 1.5, which it cannot be; it takes a whole number"),
        ({"rows": None}, "rows is None, which it cannot be; it takes a whole number"),
        ({"rate": "fast"}, "rate is 'fast', which it cannot be; it takes a number or None"),
        ({"rate": True}, "rate is True, which it cannot be; it takes a number or None"),
        ({"name": 3}, "name is 3, which it cannot be; it takes a text"),
        ({"file": 3}, "file is 3, which it cannot be; it takes a path or None"),
        ({"kind": "pla"}, "kind is 'pla', which it cannot be; it takes 'plain' or 'gated'"),
        ({"fast": 1}, "fast is 1, which it cannot be; it takes True or False"),
        ({"widths": "12"}, "widths is '12', which it cannot be; it takes a tuple, every item a whole number"),
        ({"widths": (1, "2")}, "widths is (1, '2'), which it cannot be; it takes a tuple, every item a whole number"),
        ({"span": (1,)}, "span is (1,), which it cannot be; it takes a tuple of a whole number, a number or None"),
        ({"grid": Grid}, "which it cannot be; it takes a Grid"),
        ({"name": list(range(50))}, "..., which it cannot be; it takes a text"),
    ],
)
def test_code_that_gives_another_type_is_told_field_value_and_type(given: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Chosen(**given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_means_the_same_is_taken_as_the_type_that_is_declared() -> None:
    chosen = Chosen(
        rows=np.int64(3),  # pyright: ignore[reportArgumentType]
        rate=np.float32(0.5),  # pyright: ignore[reportArgumentType]
        place=Path("a"),  # pyright: ignore[reportArgumentType]
        files=[Path("c"), "d"],  # pyright: ignore[reportArgumentType]
        fast=np.True_,  # pyright: ignore[reportArgumentType]
        span=np.array([1, 2]),  # pyright: ignore[reportArgumentType]
        file="b",  # pyright: ignore[reportArgumentType]
        widths=range(1, 3),  # pyright: ignore[reportArgumentType]
    )
    assert chosen == Chosen(
        rows=3, rate=0.5, place="a", files=("c", "d"), fast=True, span=(1, 2), file=Path("b"), widths=(1, 2)
    )
    taken = (chosen.rows, chosen.rate, chosen.place, chosen.fast, *(chosen.span or ()))
    assert [type(value) for value in taken] == [int, float, str, bool, int, int]
    assert Chosen(widths=[1, 2]).widths == (1, 2)  # pyright: ignore[reportArgumentType]
    assert chosen == read_typed(Chosen, to_json(chosen), "c.json")


def settings_of_commands() -> set[type]:
    """Return the dataclasses whose fields are settings: those of commands, samplers and metrics, and all in them."""
    found = {row.kind for row in METRICS.values()} | {sampler_class(name) for name in SAMPLERS}
    found = {named(kind) if isinstance(kind, str) else kind for kind in found}
    for file in (Path(longtake.__file__).parent / "apps").rglob("*.py"):
        module = ".".join(file.relative_to(Path(longtake.__file__).parents[1]).with_suffix("").parts)
        for name in re.findall(r"parse_arguments\(\s*(\w+Settings|\w+Command),", file.read_text(encoding="utf-8")):
            found.add(named(f"{module}:{name}"))
    waiting = list(found)
    while waiting:
        for hint in get_type_hints(waiting.pop()).values():
            inner = {kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)} - found
            found |= inner  # pyright: ignore[reportOperatorIssue]
            waiting += inner
    return found


@pytest.mark.parametrize("kind", sorted(settings_of_commands(), key=str))
def test_every_setting_refuses_what_it_does_not_declare(kind: type) -> None:
    assert issubclass(kind, Typed)
    # As its __init__ does, which beartype wraps in the tests.
    value = object.__new__(kind)
    for field in fields(kind):  # pyright: ignore[reportArgumentType]
        object.__setattr__(value, field.name, object())
    with pytest.raises(InputError, match="which it cannot be; it takes"):
        value.__post_init__()
