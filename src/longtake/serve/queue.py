"""The queue: jobs in SQLite beside their videos. What it has promised outlives every process, and a power cut. Free of
torch."""

import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from longtake.errors import InputError, OutputError
from longtake.reading import folder_above, refuse_file, refuse_lost_link
from longtake.report import Order
from longtake.request import PromptTimeline
from longtake.serve.foresee import QuotaError, check_words, foreseen, rests
from longtake.serve.job import OPEN, STATUSES, Asked, Job, Problem, Status, VideoJob, new_id, order_of
from longtake.serve.rows import Rows, read_job
from longtake.serve.settings import Computing, Quota
from longtake.steer.plan import spliced
from longtake.typed import to_json
from longtake.video.files import report_path, state_folder, subtitle_path

UPLOADS = "uploads"
_RETRY_SECONDS = 60.0
# Advice that only a command can follow.
_COMMAND = re.compile(r"(?<![\w-])(-o|--overwrite)(?![\w-])|same command")
_OWNER = "whoever has the server can mend that, and then resume it or make it again"
_PROGRESS = """
    UPDATE jobs SET frames_done = :frames, doing = :doing, rate = :rate, memory = :memory, updated_at = :now,
        first_at = CASE WHEN first_at IS NULL AND :frames > 0 THEN :now ELSE first_at END,
        deaths = CASE WHEN :frames > best THEN 0 ELSE deaths END, best = max(best, :frames)
    WHERE id = :id AND worker = :worker AND status = 'in_progress' AND NOT gone RETURNING *
"""
_FIRST = """
    SELECT id FROM jobs WHERE status = 'queued' AND worker IS NULL AND NOT gone AND NOT EXISTS (
        SELECT 1 FROM jobs AS other WHERE other.id = jobs.parent AND (
            other.worker IS NOT NULL OR other.status IN ('queued', 'in_progress')
            OR other.status = 'paused' AND NOT jobs.ready
        )
    ) AND NOT EXISTS (
        SELECT 1 FROM jobs AS child WHERE child.parent = jobs.id AND child.worker IS NOT NULL AND child.frames_done = 0
    ) ORDER BY place LIMIT 1
"""


