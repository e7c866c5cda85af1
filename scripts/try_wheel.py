"""Build the wheel, install it in an empty environment, make a video with it: python scripts/try_wheel.py [PYTHON ...].

Without names it takes the Python that runs this; each prints a line, and one that fails makes the exit status 1. pip's
own settings hold, such as PIP_EXTRA_INDEX_URL and PIP_CONSTRAINT. `--only-wheel` ends after the checks of the file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]
MOST_BYTES = 80_000_000
WANTED = ("Name", "Version", "Summary", "Author", "License-Expression", "License-File", "Keywords", "Requires-Python")
DEMO = ["a rocket flies up through the night sky", "--frames", "16", "--preset", "realtime", "--device", "cpu"]


def build(folder: Path) -> Path:
    """Build the wheel of these sources."""
    call = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(call, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def problems(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel: its size, its metadata, what lies in it."""
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        told = Parser().parsestr(archive.read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode())
    found = [f"{name} is missing in its metadata" for name in WANTED if not told[name]]
    found += [] if told.get_payload() else ["it has no description"]
    if wheel.stat().st_size >= MOST_BYTES:
        found.append(f"it has {wheel.stat().st_size:,} bytes, {MOST_BYTES:,} are too many")
    outside = {name.split("/")[0] for name in names} - {"longtake", f"longtake-{told['Version']}.dist-info"}
    return found + [f"{name} is no part of the package" for name in sorted(outside)] + _unversioned(told)


def _unversioned(told: Message) -> list[str]:
    needs = told.get_all("Requires-Dist") or []
    return [f"{need} asks for no version" for need in needs if not set("<>=~") & set(need.split(";")[0])]


def try_on(python: str, wheel: Path, folder: Path) -> str:
    """Install the wheel for a Python in an environment of its own, make a video there, and say what came of it.

    Raises CalledProcessError for what does not work.
    """
    begin = time.monotonic()
    _run([python, "-m", "venv", str(folder / "venv")])
    _run([str(folder / "venv/bin/pip"), "install", "--quiet", str(wheel)])
    installed, begin = time.monotonic() - begin, time.monotonic()
    longtake = str(folder / "venv/bin/longtake")
    _run([longtake, "--help"])
    _run([longtake, "generate", *DEMO, "-o", str(folder / "demo.mp4")], cwd=folder)
    report = json.loads((folder / "demo.json").read_text())
    assert report["complete"] and report["frames"] == 16
    made, found = time.monotonic() - begin, report["environment"]
    return f"torch {found['torch']}: installed in {installed:.0f} s, 16 frames in {made:.0f} s"


def _run(call: list[str], cwd: Path | None = None) -> None:
    # Nothing of the environment that runs this may be found from there.
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run(call, check=True, capture_output=True, text=True, env=clean, cwd=cwd)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", default=[sys.executable])
    parser.add_argument("--only-wheel", action="store_true")
    given, failed = parser.parse_args(), False
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build(Path(scratch))
        found = problems(wheel)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {'; '.join(found) or 'complete'}", flush=True)
        for number, python in enumerate([] if given.only_wheel else given.pythons):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            try:
                print(f"{python}: {try_on(python, wheel, folder)}", flush=True)
            except subprocess.CalledProcessError as problem:
                failed = True
                print(f"{python}: {' '.join(problem.cmd[:4])} ... failed: {problem.stderr.strip()[-600:]}", flush=True)
    return 1 if failed or found else 0


if __name__ == "__main__":
    sys.exit(main())
