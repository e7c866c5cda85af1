"""LoRAs: what they add, whose they are, and that a model with one has a digest of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from longtake.errors import InputError, LongtakeError
from longtake.models import load_model, model_spec

RANK = 3
LAYERS = {
    "wan_folder": ("transformer", ("blocks.0.attn1.to_q", "blocks.1.attn2.to_k", "blocks.1.ffn.net.0.proj")),
    "folder": ("unet", ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_v", "down_blocks.0.resnets.0.conv1")),
}


def random_lora(model: Any, part: str, layers: tuple[str, ...], seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Both factors for every layer, whose product is a weight as large as the one that is there."""
    torch.manual_seed(seed)
    shapes = {layer: getattr(model.pipeline, part).get_parameter(f"{layer}.weight").shape for layer in layers}
    return {
        layer: (torch.randn(RANK, *shape[1:]), torch.randn(shape[0], RANK, *[1] * (len(shape) - 2)))
        for layer, shape in shapes.items()
    }


def saved(file: Path, part: str, lora: Mapping[str, tuple[Tensor, Tensor]], metadata: dict[str, str]) -> Path:
    tensors = {}
    for layer, (down, up) in lora.items():
        tensors |= {f"{part}.{layer}.lora_A.weight": down, f"{part}.{layer}.lora_B.weight": up}
    save_file(tensors, file, metadata=metadata)
    return file


def x0(model: Any) -> Tensor:
    x = torch.randn((1, *model.spec.latent_shape), generator=torch.Generator().manual_seed(0))
    level, rows = torch.full((1, model.spec.num_frames), 6), torch.zeros((1, model.spec.num_frames), dtype=torch.long)
    return model.denoise(x, level, model.schedule(10), model.encode(["a red car"]), rows)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("alpha", [None, 6])
def test_it_is_as_if_the_weights_had_been_fused(name, alpha, request, tmp_path) -> None:
    folder, (part, layers) = request.getfixturevalue(name), LAYERS[name]
    plain = load_model(str(folder))
    loras = [random_lora(plain, part, layers, seed) for seed in (0, 1)]
    metadata = {} if alpha is None else {"lora_adapter_metadata": json.dumps({f"{part}.lora_alpha": alpha})}
    files = [saved(tmp_path / f"{seed}.safetensors", part, lora, metadata) for seed, lora in enumerate(loras)]
    model = load_model(str(folder), lora=(f"{files[0]}:0.5", str(files[1])))
    fused = load_model(str(folder))
    for lora, scale in zip(loras, (0.5, 1.0), strict=True):
        for layer, (down, up) in lora.items():
            weight = getattr(fused.pipeline, part).get_parameter(f"{layer}.weight")
            product = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)).view(weight.shape)
            weight.data += scale * (1 if alpha is None else alpha / RANK) * product
    if name == "folder":
        # What the layers that attend to text say of prompts is computed on the way, all else in the call.
        assert not torch.equal(plain.encode(["a"]).rows["text"], model.encode(["a"]).rows["text"])
    torch.testing.assert_close(x0(model), x0(fused), atol=1e-5, rtol=1e-5)
    assert (x0(model) - x0(plain)).abs().max() > 1e-2
    assert model.digest not in (plain.digest, load_model(str(folder), lora=(str(files[0]),)).digest)
    assert model.loading == {"lora": (f"{files[0]}:0.5", f"{files[1]}:1.0")}


def test_what_is_no_lora_of_this_model_is_one_line(wan_folder, folder, latte_folder, tmp_path) -> None:
    part, layers = LAYERS["wan_folder"]
    good = saved(tmp_path / "wan.safetensors", part, random_lora(load_model(str(wan_folder)), part, layers, 0), {})
    wide = {layers[0]: (torch.zeros(RANK, 7), torch.zeros(5, RANK))}
    endless = {layers[0]: (torch.full((RANK, 7), torch.inf), torch.zeros(5, RANK))}
    patterned = {"lora_adapter_metadata": json.dumps({"transformer.alpha_pattern": {"to_q": 2}})}
    cases = {
        f"{good}:nan": (wan_folder, "cannot be nan"),
        f"{good}:x": (wan_folder, "the scale cannot be 'x'; give a number"),
        f"{tmp_path}/none.safetensors": (wan_folder, "there is no file .*none.safetensors; check the path"),
        str(wan_folder / "model_index.json"): (wan_folder, "is no .safetensors file"),
        str(wan_folder / "vae" / "diffusion_pytorch_model.safetensors"): (wan_folder, "holds weights, but no LoRA"),
        str(good): (folder, "another model"),
        str(saved(tmp_path / "wide.safetensors", part, wide, {})): (
            wan_folder,
            "no transformer.blocks.0.attn1",
        ),
        str(saved(tmp_path / "endless.safetensors", part, endless, {})): (
            wan_folder,
            "endless.safetensors: .*not finite.*fetch the LoRA again",
        ),
        str(saved(tmp_path / "own.safetensors", part, wide, patterned)): (wan_folder, "scale of its own"),
        str(saved(tmp_path / "list.safetensors", part, wide, {"lora_adapter_metadata": "[]"})): (
            wan_folder,
            "its adapter is no JSON object",
        ),
        str(saved(tmp_path / "alpha.safetensors", part, wide, {"lora_adapter_metadata": '{"lora_alpha": "x"}'})): (
            wan_folder,
            "alpha is 'x', which is no number",
        ),
    }
    for lora, (model, message) in cases.items():
        with pytest.raises(LongtakeError, match=message) as caught:
            load_model(str(model), lora=(lora,))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="diffusers knows no LoRA of Latte"):
        load_model(str(latte_folder), lora=(str(good),))
    with pytest.raises(InputError, match="there is no file none.safetensors"):
        model_spec(str(wan_folder), lora=("none.safetensors",))
