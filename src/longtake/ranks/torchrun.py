"""Who started this process, and beside how many others: what torchrun or srun says in the environment, read without
torch."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longtake.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The place of this process in its job."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Among the processes of this machine; the number of its GPU."""
    local_size: int = 1
    machine: int = 0
    """Number of the machine, within the job."""
    host: str = "127.0.0.1"
    port: int = 29500
    """Where the job's store is: a table that all its processes read and write."""
    store_runs: bool = False
    """Whether the launcher keeps that store; else rank 0 does."""
    attempt: int = 0
    """How often the launcher has started the job again."""

    def branches(self, split_guidance: bool) -> int:
        """Return how many processes share the two halves of guidance. Raises InputError where they cannot be split."""
        if split_guidance and self.size == 1:
            raise InputError(
                "--split-guidance gives the halves of guidance to different processes, and there is only one; "
                "leave it out, or start an even number: torchrun --nproc-per-node 2 -m longtake generate ..."
            )
        if split_guidance and self.size % 2:
            raise InputError(
                f"--split-guidance needs an even number of processes, and there are {self.size}; "
                "leave it out, or start one more"
            )
        return 2 if split_guidance else 1


def launched(environment: Mapping[str, str] = os.environ) -> Launch:
    """Return the place that torchrun or srun, or whoever sets the variables of torchrun, gave this process; else alone.

    Where LOCAL_RANK is not set, every machine (or pod) has one process. Raises InputError for variables that are
    missing or no numbers.
    """
    if "WORLD_SIZE" not in environment:
        environment = _slurm(environment)
    if environment.get("WORLD_SIZE", "1") == "1":
        return Launch()
    size = _number(environment, "WORLD_SIZE")
    rank = _number(environment, "RANK")
    if not 0 <= rank < size:
        raise InputError(f"RANK is {rank} and WORLD_SIZE {size}; start the job with torchrun, which sets them")
    return Launch(
        rank=rank,
        size=size,
        local_rank=_number(environment, "LOCAL_RANK", "0"),
        local_size=_number(environment, "LOCAL_WORLD_SIZE", "1"),
        machine=_number(environment, "GROUP_RANK", str(rank)),
        host=environment.get("MASTER_ADDR", "127.0.0.1"),
        port=_number(environment, "MASTER_PORT"),
        store_runs=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        attempt=_number(environment, "TORCHELASTIC_RESTART_COUNT", "0"),
    )


def _slurm(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return what srun says of the step that it started, under torchrun's names; nothing outside a step."""
    if "SLURM_STEP_NUM_TASKS" not in environment or "SLURM_PROCID" not in environment:
        return {}
    nodes = environment.get("SLURM_STEP_NODELIST", "")
    told = {
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment.get("SLURM_LOCALID", "0"),
        # "2(x3),1": tasks on each node of the step, in the order of its nodes.
        "LOCAL_WORLD_SIZE": re.split(r"[(,]", environment.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0],
        "GROUP_RANK": environment.get("SLURM_NODEID", "0"),
        "MASTER_ADDR": _first_node(nodes),
        # All processes of a step must agree, and two jobs on one node must not meet.
        "MASTER_PORT": str(20000 + _number(environment, "SLURM_JOB_ID", "0") % 20000),
    }
    return {**told, **{name: environment[name] for name in ("MASTER_ADDR", "MASTER_PORT") if name in environment}}


def _first_node(nodes: str) -> str:
    """Return the first of "gpu[07-09,12],cpu1": gpu07."""
    found = re.match(r"([^\[,]+)(?:\[(\d+))?", nodes)
    return f"{found[1]}{found[2] or ''}" if found else "127.0.0.1"


def _number(environment: Mapping[str, str], name: str, default: str = "") -> int:
    text = environment.get(name, default)
    try:
        return int(text)
    except ValueError:
        was = f"is {text!r}" if text else "is not set"
        raise InputError(f"{name} {was}, but WORLD_SIZE is; start the job with torchrun, which sets both") from None


def check_same(told: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError naming the first setting in which processes differ. `told`: each one's, by rank."""
    for name in dict.fromkeys(name for settings in told for name in settings):
        for rank, settings in enumerate(told):
            if settings.get(name) != told[0].get(name):
                raise InputError(
                    f"the processes of this job were given different settings: {name} is {_shown(told[0].get(name))} "
                    f"on rank 0 and {_shown(settings.get(name))} on rank {rank}; give all of them the same command"
                )


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:97] + "..."
