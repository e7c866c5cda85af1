"""What a plan will cost: memory, disk and time, worked out without weights, and from the rate that the last run had."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from longtake.apps.generate.job import Job, checked_loading
from longtake.apps.shown import size
from longtake.errors import InputError
from longtake.model import VideoSpec
from longtake.models import model_spec
from longtake.models.hub.loading import Offload
from longtake.models.hub.precision import auto_dtype
from longtake.rates import remembered_rate, work
from longtake.sampler import Plan
from longtake.samplers import pieces_of
from longtake.video.kept import MOST

# Resident memory of a process that has imported torch and av and encodes a video: measured on Linux.
PROCESS_BYTES = 280_000_000
# What diffusers and transformers add, which every model with weights needs: of six runs of embedded models 190 to 210.
LIBRARY_BYTES = 200_000_000
# Bytes of feature maps alive at once, in numbers per latent cell: about 20 maps of 320 channels in a video UNet.
NUMBERS_PER_CELL = 20 * 320
# And in numbers per pixel while a frame is decoded: about 6 maps of 128 channels at full size.
NUMBERS_PER_PIXEL = 6 * 128
# Copies of the latents that a sampler holds at a time: the queue, its next state, x0, noise.
LATENT_COPIES = 4
OFFLOADS: tuple[Offload, ...] = ("none", "text", "model", "group")
"""The fastest first."""
# Pixels enlarged n times each way are repetitions: n**this times the bytes, measured on three videos of sprite worlds.
ENLARGED = 1.15
# What names and shapes add to a file of tensors.
HEADER_BYTES = 1000
# What a container or a file adds to a frame.
BYTES_PER_FRAME = 100


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """What a run will cost; rough figures, meant to tell a minute from a day and a laptop from a server."""

    device: str
    dtype: str
    peak_memory_bytes: int
    """Of the device; a CPU's is the process's."""
    memory_by_part: Mapping[str, int]
    """Bytes; its sum is the peak."""
    offload: str
    """What leaves the device between its calls."""
    peak_without_offload_bytes: int
    offload_traffic_bytes: int | None
    """What comes and goes between the host and the device in all, by the number of calls; None for an endless run."""
    host_by_part: Mapping[str, int]
    """Bytes beside a device of its own; empty on a CPU."""
    disk_bytes: int | None
    """None for an endless run."""
    disk_by_part: Mapping[str, int]
    """Bytes at most; its sum is what the disk must hold at any time. Empty for an endless run."""
    kept_states: int
    """How many earlier states stay on the disk in the end."""
    seconds: float | None
    """From counted operations and the rate that the machine has shown; None where that is not known."""
    seconds_reason: str | None
    """Why `seconds` is not known."""

    @property
    def width(self) -> int:
        """Return the bytes of a number."""
        return _width(self.dtype)


def settled_offload(job: Job, device: str, free: int) -> Job:
    """Return a job in place of whose --offload auto stands the first choice, the fastest first, that the plan says
    fits so many bytes on a device. Raises InputError where none does."""
    needs: dict[str, int] = {}
    for offload in OFFLOADS:
        loading = replace(job.order.loading, offload=offload)
        candidate = replace(job, order=replace(job.order, loading=loading, device=device))
        try:
            model_spec(job.order.model, **loading.told)
            checked_loading(loading, device, job.order.sampler)
        except InputError:
            # It does not fit the model, or what else was asked for.
            continue
        needs[offload] = estimate(candidate).peak_memory_bytes
        if needs[offload] <= free:
            return candidate
    said = ", ".join(f"{name} {size(need)}" for name, need in needs.items())
    raise InputError(
        f"{size(free)} are free on {device}, and the plan needs more with every --offload ({said}); choose one to try "
        "it, --quantize fp8, a smaller --size or a shorter --window"
    )


def estimate(job: Job, state_bytes: int | None = None) -> Estimates:
    """Work out what a job will cost; `state_bytes`: of a state that its run has kept, where there is one. `auto` counts
    as the CPU, but where something is to leave a GPU: looking for one would load torch."""
    auto = "cuda" if job.order.loading.offload else "cpu"
    device = auto if job.order.device == "auto" else job.order.device
    dtype = auto_dtype(device, job.spec.released)[0] if job.order.dtype == "auto" else job.order.dtype
    seconds, reason = _seconds(job, device, dtype)
    memory, disk = _memory(job, _width(dtype)), _disk(job)
    one = state_bytes or _kept_state(job)
    kept = _kept_states(job, one)
    if disk:
        disk["kept states"] = kept * one
    # A pipeline that is run as a whole keeps its parts where it computes.
    offload = "none" if job.spec.call is not None else job.order.loading.offload_on(device)
    host = {} if device == "cpu" else _beside(memory)
    without = sum(_at_once(memory).values())
    memory = _leave(offload, memory, host, job.spec)
    return Estimates(
        device=device,
        dtype=dtype,
        peak_memory_bytes=sum(memory.values()),
        memory_by_part=memory,
        offload=offload,
        peak_without_offload_bytes=without,
        offload_traffic_bytes=_traffic(job, offload, host),
        host_by_part=host,
        disk_bytes=None if job.frames is None else sum(disk.values()),
        disk_by_part=disk,
        kept_states=kept,
        seconds=seconds,
        seconds_reason=reason,
    )


def _width(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


def _memory(job: Job, width: int) -> dict[str, int]:
    """Return what lies in memory at the peak: the weights of every part, what a decoder remembers, the latents that are
    held, the prompts that are reached, the numbers of whichever of network and decoder works with more, and pixels that
    wait to be written.

    `width`: bytes of a number. The sum depends on the length of the video only for samplers that hold all of it.
    """
    spec, plan = job.spec, job.plan
    parts = by_formula(spec, plan, width)
    if job.order.loading.quantize:
        parts["network"] //= width
    return {
        "process": PROCESS_BYTES + (LIBRARY_BYTES if spec.parameters else 0),
        # A float32 copy of one part exists while the weights are read.
        "reading": parts["network"] // 4,
        "prompts": _prompts(job) * spec.prompt_numbers * width,
        **parts,
        "latents": plan.held_frames * _latent_bytes(job) * LATENT_COPIES,
        "pixels": 2 * job.output.segment * spec.height * spec.width * 3 * job.output.scale**2,
    }


def by_formula(spec: VideoSpec, plan: Plan, width: int) -> dict[str, int]:
    """Return the bytes of the weights of every part, of what the decoder remembers, and of what a batch of the plan's
    windows takes in the network, and a latent in the decoder, worked out from the configs; `width`: of a number."""
    text, image, decoder = spec.text_encoder, spec.image_encoder, spec.decoder
    network = spec.parameters - text.parameters - image.parameters - decoder.parameters
    return {
        "text encoder": text.parameters * (text.width or width),
        "image encoder": image.parameters * (image.width or width),
        "network": network * width,
        "decoder": decoder.parameters * (decoder.width or width),
        "decoder's memory": decoder.remembered * (decoder.width or width),
        "denoising": _denoising(spec, plan, width),
        "decoding": _decoding(spec, plan, width),
    }


def _beside(memory: dict[str, int]) -> dict[str, int]:
    """Take out and return what lies on the host where there is a device."""
    return {name: memory.pop(name) for name in ("process", "reading", "pixels")}


def _at_once(memory: dict[str, int]) -> dict[str, int]:
    """Return the same with what network and decoder work with as one: that of whichever takes more."""
    rest = dict(memory)
    working = max(rest.pop("denoising"), rest.pop("decoding"))
    return {**rest, "working": working}


def _leave(offload: Offload, memory: dict[str, int], host: dict[str, int], spec: VideoSpec) -> dict[str, int]:
    """Return what is on a device, and move the parts that take turns to the host. Of those that never meet the largest
    counts, with what it works with, and of those that come in before all work, as far as it is larger than what is
    there after it, beside the weights that stay; of a network that comes in by blocks two of them, of a decoder's
    memory that of a tile."""
    turns, blocks = spec.network.turns, len(spec.temporal_layers or ()) or 1
    first = {"none": (), "model": ("text encoder", "image encoder")}.get(offload, ("text encoder",))
    in_turn = {"model": ("network", "decoder", "decoder's memory"), "group": ("network",)}.get(offload, ())
    away = {name: memory[name] for name in (*first, *in_turn)}
    stays = sum(memory[name] for name in ("image encoder", "network", "decoder") if name not in away)
    host |= away
    memory = memory | dict.fromkeys(away, 0)
    if offload == "model":
        network, decoder = away["network"] // turns, away["decoder"]
        remembered = away["decoder's memory"] // max(1, spec.decoder.tiles)
        is_network = network + memory["denoising"] > decoder + remembered + memory["decoding"]
        is_in = {"network": network} if is_network else {"decoder": decoder, "decoder's memory": remembered}
        memory |= {**is_in, "decoding" if is_network else "denoising": 0}
    if offload == "group":
        memory["network"] = min(away["network"], 2 * away["network"] // (turns * blocks))
    memory = _at_once(memory)
    if first:
        largest = max(first, key=away.__getitem__)
        memory[largest] = max(0, away[largest] + stays - sum(memory.values()))
    return memory


def _traffic(job: Job, offload: Offload, host: Mapping[str, int]) -> int | None:
    """Return the bytes that move at most, both ways: the text encoder for every prompt; network and decoder for every
    batch of windows; the blocks of a network one way at every call of it."""
    plan = job.plan
    if offload == "none" or job.frames is None or plan.tasks is None or plan.forwards is None:
        return 0 if offload == "none" else None
    text = 2 * _prompts(job) * host["text encoder"]
    if offload == "model":
        moved = sum(host[part] for part in ("network", "decoder", "decoder's memory"))
        return text + 2 * plan.tasks // plan.window_batch * moved
    calls = plan.forwards * job.spec.num_frames / (plan.window_frames * plan.window_batch)
    return text + (round(calls) * host["network"] if offload == "group" else 0)


def _prompts(job: Job) -> int:
    """Return how many prompts are embedded: the negative one, and those that frames of the video reach."""
    return 1 + len(job.prompts.spans(job.frames))


def _denoising(spec: VideoSpec, plan: Plan, width: int) -> int:
    """Return the bytes of one batch in the network; uncounted networks are video UNets in the usual proportions."""
    window = spec.network.working
    if window is None:
        window = math.prod(spec.latent_shape[1:]) * NUMBERS_PER_CELL
    return plan.window_batch * (window * width + spec.network.wide * 4) * plan.window_frames // spec.num_frames


def _decoding(spec: VideoSpec, plan: Plan, width: int) -> int:
    """Return the bytes of decoding, eight frames at a time where nobody has counted."""
    if spec.decoder.working is not None:
        return spec.decoder.working * (spec.decoder.width or width)
    tiles = max(1, spec.decoder.tiles)
    return min(plan.held_frames, 8) * spec.height * spec.width * NUMBERS_PER_PIXEL * width // tiles


def _disk(job: Job) -> dict[str, int]:
    """Return what lies on the disk: the video, latents that stay beside it, the saved state, of which there are two
    while one takes the other's place (what the sampler holds, what brings back a decoder, and frames that wait)."""
    spec, frames = job.spec, job.frames
    if frames is None:
        return {}
    content = frames * spec.height * spec.width * job.format.bytes_per_pixel * job.output.scale**ENLARGED
    if job.format.lossy:
        content *= 2 ** ((18 - job.output.crf) / 6)
    if job.output.audio is not None:
        from longtake.video.sound import BITS

        content += frames / job.fps * BITS / 8
    queue, decoder = _state(job)
    return {
        "video": round(content + frames * BYTES_PER_FRAME),
        "latents": job.plan.stored_frames * _latent_bytes(job),
        "sampler's state": 2 * queue,
        "decoder's state": 2 * decoder,
        "frames that wait": 2 * job.output.segment * spec.height * spec.width * 3,
    }


def _state(job: Job) -> tuple[int, int]:
    """Return the bytes at most of what a state has of the sampler, and of what brings back a decoder."""
    history = job.spec.decoder_history
    history = history if job.frames is None else min(history, job.spec.timing.latent_frames(job.frames))
    return job.plan.held_frames * _latent_bytes(job), history * _latent_bytes(job)


def _kept_state(job: Job) -> int:
    """Return the bytes at most of an earlier state, which is kept where a piece fills a segment: what of the piece lies
    beyond waits."""
    pieces, segment = pieces_of(job.plan), job.output.segment
    if pieces is None:
        return 0
    apart = math.gcd(pieces.later, segment)
    most = min(pieces.later, segment) - apart + pieces.first % apart
    return HEADER_BYTES + sum(_state(job)) + most * job.spec.height * job.spec.width * 3


def _kept_states(job: Job, state_bytes: int) -> int:
    """Return how many states of so many bytes are kept."""
    if job.frames is None or not state_bytes:
        return 0
    return min(job.frames // job.output.segment, MOST, job.output.keep_states // state_bytes)


def _latent_bytes(job: Job) -> int:
    """Return the bytes of one latent frame in float32."""
    return math.prod(job.spec.latent_shape) // job.spec.num_frames * 4


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
