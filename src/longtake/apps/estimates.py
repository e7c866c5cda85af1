"""What a plan will cost: memory, disk and time, worked out without weights."""

import math
from dataclasses import dataclass

from longtake._generate import SEGMENT
from longtake.apps.job import Job
from longtake.apps.rates import remembered_rate, work
from longtake.models.hub.precision import auto_dtype

# Resident memory of a process that has imported torch and av and encodes a video: measured on Linux.
PROCESS_BYTES = 280_000_000
# What diffusers and transformers add, which every model with weights needs.
LIBRARY_BYTES = 130_000_000
# Bytes of feature maps alive at once, in numbers per latent cell: about 20 maps of 320 channels in a video UNet.
NUMBERS_PER_CELL = 20 * 320
# And in numbers per pixel while a frame is decoded: about 6 maps of 128 channels at full size.
NUMBERS_PER_PIXEL = 6 * 128
# Copies of the latents that a sampler holds at a time: the queue, its next state, x0, noise.
LATENT_COPIES = 4
# What a container or a file adds to a frame.
BYTES_PER_FRAME = 100


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """What a run will cost; rough figures, meant to tell a minute from a day and a laptop from a server."""

    device: str
    dtype: str
    peak_memory_bytes: int
    disk_bytes: int | None
    """None for an endless run."""
    seconds: float | None
    """From counted operations and the rate that the machine has shown; None where that is not known."""
    seconds_reason: str | None
    """Why `seconds` is not known."""


def estimate(job: Job) -> Estimates:
    """Work out what a job will cost. `auto` counts as the CPU: looking for a GPU would load torch."""
    device = "cpu" if job.order.device == "auto" else job.order.device
    dtype = auto_dtype(device)[0] if job.order.dtype == "auto" else job.order.dtype
    seconds, reason = _seconds(job, device, dtype)
    return Estimates(
        device=device,
        dtype=dtype,
        peak_memory_bytes=_memory(job, 4 if dtype == "float32" else 2),
        disk_bytes=_disk(job),
        seconds=seconds,
        seconds_reason=reason,
    )


def _memory(job: Job, width: int) -> int:
    """Return process + weights + held latents (float32) + activations of one batch + pixels that wait to be written.

    `width`: bytes of a number. Activations are those of a video UNet in the usual proportions, decoding eight frames at
    a time; the larger of denoising and decoding counts. The sum depends on the length of the video only for samplers
    that hold all of it.
    """
    spec, plan = job.spec, job.plan
    numbers = math.prod(spec.latent_shape)
    positions = math.prod(spec.latent_shape[1:]) * plan.window_frames // spec.num_frames
    latents = plan.held_frames * numbers // spec.num_frames * 4 * LATENT_COPIES
    denoising = plan.window_batch * positions * NUMBERS_PER_CELL * width
    decoding = min(plan.held_frames, 8) * spec.height * spec.width * NUMBERS_PER_PIXEL * width
    pixels = 2 * SEGMENT * spec.height * spec.width * 3 * job.output.scale**2
    # A float32 copy of one part exists while the weights are read.
    weights = int(spec.parameters * width * 1.25)
    process = PROCESS_BYTES + (LIBRARY_BYTES if spec.parameters else 0)
    return process + weights + latents + max(denoising, decoding) + pixels


def _disk(job: Job) -> int | None:
    frames = job.frames
    if frames is None:
        return None
    pixels = frames * job.spec.height * job.spec.width
    # Enlarged pixels are repetitions, which cost little.
    content = pixels * job.format.bytes_per_pixel * job.output.scale
    if job.format.lossy:
        content *= 2 ** ((18 - job.output.crf) / 6)
    latents = job.plan.stored_frames * math.prod(job.spec.latent_shape) // job.spec.num_frames * 4
    return round(content + frames * BYTES_PER_FRAME) + latents


def _seconds(job: Job, device: str, dtype: str) -> tuple[float | None, str | None]:
    if job.frames is None:
        return None, "an endless run has no length"
    operations = work(job.plan)
    if operations is None:
        return None, f"the model {job.spec.name} does not say how many operations one call takes"
    rate = remembered_rate(job.order.model, device, dtype)
    if rate is None:
        return None, f"{job.spec.name} has not run on this machine ({device}, {dtype}) yet"
    return operations / rate, None
