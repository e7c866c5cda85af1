"""Who does the tasks of a run."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from longtake.errors import InputError
from longtake.models import load_model
from longtake.ranks.torchrun import launched
from longtake.sampler import Sampler, TaskSampler
from longtake.samplers import start_work
from longtake.tasks.task import Executor
from longtake.typed import Setting

if TYPE_CHECKING:
    import torch

    from longtake.model import VideoModel
    from longtake.report import Order

ExecutorName = Literal["inline", "processes", "ray", "ranks"]


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who does the tasks of nuwa-xl; this decides no frame."""

    executor: Annotated[ExecutorName | None, Setting(metavar="NAME", unset="ranks under torchrun, else inline")] = None
    """Who does the tasks of nuwa-xl: inline (this process), processes, ray, or ranks (torchrun's)."""
    workers: Annotated[int | None, Setting(metavar="N", unset="one for every GPU, or processor")] = None
    """How many processes, or Ray workers."""
    address: Annotated[str | None, Setting(metavar="HOST:PORT", unset="one that is started here")] = None
    """The Ray cluster."""

    @property
    def elsewhere(self) -> bool:
        """Return whether processes of their own do the tasks, rather than this one or those that torchrun started."""
        return self.executor in ("processes", "ray")

    def check(self, sampler: Sampler) -> None:
        """Raise InputError for a choice that has no effect."""
        if self.workers is not None and not self.elsewhere:
            raise InputError(
                "--workers has no effect without --executor processes or ray; add it, or leave --workers out"
            )
        if self.workers is not None and self.workers < 1:
            raise InputError(f"{self.workers} workers cannot do anything; give 1 or more")
        if self.address is not None and self.executor != "ray":
            raise InputError("--address has no effect without --executor ray; add it, or leave --address out")
        if self.executor is not None and not isinstance(sampler, TaskSampler):
            raise InputError(f"{sampler.name} has no tasks to share out; leave --executor out, or use nuwa-xl")
        ranks = launched().size
        if self.executor == "ranks" and ranks == 1:
            raise InputError(
                "there is one process; start several: torchrun --nproc-per-node 2 -m longtake generate ..."
            )
        if self.executor not in (None, "ranks") and ranks > 1:
            raise InputError(
                f"{ranks} processes were started, which share the tasks; leave --executor {self.executor} out"
            )

    def opened(self, order: "Order", device: str, dtype: "torch.dtype") -> AbstractContextManager[Executor | None]:
        """Start the workers of a run, each with a model of its own; the end of the block lets them go."""
        if not self.elsewhere:
            return nullcontext()
        assert isinstance(order.sampler, TaskSampler)
        load = partial(numbered_model, order.model, device, dtype)
        start = partial(start_work, load, order.request, order.sampler, order.output.part)
        if self.executor == "ray":
            from longtake.tasks.ray_workers import RayWorkers

            return RayWorkers(start, self.workers, self.address, gpus=device == "cuda")
        from longtake.tasks.processes import Processes, num_units

        return Processes(start, self.workers or num_units(device))


def numbered_model(name: str, device: str, dtype: "torch.dtype", number: int) -> "VideoModel":
    """Load the model of a worker, where there are several GPUs on that of its number."""
    if device == "cuda":
        import torch

        device = f"cuda:{number % torch.cuda.device_count()}"
    return load_model(name, device, dtype)
