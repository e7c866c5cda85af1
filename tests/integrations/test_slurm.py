"""The SLURM script, with a stand-in for scontrol and no SLURM."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "integrations/slurm/longtake.sbatch"
WANTED = ["generate", "a", "--model", "toy", "--device", "cpu", "--frames", "3000", "--seed", "3"]


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of a job in which scontrol writes down what it is asked for."""
    asked = tmp_path / "scontrol"
    asked.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "asked"}\n')
    asked.chmod(0o755)
    launch = f"{sys.executable} -m longtake"
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "17", "LAUNCH": launch}


@pytest.mark.slow
def test_a_job_that_is_preempted_queues_again_and_ends_with_the_same_bytes(tmp_path: Path, job: dict[str, str]) -> None:
    output = tmp_path / "out.mp4"
    command = ["bash", str(SCRIPT), *WANTED, "-o", str(output)]
    process = subprocess.Popen(command, env=job, stderr=subprocess.PIPE, text=True)
    # The first segments are there.
    while not (output.exists() and output.stat().st_size > 10_000):
        assert process.poll() is None, "it ended before it was told to"
        time.sleep(0.05)
    # SLURM's B: prefix means the script alone.
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 143 and "stopped by SIGTERM" in said and "the same command continues it" in said
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    again = subprocess.run(command, env=job, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0 and "resume" in again.stderr, again.stderr
    assert (tmp_path / "asked").read_text() == "requeue 17\n", "a job that is complete is not queued again"
    plain = tmp_path / "plain.mp4"
    subprocess.run([sys.executable, "-m", "longtake", *WANTED, "-o", str(plain)], env=job, check=True, timeout=600)
    assert output.read_bytes() == plain.read_bytes()


@pytest.mark.slow
def test_a_mistake_is_not_queued_again(tmp_path: Path, job: dict[str, str]) -> None:
    done = subprocess.run(["bash", str(SCRIPT), "generate"], env=job, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "there is no prompt" in done.stderr
    assert not (tmp_path / "asked").exists()
