"""New Python processes that run a function, and that end without a word when the one that started them does.

They begin as those of `multiprocessing` that are spawned, which print a traceback where the program is killed before
it has told them what to do, and another where Ctrl-C finds them importing. Free of torch.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import Pipe, current_process, spawn
from multiprocessing.connection import Connection
from typing import Any

# A fork would share threads, locks and connections with its parent. Modules are those that the parent finds.
_BEGIN = "import sys; sys.path = sys.argv[2:]; from longtake.tasks.child import main; main()"


class Child:
    """A process that runs a function, and the connection to it, which ends when either side does."""

    def __init__(self, run: Callable[..., object], *arguments: Any) -> None:
        """Start `run(connection, *arguments)`, of which everything must be picklable; the process reads the script
        that this one runs, without what stands below `if __name__ == "__main__"`. Ctrl-C in a terminal, which goes to
        all its processes, is for this one to hear. Raises OSError where the system starts no more, RuntimeError where
        that script starts processes when it is only read."""
        surroundings = spawn.get_preparation_data("longtake")
        # A secret of multiprocessing's, for connections of another kind.
        del surroundings["authkey"]
        self.connection, theirs = Pipe()
        try:
            self._process = _started([sys.executable, "-c", _BEGIN, str(theirs.fileno()), *sys.path], theirs.fileno())
        finally:
            theirs.close()
        # One that has died already is found by whoever waits for it.
        with suppress(OSError):
            self.connection.send(surroundings)
            self.connection.send((run, arguments))

    @property
    def id(self) -> int:
        """Return the number by which the system knows the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self._process.poll() is None

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        self._process.terminate()

    def end(self, seconds: float | None = 0.0) -> int:
        """Wait so long for its end (None: until it comes), then kill it; return its exit status, less than 0 after a
        signal."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self._process.kill()
        self.connection.close()
        return self._process.wait()


def _started(command: Sequence[str], number: int) -> subprocess.Popen[bytes]:
    """Start a process that has this end of a connection, and that Ctrl-C does not reach before it can hear it."""
    if sys.platform == "win32":  # nobody has run this yet
        os.set_handle_inheritable(number, True)
        handles = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [number]})
        apart = subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, startupinfo=handles, creationflags=apart)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[number])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main() -> None:
    """Be such a process."""
    connection = _given(int(sys.argv[1]))
    process = current_process()
    try:
        # Until it has read the script; multiprocessing starts none meanwhile.
        process._inheriting = True  # pyright: ignore[reportAttributeAccessIssue]
        spawn.prepare(connection.recv())
        del process._inheriting  # pyright: ignore[reportAttributeAccessIssue]
        run, arguments = connection.recv()
    except (EOFError, OSError):
        return
    run(connection, *arguments)


def _given(number: int) -> Any:
    """Return the end of the connection that this process was started with, which its own children do not get."""
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        os.set_handle_inheritable(number, False)
        return PipeConnection(number)
    os.set_inheritable(number, False)
    return Connection(number)
