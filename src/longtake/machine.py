"""This machine and this process, and what a model takes of them; without torch."""

import gc
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


def processor() -> str:
    """Return the name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def sleep_while_waiting() -> None:
    """Where this machine has other work already, let the threads of torch sleep while they wait for each other.

    By default each turns in a circle for milliseconds, hundreds of times in a call of a network, on a processor that
    the one it waits for may need. Where nobody else wants one, that is faster: so the work must have been there for a
    while, and still be. Changes no number, and nothing that the user has chosen; to be called before torch is loaded.
    """
    if sys.platform == "win32":
        return
    chosen = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if not chosen and os.getloadavg()[0] > (os.cpu_count() or 1) / 2 and others_running():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def others_running() -> bool:
    """Return whether anybody but this process wants a processor right now; True where the system does not say."""
    try:
        running = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]
    except OSError:
        return True
    return int(running) > 1


@contextmanager
def nothing_to_collect() -> Iterator[None]:
    """Let Python look for no garbage while a command imports its libraries and reads weights, nor in them later.

    There is none yet, and looking through all of it takes a third of the time until the first frame. Only the first
    time in a process: later there may be some.
    """
    if gc.get_freeze_count() or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def memory_now() -> int:
    """Return the bytes of memory that this process occupies."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_memory()


def peak_memory() -> int:
    """Return the most bytes of memory that this process has occupied; 0 on Windows, which is not asked."""
    if sys.platform == "win32":
        return 0
    import resource

    # What getrusage says begins with the memory of whoever started the process.
    with suppress(OSError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a part of a model takes of the memory."""

    parameters: int = 0
    working: int | None = None
    """Numbers alive at once while it works, on a window or on a latent frame; None where nobody has counted them."""
    remembered: int = 0
    """Numbers that it keeps from one call to the next."""
    wide: int = 0
    """Numbers alive at once beside `working`, which are float32 whatever the format."""
    tiles: int = 0
    """Into how many pieces that overlap what it makes is cut; 0 where it makes all at once."""
    turns: int = 1
    """How many networks it is, of which one computes at a time."""
    width: int | None = None
    """Bytes of a number, where that is not for the user to choose."""


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What a model takes of a machine, and of a prompt."""

    parameters: int = 0
    """Number of weights of all parts together."""
    prompt_numbers: int = 0
    """Numbers that a prompt becomes, which are kept from where it is first reached; 0 where nobody has counted them."""
    prompt_tokens: int | None = None
    """Tokens that the text encoder reads of a prompt, its own signs among them; what follows is lost."""
    tokenizer: str | None = field(default=None, compare=False)
    """The file by which a prompt becomes tokens (tokenizer.json), where it is on this disk."""
    text_encoder: Part = Part()
    """Where its weights are counted apart."""
    image_encoder: Part = Part()
    """Where the network is shown what one sees in pictures."""
    network: Part = Part()
    """Its weights are those that belong to no other part."""
    decoder: Part = Part()
    """Where its weights are counted apart."""
    experts_meet: float = 0.0
    """Share of the noise levels, from the clean end, from which up another network is right; 0 for a model of one."""
    forward_flops: int | None = None
    """Floating-point operations of one network evaluation (one window, one guidance branch)."""
    decode_flops: int | None = None
    """Floating-point operations to decode one latent frame."""
    temporal_layers: tuple[tuple[str, int, int], ...] | None = None
    """(kind, channels, cells of a frame) of every layer that mixes frames, in the order in which they run: "attention"
    (channels of its keys), "block" (a stack of convolutions; channels that enter it), "convolution", and "norm" (the
    number of its groups, 1)."""
