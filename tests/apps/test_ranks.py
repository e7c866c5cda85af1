"""The command line under torchrun: one video, one set of messages, and one error however the job ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from longtake.video.read import read_frames

MAKE = ("generate", "a red car", "--model", "toy", "--dtype", "float32", "--sampler.eta", "0.5", "--frames")
ENDLESS = (*MAKE, "endless", "-o", "x.mkv")


class Job:
    """A job of torchrun, in a folder."""

    def __init__(self, folder: Path, size: int, *arguments: str, options: tuple[str, ...] = (), code: str = "") -> None:
        self.folder = folder
        target = ("-m", "longtake")
        if code:
            (folder / "started.py").write_text(code)
            target = ("started.py",)
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), *options, *target]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "XDG_CACHE_HOME": str(folder)}
        with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
            self.process = psutil.Popen([*command, *arguments], cwd=folder, env=environment, stdout=out, stderr=err)
        self._begin = time.monotonic()
        self.seen: list[psutil.Process] = []

    def rank(self, rank: int) -> psutil.Process:
        """Return the process of a rank, once it is there."""
        while time.monotonic() - self._begin < 120:
            for worker in self.process.children():
                try:
                    if worker.environ().get("RANK") == str(rank):
                        self.seen.append(worker)
                        return worker
                except psutil.Error:
                    continue
            time.sleep(0.05)
        raise AssertionError(self.err)

    def wait_for(self, name: str, size: int = 1) -> None:
        """Wait until a file is so large."""
        path = self.folder / name
        while not path.exists() or path.stat().st_size < size:
            assert self.process.poll() is None and time.monotonic() - self._begin < 180, self.err
            time.sleep(0.05)

    def end(self) -> int:
        """Wait for the end; return the status."""
        return self.process.wait(timeout=180)

    @property
    def err(self) -> str:
        """What was written to standard error, without torchrun's own report."""
        return (self.folder / "err").read_text()

    @property
    def ours(self) -> list[str]:
        """Our own errors."""
        return [line for line in self.err.splitlines() if line.startswith("longtake: ")]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Start a job; whatever is left of it afterwards is killed."""
    jobs: list[Job] = []

    def started(size: int, *arguments: str, **how: object) -> Job:
        jobs.append(Job(tmp_path, size, *arguments, **how))  # pyright: ignore
        return jobs[-1]

    yield started
    for job in jobs:
        left = [job.process, *job.seen]
        if job.process.is_running() and job.process.poll() is None:
            left += job.process.children(recursive=True)
        for process in left:
            if process.is_running():
                process.kill()
        job.process.wait()


def alone(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder)}
    subprocess.run([sys.executable, "-m", "longtake", *arguments], cwd=folder, env=environment, check=True, timeout=180)


def ends_well(job: Job, begin: float | None = None) -> None:
    """Check that a job has ended soon after a failure, or after its first error, with one error and no process left."""
    while begin is None:
        begin = time.monotonic() if job.ours or job.process.poll() is not None else None
        time.sleep(0.05)
    status = job.end()
    seconds = time.monotonic() - begin
    print(f"ended after {seconds:.1f} s: {job.ours}")
    assert status != 0 and seconds < 30
    assert len(job.ours) == 1, job.err
    # torchrun's own.
    assert job.err.count("Traceback") == 1, job.err
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in job.seen)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_make_the_video_of_one_and_show_one_set_of_messages(
    start: Callable, longtake: Callable, tmp_path: Path
) -> None:
    job = start(2, *MAKE, "40", "-o", "two.mkv", "--json")
    assert job.end() == 0, job.err
    report = json.loads((tmp_path / "out").read_text())
    assert report == json.loads((tmp_path / "two.json").read_text())
    assert report["complete"] and report["run"]["ranks"] == 2
    assert job.err.count("done     two.mkv: 40 frames") == 1 and job.err.count("video    ") == 1
    ran = longtake("generate", "--from", str(tmp_path / "two.json"), "-o", str(tmp_path / "one.mkv"))
    assert ran.status == 0, ran.err
    assert (tmp_path / "one.mkv").read_bytes() == (tmp_path / "two.mkv").read_bytes()


@pytest.mark.slow
def test_ctrl_c_is_reported_once(start: Callable, tmp_path: Path) -> None:
    job = start(2, *ENDLESS)
    job.wait_for("x.mkv", 5_000)
    job.process.send_signal(signal.SIGINT)
    assert job.end() != 0
    assert job.err.count("stopped by") == job.err.count("the same command continues it") == 1, job.err
    report = json.loads((tmp_path / "x.json").read_text())
    assert not report["complete"] and report["frames"] > 0


@pytest.mark.slow
def test_split_guidance_changes_rounding_only(start: Callable, tmp_path: Path) -> None:
    guided = (*MAKE, "40", "--guidance", "4")
    job = start(2, *guided, "--split-guidance", "-o", "two.mkv")
    assert job.end() == 0, job.err
    alone(tmp_path, *guided, "-o", "one.mkv")
    two, one = (np.concatenate(list(read_frames(tmp_path / name))).astype(int) for name in ("two.mkv", "one.mkv"))
    assert np.abs(two - one).max() <= 2 and np.mean(two != one) <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_job(start: Callable, rank: int) -> None:
    job = start(2, *ENDLESS)
    job.rank(1 - rank)
    victim = job.rank(rank)
    job.wait_for("x.mkv", 5_000)
    begin = time.monotonic()
    victim.kill()
    ends_well(job, begin)
    assert f"process {rank + 1} of 2 (rank {rank}) has ended" in job.ours[0]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_stops_ends_the_job(start: Callable, rank: int) -> None:
    job = start(2, *ENDLESS)
    job.rank(1 - rank)
    victim = job.rank(rank)
    job.wait_for("x.mkv", 5_000)
    begin = time.monotonic()
    victim.suspend()
    ends_well(job, begin)
    assert f"process {rank + 1} of 2 (rank {rank}) has not answered" in job.ours[0]


@pytest.mark.slow
def test_a_job_whose_launcher_is_killed_ends(start: Callable) -> None:
    job = start(2, *ENDLESS)
    workers = [job.rank(0), job.rank(1)]
    job.wait_for("x.mkv", 5_000)
    job.process.kill()
    gone, left = psutil.wait_procs(workers, timeout=30)
    assert not left, job.err


DIFFERENT = """
import os, sys
from longtake.apps.cli import main
sys.argv += ["--seed", os.environ["RANK"]]
main()
"""


@pytest.mark.slow
def test_different_arguments_are_named(start: Callable, tmp_path: Path) -> None:
    job = start(2, *MAKE, "40", "-o", "x.mkv", code=DIFFERENT)
    ends_well(job)
    assert "seed is 0 on rank 0 and 1 on rank 1" in job.ours[0]
    assert not (tmp_path / "x.mkv").exists()


FAILING = """
import os
from longtake.apps.generate import command
from longtake.apps.cli import main
from longtake.errors import OutputError, InputError

