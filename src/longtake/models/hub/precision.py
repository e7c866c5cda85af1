"""Where to compute, and in which number format; the choice of auto, and why. A plan asks it, too, without torch."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from longtake.errors import InputError
from longtake.typed import Setting, Typed, fitting, refused

if TYPE_CHECKING:
    import torch

Dtype = Literal["float32", "bfloat16", "float16"]
DtypeChoice = Literal["auto", "float32", "bfloat16", "float16"]
DEVICES = re.compile(r"auto|cpu|mps|(cuda|xpu)(:\d+)?")


def is_device(word: str) -> bool:
    """Return whether it is the name of a device."""
    return DEVICES.fullmatch(word) is not None


def read_device(word: str) -> str:
    """Return the name of a device. Raises InputError for one that torch does not know."""
    if not is_device(word):
        raise InputError(f"--device {word!r} is none that longtake knows; known: auto, cpu, cuda, cuda:1, mps, xpu")
    return word


DeviceChoice = Annotated[str, Setting(metavar="auto|cpu|cuda[:N]|mps|xpu", read=read_device)]


@dataclass(frozen=True, kw_only=True)
class DeviceSettings(Typed):
    """Where to compute; settings of what runs a network extend this."""

    device: DeviceChoice = "auto"
    """Where to compute; auto takes a GPU if there is one."""


def auto_dtype(device: str, released: Dtype = "float16", cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[Dtype, str]:
    """Return the format that is fastest on a device at nearly the same pictures, and why, for people to read.

    Measured on UNets of 4 to 5 million weights (8 x 8 latents, 16 frames, one core with AVX-512 BF16): bfloat16 takes
    0.63 to 0.80 of float32's time, the decoder 0.61. Without such instructions it is emulated, and slower.
    `released` is the format of 16 bits that the model is known to work in; `cpuinfo` is where Linux lists the
    processor's instructions.
    """
    if device.startswith("cuda"):
        return released, "half the memory, what GPUs are fast at, and what the model was released in"
    if device != "cpu":
        return "float32", f"nothing faster has been measured on {device}"
    try:
        flags = set(cpuinfo.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return "float32", "what else this processor is fast at is not known"
    for name in ("amx_bf16", "avx512_bf16"):
        if name in flags:
            return "bfloat16", f"this processor computes it natively ({name})"
    return "float32", "this processor has no instructions for bfloat16"


def asked_place(device: object, dtype: object) -> "tuple[str, torch.dtype]":
    """Return the name of the device and the format that code asks for; float32 where it gives none.

    Raises InputError for what torch has no device or format of.
    """
    import torch

    dtype = torch.float32 if dtype is None else dtype
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        example = dtype if isinstance(dtype, str) and dtype in get_args(Dtype) else "bfloat16"
        raise refused(dtype, "dtype", f"a format of torch with floating point, such as torch.{example}")
    try:
        found = str(device if isinstance(device, torch.device) else torch.device(fitting(device, str, "device")))
    except (InputError, RuntimeError):
        raise refused(device, "device", "a device of torch, such as 'cpu', 'cuda' or 'cuda:1'") from None
    if not is_device(found.removesuffix(":0")):
        raise refused(device, "device", "a device that longtake knows: cpu, cuda, cuda:1, mps, xpu")
    return found, dtype


def check_there(device: str) -> None:
    """Raise InputError for a GPU that is not there."""
    if is_device(device):
        choose_hardware(device, "float32")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Where to compute, and in which number format."""

    device: str
    dtype: "torch.dtype"
    dtype_name: str
    reason: str
    """Both in words, with why auto chose them."""


def free_memory(device: str) -> int:
    """Return the bytes that are free on a device of its own. Raises InputError for one that does not say."""
    import torch

    if not device.startswith(("cuda", "xpu")):
        raise InputError(f"--offload auto goes by the memory that is free, which {device} does not say; choose one")
    return torch.get_device_module(device).mem_get_info(device)[0]


def choose_hardware(device: str, dtype: str, released: Dtype = "float16", settled: str = "as asked") -> Hardware:
    """Resolve auto, on a GPU to the format that the model was released in; `settled`: who chose what is not auto.

    Raises InputError for a GPU that is not there.
    """
    import torch

    found = torch.cuda.is_available()
    kind, _, number = read_device(device).partition(":")
    if kind not in ("auto", "cpu"):
        asked: Any = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps}[kind]
        called = "GPU" if kind == "cuda" else f"device of the kind {kind}"
        if not asked.is_available():
            raise InputError(f"there is no {called} that torch can use (is_available() is false); use --device cpu")
        if number and int(number) >= asked.device_count():
            raise InputError(f"--device {device}: torch finds {asked.device_count()}, which count from 0")
    chosen, why = device, settled
    if device == "auto":
        chosen, why = ("cuda", "auto: torch finds a GPU") if found else ("cpu", "auto: torch finds no GPU")
    name, reason = dtype, settled
    if dtype == "auto":
        name, because = auto_dtype(chosen, released)
        reason = f"auto: {because}"
    return Hardware(
        device=chosen, dtype=getattr(torch, name), dtype_name=name, reason=f"{chosen} ({why}), {name} ({reason})"
    )
