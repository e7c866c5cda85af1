"""The one attention call of the package."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(query key^T / sqrt(width) + bias) value; all are (sequences, tokens, heads, width).

    `bias` broadcasts against (queries, keys). Computed in float32 where a CPU is given bfloat16, whose kernel takes 1.2
    to 2.4 times as long.
    """
    kind = torch.float32 if query.device.type == "cpu" and query.dtype == torch.bfloat16 else query.dtype
    # Four axes: with three, the library falls back to a slow path.
    q, k, v = (tensor.to(kind).transpose(1, 2) for tensor in (query, key, value))
    mask = None if bias is None else bias.to(kind)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).to(query.dtype)
