"""The queue: jobs in SQLite beside their videos. What it has promised outlives every process, and a power cut. Free of
torch."""

import json
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from longtake.errors import InputError, LongtakeError, OutputError
from longtake.models import model_spec
from longtake.report import order_target, report_path, subtitle_path
from longtake.request import PromptTimeline
from longtake.samplers import pieces_of
from longtake.samplers.planning import checked_plan
from longtake.serve.job import OPEN, VERBS, Asked, ExtendJob, Job, Problem, RedoJob, Status, VideoJob, order_of
from longtake.serve.settings import Computing, Quota
from longtake.steer.plan import plan_extension, plan_redo, spliced
from longtake.typed import read_typed, to_json
from longtake.video.files import state_folder

DATABASE = "queue.sqlite"
UPLOADS = "uploads"
_RETRY_SECONDS = 60.0
_COLUMNS = {
    "id": "TEXT PRIMARY KEY",
    "status": "TEXT NOT NULL",
    "verb": "TEXT NOT NULL",
    "asked": "TEXT NOT NULL",
    "parent": "TEXT",
    "model": "TEXT NOT NULL",
    "sampler": "TEXT NOT NULL",
    "seed": "INTEGER NOT NULL",
    "prompts": "TEXT NOT NULL",
    "told": "INTEGER NOT NULL DEFAULT 0",
    "can_turn": "INTEGER NOT NULL",
    "frames_total": "INTEGER NOT NULL",
    "frames_done": "INTEGER NOT NULL DEFAULT 0",
    "fps": "REAL NOT NULL",
    "width": "INTEGER NOT NULL",
    "height": "INTEGER NOT NULL",
    "created_at": "REAL NOT NULL",
    "updated_at": "REAL NOT NULL",
    "started_at": "REAL",
    "first_at": "REAL",
    "completed_at": "REAL",
    "rate": "REAL NOT NULL DEFAULT 0",
    "memory": "INTEGER NOT NULL DEFAULT 0",
    "doing": "TEXT NOT NULL DEFAULT ''",
    "error": "TEXT",
    "worker": "TEXT",
    "place": "REAL NOT NULL",
    "deaths": "INTEGER NOT NULL DEFAULT 0",
}
_LAYOUT = 1


class UnknownJobError(LongtakeError):
    """There is no job of this name."""


class QuotaError(LongtakeError):
    """More than the server takes."""


class Queue:
    """All jobs of a folder. Any number of processes and threads may have it open at once; every change is one
    transaction, and on the disk when its method returns (but those of a worker about how far it is, which a power cut
    may take back by a moment)."""

    def __init__(self, folder: Path, quota: Quota | None = None, computing: Computing | None = None) -> None:
        """Open the queue of a folder, or begin one. Raises OutputError where it cannot be written, or is of another
        version."""
        self.folder, self.quota, self.computing = folder.absolute(), quota or Quota(), computing or Computing()
        self._local = threading.local()

    @property
    def uploads(self) -> Path:
        """Return where files lie that came with requests."""
        return self.folder / UPLOADS

    def path(self, job: Job) -> Path:
        """Return where the video of a job is, or will be; its report and subtitles lie beside it."""
        return self.folder / job.file

    def add(self, asked: Asked) -> Job:
        """Check what is asked for from end to end, and let it wait for a worker.

        Raises QuotaError for more than the server takes, UnknownJobError for a parent that is not there, and
        InputError, CapabilityError, OutputError or CheckpointError as the command would.
        """
        raise NotImplementedError

    def get(self, id: str) -> Job:
        """Return a job. Raises UnknownJobError."""
        raise NotImplementedError

    def list(
        self,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
        statuses: Sequence[Status] = (),
    ) -> list[Job]:
        """Return jobs by the time when they were asked for, `limit` of them that follow `after`, newest first unless
        `order` is asc; those of some statuses alone where any are named. Raises UnknownJobError for `after`."""
        raise NotImplementedError

    def counts(self) -> dict[Status, int]:
        """Return how many jobs there are of every status."""
        raise NotImplementedError

    def children(self, id: str) -> list[Job]:
        """Return the jobs that go on from the video of one."""
        raise NotImplementedError

    def halted(self) -> str | None:
        """Return why nothing is made at the moment, such as a full disk; None where all is well. It ends by itself."""
        raise NotImplementedError

    def cancel(self, id: str) -> Job:
        """Give a job up; its worker stops at the next chunk, what it has made stays and plays. Raises UnknownJobError,
        and InputError for one that is over."""
        raise NotImplementedError

    def pause(self, id: str) -> Job:
        """Let a job wait until it is resumed; raises as `cancel`."""
        raise NotImplementedError

    def resume(self, id: str) -> Job:
        """Let a job go on that was paused, has failed or was cancelled. Raises UnknownJobError, QuotaError, and
        InputError for any other."""
        raise NotImplementedError

    def move(self, id: str, position: int) -> Job:
        """Give a waiting job another place, from 1; past the end is the end. Raises UnknownJobError, and InputError for
        one that does not wait."""
        raise NotImplementedError

    def tell(self, id: str, prompts: PromptTimeline, frame: int | None = None) -> Job:
        """Tell the prompts of a job anew: of the whole video, or from a frame on, counted from it. They hold for what
        has not begun when the run next fills a segment. Raises UnknownJobError, and InputError where nothing can become
        of it any more, or its sampler makes all frames together."""
        raise NotImplementedError

    def delete(self, id: str) -> None:
        """Forget a job and remove its files. Raises UnknownJobError, and InputError while a worker holds it or others
        go on from it."""
        raise NotImplementedError

    def claim(self, worker: str) -> Job | None:
        """Return the first job that waits and can begin, which is this worker's from now on; None where there is
        none."""
        raise NotImplementedError

    def begin(
        self, job: Job, prompts: PromptTimeline, seed: int, frames: int, fps: float, size: tuple[int, int]
    ) -> None:
        """Note what a job that goes on from another has turned out to be; `size` is (width, height)."""
        raise NotImplementedError

    def progress(self, job: Job, frames: int, doing: str = "", rate: float = 0.0, memory: int = 0) -> Job | None:
        """Note how far the worker of a job is; return the job as it is wanted now, None where the worker has to stop
        and `let_go`."""
        raise NotImplementedError

    def finish(self, job: Job, frames: int) -> None:
        """Note that the video of a job is complete."""
        raise NotImplementedError

    def fail(self, job: Job, problem: Problem) -> None:
        """Note that a job has failed; it may be resumed."""
        raise NotImplementedError

    def let_go(self, job: Job) -> None:
        """Give back a job that its worker has stopped; one that is not paused or cancelled waits again, at its
        place."""
        raise NotImplementedError

    def give_back(self, worker: str | None = None, *, died: bool = False) -> None:
        """Let the jobs of a worker that is gone wait again; those of all workers for None. Where it has `died` too
        often at the same frame, the job has failed instead."""
        raise NotImplementedError

    def halt(self, reason: str) -> None:
        """Make nothing for a minute, and say why."""
        raise NotImplementedError
