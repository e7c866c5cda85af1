"""The files of the page: what a strict Content-Security-Policy lets through, offline, and whole."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest

PAGE = Path(str(files("longtake"))) / "serve" / "page"
SCRIPTS = sorted(PAGE.glob("*.js"))


def test_every_foreign_file_is_the_one_whose_version_and_licence_are_told():
    told = dict(re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", (PAGE / "vendor" / "README.md").read_text(), re.M))
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (PAGE / "vendor").iterdir()}
    assert {name: digest for name, digest in found.items() if not name.endswith((".md", ".txt"))} == told
    assert sum(file.stat().st_size for file in (PAGE / "vendor").iterdir()) < 200_000


def test_nothing_runs_or_is_styled_from_within_the_document():
    document = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\son\w+=|\sstyle=|javascript:", document)
    assert all(re.search(r'src="page/', tag) for tag in re.findall(r"<script[^>]*>", document))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_script_makes_markup_of_a_text_or_leaves_this_server(script):
    text = script.read_text()
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|dangerouslySet|\beval\(|new Function|https?://"
    assert not re.search(forbidden, text)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_module_that_is_imported_is_there_and_offers_the_names(script):
    for names, module in re.findall(r'^import (?:\{([^}]*)\}|\* as \w+) from "([^"]+)";', script.read_text(), re.M):
        text = (script.parent / module).read_text()
        for name in filter(None, (name.strip() for name in names.split(","))):
            declared = rf"export (?:async )?(?:const|function\*?|class) {name}\b|export\{{.*\bas {name}\b"
            assert re.search(declared, text), f"{module} does not offer {name}"


def test_what_the_document_and_its_styles_name_is_there():
    named = re.findall(r'(?:href|src)="page/([^"]+)"', (PAGE / "index.html").read_text())
    named += re.findall(r'url\("([^"]+)"\)', (PAGE / "page.css").read_text())
    assert len(named) >= 6
    assert all((PAGE / name).is_file() for name in named)
