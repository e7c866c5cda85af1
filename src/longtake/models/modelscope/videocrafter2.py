"""VideoCrafter2's network: ModelScope's, told of frames per second (Chen et al., 2024, arXiv 2401.09047).

The embedding of the frames per second is added to that of the timestep, after its layers. Training noised pictures that
were scaled down:  x = sqrt(alpha_bar) scale x0 + sqrt(1 - alpha_bar) eps  (`use_scale` in the authors' config).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet3DConditionModel
from diffusers.models.embeddings import TimestepEmbedding
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from longtake.errors import CheckpointError
from longtake.models.hub.configs import stem
from longtake.models.hub.files import weight_files
from longtake.models.modelscope.spec import FPS_EMBEDDING
from longtake.schedule import Table

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
"""Layers of a residual block in the authors' checkpoint, and what diffusers calls them."""

SCALE, SCALE_STEPS = 0.7, 400
"""The least scale of x0, and after how many timesteps it is reached."""


def fps_embedding(
    unet: UNet3DConditionModel, place: Path, wanted: str | None = None
) -> Callable[[float], Float[Tensor, "1 width"]]:
    """Return what embeds frames per second, whose layers lie among the weights of the UNet in the folder `place`.

    `wanted` is the variant of the files.

    Raises CheckpointError for layers of other sizes than those of the time embedding.
    """
    network: Any = unet
    layers = network.time_embedding
    embedding = TimestepEmbedding(layers.linear_1.in_features, layers.linear_1.out_features, network.config.act_fn)
    tensors = {}
    for file in weight_files(place, stem("unet"), wanted):
        with safe_open(file, framework="pt") as opened:
            names = set(opened.keys()) & set(FPS_EMBEDDING)
            tensors |= {name.removeprefix("fps_embedding."): opened.get_tensor(name) for name in names}
    for name, parameter in embedding.named_parameters():
        if tensors[name].shape != parameter.shape:
            raise CheckpointError(f"{place}: fps_embedding.{name} has another shape than its like in time_embedding")
    embedding.load_state_dict(tensors)
    embedding.to(unet.device, unet.dtype)

    def embedded(fps: float) -> Float[Tensor, "1 width"]:
        with torch.no_grad():
            return embedding(network.time_proj(torch.tensor([fps], device=unet.device)).to(unet.dtype))

    return embedded


def x0_scale(num_timesteps: int) -> Table:
    """Return what training multiplied x0 by at every timestep: 1 falling to 0.7 over 400 of them, then 0.7."""
    falling = torch.linspace(1, SCALE, SCALE_STEPS, dtype=torch.float64)
    return torch.cat([falling, torch.full((num_timesteps,), SCALE, dtype=torch.float64)])[:num_timesteps]


def library_name(name: str, modules: dict[str, str]) -> str | None:
    """Return diffusers' name of a tensor of the authors' checkpoint, None for one that has none.

    `modules` is what `module_names` returns.
    """
    fitting = [module for module in modules if name.startswith(f"{module}.")]
    if not fitting:
        return None
    longest = max(fitting, key=len)
    return modules[longest] + name.removeprefix(longest)


def module_names(config: dict[str, Any]) -> dict[str, str]:
    """Return the modules of the authors' network and what diffusers calls them, for a UNet of this config.json."""
    num_layers = config["layers_per_block"]
    names = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "fps_embedding.0": "fps_embedding.linear_1",
        "fps_embedding.2": "fps_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "init_attn.0": "transformer_in",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.temp_attentions.0",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    names |= dict(_resnet("middle_block.0", "mid_block", 0))
    names |= dict(_resnet("middle_block.3", "mid_block", 1))
    num_stages = len(config["down_block_types"])
    place = 1
    for stage, kind in enumerate(config["down_block_types"]):
        block = f"down_blocks.{stage}"
        for layer in range(num_layers):
            names |= dict(_stage(f"input_blocks.{place}", block, layer, kind.startswith("CrossAttn")))
            place += 1
        if stage < num_stages - 1:
            names[f"input_blocks.{place}.0.op"] = f"{block}.downsamplers.0.conv"
            place += 1
    for stage, kind in enumerate(config["up_block_types"]):
        block, attends = f"up_blocks.{stage}", kind.startswith("CrossAttn")
        first = stage * (num_layers + 1)
        for layer in range(num_layers + 1):
            names |= dict(_stage(f"output_blocks.{first + layer}", block, layer, attends))
        if stage < num_stages - 1:
            names[f"output_blocks.{first + num_layers}.{3 if attends else 1}.conv"] = f"{block}.upsamplers.0.conv"
    return names


def _stage(theirs: str, block: str, layer: int, attends: bool) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{theirs}.0", block, layer)
    if attends:
        yield f"{theirs}.1", f"{block}.attentions.{layer}"
        yield f"{theirs}.2", f"{block}.temp_attentions.{layer}"


def _resnet(theirs: str, block: str, layer: int) -> Iterator[tuple[str, str]]:
    """Pair the layers of a residual block, whose convolutions over time are within it in the authors' checkpoint."""
    for inner, name in RESNET.items():
        yield f"{theirs}.{inner}", f"{block}.resnets.{layer}.{name}"
    # Misspelt there.
    yield f"{theirs}.temopral_conv", f"{block}.temp_convs.{layer}"
