"""How processes come together, agree, and make one video; what torchrun adds is in tests/apps/test_ranks.py."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from longtake._generate import Output, Result, generate
from longtake.errors import InputError, LongtakeError, OutputError, RanksError
from longtake.models.toy import Toy
from longtake.ranks.rendezvous import joined_world
from longtake.ranks.torchrun import Launch, check_same, launched
from longtake.ranks.watchdog import ARRIVAL_SECONDS, Speaker, met
from longtake.ranks.world import World
from longtake.request import PromptTimeline, Request
from longtake.samplers.fifo.plan import Fifo

TORCHRUN = {
    "WORLD_SIZE": "4",
    "RANK": "3",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1",
    "MASTER_ADDR": "node1",
    "MASTER_PORT": "2950",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "TORCHELASTIC_RESTART_COUNT": "2",
}
REQUEST = Request(prompts=PromptTimeline((0, 30), ("a red car", "a blue boat")), frames=70, seed=4)
FIFO = Fifo(partitions=3, lookahead=False, eta=0.5, decode_batch=7)


def test_the_place_is_what_torchrun_says() -> None:
    assert launched(TORCHRUN) == Launch(
        rank=3,
        size=4,
        local_rank=1,
        local_size=2,
        machine=1,
        host="node1",
        port=2950,
        store_runs=True,
        attempt=2,
    )


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1"}, {**TORCHRUN, "WORLD_SIZE": "1"}])
def test_without_others_a_process_is_alone(environment: dict[str, str]) -> None:
    assert launched(environment) == Launch()


def test_a_pod_with_one_process_needs_no_local_rank() -> None:
    pod = {"WORLD_SIZE": "4", "RANK": "3", "MASTER_ADDR": "pod-0", "MASTER_PORT": "29500"}
    assert launched(pod) == Launch(rank=3, size=4, machine=3, host="pod-0")


SRUN = {
    "SLURM_JOB_ID": "31007",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3)",
    "SLURM_STEP_NODELIST": "gpu[07-09],big1",
}


def test_the_place_is_what_srun_says() -> None:
    place = Launch(rank=3, size=6, local_rank=1, local_size=2, machine=1, host="gpu07", port=31007)
    assert launched(SRUN) == place
    assert launched({**SRUN, "MASTER_ADDR": "10.0.0.1"}) == replace(place, host="10.0.0.1")
    # A batch script is one process, whatever its job has reserved.
    assert launched({"SLURM_NTASKS": "6", "SLURM_PROCID": "0", "SLURM_JOB_ID": "31007"}) == Launch()


def test_waiting_for_rank_0_hears_a_signal(tmp_path: Path) -> None:
    job = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    command = [sys.executable, "-m", "longtake", "generate", "a", "--model", "toy", "-o", str(tmp_path / "a.mkv")]
    with subprocess.Popen(command, env={**os.environ, **job}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        waiting = next(line for line in process.stderr if "waits" in line)
        process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert waiting == "rank 1 waits for rank 0 at 127.0.0.1:9\n"
    # Deaf, it would wait for as long as a process may come late.
    assert time.monotonic() - started < ARRIVAL_SECONDS / 10


def test_nobody_at_the_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.ranks.watchdog.ATTEMPT_SECONDS", 0.5)
    with pytest.raises(RanksError, match=r"rank 1 found nobody at 127.0.0.1:9 within 0 s; start rank 0 there"):
        met(Launch(rank=1, size=2, port=9), hosting=False, patience=0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"RANK": "x"}, "RANK is 'x'"),
        ({"RANK": ""}, "RANK is not set"),
        ({"RANK": "4"}, "RANK is 4 and WORLD_SIZE 4"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"MASTER_PORT": ""}, "MASTER_PORT is not set"),
    ],
)
def test_a_damaged_environment_is_named(change: dict[str, str], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        launched({**TORCHRUN, **change})


def test_guidance_is_split_over_an_even_number_of_processes() -> None:
    assert Launch(size=3).branches(False) == 1
    assert Launch(size=4).branches(True) == 2
    with pytest.raises(InputError, match="there is only one"):
        Launch().branches(True)
    with pytest.raises(InputError, match="there are 3"):
        Launch(size=3).branches(True)


def test_a_process_that_is_alone_joins_itself() -> None:
    with joined_world("cpu") as world:
        assert (world.rank, world.size, world.all.say("a")) == (0, 1, ["a"])
    with pytest.raises(InputError, match="--split-guidance"), joined_world("cpu", split_guidance=True):
        pass


def test_the_first_difference_is_named_with_both_values() -> None:
    check_same([{"seed": 1, "steps": None}] * 3)
    with pytest.raises(InputError, match="steps is null on rank 0 and 4 on rank 2"):
        check_same([{"seed": 1, "steps": None}, {"seed": 1, "steps": None}, {"seed": 1, "steps": 4}])
    with pytest.raises(InputError, match="sampler.eta is null on rank 0 and 1.0 on rank 1"):
        check_same([{"sampler": "a"}, {"sampler": "a", "sampler.eta": 1.0}])


def test_only_the_first_to_claim_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    store = dist.HashStore()
    first, second = Speaker(Launch(rank=1, size=2), store), Speaker(Launch(rank=0, size=2), store)
    assert not second.other
    assert first.claim() and first.claim() and not second.claim()
    assert second.other and not first.other
    first.say("the reason")
    first.say("what follows from it")
    second.say("what follows from it here")
    assert capsys.readouterr().err == "the reason\n"


def make(world: World, path: Path, request: Request = REQUEST, stop_at: int = 10**9, **output: Any) -> Result:
    def progress(frames: int, warnings: tuple[str, ...], doing: str) -> None:
        if frames >= stop_at:
            raise OutputError("the disk is full")

    return generate(Toy(), request, FIFO, Output(path=path, **output), world, progress)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The video, made by one process."""
    path = tmp_path_factory.mktemp("alone") / "whole.mkv"
    make(World(), path)
    return path


