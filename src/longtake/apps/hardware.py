"""Where to compute and in which number format; the choice of auto, and why."""

from dataclasses import dataclass

import torch

from longtake.errors import InputError
from longtake.models.hub.precision import Dtype, auto_dtype


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A device and a number format."""

    device: str
    dtype: torch.dtype
    dtype_name: str
    reason: str
    """Both in words, with why auto chose them."""


def choose_hardware(device: str, dtype: str, released: Dtype = "float16") -> Hardware:
    """Resolve auto, on a GPU to the format that the model was released in.

    Raises InputError for a GPU that is not there.
    """
    found = torch.cuda.is_available()
    if device == "cuda" and not found:
        raise InputError("there is no GPU that torch can use (torch.cuda.is_available() is false); use --device cpu")
    chosen = device
    why = "as asked"
    if device == "auto":
        chosen, why = ("cuda", "auto: torch finds a GPU") if found else ("cpu", "auto: torch finds no GPU")
    name, reason = dtype, "as asked"
    if dtype == "auto":
        name, because = auto_dtype(chosen, released)
        reason = f"auto: {because}"
    return Hardware(
        device=chosen, dtype=getattr(torch, name), dtype_name=name, reason=f"{chosen} ({why}), {name} ({reason})"
    )
