"""Sees to it that the processes of a job end together, and that one line says why.

A process that dies closes its connections, and who waits for it gets an error at once. One that stops does not: so
every process gives a sign of life each second, in the job's store, and listens for that of its neighbour. The first to
know a reason claims the right to say it, so that what follows from it does not hide it.
"""

import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Self

import torch.distributed as dist

from longtake.errors import LongtakeError, RanksError
from longtake.ranks.torchrun import Launch, check_same

BEAT_SECONDS = 1.0
ATTEMPT_SECONDS = 2.0
# Beats of the neighbour that may be missed. Counted, not timed: a computer that slept has missed none.
PATIENCE_BEATS = 12
# A dead process is told from a living one after this time without a beat.
DIAGNOSIS_SECONDS = 3.0
# For closing the output in good order; torchrun kills after 30.
LEAVE_SECONDS = 20.0
ARRIVAL_SECONDS = 300.0

_ENDING = {signal.SIGINT, signal.SIGTERM}
if sys.platform != "win32":
    _ENDING.add(signal.SIGHUP)


def connected(launch: Launch, *, hosting: bool = False, patience: float = ARRIVAL_SECONDS) -> dist.Store:
    """Return a connection of its own to the job's store; this attempt of the job starts with an empty one."""
    store = dist.TCPStore(
        launch.host, launch.port, is_master=hosting, timeout=timedelta(seconds=patience), wait_for_workers=False
    )
    return dist.PrefixStore(f"longtake/{launch.attempt}", store)


def met(launch: Launch, *, hosting: bool, patience: float = ARRIVAL_SECONDS) -> dist.Store:
    """Return the first connection to the job's store, which rank 0 may open later than this process asks for it.

    It is asked for in short attempts, between which a signal is heard. Raises RanksError where nobody answers within
    `patience` seconds, or where the store cannot be opened here.
    """
    where, end = f"{launch.host}:{launch.port}", time.monotonic() + patience
    is_told = False
    while True:
        try:
            store = connected(launch, hosting=hosting, patience=ATTEMPT_SECONDS)
            store.set_timeout(timedelta(seconds=ARRIVAL_SECONDS))
            return store
        except dist.DistError:
            if hosting:
                raise RanksError(
                    f"rank 0 cannot open the job's store at {where}, which may be in use; choose another MASTER_PORT"
                ) from None
        if time.monotonic() >= end:
            raise RanksError(
                f"rank {launch.rank} found nobody at {where} within {patience:.0f} s; start rank 0 there, "
                "or correct MASTER_ADDR and MASTER_PORT"
            )
        if not is_told:
            print(f"rank {launch.rank} waits for rank 0 at {where}", file=sys.stderr, flush=True)
            is_told = True


def say_once(launch: Launch, line: str) -> None:
    """Print why the job ends, unless another process of it says so; then wait until that is done."""
    if launch.size == 1 or not launch.store_runs:
        print(line, file=sys.stderr, flush=True)
        return
    try:
        # A store that is gone, with the launcher, must not hold up the end.
        Speaker(launch, connected(launch, patience=LEAVE_SECONDS / 4)).say(line)
    except dist.DistError:
        # Without the store, better twice than never.
        print(line, file=sys.stderr, flush=True)


class Speaker:
    """The right to say why the job ends: the first process that claims it has it."""

    def __init__(self, launch: Launch, store: dist.Store) -> None:
        self._name, self._store = str(launch.rank), store

    def claim(self) -> bool:
        """Return whether this process has the right, now or already."""
        return self._store.compare_set("speaker", "", self._name).decode() == self._name

    @property
    def other(self) -> bool:
        """Whether another process has it."""
        return self._store.check(["speaker"]) and self._store.get("speaker").decode() != self._name

    def say(self, line: str) -> None:
        """Print the line, or wait until another process has printed its own."""
        if self.claim():
            if self._store.check(["said"]):
                return
            print(line, file=sys.stderr, flush=True)
            self._store.set("said", "")
            return
        # The launcher ends all processes as soon as one has ended: it must not be this one, before that has spoken.
        _until(lambda: self._store.check(["said"]), LEAVE_SECONDS / 4)


