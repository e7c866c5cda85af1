"""Which number format to compute in where the user does not say. Imports no torch, so that a plan can ask, too."""

from pathlib import Path
from typing import Literal

Dtype = Literal["float32", "bfloat16", "float16"]


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
