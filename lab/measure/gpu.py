"""What half an hour of a machine with a GPU is for: python -m lab measure gpu [--minutes M] [--folder FOLDER].

Trains all models of the package, scores them, runs the tests that need a GPU, and measures speed and memory: one after
the other, each in a process of its own and for its share of the time, so that what fails or takes too long costs the
others nothing. `folder` then holds few files, each under 16 MB: the table, what was printed, and the weights, which
`cat weights.tar.* | tar x` brings back. Needs no network, and no GPU either: then all of it runs on the CPU.
"""

import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.common import machine
from longtake.errors import InputError

_LARGEST = 15_000_000
_LAST_LINES = 40
_GRACE = 20.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long, and where."""

    minutes: float = 25  # of all parts together
    runs: Path = Path("runs/gpu")  # folder of training: the same call goes on there
    folder: Path = Path("gpu")  # for what is left of it: table.md, printed.txt, weights.tar.*


@dataclass(frozen=True, kw_only=True)
class Part:
    """One command."""

    name: str
    share: float
    """Of the time of all parts; what it leaves goes to those after it."""
    command: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a part ended."""

    part: Part
    seconds: float
    ending: str
    """In words."""
    printed: str


def measure(chosen: Settings) -> str:
    """Run all parts, and return the table of how they ended, with the last lines of each."""
    if not chosen.minutes > 0:
        raise InputError(f"{chosen.minutes:g} minutes are no time; give more than 0")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    told = ", ".join(f"{name} {value}" for name, value in machine().items())
    report = f"{told}\n\n{table(run_all(parts(chosen), 60 * chosen.minutes, chosen.folder / 'printed.txt'))}"
    if (chosen.runs / "weights").exists():
        pack(chosen.runs / "weights", chosen.folder)
    (chosen.folder / "table.md").write_text(report + "\n", encoding="utf-8")
    return report


def parts(chosen: Settings) -> list[Part]:
    """Return what is run, most worth first."""
    longtake, lab = ("-m", "longtake"), ("-m", "lab")
    weights, training = chosen.runs / "weights", 55.0
    train = (*longtake, "train", "embedded", "all", "--runs", str(chosen.runs), "--minutes")
    score = (*lab, "score", "sprites", "--model", str(weights / "sprites"))
    videos = ("--folder", str(chosen.runs / "videos"))
    infinity = ("--sampler", "video-infinity", "--frames", "256", "-o", str(chosen.runs / "infinity.mp4"), "--json")
    rows = [
        # A fifth of its share is left for what each stage does before its first step and after its last.
        ("training", training, (*train, f"{0.8 * chosen.minutes * training / 100:g}")),
        # Where that was not enough: the stages that are left end with a model of no steps, so that there are weights.
        ("what training left undone", 5, (*train, "0.01")),
        ("tests for a GPU", 3, ("-m", "pytest", "-q", "-m", "gpu")),
        ("clips of sprites", 7, (*score, "--parts", "clips")),
        ("speed of fifo", 4, (*lab, "measure", "fifo", "--parts", "counts", "speed", "options")),
        ("videos and stories of sprites", 8, (*score, *videos, "--parts", "videos", "stories", "--videos", "3")),
        ("nuwa-sprites", 6, (*lab, "score", "nuwa-xl", "--model", str(weights / "nuwa-sprites"))),
        ("pvdm-sprites", 6, (*lab, "score", "pvdm", "--model", str(weights / "pvdm-sprites"))),
        ("256 frames of video-infinity", 2, (*longtake, "generate", "a rocket flies up", *infinity)),
        ("speed and memory of PVDM", 4, (*lab, "measure", "pvdm")),
    ]
    return [Part(name=name, share=share, command=(sys.executable, *command)) for name, share, command in rows]


def run_all(chosen: Sequence[Part], seconds: float, printed: Path) -> list[Outcome]:
    """Run parts for so long in all; `printed` gets all that they print."""
    ends, outcomes = time.monotonic() + seconds, list[Outcome]()
    with printed.open("w", encoding="utf-8") as log:
        for number, part in enumerate(chosen):
            share = part.share / sum(other.share for other in chosen[number:])
            outcomes.append(run_part(part, max(ends - time.monotonic(), 0.0) * share))
            log.write(f"## {part.name}\n{outcomes[-1].printed[-_LARGEST // len(chosen) :]}\n")
            log.flush()
            print(f"{part.name}: {outcomes[-1].ending}, {outcomes[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    return outcomes


def run_part(part: Part, seconds: float) -> Outcome:
    """Run a part, no longer than that; what is over its time is asked to end, and ended if it does not."""
    began = time.monotonic()
    with subprocess.Popen(part.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        ending, printed = "", ""
        for end, patience in ((process.terminate, seconds), (process.kill, _GRACE), (process.kill, None)):
            try:
                printed = process.communicate(timeout=patience)[0]
                break
            except subprocess.TimeoutExpired:
                ending = f"ended after its {seconds:.0f} s"
                end()
    ending = ending or ("done" if process.returncode == 0 else f"failed, status {process.returncode}")
    return Outcome(part=part, seconds=time.monotonic() - began, ending=ending, printed=printed)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return a row for each part, and below them the last lines of each."""
    rows = [f"| {one.part.name} | {one.seconds:.0f} | {one.ending} |" for one in outcomes]
    tails = [
        f"`{' '.join(['python', *one.part.command[1:]])}`\n\n```\n{last_lines(one.printed)}\n```" for one in outcomes
    ]
    return "\n".join(["| part | seconds | |", "| --- | --- | --- |", *rows, "", *tails])


def last_lines(printed: str) -> str:
    """Return the end of what was printed."""
    return "\n".join(printed.rstrip().splitlines()[-_LAST_LINES:])


def pack(weights: Path, folder: Path) -> None:
    """Write the folder of models as weights.tar.00, weights.tar.01, ... into `folder`, in place of earlier ones."""
    for old in folder.glob("weights.tar.*"):
        old.unlink()
    whole = folder / "weights.tar"
    with tarfile.open(whole, "w") as archive:
        archive.add(weights, arcname=weights.name)
    with whole.open("rb") as content:
        for number, piece in enumerate(iter(lambda: content.read(_LARGEST), b"")):
            (folder / f"weights.tar.{number:02d}").write_bytes(piece)
    whole.unlink()
