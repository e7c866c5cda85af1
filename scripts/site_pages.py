"""What `mkdocs.yml` adds to the pages of docs/: pages that lie elsewhere, the sources that pages link to, and the help
of all commands.
"""

# mkdocs comes with the extra docs, which checks run without.
# pyright: reportMissingImports=false

import ast
import contextlib
import io
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages of the repository -> what they are on the site."""
COMMANDS = "commands.md"
_FETCHED = "https://unpkg.com/iframe-worker/shim"
_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")
_FENCE = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that docs/ does not hold."""
    made = {f"docs/{file.src_uri}": (ROOT / "docs" / file.src_uri).read_text() for file in files.documentation_pages()}
    made |= {name: (ROOT / name).read_text() for name in PAGES}
    linked = {target for home, text in made.items() for target in _targets(home, text) if target not in made}
    for name in PAGES:
        files.append(File.generated(config, PAGES[name], content=made[name]))
    for name in sorted(name for name in linked if not _is_page(name)):
        files.append(File.generated(config, place(name), content=source_page(ROOT / name)))
    files.append(File.generated(config, COMMANDS, content=commands_page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page lead to where their targets are on the site."""
    uri = page.file.src_uri
    home = next((name for name, there in PAGES.items() if there == uri), f"docs/{uri}")
    if uri == COMMANDS or uri.startswith("source/"):
        return markdown

    def moved(link: re.Match[str]) -> str:
        return posixpath.relpath(place(_resolved(home, link[1])), posixpath.dirname(uri) or ".")

    parts = _FENCE.split(markdown)
    return "".join(part if number % 2 else _LINK.sub(moved, part) for number, part in enumerate(parts))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Let a page that is opened from the disk search with what lies beside it, in place of what the theme asks another
    machine for."""
    return output.replace(_FETCHED, posixpath.relpath("iframe-worker.js", posixpath.dirname(page.url) or "."))


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """Do the same for the page of what is not there."""
    return output_content.replace(_FETCHED, "iframe-worker.js")


def place(name: str) -> str:
    """Return where a file of the repository is on the site."""
    if name in PAGES:
        return PAGES[name]
    return name.removeprefix("docs/") if _is_page(name) else f"source/{name.rstrip('/')}.md"


def _is_page(name: str) -> bool:
    """Whether a file of the repository is on the site by itself, as pages and pictures are; folders are not."""
    return name.startswith("docs/") and not (ROOT / name).is_dir()


def source_page(path: Path) -> str:
    """Return the page of a file of the repository, or of a folder: a line for every module, else for every file."""
    name = path.relative_to(ROOT).as_posix()
    hidden = "---\nsearch:\n  exclude: true\n---\n"
    if path.is_dir():
        modules = [f"- `{file.name}`: {_summary(file)}" for file in sorted(path.glob("*.py"))]
        lines = modules or [f"- `{file.name}`" for file in sorted(path.iterdir())]
        return f"{hidden}\n# {name}/\n\n" + "\n".join(lines) + "\n"
    language = {".py": "python", ".md": "markdown", ".toml": "toml", ".json": "json"}.get(path.suffix, "text")
    return f"{hidden}\n# {name}\n\n`````{language}\n{path.read_text()}`````\n"


def commands_page() -> str:
    """Return the help of every command."""
    from longtake.apps.cli import COMMANDS as TABLE

    sections = [f"## longtake {name}\n\n```text\n{_help(name)}\n```\n" for name in TABLE]
    return "# Commands\n\nWhat `longtake COMMAND --help` prints.\n\n" + "\n".join(sections)


def _help(name: str) -> str:
    from longtake.apps.cli import main

    shown, before = io.StringIO(), (sys.argv, os.environ.get("COLUMNS"))
    sys.argv, os.environ["COLUMNS"] = ["longtake", *name.split(), "--help"], "100"
    try:
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            main()
    finally:
        sys.argv = before[0]
        os.environ.pop("COLUMNS") if before[1] is None else os.environ.update(COLUMNS=before[1])
    return shown.getvalue().strip()


def _summary(file: Path) -> str:
    said = ast.get_docstring(ast.parse(file.read_text())) or ""
    return " ".join(said.split("\n\n")[0].split())


def _targets(home: str, text: str) -> Iterator[str]:
    for number, part in enumerate(_FENCE.split(text)):
        if number % 2 == 0:
            yield from (_resolved(home, link[1]) for link in _LINK.finditer(part))


def _resolved(home: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), link))
