"""Run every test file alone, in random order, with 1 and with 2 threads: python scripts/run_alone.py [tests/train ...].

Prints a line for each run, at the end the files that failed, and exits with 1 if there are any; --seed sets the order.
"""

import argparse
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

THREADS = (1, 2)


class Shuffle:
    """Puts the tests of a file in another order; those of a module-wide fixture need not stay together."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Shuffle."""
        random.Random(self._seed).shuffle(items)


def run(file: Path, threads: int, seed: int) -> bool:
    """Run a test file in a process of its own; return whether all passed, or were deselected."""
    call = [sys.executable, __file__, "--one", str(file), "--seed", str(seed)]
    done = subprocess.run(call, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, capture_output=True, text=True)
    passed = done.returncode in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    last = (done.stdout.strip().splitlines() or [done.stderr])[-1]
    print(
        f"{file} {threads} threads: {last}" if passed else f"{done.stdout}\n{file} {threads} threads: FAILED",
        flush=True,
    )
    return passed


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", type=Path, nargs="*", default=[Path("tests")])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        return pytest.main(
            ["-q", "--no-header", "-p", "no:cacheprovider", *map(str, given.places)], [Shuffle(given.seed)]
        )
    files = [
        file for place in given.places for file in ([place] if place.is_file() else sorted(place.rglob("test_*.py")))
    ]
    failed = [(file, threads) for file in files for threads in THREADS if not run(file, threads, given.seed)]
    print(f"{len(files)} files, {len(failed)} failures", *(f"{file} with {n} threads" for file, n in failed), sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
