"""Prints what the structure of the code measures: circles, the ten-minute read, settings declared twice, sizes.

python scripts/structure.py
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
READ = ("errors", "arrays", "noise", "request", "schedule", "model", "guidance", "decoding", "sampler", "_generate")
"""Root modules in reading order."""
NAMED = re.compile(r"(longtake(?:\.\w+)+):\w+$")


def modules(folder: str) -> dict[str, Path]:
    """Return every module below a folder by its dotted name."""
    base = ROOT / folder
    found = {}
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(ROOT / "src" if folder.startswith("src") else ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: set[str]) -> Iterator[str]:
    """Yield the modules that a module imports: anywhere in it, for types only, or by a string "module:name"."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in inner if name in known)
            if node.module in known and not all(name in known for name in inner):
                yield node.module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if (named := NAMED.match(node.value)) and named[1] in known:
                yield named[1]


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return the groups of modules that reach each other (Tarjan's strongly connected components of two or more)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in number:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in number:
            visit(node)
    return found


def declared(paths: dict[str, Path]) -> dict[str, list[str]]:
    """Return the settings, fields with a string under them that says what they do, whose words stand more than once."""
    places: dict[str, list[str]] = defaultdict(list)
    for module, path in paths.items():
        for group in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(group, ast.ClassDef):
                continue
            for field, said in zip(group.body, group.body[1:], strict=False):
                is_said = isinstance(said, ast.Expr) and isinstance(said.value, ast.Constant)
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_said:
                    words = " ".join(str(said.value.value).split())  # pyright: ignore[reportAttributeAccessIssue]
                    places[f"{field.target.id}: {words}"].append(f"{module}.{group.name}")
    return {what: where for what, where in places.items() if len(where) > 1}


def lines(paths: dict[str, Path]) -> int:
    """Return how many lines these modules have together."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths.values())


def main() -> None:
    """Print the figures, and what stands behind those that should be 0."""
    package, lab = modules("src/longtake"), modules("lab")
    known = set(package)
    edges = {name: set(imported(path, known)) - {name} for name, path in package.items()}
    found, twice = circles(edges), declared(package)
    read = {name: package[f"longtake.{name}"] for name in READ if f"longtake.{name}" in package}
    print(f"import circles (imports by string count)   {len(found)}")
    print("".join(f"    {' <-> '.join(group)}\n" for group in found), end="")
    print(f"lines of the ten-minute read               {lines(read)}")
    print(f"settings declared twice                    {len(twice)}")
    print("".join(f"    {what[:70]} in {', '.join(where)}\n" for what, where in twice.items()), end="")
    print(f"modules in the wheel                       {len(package)}")
    print(f"lines of the package                       {lines(package)}")
    print(f"lines of the package and the laboratory    {lines(package) + lines(lab)}")


if __name__ == "__main__":
    main()
