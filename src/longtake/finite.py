"""That numbers are finite: no NaN, and not infinite."""

from collections.abc import Mapping

import torch
from torch import Tensor

from longtake.errors import NonFiniteError

ADVICE = "try --dtype float32 or bfloat16, a smaller --guidance, or another --seed"
"""What to do where a network or a decoder makes numbers that are not."""


def is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers of a tensor, which has some, are finite."""
    # The extremes carry NaN along, and need no second tensor of this size.
    return all(bool(torch.isfinite(extreme)) for extreme in tensor.detach().aminmax())


def check_finite(tensors: Mapping[str, Tensor], where: str, advice: str) -> None:
    """Raise NonFiniteError, which names the first of these tensors that is not finite everywhere.

    `where` is what they belong to, `advice` what to do.
    """
    for name, tensor in tensors.items():
        # Numbers of one byte are quantised: torch cannot compare all kinds of them.
        if tensor.is_floating_point() and tensor.dtype.itemsize > 1 and tensor.numel() and not is_finite(tensor):
            raise NonFiniteError(f"{where}: {name} is not finite (NaN, or infinite); {advice}")
