"""Who does the tasks of a run: --executor, --workers and --address."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from longtake._generate import start_work
from longtake.errors import InputError
from longtake.models import load_model
from longtake.ranks.torchrun import launched
from longtake.sampler import Sampler, TaskSampler
from longtake.tasks.task import Executor

if TYPE_CHECKING:
    import torch

    from longtake.apps.report import Order
    from longtake.model import VideoModel

ExecutorName = Literal["inline", "processes", "ray", "ranks"]


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Workers other than this process; they decide no frame."""

    kind: Literal["processes", "ray"]
    count: int | None
    """None is one for every GPU, or processor."""
    address: str | None
    """Of a Ray cluster; None starts one here."""


def chosen_workers(
    executor: ExecutorName | None, count: int | None, address: str | None, sampler: Sampler
) -> Workers | None:
    """Return who else does the tasks; None is this process, or the processes that torchrun started.

    Raises InputError for a choice that has no effect.
    """
    if count is not None and executor not in ("processes", "ray"):
        raise InputError("--workers has no effect without --executor processes or ray; add it, or leave --workers out")
    if count is not None and count < 1:
        raise InputError(f"{count} workers cannot do anything; give 1 or more")
    if address is not None and executor != "ray":
        raise InputError("--address has no effect without --executor ray; add it, or leave --address out")
    if executor is not None and not isinstance(sampler, TaskSampler):
        raise InputError(f"{sampler.name} has no tasks to share out; leave --executor out, or use nuwa-xl")
    ranks = launched().size
    if executor == "ranks" and ranks == 1:
        raise InputError("there is one process; start several: torchrun --nproc-per-node 2 -m longtake generate ...")
    if executor in ("inline", "processes", "ray") and ranks > 1:
        raise InputError(f"{ranks} processes were started, which share the tasks; leave --executor {executor} out")
    if executor in ("processes", "ray"):
        return Workers(kind=executor, count=count, address=address)
    return None


def opened_executor(
    workers: Workers | None, order: "Order", device: str, dtype: "torch.dtype"
) -> AbstractContextManager[Executor | None]:
    """Start the workers of a run, each with a model of its own; the end of the block lets them go."""
    if workers is None:
        return nullcontext()
    assert isinstance(order.sampler, TaskSampler)
    load = partial(numbered_model, order.model, device, dtype)
    start = partial(start_work, load, order.request, order.sampler, order.part)
    if workers.kind == "ray":
        from longtake.tasks.ray_workers import RayWorkers

        return RayWorkers(start, workers.count, workers.address, gpus=device == "cuda")
    from longtake.tasks.processes import Processes, num_units

    return Processes(start, workers.count or num_units(device))


def numbered_model(name: str, device: str, dtype: "torch.dtype", number: int) -> "VideoModel":
    """Load the model of a worker, where there are several GPUs on that of its number."""
    if device == "cuda":
        import torch

        device = f"cuda:{number % torch.cuda.device_count()}"
    return load_model(name, device, dtype)