class Watch:
    """One process's eye on the others; use it in `with`."""

    def __init__(self, launch: Launch, store: dist.Store) -> None:
        self._launch, self._store = launch, store
        self._speaker = Speaker(launch, store)
        self._places: list[dict[str, Any]] = []
        self._leaving: tuple[float, str] | None = None
        self._closed = False
        self._signals, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._look_after, name="longtake-watch", daemon=True)

    def __enter__(self) -> Self:
        """Begin to give signs of life."""
        os.set_blocking(self._waker, False)
        self._in_main = threading.current_thread() is threading.main_thread()
        if self._in_main:
            # Python handles a signal only when the main thread gets to it, and that may be waiting for a message.
            self._waker_before = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
            self._handlers = {number: signal.getsignal(number) for number in _ENDING}
        self._beat(0)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop giving them."""
        if self._in_main:
            signal.set_wakeup_fd(self._waker_before)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        self._closed = True
        os.write(self._waker, b"\0")
        self._thread.join(timeout=2 * BEAT_SECONDS)
        # A thread that hangs in the store keeps its end of the pipe.
        if not self._thread.is_alive():
            os.close(self._signals)
        os.close(self._waker)

    def meet(self, terms: Mapping[str, object]) -> None:
        """Wait until all processes are here. Raises InputError where their terms differ, RanksError if one is late."""
        rank, size = self._launch.rank, self._launch.size
        place = {"terms": terms, "pid": os.getpid(), "machine": self._launch.machine}
        self._store.set(f"place/{rank}", json.dumps(place))
        keys = [f"place/{peer}" for peer in range(size)]
        _until(lambda: self._store.check(keys), ARRIVAL_SECONDS)
        late = [peer for peer in range(size) if not self._store.check([keys[peer]])]
        if late:
            raise RanksError(f"{self._name(late[0])} has not come within {ARRIVAL_SECONDS:g} s; see its own message")
        self._places = [json.loads(self._store.get(key)) for key in keys]
        check_same([place["terms"] for place in self._places])

    def part(self) -> None:
        """Leave a finished job; who hosts the store leaves last."""
        self._store.set(f"left/{self._launch.rank}", "")
        if not self._launch.store_runs and self._launch.rank == 0:
            keys = [f"left/{peer}" for peer in range(self._launch.size)]
            _until(lambda: self._store.check(keys), LEAVE_SECONDS)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Let an error of the block through, once the job knows of it.

        Prints the reason why the job ends, if this process is the first to know. Raises RanksError in the place of a
        signal or a lost connection, if another process is the reason.
        """
        try:
            yield
        except BaseException as error:
            self._leaving = (time.monotonic(), str(error))
            if self._in_main:
                # The launcher's signal to end, which any failure brings, must not cut the explanation short.
                for number in self._handlers:
                    signal.signal(number, signal.SIG_IGN)
            try:
                reason = self._explain(error)
            except dist.DistError:
                reason = None
            if reason is not None:
                raise RanksError(reason) from error
            raise

    def _explain(self, error: BaseException) -> str | None:
        """Say why the job ends, if that is this process's part; return who else is the reason, if anybody."""
        asked = not isinstance(error, Exception)
        if not asked and not isinstance(error, RanksError):
            self._speaker.say(_line(error))
            return None
        if asked:
            self._store.set(f"left/{self._launch.rank}", "")
        lost = self._lost()
        if self._speaker.other:
            return "another process of this job has ended with an error"
        if lost:
            reason = f"{self._name(lost[0])} has ended; see its own message, if any. The same command continues the run"
            self._speaker.say(f"longtake: {reason}")
            return reason
        if self._launch.rank == 0:
            # What is said of a signal is the caller's: it knows what the output holds.
            self._speaker.claim()
        else:
            _until(lambda: self._speaker.other, DIAGNOSIS_SECONDS)
        return None

    def _lost(self) -> list[int]:
        """Return the processes that give no sign of life and have not left either."""
        silent = [peer for peer in range(self._launch.size) if peer != self._launch.rank]
        before = {peer: self._sign(peer) for peer in silent}
        end = time.monotonic() + DIAGNOSIS_SECONDS
        while silent and time.monotonic() < end and not self._speaker.other:
            time.sleep(0.05)
            silent = [
                peer for peer in silent if self._sign(peer) == before[peer] and not self._store.check([f"left/{peer}"])
            ]
        return silent

    def _look_after(self) -> None:
        neighbour = (self._launch.rank + 1) % self._launch.size
        heard, missed, beat, asked = b"", 0, 0, float("inf")
        try:
            while True:
                ready, _, _ = select.select([self._signals], [], [], BEAT_SECONDS)
                if ready and _ENDING & set(os.read(self._signals, 64)):
                    asked = min(asked, time.monotonic())
                if self._closed:
                    return
                beat += 1
                self._beat(beat)
                sign = self._sign(neighbour)
                missed = missed + 1 if sign == heard and not ready else 0
                heard = sign
                self._intervene(neighbour, missed, asked)
        except dist.DistError:
            if not self._closed and self._leaving is None:
                self._leave("the job's store is gone: whoever started the job has ended; the same command continues it")

    def _intervene(self, neighbour: int, missed: int, asked: float) -> None:
        """End this process where its main thread cannot."""
        now = time.monotonic()
        if self._leaving is not None:
            begun, line = self._leaving
            if now - begun > LEAVE_SECONDS:
                self._leave(line)
        elif now - asked > LEAVE_SECONDS:
            self._leave("stopped by a signal; the same command continues the run")
        elif missed >= PATIENCE_BEATS and asked == float("inf") and self._places:
            line = f"{self._name(neighbour)} has not answered for {PATIENCE_BEATS * BEAT_SECONDS:g} s"
            with suppress(dist.DistError):
                self._speaker.say(f"longtake: {line}; the job ends here, and the same command continues it")
            self._end(neighbour)
            os._exit(1)

    def _leave(self, line: str) -> None:
        try:
            self._speaker.say(f"longtake: {line}")
        except dist.DistError:
            print(f"longtake: {line}", file=sys.stderr, flush=True)
        os._exit(1)

    def _end(self, peer: int) -> None:
        """Kill a process of this machine that does not answer: the launcher would wait half a minute before it does."""
        place = self._places[peer]
        if place["machine"] == self._launch.machine:
            with suppress(ProcessLookupError):
                os.kill(place["pid"], signal.SIGKILL)

    def _beat(self, number: int) -> None:
        self._store.set(f"beat/{self._launch.rank}", str(number))

    def _sign(self, peer: int) -> bytes:
        """Return the last sign of life of a process; nothing if there was none, for which `get` would wait."""
        key = f"beat/{peer}"
        return self._store.get(key) if self._store.check([key]) else b""

    def _name(self, peer: int) -> str:
        return f"process {peer + 1} of {self._launch.size} (rank {peer})"


def _line(error: Exception) -> str:
    if isinstance(error, LongtakeError | OSError):
        return f"longtake: {' '.join(str(error).split())}"
    trace = "".join(traceback.format_exception(error))
    return f"{trace}longtake: a fault of longtake or of this machine, see above: {' '.join(str(error).split())}"


def _until(reached: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not reached() and time.monotonic() < end:
        time.sleep(0.05)
