"""New processes, and those that end while others start."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from longtake.tasks.child import Child


def _double(connection: Connection, number: int) -> None:
    connection.send(2 * number)


def _wait(connection: Connection) -> None:
    try:
        connection.recv()
    except EOFError:
        os._exit(7)


def test_it_does_what_it_is_told():
    child = Child(_double, 21)
    assert child.connection.recv() == 42
    assert child.end(None) == 0 and not child.is_alive


def test_one_whose_parent_ends_before_it_says_what_to_do_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    def ended(connection: Connection, told: object) -> None:
        connection.close()

    monkeypatch.setattr(Connection, "send", ended)
    assert Child(_double, 21).end(None) == 0
    assert capfd.readouterr() == ("", "")


def test_one_that_is_killed_while_it_starts_is_found_by_whoever_waits(capfd: pytest.CaptureFixture[str]):
    child = Child(_wait)
    os.kill(child.id, signal.SIGKILL)
    with pytest.raises((EOFError, ConnectionResetError)):
        child.connection.recv()
    assert child.end() == -signal.SIGKILL
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seconds", [0, 0.02, 0.1])
def test_ctrl_c_is_for_its_parent_to_hear(seconds: float, capfd: pytest.CaptureFixture[str]):
    child = Child(_wait)
    time.sleep(seconds)
    os.kill(child.id, signal.SIGINT)
    child.connection.close()
    assert child.end(None) == 7
    assert capfd.readouterr() == ("", "")
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


SCRIPT = """
from longtake.tasks.child import Child
import beside

beside.known.append("told")

def run(connection):
    connection.send(beside.known)
"""
GUARDED = """
if __name__ == "__main__":
    child = Child(run)
    print(child.connection.recv(), child.end(None))
"""


def test_it_reads_the_script_and_finds_the_modules_of_its_parent(tmp_path: Path):
    (tmp_path / "beside.py").write_text("known = []")
    (tmp_path / "script.py").write_text(SCRIPT + GUARDED)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("['told'] 0\n", "")


def test_a_script_that_starts_processes_whenever_it_is_read_does_not_start_ever_more(tmp_path: Path):
    (tmp_path / "beside.py").write_text("known = []")
    (tmp_path / "script.py").write_text(SCRIPT + "Child(run).connection.recv()")
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("if __name__ == '__main__':") == 1
