"""Figures of the server for Prometheus: what waits, what is made and how fast, how long one waits for it."""

import asyncio
import shutil
from contextlib import suppress

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool

from longtake.errors import LongtakeError
from longtake.serve.job import STATUSES, Job
from longtake.serve.queue import Queue

WATCH_SECONDS = 0.25
"""How often one looks; what comes faster counts as one."""
_FIRST = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
_GAPS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)


class Meter:
    """Counts what happens while this server runs; what waits is looked up when somebody asks."""

    def __init__(self, queue: Queue) -> None:
        self._queue, self._seen = queue, dict[str, Job]()
        registry = self._registry = CollectorRegistry()
        self._frames = Counter("longtake_frames_made", "Frames made.", registry=registry)
        self._first = Histogram(
            "longtake_first_frames_seconds",
            "From when a video was asked for to its first frames, waiting included.",
            buckets=_FIRST,
            registry=registry,
        )
        self._gaps = Histogram(
            "longtake_gap_seconds", "From some frames of a video to the next.", buckets=_GAPS, registry=registry
        )
        self._over = Counter("longtake_videos_over", "Videos that came to an end.", ["state"], registry=registry)
        self._jobs = Gauge("longtake_videos", "Videos of every state.", ["state"], registry=registry)
        self._rate = Gauge("longtake_frames_per_second", "Frames per second of all that is made.", registry=registry)
        self._halted = Gauge("longtake_halted", "1 while nothing is made, as with a full disk.", registry=registry)
        self._disk = Gauge("longtake_disk_free_bytes", "Disk that is left beside the videos.", registry=registry)

    def exposed(self) -> tuple[bytes, str]:
        """Return all figures as text, and the type of that text."""
        counts = self._queue.counts()
        for state in STATUSES:
            self._jobs.labels(state).set(counts.get(state, 0))
        self._rate.set(sum(job.rate for job in self._queue.list(limit=1000, statuses=("in_progress",))))
        self._halted.set(self._queue.halted() is not None)
        self._disk.set(shutil.disk_usage(self._queue.folder).free)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    async def watch(self) -> None:
        """Look at what is made, for ever."""
        while True:
            with suppress(LongtakeError):
                await run_in_threadpool(self.look)
            await asyncio.sleep(WATCH_SECONDS)

    def look(self) -> None:
        """Count what has happened since the last look."""
        now = {job.id: job for job in self._queue.list(limit=1000, statuses=("in_progress",))}
        for id in self._seen.keys() - now.keys():
            with suppress(LongtakeError):
                now[id] = self._queue.get(id)
        for id, job in now.items():
            self._count(self._seen.get(id), job)
        self._seen = {id: job for id, job in now.items() if job.status == "in_progress"}

    def _count(self, before: Job | None, job: Job) -> None:
        if before is not None and job.frames_done > before.frames_done:
            self._frames.inc(job.frames_done - before.frames_done)
            if before.first_at is not None:
                self._gaps.observe(max(0.0, job.updated_at - before.updated_at))
        if before is not None and before.first_at is None and job.first_at is not None:
            self._first.observe(max(0.0, job.first_at - job.created_at))
        if job.status in ("completed", "failed", "cancelled"):
            self._over.labels(job.status).inc()
