"""The examples in docs/extending.md, as they are written there: the contract tests pick each up by its row alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .extending import BLOCKS, PAGE, write_modules

ROOT = Path(__file__).parents[1]
KINDS = {
    "repeated": "sampler",
    "stable_diffusion": "family",
    "brightness": "metric",
    "between": "target",
    "y4m": "format",
}
TESTS = {
    # Ranks are processes of their own, in which only the rows of the package stand.
    "sampler": ("tests/samplers/test_contract.py", "repeated and not ranks"),
    "family": ("tests/models/test_contract.py", "StableDiffusionPipeline"),
    "metric": ("tests/metrics/test_contract.py", "brightness"),
    "target": ("tests/apps/test_train_contract.py", "between"),
    "format": ("tests/video", "y4m"),
}
TEST_ROWS = {
    "family": """
from tests.models.hub.tiny_pictures import plain_call, tiny_pictures
from tests.models.stock import STOCK
from tests.models.tiny import TINY
TINY["StableDiffusionPipeline"] = tiny_pictures
STOCK["UNet2DConditionModel"] = plain_call
""",
    "target": """
from tests.apps.test_train_contract import TINY, WORLDS
TINY["train between"] = lambda longtake: [*WORLDS, "--batch-size=2"]
""",
}
"""What stands in the tests for the example, beside its row."""
LEAST = {"sampler": 11, "family": 7, "metric": 2, "target": 1, "format": 18}
"""Tests that run, at the least."""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in an empty folder's company: with the modules of the page on its path."""
    write_modules(folder)
    path = os.pathsep.join(map(str, (folder, ROOT, ROOT / "src")))
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", KINDS)
def test_the_lines_are_counted(name: str) -> None:
    parts = [code for title, code in BLOCKS.items() if re.match(rf"{name}\b|{KINDS[name]} row", title)]
    lines = sum(bool(line.strip()) for code in parts for line in code.splitlines())
    (row,) = re.findall(rf"^\| .*`{name}\b.*\| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert int(row) == lines <= 80


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS.values())
def test_the_contract_tests_run_the_row(kind: str, tmp_path: Path) -> None:
    (tmp_path / "added_row.py").write_text(BLOCKS[f"{kind} row"] + TEST_ROWS.get(kind, ""))
    # As late as can be, but before the tests are collected, which read the tables.
    (tmp_path / "adding.py").write_text("def pytest_load_initial_conftests():\n    import added_row\n")
    tests, chosen = TESTS[kind]
    ran = python(tmp_path, "-m", "pytest", "-q", "-p", "adding", "-p", "no:cacheprovider", tests, "-k", chosen)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    (passed,) = re.findall(r"(\d+) passed", ran.stdout)
    assert int(passed) >= LEAST[kind] and tests in "".join(PAGE.read_text().split("`"))


RUN = """
import numpy as np
from pathlib import Path
from longtake import Output, Request, generate, load_model
from longtake.apps.cli import COMMANDS
from longtake.errors import InputError
from longtake.lazy import named
from longtake.metrics import METRICS
from longtake.samplers import sampler_class
from longtake.video.read import read_frames

folder = Path({folder!r})
sampler = sampler_class("repeated")
for ending in ("mkv", "y4m"):
    request = Request(prompts="a", frames=24, seed=5)
    generate(load_model("toy"), request, sampler(), Output(path=folder / f"{{ending}}.{{ending}}", scale=2))
np.save(folder / "mkv.npy", np.concatenate(list(read_frames(folder / "mkv.mkv"))))
np.save(folder / "y4m.npy", np.concatenate(list(read_frames(folder / "y4m.y4m"))))
brightness = named(METRICS["brightness"].kind)
print(brightness(path=folder / "mkv.mkv").measure()["farthest"])
try:
    brightness(path=folder / "none.mkv").measure()
except InputError as refusal:
    print(refusal)
"""


def test_the_examples_do_what_the_page_says(tmp_path: Path) -> None:
    rows = "".join(BLOCKS[f"{kind} row"] for kind in ("sampler", "metric", "format"))
    ran = python(tmp_path, "-c", rows + RUN.format(folder=str(tmp_path)))
    assert ran.returncode == 0, ran.stderr
    exact, stored = (np.load(tmp_path / f"{name}.npy").astype(int) for name in ("mkv", "y4m"))
    assert len(exact) == 24 and np.abs(exact - stored).max() <= 3
    # One prompt and the same noise in every window: the same 8 frames again.
    assert np.array_equal(exact[:8], exact[8:16]) and np.array_equal(exact[:8], exact[16:])
    assert not np.array_equal(exact[0], exact[1])
    told, refusal = ran.stdout.splitlines()[-2:]
    levels = exact.mean((1, 2, 3))
    assert float(told) == pytest.approx(np.abs(levels - levels[:16].mean()).max()) and "there is no" in refusal


def test_the_lists_hold_the_rows(tmp_path: Path) -> None:
    rows = "".join(BLOCKS[f"{kind} row"] for kind in KINDS.values())
    ran = python(tmp_path, "-c", f"{rows}\nfrom longtake.apps.catalog import models_command\nmodels_command([])")
    assert ran.returncode == 0 and "repeated" in ran.stdout, ran.stderr[-2000:]


def test_no_row_loads_torch_or_what_it_names(tmp_path: Path) -> None:
    rows = "".join(BLOCKS[f"{kind} row"] for kind in KINDS.values())
    names = "{'torch', 'diffusers', 'av', *" + repr([*KINDS]) + "}"
    ran = python(tmp_path, "-c", f"{rows}\nimport sys\nassert not {names} & set(sys.modules)")
    assert ran.returncode == 0, ran.stderr
