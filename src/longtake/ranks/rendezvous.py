"""How processes come together as a `World`: under torchrun, or over a store that they already share."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from longtake.errors import InputError, RanksError
from longtake.ranks.torchrun import Launch, launched
from longtake.ranks.watchdog import Watch, connected, met
from longtake.ranks.world import Group, World

# A process may rightly be busy for long before it answers; whether it lives is watched in other ways.
PATIENCE = timedelta(hours=2)


@contextmanager
def joined_world(device: torch.device | str, split_guidance: bool = False) -> Iterator[World]:
    """Join the processes that torchrun started; a process that is alone is a world of one.

    Inside the block, call `generate(..., world=world)` in all of them. `device`: "cpu" (messages go by gloo) or "cuda"
    (NCCL; each process takes the GPU of its number on its machine). `split_guidance` gives the two halves of guidance
    to different processes.

    When a process ends with an error, dies or stops answering, all the others end within half a minute, by a
    RanksError or, where Python cannot be reached, with exit status 1. Raises InputError where the processes were
    started with different devices, or cannot share guidance.
    """
    launch, device = launched(), torch.device(device)
    branches = launch.branches(split_guidance)
    if launch.size == 1:
        yield World()
        return
    if sys.platform == "win32":
        raise RanksError("the processes of a job listen to each other in ways that Windows lacks; start one alone")
    _take_share(launch, device)
    hosting = launch.rank == 0 and not launch.store_runs
    with Watch(launch, met(launch, hosting=hosting)) as watch:
        with watch.explained():
            watch.meet({"device": device.type, "split guidance": split_guidance})
        with world_over(connected(launch), launch.rank, launch.size, device, branches) as world, watch.explained():
            yield world
            # Nobody leaves before all are done: an error at the end of one is an error of the job.
            world.all.say("done")
        watch.part()


@contextmanager
def world_over(store: dist.Store, rank: int, size: int, device: torch.device, branches: int) -> Iterator[World]:
    """Meet `size` processes over a store that nothing else uses, and part at the end of the block.

    `branches`: processes that share the two halves of guidance, 1 or 2. They are neighbours in rank, and so are
    neighbours in the clips.
    """
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        mesh = init_device_mesh(device.type, (size // branches, branches), mesh_dim_names=("clip", "cfg"))
        everyone = Group(rank=rank, size=size, handle=dist.group.WORLD)
        yield World(rank=rank, size=size, clip=_group(mesh, "clip"), cfg=_group(mesh, "cfg"), all=everyone)
    finally:
        dist.destroy_process_group()


def _group(mesh: DeviceMesh, name: str) -> Group:
    size = mesh[name].size()
    if size == 1:
        return Group()
    return Group(rank=mesh.get_local_rank(name), size=size, handle=mesh.get_group(name))


def _take_share(launch: Launch, device: torch.device) -> None:
    """Take this process's GPU, or its share of the processor (torchrun's choice of OMP_NUM_THREADS stands)."""
    if device.type == "cuda":
        if launch.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"there are {launch.local_size} processes here and {torch.cuda.device_count()} GPUs; "
                "start one process per GPU, or use --device cpu"
            )
        torch.cuda.set_device(launch.local_rank)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // launch.local_size))
