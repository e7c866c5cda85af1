"""What the documentation points at exists."""

import json
import re
import runpy
import tomllib
from pathlib import Path

import pytest

from lab.score.leaderboard import Settings as LeaderboardSettings
from lab.score.leaderboard import page as leaderboard
from longtake import PromptTimeline, Request, generate, load_model
from longtake._generate import Output
from longtake.apps.catalog import what_runs
from longtake.apps.cli import EXAMPLE
from longtake.data import sprite_captions
from longtake.data.sprites import MOTIONS, OBJECTS, SCENES, Shot, caption, parse_caption
from longtake.metrics.prompt_accuracy import prompt_accuracy
from longtake.models import DEFAULT_MODEL, offers
from longtake.samplers.chunked.plan import Chunked

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_behind_a_source_link_are_defined_there(page):
    for target, names in re.findall(r"\]\(([^)]+\.py)\)((?:,? `\w+`)+)", page.read_text()):
        source = (page.parent / target).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"(def|class) {name}\b", source), f"{target} defines no {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_and_scripts_that_are_named_exist(page):
    for named in re.findall(r"(?<![\w/])(?:tests|scripts|lab|src)/[\w/]+(?:\.py)?", page.read_text()):
        assert (ROOT / named).exists(), f"{page.name} names {named}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_number_is_left_to_be_filled_in(page):
    assert not re.findall(r"@[A-Z_]+@|TODO", page.read_text())


def test_every_page_has_its_place_on_the_site():
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    made = {"index.md", "commands.md", "contributing.md", "changelog.md"}
    assert set(listed) == pages | made and len(listed) == len(set(listed))


def test_what_an_index_of_packages_shows_has_no_link_that_leads_nowhere():
    shown = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["readme"]
    assert isinstance(shown, dict), "links and pictures of a page of the repository are relative"
    assert not re.findall(r"\]\((?!https?:)", shown["text"])


def test_the_table_of_what_runs_on_what_is_that_of_the_code():
    assert what_runs() in (ROOT / "README.md").read_text(), "python scripts/what_runs.py prints it"
    assert all((ROOT / "docs" / offer.page).exists() for offer in offers())


def test_the_leaderboard_is_made_of_the_committed_results():
    made = leaderboard(LeaderboardSettings())
    assert (ROOT / "docs/benchmarks/leaderboard.md").read_text() == made + "\n", (
        "python -m lab score leaderboard prints it"
    )


def test_the_tables_of_the_benchmarks_are_those_that_make_paper_regenerates():
    tables = runpy.run_path(str(ROOT / "scripts/paper.py"))["TABLES"]
    for page in (ROOT / "docs/benchmarks").glob("*.md"):
        said, listed = " ".join(page.read_text().split()), [each.command for each in tables if each.page == page.stem]
        named = re.findall(r"`(?:OMP_NUM_THREADS=1 )?((?:python -m lab|torchrun)[^`]*)`", said)
        assert set(named) <= set(listed), f"{page.name} names a command that scripts/paper.py does not list"
        missing = [command for command in listed if command[max(0, command.find(" --")) :].strip() not in said]
        assert not missing, f"{page.name} does not name what scripts/paper.py lists for it"


def test_the_first_make_says_how_much_it_installs_before_it_does():
    rule = (ROOT / "Makefile").read_text().partition("$(VENV)/.installed: ")[2].partition("\n\n")[0].splitlines()
    assert "GB" in rule[1] and rule[1].startswith("\t@echo") and rule[2].startswith("\t$(INSTALL)")


EMBEDDED = ("sprites", "sprites-fast", "pvdm-sprites", "nuwa-sprites")


def prompts_for_sprites() -> list[str]:
    """Every prompt that a page or the Makefile gives to an embedded model of sprite worlds, and those of its story."""
    texts = [page.read_text() for page in (*PAGES, ROOT / "Makefile")]
    commands = [line for text in texts for line in text.splitlines() if "longtake generate" in line]
    models = [(line, re.findall(r"--model (\S+)", line) or [DEFAULT_MODEL]) for line in commands]
    quoted = [re.findall(r'"([^"]+)"', line) for line, (model, *_) in models if model in EMBEDDED]
    python = [re.findall(r'(?:prompts=|constant\()"(\w+ [^"]+)"', text) for text in texts]
    story = [json.loads((ROOT / "docs/models/nuwa-story.json").read_text()).values()]
    prompts = [prompt.strip() for listed in (*quoted, *python, *story) for text in listed for prompt in text.split("|")]
    return [prompt for prompt in dict.fromkeys(prompts) if prompt not in ("...", "-")]


def test_every_example_prompt_is_one_that_the_embedded_models_were_trained_on():
    prompts = prompts_for_sprites()
    assert len(prompts) >= 15
    for prompt in prompts:
        shot = parse_caption(prompt)
        assert shot is not None, f"the judge cannot read {prompt!r}"
        assert prompt in {caption(shot, variant) for variant in range(3000)}, f"{prompt!r} is no caption of {shot}"


def test_different_commands_of_the_docs_write_different_files():
    """Whoever follows the pages from top to bottom is not refused. Records of what was measured are not followed."""
    pages = [page for page in PAGES if page.parent.name != "benchmarks" and page.name != "log.md"]
    commands: dict[str, set[tuple[str, ...]]] = {}
    for text in (*(page.read_text() for page in pages), EXAMPLE):
        whole = text.replace("\\\n", "")
        for command in re.findall(r"longtake (?:generate|extend|redo|batch|compare|report) [^`#\n]*", whole):
            words = re.findall(r'"[^"]*"|[^\s"\']+', command)
            # In any order; the names of other files are up to whoever writes one again.
            if "-o" in words and "--from" not in words[:3]:
                commands.setdefault(words[words.index("-o") + 1], set()).add(tuple(sorted(words)))
    assert "rocket.mp4" in commands and len(commands) > 40
    assert not {file: several for file, several in commands.items() if len(several) > 1}


def words_of_captions() -> str:
    """The table of what an embedded model can be asked for, in the words of plain captions."""

    def place(scene: str, motion: str) -> str:
        return caption(Shot(object="car", scene=scene, motion=motion)).removeprefix(f"a car {motion} ")

    things = [caption(Shot(object=name, scene=SCENES[0], motion="rests")).partition(" rests ")[0] for name in OBJECTS]
    places = [dict.fromkeys(place(scene, motion) for motion in MOTIONS) for scene in SCENES]
    rows = {"a thing": things, "does something": MOTIONS, "somewhere": [" / ".join(each) for each in places]}
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {', '.join(row)} |" for name, row in rows.items())])


def test_what_the_embedded_models_can_be_asked_for_is_listed():
    assert words_of_captions() in (ROOT / "docs/first-video.md").read_text(), words_of_captions()
    assert all(phrase in words_of_captions() for phrases in sprite_captions.phrases().values() for phrase in phrases)


@pytest.mark.slow
@pytest.mark.parametrize("prompt", sorted(set(prompts_for_sprites())))
def test_every_example_prompt_is_drawn_as_it_says(prompt: str, tmp_path: Path) -> None:
    shot, clips = parse_caption(prompt), tmp_path / "clips.mkv"
    assert shot is not None
    generate(
        load_model(DEFAULT_MODEL),
        Request(prompts=PromptTimeline.constant(prompt), frames=64),
        Chunked(),
        Output(path=clips),
    )
    score = prompt_accuracy(clips, {0: shot})
    assert (score["object"], score["scene"]) == (1, 1)
