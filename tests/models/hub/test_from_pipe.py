"""Pipelines that somebody has prepared, as models: the same as from their folders."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMPipeline, DiffusionPipeline, DPMSolverMultistepScheduler

import longtake
from longtake.errors import InputError
from longtake.model import PerFrameNoise, VideoModel
from longtake.models import load_model, model_spec
from longtake.models.hub.live import check_places

FOLDERS = ["folder", "latte_folder", "sparsectrl_folder", "animatediff_folder", "wan_folder"]
EXTRAS: dict[str, dict[str, Any]] = {
    "folder": {"fps": 8, "guidance": 3.0, "num_frames": 8, "clean_frames": True},
    "latte_folder": {},
    "animatediff_folder": {"num_frames": 8, "guidance": 3.0},
    "sparsectrl_folder": {"num_frames": 5, "guidance": 3.0},
    "wan_folder": {"num_frames": 5, "size": [32, 48], "guidance": 2.0},
}


def prepared(place: Path) -> Any:
    return DiffusionPipeline.from_pretrained(place, local_files_only=True).to("cpu")


def x0(model: VideoModel) -> torch.Tensor:
    x = torch.randn((1, *model.spec.latent_shape), generator=torch.Generator().manual_seed(0))
    rows = torch.ones((1, model.spec.num_frames), dtype=torch.long)
    return model.denoise(x, torch.tensor([6]), model.schedule(10), model.encode(["", "a red car"]), rows)


@pytest.mark.parametrize("fixture", FOLDERS)
def test_a_pipeline_is_the_model_of_its_folder(fixture: str, request: pytest.FixtureRequest, one_thread: None) -> None:
    place = request.getfixturevalue(fixture)
    live, loaded = longtake.from_pipe(prepared(place), **EXTRAS[fixture]), load_model(str(place))
    assert live.spec == loaded.spec and type(live) is type(loaded)
    assert torch.equal(x0(live), x0(loaded))


def test_the_digest_covers_configs_extras_and_weights(folder: Path) -> None:
    def digest(**extras: Any) -> str:
        return longtake.from_pipe(prepared(folder), **extras).digest

    plain = digest()
    assert plain == digest() != digest(guidance=4.0)
    pipe = prepared(folder)
    pipe.unet.conv_in.bias.data[0] += 1
    assert longtake.from_pipe(pipe).digest != plain
    pipe = prepared(folder)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, beta_end=0.02)
    assert longtake.from_pipe(pipe).digest != plain


def test_the_pipeline_stays_as_it_was_prepared(folder: Path) -> None:
    pipe = prepared(folder)
    before = {name: tensor.clone() for name, tensor in pipe.unet.state_dict().items()}
    model = longtake.from_pipe(pipe)
    x0(model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in pipe.unet.state_dict().items())
    assert isinstance(model, PerFrameNoise) and model.spec.name == folder.name


def test_what_cannot_be_run_is_refused_by_name(folder: Path) -> None:
    pipe = prepared(folder)
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (object(), {}, "pipe is <object object at .*>, which it cannot be; it takes a prepared DiffusionPipeline"),
        (DDIMPipeline(pipe.unet, pipe.scheduler), {}, "is a DDIMPipeline, which makes no videos"),
        (pipe, {"speed": 3}, "there is no field 'speed'"),
        (pipe, {"learnt_guidance": 1}, "^from_pipe of .*: learnt_guidance is 1, which it cannot be; .* above 1$"),
        (pipe, {"learnt_guidance": -1}, "it takes a number above 1$"),
        (pipe, {"sigmas": [1.0]}, "sigmas has no effect"),
    ]
    for given, extras, message in wrong:
        with pytest.raises(longtake.LongtakeError, match=message) as caught:
            longtake.from_pipe(given, **extras)
        assert "\n" not in str(caught.value)
    pipe.vae = None
    with pytest.raises(InputError, match="no vae"):
        longtake.from_pipe(pipe)
    pipe = prepared(folder)
    pipe.unet.register_to_config(sample_size=None)
    with pytest.raises(longtake.CheckpointError, match="pipe.unet.config: sample_size"):
        longtake.from_pipe(pipe)


def test_the_spec_is_that_of_the_live_configs(folder: Path) -> None:
    pipe = prepared(folder)
    pipe.unet.register_to_config(sample_size=[4, 6])
    assert longtake.from_pipe(pipe).spec.latent_shape[2:] == (4, 6) != model_spec(str(folder)).latent_shape[2:]


def test_a_network_whose_blocks_lie_apart_computes_the_same(wan_folder: Path, tmp_path: Path) -> None:
    """As diffusers spreads one over cards (device_map), here over the memory and the disk."""
    accelerate = pytest.importorskip("accelerate")
    pipe = prepared(wan_folder)
    expected = x0(longtake.from_pipe(pipe, **EXTRAS["wan_folder"]))
    parts = {name: "cpu" for name, _ in pipe.transformer.named_children()}
    blocks = {f"blocks.{number}": "cpu" if number else "disk" for number in range(len(pipe.transformer.blocks))}
    spread = {name: place for name, place in (parts | blocks).items() if name != "blocks"}
    accelerate.dispatch_model(pipe.transformer, {**spread, "scale_shift_table": "cpu"}, "cpu", offload_dir=tmp_path)
    assert next(pipe.transformer.blocks[0].parameters()).device.type == "meta"
    assert torch.equal(x0(longtake.from_pipe(pipe, **EXTRAS["wan_folder"])), expected)


def test_parts_on_several_devices_are_refused() -> None:
    check_places({"transformer": ["cuda:0", "cuda:1"], "vae": ["cuda:0"], "text_encoder": ["cpu"]}, ["transformer"])
    with pytest.raises(InputError, match=r"\(transformer on cuda:0, vae on cuda:1\).*bring vae to that of the network"):
        check_places({"transformer": ["cuda:0"], "vae": ["cuda:1"], "text_encoder": ["meta"]}, ["transformer"])


def test_a_device_map_is_for_a_pipeline_that_diffusers_has_loaded(wan_folder: Path) -> None:
    with pytest.raises(InputError, match="longtake loads one to one device: give the pipeline .* longtake.from_pipe"):
        longtake.LongVideoPipeline.from_pretrained(str(wan_folder), device_map="balanced")
