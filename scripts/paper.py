"""Regenerate the tables of docs/benchmarks: python scripts/paper.py [--minutes 10] [--only WORD] [-o paper]

Each command of the list below is run by itself, and what it prints is written into a file of the folder under a head:
command, date, commit, machine. Those that take longer than --minutes are named with their time and left out. `--list`
prints the list. Times are rough, of one quiet core, by what the pages say or by the forwards that there are.
"""

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from longtake.machine import processor

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Table:
    """A command whose numbers stand on a page of docs/benchmarks."""

    page: str
    command: str
    minutes: int
    needs: str = ""
    """What must be there beside the repository; such a table is never run from here."""


def _lab(page: str, minutes: int, *commands: str) -> list[Table]:
    return [Table(page, f"python -m lab {command}", minutes) for command in commands]


TABLES = [
    *_lab("fifo", 5, "measure fifo --parts speed", "measure fifo --parts counts memory"),
    *_lab("fifo", 1, "score bars --parts speed"),
    *_lab("fifo", 15, "measure fifo --parts options", "measure state-bytes"),
    *_lab("fifo", 60, "ablate fifo --clips 2 --model sprites", "ablate fifo --clips 2 --model sprites-uniform"),
    *_lab("nuwa_xl", 3, "measure nuwa-xl --parts counts", "measure nuwa-xl --parts asleep"),
    *_lab("nuwa_xl", 3, "measure nuwa-xl --parts workers", "measure nuwa-xl --parts first"),
    *_lab("nuwa_xl", 3, "measure nuwa-xl --parts batches --steps 2", "measure nuwa-xl --parts processes"),
    *_lab("nuwa_xl", 300, "ablate nuwa-xl conditions --seeds 2", "ablate nuwa-xl autoencoder --seeds 2"),
    *_lab("nuwa_xl", 60, "score nuwa-xl --parts stories --ways tree tree-2 tree-1 --stories 0"),
    *_lab(
        "nuwa_xl",
        10,
        "score nuwa-xl-lengths --steps 10 --levels tree --stories 0 1",
        "score nuwa-xl --model sprites-fast --parts stories --steps 10 --frames 1024 --ways tree-1 tree-2 tree",
    ),
    Table(
        "video_infinity",
        "torchrun --nproc-per-node 2 -m lab score video-infinity --frames 128 512 1024 --videos 1",
        20,
    ),
    *_lab("video_infinity", 120, "ablate video-infinity --shots 2 --steps 20"),
    *_lab("video_infinity", 30, "score scenes --span 32 --blend 16 --steps 20"),
    *_lab("pvdm", 5, "measure pvdm --parts speed activations", "measure pvdm --parts sampling"),
    *_lab("pvdm", 10, "measure pvdm --parts training"),
    *_lab("pvdm", 15, *(f"score pvdm --parts distance --distances 64 --steps {steps}" for steps in (20, 100, 400))),
    *_lab("scaling", 5, "measure scaling --parts link", "measure scaling --parts attention"),
    *_lab("scaling", 10, "measure scaling --parts longer", "measure scaling --parts fifo"),
    *_lab("scaling", 1, "measure scaling --parts tables"),
    *_lab("teach", 18, "measure teach"),
    *_lab("leaderboard", 10, "score controls"),
    *_lab("leaderboard", 1, "score leaderboard"),
    Table(
        "compare",
        "torchrun --nproc-per-node 2 -m longtake compare "
        "--samplers fifo,video-infinity,chunked,freenoise,nuwa-xl,autoregressive "
        "--prompts stories.txt --frames 256 --seeds 3 --equal-budget -o compared",
        40,
        needs="stories.txt, which the page makes",
    ),
    Table(
        "compare",
        "longtake compare "
        "--samplers fifo,video-infinity,chunked,freenoise,nuwa-xl,autoregressive "
        "--prompts s1024.txt --frames 1024 --seeds 1 --equal-budget -o compared-1024",
        18,
        needs="s1024.txt, which the page makes",
    ),
    Table(
        "beside",
        "PYTHONPATH=. python scripts/beside.py --fifo FIFO --frames 16 --partitions 1 --repeats 3",
        10,
        needs="a checkout of FIFO-Diffusion",
    ),
    Table(
        "beside",
        "PYTHONPATH=. python scripts/beside.py --video-infinity VIDEO_INFINITY --frames 48 --repeats 5",
        10,
        needs="a checkout of Video-Infinity",
    ),
    Table(
        "beside",
        "PYTHONPATH=. python scripts/beside.py --pvdm PVDM --steps 2 --repeats 1",
        3,
        needs="a checkout of PVDM",
    ),
]


def head(table: Table) -> str:
    """Return what a file of numbers begins with."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    machine = f"{processor()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    return (
        f"command: {table.command}\npage: docs/benchmarks/{table.page}.md\ndate: {date.today()}\ncommit: {commit}\n"
        f"machine: {machine}\n\n"
    )


def run(table: Table, folder: Path) -> bool:
    """Run a command and write what it prints; return whether it ended well."""
    words = shlex.split(table.command)
    here = {"python": sys.executable, "torchrun": str(Path(sys.executable).with_name("torchrun"))}
    command = [here.get(words[0], words[0]), *words[1:]]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    name = re.sub(r"\W+", "-", table.command.removeprefix("python -m lab "))
    (folder / f"{name}.txt").write_text(head(table) + done.stdout)
    return done.returncode == 0


def main() -> None:
    """Regenerate, or list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--only", default="")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "paper")
    told = parser.parse_args()
    failed = []
    for table in (table for table in TABLES if told.only in f"{table.page} {table.command}"):
        left_out = table.needs or table.minutes > told.minutes
        why = f", not run here: it needs {table.needs}" if table.needs else ", left out" if left_out else ""
        print(f"{table.page}: {table.command} (about {table.minutes} min{'' if told.list else why})", flush=True)
        if not told.list and not left_out:
            told.output.mkdir(exist_ok=True)
            failed += [] if run(table, told.output) else [table.command]
    if failed:
        sys.exit("failed: " + "; ".join(failed))


if __name__ == "__main__":
    main()
