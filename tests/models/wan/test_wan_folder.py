"""What is read from a Wan folder before loading it, and what is said of folders that cannot be used."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from longtake.errors import CheckpointError, InputError, LongtakeError
from longtake.model import PerFrameNoise, TemporalHooks
from longtake.models import load_model, model_spec
from longtake.models.wan.model import WanModel
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked

from .wan_fixture import CHANNELS, FRAMES, HEIGHT, TOKENS, WIDTH, tiny_wan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def model(folder: Path) -> WanModel:
    return load_model(str(folder), "cpu", torch.float32)


def test_the_spec_tells_what_the_loaded_model_is(folder, model) -> None:
    spec = model_spec(str(folder))
    assert (spec.name, spec.width, spec.height, spec.fps, spec.guidance) == ("tiny-wan", 48, 32, 16, 2)
    assert spec.latent_shape == (CHANNELS, FRAMES, HEIGHT, WIDTH) and spec.timing.stride == 4
    parts = (model.pipeline.transformer, model.pipeline.vae, model.pipeline.text_encoder)
    assert spec.parameters == sum(tensor.numel() for part in parts for tensor in part.parameters())
    assert spec.capabilities == {PerFrameNoise, TemporalHooks} and spec == model.spec
    assert spec.temporal_layers == (("attention", 48, TOKENS),) * 2 and spec.released == "bfloat16"
    counted = [sum(tensor.numel() for tensor in part.parameters()) for part in parts[1:]]
    assert counted == [spec.decoder.parameters, spec.text_encoder.parameters]


def test_the_spec_counts_the_operations_of_the_blocks(folder, model) -> None:
    x, text = torch.zeros((1, *model.spec.latent_shape)), torch.zeros((1, 512, 16))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.pipeline.transformer(x, torch.tensor([500.0]), text)
    blocks = [count for name, count in counter.get_flop_counts().items() if re.fullmatch(r".*blocks\.\d+", name)]
    counted = [sum(operations.values()) for operations in blocks]
    assert sum(counted) == model_spec(str(folder)).forward_flops


def test_a_folder_without_extras_has_the_authors_sizes(copy) -> None:
    (copy / "longtake.json").unlink()
    spec = model_spec(str(copy))
    assert (spec.num_frames, spec.timing.pixel_frames(21), spec.height, spec.width) == (21, 81, 480, 832)
    assert (spec.fps, spec.guidance, spec.latent_shape) == (16, 5, (CHANNELS, 21, 60, 104))
    edit(copy / "model_index.json", expand_timesteps=True)
    spec = model_spec(str(copy))
    assert (spec.num_frames, spec.timing.pixel_frames(31), spec.height, spec.width, spec.fps) == (
        31,
        121,
        704,
        1280,
        24,
    )


def test_reading_a_folder_loads_no_torch(folder: Path) -> None:
    code = f"import sys; from longtake.models import load_model, model_spec; model_spec({str(folder)!r});"
    code += "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def edit(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


@pytest.mark.parametrize("saved_by", ["WanImageToVideoPipeline", "WanDMDPipeline"])
def test_a_folder_is_known_by_its_network_whichever_pipeline_saved_it(copy: Path, model: WanModel, saved_by) -> None:
    edit(copy / "model_index.json", _class_name=saved_by, image_encoder=[None, None], image_processor=[None, None])
    loaded = load_model(str(copy))
    assert isinstance(loaded, WanModel) and loaded.digest == model.digest
    assert isinstance(loaded.pipeline, WanPipeline)


def test_a_distilled_folder_is_sampled_at_the_levels_that_it_knows(copy: Path) -> None:
    edit(copy / "longtake.json", guidance=...)
    edit(copy / "model_index.json", _class_name="WanDMDPipeline")
    model = load_model(str(copy))
    assert model.spec.sigmas == (0.522, 0.757, 1.0) and model.spec.guidance == 1
    assert model.schedule(3).timestep.tolist() == pytest.approx([0, 522, 757, 1000])
    assert model.schedule(6).sigma.tolist() == pytest.approx([0, 0.261, 0.522, 0.6395, 0.757, 0.8785, 1])
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=17)
    assert Chunked().plan(request, model.spec).forwards == 3
    assert Chunked().plan(replace(request, steps=5), model.spec).forwards == 5
    edit(copy / "longtake.json", sigmas=[1.0, 0.5])
    assert model_spec(str(copy)).sigmas == (0.5, 1.0)


NETWORK, SCHEDULER = "transformer/config.json", "scheduler/scheduler_config.json"

BAD: dict[str, tuple[Callable[[Path], Any], type[LongtakeError], str]] = {
    "experts one of two": (
        lambda f: edit(f / "model_index.json", transformer_2=["diffusers", "WanTransformer3DModel"]),
        CheckpointError,
        "transformer_2 is missing",
    ),
    "picture to video": (lambda f: edit(f / NETWORK, in_channels=9), InputError, "takes 9 channels.*have 4"),
    "size odd": (lambda f: edit(f / "longtake.json", size=[40, 48]), InputError, "multiples of 16"),
    "size no pair": (
        lambda f: edit(f / "longtake.json", size=[48]),
        CheckpointError,
        "size is .48., which it cannot be; it takes more items",
    ),
    "clip too long": (
        lambda f: edit(f / "longtake.json", num_frames=65),
        InputError,
        "num_frames 65 is .* 1 to 64 latent frames; the next is 64$",
    ),
    "patches over time": (
        lambda f: edit(f / NETWORK, patch_size=[2, 2, 2]),
        CheckpointError,
        "patch_size cannot be",
    ),
    "layers none": (lambda f: edit(f / NETWORK, num_layers=0), CheckpointError, "num_layers is 0"),
    "tensors of another shape": (lambda f: edit(f / NETWORK, ffn_dim=32), CheckpointError, r"has the shape \[64\]"),
    "tensors missing": (lambda f: edit(f / NETWORK, num_layers=3), CheckpointError, "lacks 27 tensors"),
    "levels no flow": (lambda f: edit(f / SCHEDULER, prediction_type="epsilon"), InputError, "not of a flow"),
    "sigmas that rise": (lambda f: edit(f / "longtake.json", sigmas=[1.0, 0.5, 0.5]), CheckpointError, "fall from 1"),
    "sigmas from less": (lambda f: edit(f / "longtake.json", sigmas=[0.9, 0.5]), CheckpointError, "fall from 1"),
    "levels moving": (lambda f: edit(f / SCHEDULER, use_dynamic_shifting=True), InputError, "constant shift"),
    "shift negative": (lambda f: edit(f / SCHEDULER, shift=-1), CheckpointError, "shift is -1"),
    "tokenizer broken": (lambda f: (f / "tokenizer" / "tokenizer.json").write_text("{"), CheckpointError, "tokenizer"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_in_one_line(copy: Path, case: str) -> None:
    spoil, kind, message = BAD[case]
    spoil(copy)
    with pytest.raises(kind, match=message) as caught:
        load_model(str(copy), "cpu", torch.float32)
    assert "\n" not in str(caught.value)
