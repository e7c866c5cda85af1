"""What `generate` and `stream` are given from Python, checked before any work: its types, and where it is to go."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from longtake.errors import InputError
from longtake.journal import check_progress
from longtake.model import VideoModel
from longtake.ranks.torchrun import check_same
from longtake.report import Order, run_settings
from longtake.request import Request
from longtake.sampler import Plan, Sampler, TaskSampler
from longtake.tasks.task import Executor
from longtake.typed import fitting
from longtake.video.output import Output, check_output

if TYPE_CHECKING:
    from longtake.ranks.world import World


def check_asked(model: object, request: object, sampler: object) -> None:
    """Raise InputError for what is no model, no request or no sampler."""
    fitting(model, VideoModel, "model", takes="a model, as load_model and from_pipe return one")
    fitting(request, Request, "request", takes="a Request, such as Request(prompts='a red car')")
    fitting(sampler, Sampler, "sampler", takes="a sampler with its settings, such as Fifo()")


def check_writing(
    output: Output,
    world: "World",
    request: Request,
    sampler: Sampler,
    progress: object,
    executor: object,
    made: object,
) -> None:
    """Raise InputError for what a video cannot be written with, and as `check_output` does, on the process that
    writes."""
    # It imports torch, which a plan must not wait for.
    from longtake.ranks.world import World

    fitting(output, Output, "output", takes="an Output, such as Output(path='out.mp4')")
    fitting(world, World, "world", takes="a World, as joined_world gives one")
    fitting(executor, Executor | None, "executor", takes="an Executor, or None")
    fitting(made, Sequence | None, "made", takes="a list of chunks, or None")
    check_progress(progress)
    if executor and (world.size > 1 or not isinstance(sampler, TaskSampler)):
        raise InputError(f"an executor has no use for {sampler.name} on {world.size} processes; leave it out")
    if not world.rank:
        check_output(output.path, overwrite=output.overwrite, inputs=[request.init, output.audio])


def check_shared(world: "World", order: Order, plan: Plan) -> None:
    """Raise InputError, on every process, where they cannot share a video: too many of them, or asked for different
    ones."""
    order.sampler.check_ranks(plan, world.clip.size)
    written = {f"output {name}": str(value) for name, value in asdict(order.output).items()}
    check_same(world.all.say({**run_settings(order, plan), **written}))
