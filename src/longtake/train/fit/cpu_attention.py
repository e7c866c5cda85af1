"""Attention as a CPU computes it fastest in training."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def cpu_attention(device: torch.device, recomputes: bool = False) -> AbstractContextManager[object]:
    """Take plain attention on a CPU, where the backward pass of the fused one costs a quarter to half of a step.

    A network that computes activations again for the gradient, outside this context, must do it in the same way.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" and not recomputes else nullcontext()
