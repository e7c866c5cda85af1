"""The jobs of a folder as rows of a table of SQLite, and what is true of them at a moment. Free of torch."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from longtake.errors import LongtakeError, OutputError
from longtake.request import PromptTimeline
from longtake.serve.job import STATUSES, VERBS, Job, Problem
from longtake.typed import read_typed, to_json
from longtake.words import plain

DATABASE = "queue.sqlite"
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
    # Where it stands in the queue: the lower, the sooner.
    "place": "REAL NOT NULL",
    # Workers that died at it, and the most frames that any has made: a new one forgives the deaths.
    "deaths": "INTEGER NOT NULL DEFAULT 0",
    "best": "INTEGER NOT NULL DEFAULT 0",
    # Whether it can go on from what there was of another video when it was asked for, or waits for the rest.
    "ready": "INTEGER NOT NULL",
    # Deleted, but a worker holds it still.
    "gone": "INTEGER NOT NULL DEFAULT 0",
}
_JOBS = f"CREATE TABLE IF NOT EXISTS jobs ({', '.join(f'{name} {kind}' for name, kind in _COLUMNS.items())})"
_HALT = "CREATE TABLE IF NOT EXISTS halt (reason TEXT NOT NULL, until REAL NOT NULL)"
_POSITION = "(SELECT 1 + count(*) FROM jobs AS other WHERE other.status = 'queued' AND other.place < jobs.place)"
_FIELDS = frozenset(field.name for field in fields(Job))
_LAYOUT = 1
_AWAY = f"bring back a copy, or move {DATABASE} away, and an empty queue begins; the videos beside it stay as they are"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_CLOSED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)


class UnknownJobError(LongtakeError):
    """There is no job of this name."""


class Rows:
    """The table of a folder; every thread has a connection of its own."""

    def __init__(self, folder: Path, *, careful: bool) -> None:
        """Open the table, or make it. Not `careful`, a power cut may take back the last changes. Raises OutputError for
        one of another version, or that is damaged: every row is read, unless it is opened again (not `careful`)."""
        self._file, self._careful, self._local = folder / DATABASE, careful, threading.local()
        with self.change() as base:
            (layout,) = base.execute("PRAGMA user_version").fetchone()
            if layout not in (0, _LAYOUT):
                raise OutputError(f"{folder} has the queue of another version of longtake; give another folder")
            for statement in (_JOBS, _HALT, f"PRAGMA user_version = {_LAYOUT}"):
                base.execute(statement)
            if careful:
                _check(base)

    @property
    def base(self) -> sqlite3.Connection:
        """Return the connection of this thread."""
        if "base" not in self._local.__dict__:
            base = sqlite3.connect(self._file, timeout=30.0, isolation_level=None)
            base.row_factory = sqlite3.Row
            base.execute("PRAGMA journal_mode = WAL")
            base.execute(f"PRAGMA synchronous = {'FULL' if self._careful else 'NORMAL'}")
            self._local.base = base
        return self._local.base

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Do all of a change or nothing of it. Raises OutputError where the disk refuses."""
        try:
            self.base.execute("BEGIN IMMEDIATE")
            try:
                yield self.base
            except BaseException:
                self.base.execute("ROLLBACK")
                raise
            self.base.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self.base.execute("ROLLBACK")
            raise _failure(error) from error

    def find(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Return what a SELECT finds. Raises OutputError where the file cannot be read."""
        try:
            return self.base.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _failure(error) from error

    def jobs(self, where: str, values: Sequence[Any] = ()) -> list[Job]:
        """Return the jobs of which a condition is true. Raises OutputError for rows that are damaged."""
        found = self.find(f"SELECT *, {_POSITION} AS position FROM jobs WHERE {where}", values)
        return [read_job(row) for row in found]

    def job(self, id: str) -> Job:
        """Return a job. Raises UnknownJobError."""
        found = self.jobs("id = ? AND NOT gone", [id])
        if not found:
            raise UnknownJobError(f"there is no video {plain(id[:60])!r}; list them to see which there are")
        return found[0]

    def add(self, job: Job, *, ready: bool) -> None:
        """Add a job at the end of the queue, in a change; `ready` as in the table."""
        row = {name: value for name, value in to_json(job).items() if name in _COLUMNS}
        row |= {"verb": job.verb, "parent": job.parent, "can_turn": int(job.can_turn), "ready": int(ready)}
        row |= {name: json.dumps(row[name]) for name in ("asked", "prompts")}
        (last,) = self.base.execute("SELECT coalesce(max(place), 0) FROM jobs").fetchone()
        row["place"] = last + 1
        places = ", ".join("?" * len(row))
        self.base.execute(f"INSERT INTO jobs ({', '.join(row)}) VALUES ({places})", [*row.values()])

    def set(self, id: str, **values: Any) -> None:
        """Give columns of a job other values, in a change."""
        values |= {"updated_at": time.time()}
        assigned = ", ".join(f"{name} = ?" for name in values)
        self.base.execute(f"UPDATE jobs SET {assigned} WHERE id = ?", [*values.values(), id])


def read_job(row: sqlite3.Row) -> Job:
    """Return the job of a row; without its position unless the row has that. Raises OutputError for a row that no
    queue has written."""
    try:
        return _job(row)
    except (LookupError, TypeError, ValueError, RecursionError, LongtakeError) as error:
        why = plain(f"{type(error).__name__}: {error}")
        raise OutputError(f"{DATABASE} is damaged at {plain(str(row['id']))[:60]} ({why[:200]}); {_AWAY}") from error


def _job(row: sqlite3.Row) -> Job:
    content = {name: row[name] for name in row.keys() if name in _FIELDS}
    kind = VERBS[row["verb"]]
    content["asked"] = read_typed(kind, json.loads(row["asked"]), DATABASE)
    content["prompts"] = read_typed(PromptTimeline, json.loads(row["prompts"]), DATABASE)
    content["error"] = None if row["error"] is None else Problem(**json.loads(row["error"]))
    content["can_turn"] = bool(row["can_turn"])
    if row["status"] not in STATUSES:
        raise ValueError(f"{row['status']} is no status")
    if row["status"] != "queued":
        content["position"] = None
    return Job(**content)


def _check(base: sqlite3.Connection) -> None:
    """Raise OutputError, or sqlite3.Error, where a file is damaged: pages that do not fit, or rows that say nothing."""
    (state,) = base.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise OutputError(f"{DATABASE} is damaged ({plain(state)[:200]}); {_AWAY}")
    if missing := _COLUMNS.keys() - {row["name"] for row in base.execute("PRAGMA table_info(jobs)")}:
        raise OutputError(f"{DATABASE} is damaged, or no queue of longtake (no {min(missing)}); {_AWAY}")
    for row in base.execute("SELECT * FROM jobs"):
        read_job(row)


def _failure(error: sqlite3.Error) -> OutputError:
    """Return what an error of SQLite means to whoever has the folder."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _DAMAGED:
        return OutputError(f"{DATABASE} is damaged, or no queue of longtake ({error}); {_AWAY}")
    if code in _CLOSED:
        return OutputError(f"cannot open {DATABASE}: {error}; see what lies there and who may write it")
    if code == sqlite3.SQLITE_BUSY:
        return OutputError(f"cannot write {DATABASE}: {error}; end the other program that has it open")
    return OutputError(f"cannot write {DATABASE}: {error}; free some space, or mend the disk")
