"""Networks that compute otherwise than by default: with weights that are stored in 8 bits, by another attention."""

from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import nn

from longtake.errors import InputError, unknown_name
from longtake.models.hub.load import quiet_libraries
from longtake.models.hub.loading import Quantise


def quantise(network: Any, how: Quantise | None) -> Any:
    """Store the weights of a network in 8 bits; return it."""
    if how == "fp8":
        network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=network.dtype)
    else:
        _to_int8(network)
    return network


def attend_by(network: Any, backend: str) -> None:
    """Let a network attend by a backend of diffusers. Raises InputError for one that is unknown or not installed."""
    # Those of the hub are code that would be downloaded.
    known = [name.value for name in AttentionBackendName if not name.value.endswith("_hub")]
    if backend not in known:
        raise unknown_name("attention backend", backend, known)
    others, _ = _AttentionBackendRegistry.get_active_backend()
    try:
        with quiet_libraries():
            network.set_attention_backend(backend)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--attention-backend {backend} cannot be used here: {reason}") from None
    finally:
        # The library means it for every network that follows.
        _AttentionBackendRegistry.set_active_backend(others)


def _to_int8(network: Any) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_  # pyright: ignore[reportMissingImports]

    kept = tuple(network._keep_in_fp32_modules or ())

    def is_quantised(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and not any(part in name for part in kept)

    quantize_(network, Int8WeightOnlyConfig(), filter_fn=is_quantised)
