"""Networks without numbers, made of their configs; and whether the files of weights, by their headers, are theirs."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from warnings import warn

import torch
import transformers
from torch import nn
from transformers.initialization import no_init_weights

from longtake.errors import CheckpointError, LongtakeWarning
from longtake.models.hub.files import tensor_formats, tensor_shapes
from longtake.words import counted

ASIDE = {"LTX2TextConnectors": "diffusers.pipelines.ltx2"}
"""Networks that diffusers keeps out of its list of classes, and where they are."""


def class_named(name: str) -> Any:
    """Return a class of networks of either library; None where they have none of this name."""
    library = importlib.import_module(ASIDE.get(name, "diffusers"))
    return getattr(library, name, None) or getattr(transformers, name, None)


def made_of_config(kind: Any, config: Mapping[str, Any]) -> nn.Module:
    """Return a network of such a class, whose weights nobody has set."""
    # What draws them looks at numbers, which fake ones have not; what ties them is part of it.
    with no_init_weights():
        if not issubclass(kind, transformers.PreTrainedModel):
            return kind.from_config(config)
        network = kind(kind.config_class.from_dict(config))
    network.tie_weights()
    return network


def check_stored(network: nn.Module, files: Sequence[Path]) -> None:
    """Check, by the headers of safetensors files, the tensors that a network has by the same name.

    Raises CheckpointError for one of another shape, and for one that is stored as whole numbers, or in 8 bits beside a
    scale, where the network computes with others, which the libraries would convert without a word; and for files that
    are damaged. Warns of those in 8 bits without a scale.
    """
    wanted, short, scales = network.state_dict(), dict[str, str](), list[str]()
    for file in files:
        shapes = tensor_shapes(file)
        formats = tensor_formats(file)
        short |= {name: said for name, said in formats.items() if said.startswith("F8") and name in wanted}
        scales += [name for name in shapes if name not in wanted and "scale" in name]
        for name, shape in shapes.items():
            if not isinstance(tensor := wanted.get(name), torch.Tensor):
                continue
            if shape != tuple(tensor.shape):
                raise CheckpointError(
                    f"{file}: {name} has the shape {list(shape)}, where its config.json asks for "
                    f"{list(tensor.shape)}; fetch the model again"
                )
            if tensor.is_floating_point() and not formats[name].startswith(("F", "BF")):
                raise CheckpointError(
                    f"{file}: {name} is stored as {formats[name]}, where the network has floating-point numbers; fetch "
                    "the model again, as it was before it was quantised or converted"
                )
    if not short:
        return
    place, name = files[0].parent, min(short)
    if scales:
        raise CheckpointError(
            f"{place}: {name} is stored as {short[name]} beside a scale ({min(scales)}) that its network has not; "
            "fetch the model again, as it was before it was quantised"
        )
    warn(
        f"{place}: of its {counted(len(wanted), 'tensor')} {len(short):,} are no more exact than 8 bits: {name}, "
        f"for one, stored as {short[name]}; if that was not meant, fetch the model again",
        LongtakeWarning,
        stacklevel=2,
    )
