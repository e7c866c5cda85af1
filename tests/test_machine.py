"""How threads wait, by what their library says of itself, and when Python looks for garbage."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from longtake.machine import nothing_to_collect

BUSY, QUIET = "1e9", "0.0"
THREADS = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
LOADED = f"import ctypes; ctypes.CDLL({str(THREADS[0])!r})" if THREADS else "import torch"
"""What loads the library of threads that torch brings, by itself where it can be: torch takes seconds."""


def turns(load: str, others: bool = True, **chosen: str) -> int:
    """Return how often a thread of a command turns in a circle before it sleeps, on a machine of this load; `others`:
    whether anybody else wants a processor now."""
    code = f"import os, sys; os.getloadavg = lambda: ({load},) * 3; sys.argv = ['longtake', 'samplers']\n"
    code += f"from longtake import machine; machine.others_running = lambda: {others}\n"
    code += f"from longtake.apps.cli import main\ntry:\n    main()\nfinally:\n    {LOADED}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "OMP_DISPLAY_ENV": "VERBOSE", **chosen},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    if not lines:
        pytest.skip("this build of torch has another library of threads, which does not say")
    return int(lines[0].split("'")[1])


def test_threads_sleep_while_they_wait_on_a_machine_that_has_other_work() -> None:
    assert turns(BUSY) == 0
    assert turns(QUIET) > 0
    assert turns(BUSY, others=False) > 0, "what was there is over"
    assert turns(BUSY, GOMP_SPINCOUNT="70") == 70


def test_garbage_is_looked_for_again_once_a_model_is_loaded() -> None:
    gc.unfreeze()
    try:
        with nothing_to_collect():
            assert not gc.isenabled()
        assert gc.isenabled() and gc.get_freeze_count()
        with nothing_to_collect():
            assert gc.isenabled(), "there may be garbage of an earlier model"
    finally:
        gc.unfreeze()


WINDOWS = """
import os, signal, sys
import av, diffusers, filelock, PIL.Image, pydantic, rich.console, rich.progress, safetensors.torch, torch, tyro

for name in ("pread", "pwrite", "O_NOFOLLOW", "getloadavg", "sched_getaffinity"):
    delattr(os, name)
del signal.SIGHUP, signal.SIGKILL
sys.modules["resource"] = sys.modules["fcntl"] = None
opened = os.open


def no_folders(path, *how):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, *how)


os.open, sys.platform = no_folders, "win32"
from longtake.apps.cli import main

main()
"""


@pytest.mark.slow
def test_a_video_is_made_where_there_is_only_what_windows_has(tmp_path):
    """Nothing is asked for that Windows lacks; its own ways beside, this cannot show."""

    def run(program, *arguments):
        call = [sys.executable, "-c", program, *arguments, "--model", "toy", "--segment", "8"]
        return subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)

    plain = "from longtake.apps.cli import main; main()"
    assert run(plain, "generate", "a", "--frames", "24", "-o", "a.mp4").returncode == 0
    there = run(WINDOWS, "generate", "a", "--frames", "24", "-o", "b.mp4")
    assert there.returncode == 0 and "cannot make names durable" in there.stderr, there.stderr
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    again = run(WINDOWS, "generate", "a", "--frames", "24", "-o", "b.mp4")
    assert "is already complete (24 frames)" in again.stderr, again.stderr