class Failing:
    def __init__(self, *args): self.left = 3
    def __call__(self, *args):
        self.left -= 1
        if self.left == 0:
            raise OutputError("the disk is full")

if os.environ["RANK"] == "0":
    command._Run._progress = lambda self, frames, warnings, doing, fail=Failing(): fail()
main()
"""


@pytest.mark.slow
def test_an_error_of_one_process_is_the_one_that_is_shown(start: Callable) -> None:
    job = start(2, *MAKE, "200", "-o", "x.mkv", code=FAILING)
    ends_well(job)
    assert job.ours == ["longtake: the disk is full"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--guidnce", "3"), "guidnce"),
        (("--split-guidance",), "no effect at guidance 1"),
    ],
)
def test_a_mistake_is_shown_once(start: Callable, arguments: tuple[str, ...], problem: str) -> None:
    job = start(2, *MAKE, "40", "-o", "x.mkv", *arguments)
    ends_well(job)
    assert problem in job.ours[0]


KILLED_ONCE = """
import os, signal
from longtake.apps.cli import main
from longtake.video import durable

def reach(point, seen=[]):
    seen.append(point)
    if seen.count("state-committed") == 3:
        os.kill(os.getpid(), signal.SIGKILL)

if os.environ["RANK"] == "0" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    durable.reach = reach
main()
"""


@pytest.mark.slow
def test_a_job_that_torchrun_starts_again_ends_in_the_same_bytes(start: Callable, tmp_path: Path) -> None:
    job = start(2, *MAKE, "120", "-o", "x.mkv", options=("--max-restarts", "1"), code=KILLED_ONCE)
    assert job.end() == 0, job.err
    assert "resume   from frame" in job.err
    assert len(job.ours) == 1
    alone(tmp_path, *MAKE, "120", "-o", "one.mkv")
    assert (tmp_path / "one.mkv").read_bytes() == (tmp_path / "x.mkv").read_bytes()


@pytest.mark.usefixtures("one_thread")
def test_two_processes_share_the_videos_of_a_comparison_which_are_those_of_one(start: Callable, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red car\na green fish | a blue bird\n")
    compare = ("compare", "--model", "toy", "--dtype", "float32", "--prompts", "prompts.txt", "--seeds", "2")
    compare += ("--samplers", "fifo,chunked:steps=3", "--frames", "24", "--metrics", "drift")
    job = start(2, *compare, "-o", "two")
    assert job.end() == 0, job.err
    assert job.err.count("2 processes, a video each at a time") == 1 and job.err.count("making   fifo") == 1
    alone(tmp_path, *compare, "-o", "one")
    names = sorted(path.name for path in (tmp_path / "one").glob("*") if path.suffix in (".mkv", ".vtt", ".jsonl"))
    assert len(names) == 18
    assert all((tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes() for name in names)
    assert (tmp_path / "two" / "report.html").exists()


@pytest.mark.usefixtures("one_thread")
def test_a_batch_of_two_processes_is_continued_by_one(start: Callable, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a red car\na green fish\na blue bird\n")
    batch = ("batch", "prompts.txt", "--model", "toy", "--sampler", "autoregressive", "--frames", "24", "--seeds", "3")
    batch += ("--together", "2", "-o", "a.mkv")
    alone(tmp_path, *batch)
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("a*.mkv")}
    (tmp_path / "a.jsonl").write_text("".join((tmp_path / "a.jsonl").read_text().splitlines(keepends=True)[:3]))
    job = start(2, *batch)
    assert job.end() == 0, job.err
    assert "6 videos made, 9 in a.jsonl" in job.err
    assert {path.name: path.read_bytes() for path in tmp_path.glob("a*.mkv")} == whole
    alone(tmp_path, *batch)