class Queue:
    """All jobs of a folder. Any number of processes and threads may have it open at once; every change is one
    transaction, and on the disk when its method returns (those of a worker may be taken back by a power cut, after
    which it finds them again in its files)."""

    def __init__(
        self,
        folder: str | Path,
        quota: Quota | None = None,
        computing: Computing | None = None,
        *,
        careful: bool = True,
    ) -> None:
        """Open the queue of a folder, or begin one. Not `careful`, changes need not survive a power cut. Raises
        OutputError where it cannot be written, or is of another version."""
        self.folder, self.quota, self.computing = Path(folder).absolute(), quota or Quota(), computing or Computing()
        refuse_file(Path(folder))
        folder_above(Path(folder))
        refuse_lost_link(Path(folder), folder=True)
        try:
            self.uploads.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make a queue in {folder}: {error.strerror}; give another folder") from None
        self._rows = Rows(self.folder, careful=careful)

    @property
    def uploads(self) -> Path:
        """Return where files lie that came with requests."""
        return self.folder / UPLOADS

    def path(self, job: Job) -> Path:
        """Return where the video of a job is, or will be; its report and subtitles lie beside it."""
        return self.folder / job.file

    def said(self, error: BaseException) -> str:
        """Return an error in words for a stranger, who is not told where the folder lies, and has no command line."""
        what, *advice = str(error).replace(f"{self.folder}{os.sep}", "").split("; ")
        possible = [part for part in advice if not _COMMAND.search(part)]
        return "; ".join([what, *possible, *([_OWNER] if len(possible) < len(advice) else [])])

    def add(self, asked: Asked) -> Job:
        """Check what is asked for from end to end, and let it wait for a worker.

        Raises QuotaError for more than the server takes, UnknownJobError for a parent that is not there, and
        InputError, CapabilityError, OutputError or CheckpointError as the command would.
        """
        path = self.folder / f"{new_id()}.mp4"
        job = foreseen(asked, path, self.uploads, self.computing, self.get)
        if job.frames_total > self.quota.max_frames:
            raise QuotaError(f"{job.frames_total} frames are too many; this server makes up to {self.quota.max_frames}")
        if reason := self.halted():
            raise QuotaError(reason)
        with self._rows.change() as base:
            self._check_room(base)
            self._rows.add(job, ready=job.parent is None or rests(self.get(job.parent)))
        return self.get(job.id)

    def get(self, id: str) -> Job:
        """Return a job. Raises UnknownJobError."""
        return self._rows.job(id)

    def list(
        self,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
        statuses: Sequence[Status] = (),
    ) -> "list[Job]":
        """Return jobs by the time when they were asked for, `limit` of them that follow `after`, newest first unless
        `order` is asc; those of some statuses alone where any are named. Raises UnknownJobError for `after`."""
        where, values = ["NOT gone"], list[Any]()
        if after is not None:
            self.get(after)
            where.append(f"rowid {'>' if order == 'asc' else '<'} (SELECT rowid FROM jobs WHERE id = ?)")
            values.append(after)
        if statuses:
            where.append(f"status IN ({', '.join('?' * len(statuses))})")
            values += statuses
        direction = "ASC" if order == "asc" else "DESC"
        return self._rows.jobs(f"{' AND '.join(where)} ORDER BY rowid {direction} LIMIT ?", [*values, limit])

    def waiting(self) -> "list[Job]":
        """Return the jobs that wait, first the one that is made next."""
        return self._rows.jobs("NOT gone AND status = 'queued' ORDER BY place", [])

    def counts(self) -> dict[Status, int]:
        """Return how many jobs there are of every status."""
        found = self._rows.find("SELECT status, count(*) FROM jobs WHERE NOT gone GROUP BY status")
        return dict.fromkeys(STATUSES, 0) | {row[0]: row[1] for row in found}

    def children(self, id: str) -> "list[Job]":
        """Return the jobs that go on from the video of one."""
        return self._rows.jobs("NOT gone AND parent = ? ORDER BY rowid", [id])

    def halted(self) -> str | None:
        """Return why nothing is made at the moment, such as a full disk; None where all is well. It ends by itself."""
        left, least = shutil.disk_usage(self.folder).free, self.quota.keep_free
        if left < least:
            return (
                f"the disk is full: {left / 1e9:.1f} GB are free, and {least / 1e9:.1f} GB must stay so; the queue "
                "goes on once there is space"
            )
        found = self._rows.find("SELECT reason FROM halt WHERE until > ?", [time.time()])
        return found[0][0] if found else None

    def cancel(self, id: str) -> Job:
        """Give a job up; its worker stops at the next chunk, what it has made stays and plays. Raises UnknownJobError,
        and InputError for one that is over."""
        with self._rows.change() as base:
            self._check_status(base, id, OPEN, "cancelled")
            self._rows.set(id, status="cancelled", completed_at=time.time())
        return self.get(id)

    def pause(self, id: str) -> Job:
        """Let a job wait until it is resumed; raises as `cancel`."""
        with self._rows.change() as base:
            self._check_status(base, id, OPEN, "paused")
            self._rows.set(id, status="paused")
        return self.get(id)

    def resume(self, id: str) -> Job:
        """Let a job go on that was paused, has failed or was cancelled. Raises UnknownJobError, QuotaError, and
        InputError for any other."""
        with self._rows.change() as base:
            self._check_status(base, id, ("paused", "failed", "cancelled"), "resumed")
            self._check_room(base)
            self._rows.set(id, status="queued", completed_at=None, error=None, deaths=0)
        return self.get(id)

    def move(self, id: str, position: int) -> Job:
        """Give a waiting job another place, from 1; past the end is the end. Raises UnknownJobError, and InputError for
        one that does not wait."""
        if position < 1:
            raise InputError(f"there is no place {position} in a queue; give 1 or more")
        with self._rows.change() as base:
            self._check_status(base, id, ("queued",), "moved")
            found = base.execute("SELECT id, place FROM jobs WHERE status = 'queued' ORDER BY place").fetchall()
            ids = [row["id"] for row in found if row["id"] != id]
            ids.insert(position - 1, id)
            for moved, row in zip(ids, found, strict=True):
                base.execute("UPDATE jobs SET place = ? WHERE id = ?", [row["place"], moved])
        return self.get(id)

    def tell(self, id: str, prompts: PromptTimeline, frame: int | None = None) -> Job:
        """Tell the prompts of a job anew: of the whole video, or from a frame on, counted from it. They hold for what
        has not begun when the run next fills a segment. Raises UnknownJobError, and InputError where nothing can become
        of it any more, its sampler makes all frames together, or its model does not know the words."""
        with self._rows.change() as base:
            job = self._check_status(base, id, OPEN, "told other prompts")
            if not job.can_turn:
                raise InputError(f"{job.sampler} makes all frames together; its prompts cannot change on the way")
            told = prompts if frame is None else spliced(job.prompts, prompts, frame)
            check_words(job, told, self._order, self.get)
            self._rows.set(id, prompts=json.dumps(to_json(told)), told=job.told + 1)
        return self.get(id)

    def delete(self, id: str) -> None:
        """Forget a job and remove its files; where a worker holds it, as soon as that lets go. Raises UnknownJobError,
        and InputError while others that are not complete go on from it."""
        with self._rows.change() as base:
            job = self._check_status(base, id, STATUSES, "deleted")
            for child in self.children(id):
                if child.status in OPEN:
                    raise InputError(f"{child.id} goes on from {id}; delete that first, or wait until it is complete")
            self._rows.set(id, gone=1)
        if job.worker is None:
            self._purge(job)

    def claim(self, worker: str) -> Job | None:
        """Return the first job that waits and can begin, which is this worker's from now on; None where there is
        none. One that goes on from another waits until that is over, or, where it can go on from what there is, rests.
        """
        # Looking is cheap, and is all that there is to do most of the time.
        if self.halted() or not self._rows.find(_FIRST):
            return None
        with self._rows.change() as base:
            found = base.execute(_FIRST).fetchone()
            if found is None:
                return None
            job = self._rows.job(found["id"])
            started = job.started_at or time.time()
            self._rows.set(job.id, status="in_progress", worker=worker, started_at=started, doing="starting", rate=0)
        return self.get(job.id)

    def begin(self, job: Job, prompts: PromptTimeline, seed: int, frames: int) -> None:
        """Note what a job that goes on from another has turned out to be; prompts that were told since stay."""
        with self._rows.change() as base:
            self._rows.set(job.id, seed=seed, frames_total=frames)
            told = json.dumps(to_json(prompts))
            base.execute("UPDATE jobs SET prompts = ? WHERE id = ? AND told = 0", [told, job.id])

    def progress(self, job: Job, frames: int, doing: str = "", rate: float = 0.0, memory: int = 0) -> Job | None:
        """Note how far the worker of a job is; return the job as it is wanted now, None where the worker has to stop
        and `let_go`."""
        with self._rows.change() as base:
            found = base.execute(
                _PROGRESS,
                {"id": job.id, "worker": job.worker, "frames": frames, "doing": doing, "rate": rate, "memory": memory}
                | {"now": time.time()},
            ).fetchone()
        return None if found is None or self.halted() else read_job(found)

    def finish(self, job: Job, frames: int) -> None:
        """Note that the video of a job is complete."""
        self._leave(job, status="completed", frames_done=frames, completed_at=time.time(), error=None)

    def fail(self, job: Job, problem: Problem) -> None:
        """Note that a job has failed; it may be resumed."""
        self._leave(job, status="failed", completed_at=time.time(), error=json.dumps(asdict(problem)))

    def let_go(self, job: Job) -> None:
        """Give back a job that its worker has stopped; one that is not paused or cancelled waits again, at its
        place."""
        self._leave(job)

    def give_back(self, worker: str | None = None, *, died: bool = False) -> None:
        """Let the job of a worker that is gone wait again; those of all workers for None. Where workers have `died` at
        it too often without a new frame, it has failed instead."""
        which = "worker IS NOT NULL" if worker is None else "worker = ?"
        for job in self._rows.jobs(which, [] if worker is None else [worker]):
            deaths = self._rows.find("SELECT deaths FROM jobs WHERE id = ?", [job.id])[0][0] + died
            if deaths < self.quota.max_deaths or job.status != "in_progress":
                self._leave(job, deaths=deaths)
                continue
            why = f"its workers have died, {deaths} in a row, perhaps for lack of memory; resume tries again"
            self.fail(job, Problem(code="worker_died", message=why))
        # What a server deleted when it was killed.
        for job in self._rows.jobs("gone AND worker IS NULL", []):
            self._purge(job)

    def halt(self, reason: str) -> None:
        """Make nothing for a minute, and say why."""
        with self._rows.change() as base:
            base.execute("DELETE FROM halt")
            base.execute("INSERT INTO halt VALUES (?, ?)", [reason, time.time() + _RETRY_SECONDS])

    def _check_status(self, base: sqlite3.Connection, id: str, known: Sequence[Status], become: str) -> Job:
        job = self._rows.job(id)
        if job.status not in known:
            raise InputError(f"{id} is {job.status.replace('_', ' ')}, and cannot be {become}")
        return job

    def _order(self, asked: VideoJob) -> Order:
        return order_of(asked, self.folder / "video.mp4", self.uploads, self.computing)

    def _check_room(self, base: sqlite3.Connection) -> None:
        (waiting,) = base.execute("SELECT count(*) FROM jobs WHERE status = 'queued' AND NOT gone").fetchone()
        if waiting >= self.quota.max_queue:
            raise QuotaError(f"the queue is full, with {waiting} waiting; try again when some are made")

    def _leave(self, job: Job, **values: Any) -> None:
        """Take a job from its worker. One that was cancelled meanwhile stays so, one in progress waits again unless
        the values say otherwise."""
        with self._rows.change() as base:
            found = base.execute("SELECT * FROM jobs WHERE id = ? AND worker = ?", [job.id, job.worker]).fetchone()
            if found is None:
                return
            now = read_job(found).status
            if now == "cancelled" or (now == "paused" and values.get("status") == "failed"):
                values["status"] = now
            after = {"status": "queued" if now == "in_progress" else now} | values
            self._rows.set(job.id, worker=None, doing="", rate=0, **after)
        if found["gone"]:
            self._purge(job)

    def _purge(self, job: Job) -> None:
        """Remove the files of a job, and then what is known of it."""
        remove_video(self.path(job))
        for file in self.folder.glob(f"{job.id}*"):
            file.unlink()
        if isinstance(job.asked, VideoJob) and job.asked.input_reference is not None:
            shared = self._rows.jobs("id != ? AND instr(asked, ?)", [job.id, json.dumps(job.asked.input_reference)])
            if not shared:
                (self.uploads / job.asked.input_reference).unlink(missing_ok=True)
        with self._rows.change() as base:
            base.execute("DELETE FROM jobs WHERE id = ?", [job.id])


def remove_video(path: Path) -> None:
    """Remove a video with everything that its run has laid beside it."""
    shutil.rmtree(state_folder(path), ignore_errors=True)
    for file in (path, report_path(path), subtitle_path(path)):
        file.unlink(missing_ok=True)