@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_number_of_processes_makes_the_video_of_one(ranks: Any, whole: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.mkv"
    results = ranks.run(size, make, path)
    assert path.read_bytes() == whole.read_bytes()
    assert all(replace(result, plan=results[0].plan) == results[0] for result in results)
    assert (results[0].frames, results[0].resumed_from, results[0].finished_before) == (70, 0, False)
    again = ranks.run(size, make, path)
    assert all(result.finished_before and result.frames == 70 for result in again)


def outcome(world: World, *args: Any) -> str:
    """Return how a run ends on this rank."""
    try:
        make(world, *args)
    except LongtakeError as error:
        if world.rank == 0:
            # The others learn of it by the end of the connection.
            raise
        return f"{type(error).__name__}: {error}"
    return "made"


def interrupted(world: World, path: Path) -> str:
    return outcome(world, path, REQUEST, 40)


@pytest.mark.parametrize(("size", "then"), [(2, 1), (1, 3), (3, 2)])
def test_a_run_goes_on_with_any_other_number(ranks: Any, whole: Path, tmp_path: Path, size: int, then: int) -> None:
    path = tmp_path / "a.mkv"
    with pytest.raises(AssertionError, match="OutputError: the disk is full"):
        ranks.run(size, interrupted, path)
    results = ranks.run(then, make, path)
    assert 0 < results[0].resumed_from < 70
    assert {result.resumed_from for result in results} == {results[0].resumed_from}
    assert path.read_bytes() == whole.read_bytes()


def lonely(world: World, path: Path) -> None:
    """Let rank 0 fail in the middle; the others must be told."""
    if world.rank == 0:
        make(world, path, REQUEST, 40)
    with pytest.raises(RanksError):
        make(world, path)


def test_an_error_of_the_writer_ends_the_others(ranks: Any, tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        ranks.run(3, lonely, tmp_path / "a.mkv")
    assert re.findall(r"^rank (\d):", str(caught.value), re.MULTILINE) == ["0"]


def with_own_seed(world: World, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        make(world, path, replace(REQUEST, seed=[5, 5, 6][world.rank]))
    return str(caught.value)


def test_different_settings_are_refused_on_every_rank(ranks: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    for message in ranks.run(3, with_own_seed, path):
        assert "seed is 5 on rank 0 and 6 on rank 2" in message
    assert not path.exists()


def with_own_path(world: World, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        make(world, path.with_name(f"{world.rank}.mkv"))
    return str(caught.value)


def test_different_outputs_are_refused(ranks: Any, tmp_path: Path) -> None:
    assert all("output path is" in message for message in ranks.run(2, with_own_path, tmp_path / "a.mkv"))
