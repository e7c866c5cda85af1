"""Rules about the code itself: who imports whom, what stays unloaded, how long things get."""

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

import longtake

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("src", "lab", "tests", "scripts") for path in (ROOT / folder).rglob("*.py"))
HEAVY = {"torch", "diffusers", "transformers", "accelerate", "tensorboard", "av", "ray"}

Node = TypeVar("Node", bound=ast.AST)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def loaded_after(code: str) -> set[str]:
    """Run code in a fresh interpreter and return which of the heavy packages it has loaded."""
    report = f"\nimport json, sys\nprint(json.dumps(sorted({HEAVY!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def command_line(*arguments: str) -> str:
    """Return code that runs the command line and goes on after it exits."""
    return f"""
import sys
sys.argv = ["longtake", *{arguments!r}]
from longtake.apps.cli import main
try:
    main()
except SystemExit:
    pass
"""


@functools.cache
def parsed() -> dict[Path, ast.Module]:
    """Return all sources, parsed once."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def nodes(kind: type[Node]) -> Iterator[tuple[str, Node]]:
    """Return every such node of the sources with the file where it stands."""
    for path, tree in parsed().items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield str(path.relative_to(ROOT)), node


def test_imports_go_only_downward(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import longtake; longtake.LongtakeError", id="import longtake"),
        pytest.param("from longtake import Request", id="request"),
        pytest.param("import longtake.model, longtake.sampler, longtake._generate", id="interfaces"),
        pytest.param(command_line("--help"), id="--help"),
        pytest.param(command_line("generate", "--help"), id="generate --help"),
        pytest.param(command_line("plan", "a red car", "--frames", "64"), id="plan"),
        pytest.param(command_line("generate", "", "--frames", "64"), id="empty prompt"),
        pytest.param(command_line("generate", "a red car", "--sampler", "fifi"), id="unknown sampler"),
        pytest.param(command_line("samplers"), id="samplers"),
        pytest.param(command_line("models"), id="models"),
    ],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert loaded_after(code) == set()


def test_every_public_name_resolves() -> None:
    for name in longtake.__all__:
        assert getattr(longtake, name).__name__ == name


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = longtake.nonsense  # pyright: ignore[reportAttributeAccessIssue]


def test_files_are_short() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    functions = [*nodes(ast.FunctionDef), *nodes(ast.AsyncFunctionDef)]
    lengths = {f"{file} {node.name}": (node.end_lineno or 0) - node.lineno + 1 for file, node in functions}
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}


def test_annotations_are_evaluated() -> None:
    assert [file for file, node in nodes(ast.ImportFrom) if node.module == "__future__"] == []


def test_capabilities_are_declared_not_probed() -> None:
    assert [f"{file}:{node.lineno}" for file, node in nodes(ast.Name) if node.id == "hasattr"] == []


def test_sources_are_ascii() -> None:
    assert [path for path in SOURCES if not path.read_bytes().isascii()] == []
