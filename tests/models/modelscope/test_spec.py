"""The layers that a configuration promises are those that the network has."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import nn

from longtake.errors import CheckpointError
from longtake.models import model_spec
from longtake.models.modelscope.spec import temporal_layers


def run_layers(unet: UNet3DConditionModel, size: tuple[int, int]) -> list[tuple[str, int, int]]:
    """Return the layers that mix frames in the order in which a forward meets them."""
    found: list[tuple[str, int, int]] = []

    def note(kind: str):
        def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], options: dict[str, torch.Tensor]) -> None:
            x = inputs[0] if inputs else options["hidden_states"]
            if kind == "norm":
                assert isinstance(module, nn.GroupNorm)
                found.append((kind, module.num_groups, 1))
            elif kind == "attention":
                assert isinstance(module, Attention)
                found.append((kind, module.inner_kv_dim, len(x)))
            else:
                found.append((kind, x.shape[1], x.shape[-1] * x.shape[-2]))

        return hook

    owners = [module for module in unet.modules() if isinstance(module, (TransformerTemporalModel, TemporalConvLayer))]
    kinds = {nn.GroupNorm: "norm", nn.Conv3d: "convolution", Attention: "attention", TemporalConvLayer: "block"}
    for module in (module for owner in owners for module in owner.modules()):
        if type(module) in kinds:
            module.register_forward_pre_hook(note(kinds[type(module)]), with_kwargs=True)
    with torch.no_grad():
        unet(torch.zeros(1, 4, 2, *size), torch.tensor([1]), torch.zeros(1, 3, 16))
    return found


@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_the_layers_are_those_of_the_network(size: tuple[int, int]) -> None:
    unet = UNet3DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock3D", "CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(16, 32, 48),
        layers_per_block=2,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=4,
    )
    assert list(temporal_layers(dict(unet.config), size)) == run_layers(unet, size)


def test_missing_entries_have_the_librarys_defaults(folder: Path) -> None:
    assert len(temporal_layers({}, (40, 64))) == len(temporal_layers(dict(layers_per_block=2), (40, 64)))
    config = json.loads((folder / "unet" / "config.json").read_text())
    assert model_spec(str(folder)).temporal_layers == temporal_layers(config, (8, 8))


@pytest.mark.parametrize(
    "config",
    [{"layers_per_block": "2"}, {"attention_head_dim": 0}, {"block_out_channels": []}, {"up_block_types": [1]}],
)
def test_a_configuration_of_nonsense_is_a_damaged_checkpoint(config: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="unet/config.json"):
        temporal_layers(config, (8, 8))
