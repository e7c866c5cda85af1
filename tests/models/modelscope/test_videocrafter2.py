"""A UNet that is told of frames per second, against diffusers' own UNet with a hook, on tiny real components."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet3DConditionModel
from diffusers.models.embeddings import TimestepEmbedding
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from longtake._generate import generate
from longtake.errors import CheckpointError, InputError
from longtake.model import Condition, ToldFps
from longtake.models import FAMILIES, configs_of, load_model, model_spec, spec_of
from longtake.models.hub.configs import read_configs
from longtake.models.hub.fake import fake_model
from longtake.models.hub.files import read_json
from longtake.models.hub.find import find
from longtake.models.hub.loading import Loading
from longtake.models.modelscope.convert import Assembly, assemble
from longtake.models.modelscope.model import UNetModel
from longtake.report import Order, run_settings
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.loop import base_clip, prepare
from longtake.samplers.planning import checked_plan
from longtake.schedule import Schedule, to_x0
from longtake.video.output import Output
from longtake.video.read import read_frames

from ...samplers.fifo.test_golden import DATA, load, planned, same

FRAMES = 8
WEIGHTS = "diffusion_pytorch_model.safetensors"
SETTINGS = Assembly(told_fps=24.0, fps=10.0, guidance=12.0, height=16, width=16)


@pytest.fixture(scope="module")
def assembled(zeroscope: Path, videocrafter2_unet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("assembled") / "videocrafter2"
    assemble(videocrafter2_unet, zeroscope, output, SETTINGS)
    return output


class AddFps(nn.Module):
    """What Video-Infinity's authors hang behind the time embedding."""

    def __init__(self, unet: UNet3DConditionModel, weights: dict[str, Tensor], fps: float) -> None:
        super().__init__()
        embedding = TimestepEmbedding(16, 64)
        prefix = "fps_embedding."
        embedding.load_state_dict({n.removeprefix(prefix): t for n, t in weights.items() if n.startswith(prefix)})
        projected = unet.time_proj(torch.tensor([fps])).double()
        self.vector = embedding.double()(projected)

    def forward(self, sample: Tensor) -> Tensor:
        return sample + self.vector


def test_equals_the_unet_with_the_embedding_behind_its_time_embedding(assembled, videocrafter2_unet) -> None:
    model = load_model(str(assembled), "cpu", torch.float64)
    prompts, schedule = ["", "a red car"], model.schedule(10)
    x = torch.randn((1, 4, FRAMES, 8, 8), generator=torch.Generator().manual_seed(0)).double()
    rows, level = torch.ones((1, FRAMES), dtype=torch.long), torch.tensor([6])
    x0 = model.denoise(x, level, schedule, model.encode(prompts), rows)

    stock = UNet3DConditionModel.from_pretrained(assembled / "unet", torch_dtype=torch.float64)
    with torch.no_grad():
        plain = stock(x, schedule.timestep[level], model.text_states(prompts)[1:].double()).sample
        stock.time_embedding.post_act = AddFps(stock, load_file(videocrafter2_unet / WEIGHTS), 24.0)
        told = stock(x, schedule.timestep[level], model.text_states(prompts)[1:].double()).sample
    assert (told - plain).abs().max() > 1e-3
    torch.testing.assert_close(x0, to_x0(told, x, schedule.now(level), "epsilon"), atol=1e-9, rtol=0)


def test_the_authors_base_clip_with_their_scale(assembled, monkeypatch) -> None:
    """Recorded from their code with `use_scale`. Real here: the folder, and of its model the noise levels and what is
    made of a prediction; the prediction itself and the text are the analytic ones of the recording."""
    case, meta = load(DATA / "n2_la1_base_scale.npz")
    analytic, plan, tape = planned(case, meta, window_batch=1)
    model = load_model(str(assembled), "cpu", torch.float64)

    def denoise(x: Tensor, level: Tensor, schedule: Schedule, condition: Condition, rows: Tensor) -> Tensor:
        return model.x0(analytic.predict(x, level, schedule, condition, rows), x, level, schedule)

    monkeypatch.setattr(model, "denoise", denoise)
    monkeypatch.setattr(model, "encode", analytic.encode)
    same(base_clip(prepare(model, plan, tape)), case["base"])


def test_default_levels_are_those_of_training(assembled, zeroscope) -> None:
    ours, plain = (load_model(str(place), "cpu", torch.float64).schedule(1000) for place in (assembled, zeroscope))
    scale = ours.alpha[1:] / plain.alpha[1:]
    expected = np.concatenate([np.linspace(1.0, 0.7, 400), np.full(600, 0.7)])
    torch.testing.assert_close(scale, torch.from_numpy(expected), atol=1e-12, rtol=0)
    assert torch.equal(ours.sigma, plain.sigma) and ours.alpha[0] == 1
    assert torch.equal(ours.alpha_next[1:], ours.alpha[:-1])


def test_the_scale_is_for_predicted_noise_alone(assembled, folder) -> None:
    assert read_json(assembled / "longtake.json")["use_scale"] is True
    configs = read_configs(find(str(folder)), FAMILIES["TextToVideoSDPipeline"])
    with pytest.raises(InputError, match="use_scale.*predict epsilon"):
        spec_of(replace(configs, extras={"use_scale": True}), FAMILIES["TextToVideoSDPipeline"])


def test_the_folder_says_what_the_model_is(assembled, caplog) -> None:
    spec = model_spec(str(assembled))
    assert (spec.width, spec.height, spec.fps, spec.guidance, spec.num_frames) == (16, 16, 10, 12, 16)
    model = load_model(str(assembled))
    assert isinstance(model, UNetModel) and ToldFps in spec.capabilities
    assert caplog.text == ""
    fps_weights = sum(t.numel() for t in TimestepEmbedding(16, 64).parameters())
    parts = (model.pipeline.unet, model.pipeline.vae, model.pipeline.text_encoder)
    assert spec.parameters == sum(t.numel() for part in parts for t in part.parameters()) + fps_weights


def test_it_is_counted_without_its_weights(assembled) -> None:
    spec = model_spec(str(assembled))
    plan = Chunked().plan(Request(prompts=PromptTimeline.constant("a car"), frames=20), spec)
    counted = fake_model(*configs_of(str(assembled), Loading()), spec, torch.float32).counted(plan)
    unet = load_file(assembled / "unet" / WEIGHTS)
    stock = sum(tensor.numel() for name, tensor in unet.items() if not name.startswith("fps_embedding."))
    assert counted["network"] == 4 * stock and counted["denoising"] > 0


def test_the_digest_depends_on_what_the_network_is_told(assembled, videocrafter2_unet, zeroscope, tmp_path) -> None:
    assemble(videocrafter2_unet, zeroscope, tmp_path / "same", SETTINGS)
    other = Assembly(told_fps=8.0, fps=10.0, guidance=12.0, height=16, width=16)
    assemble(videocrafter2_unet, zeroscope, tmp_path / "other", other)
    digests = [load_model(str(place)).digest for place in (assembled, tmp_path / "same", tmp_path / "other")]
    assert digests[0] == digests[1] != digests[2]


def test_a_run_tells_the_network_of_its_own_rate(assembled, videocrafter2_unet, zeroscope, tmp_path) -> None:
    """As a folder that says the same, and as another run; the model itself stays what it is."""
    assemble(videocrafter2_unet, zeroscope, tmp_path / "told", replace(SETTINGS, told_fps=8.0))
    prompts, model = PromptTimeline.constant("a red car"), load_model(str(assembled))
    asked = Request(prompts=prompts, frames=4, told_fps=8.0)
    runs = [(model, asked), (load_model(str(tmp_path / "told")), Request(prompts=prompts, frames=4)),
            (model, Request(prompts=prompts, frames=4))]  # fmt: skip
    videos, settings = [], []
    for number, (each, request) in enumerate(runs):
        sampler = Chunked(overlap=0)
        generate(each, replace(request, steps=2), sampler, Output(path=tmp_path / f"{number}.mkv"))
        videos.append(np.stack(list(read_frames(tmp_path / f"{number}.mkv"))))
        plan = checked_plan(each.spec, request, sampler)
        settings.append(run_settings(Order.of(each, plan, Output()), plan))
    assert np.array_equal(videos[0], videos[1]) and not np.array_equal(videos[0], videos[2])
    fresh = load_model(str(assembled))
    assert fresh.told(8.0).lock is fresh.lock, "threads that share the network share its lock"
    assert settings[0]["told_fps"] == 8.0 and settings[0] != settings[2]


def test_telling_a_model_that_does_not_ask_is_an_error() -> None:
    request = Request(prompts=PromptTimeline.constant("a car"), frames=4, told_fps=8.0)
    with pytest.raises(InputError, match="told_fps has no effect on toy"):
        checked_plan(model_spec("toy"), request, Chunked())
    for fps in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="no network can be told"):
            replace(request, told_fps=fps)


def test_a_unet_that_must_be_told_is_not_run_untold(assembled, videocrafter2_unet, zeroscope, tmp_path) -> None:
    assemble(videocrafter2_unet, zeroscope, tmp_path / "model", SETTINGS)
    (tmp_path / "model" / "longtake.json").unlink()
    with pytest.raises(InputError, match="must be told.*longtake convert videocrafter2"):
        model_spec(str(tmp_path / "model"))


def test_telling_a_unet_that_does_not_listen_is_an_error(zeroscope, videocrafter2_unet, tmp_path) -> None:
    assemble(videocrafter2_unet, zeroscope, tmp_path / "model", SETTINGS)
    weights = tmp_path / "model" / "unet" / WEIGHTS
    weights.unlink()
    weights.write_bytes((zeroscope / "unet" / WEIGHTS).read_bytes())
    with pytest.raises(InputError, match="told_fps.*no effect"):
        model_spec(str(tmp_path / "model"))


@pytest.mark.parametrize("spoil", ["missing", "renamed", "another shape"])
def test_an_embedding_of_another_form_is_refused(assembled, spoil) -> None:
    tensors, name = load_file(assembled / "unet" / WEIGHTS), "fps_embedding.linear_2.bias"
    tensor = tensors.pop(name)
    if spoil == "renamed":
        tensors["fps_embedding.2.bias"] = tensor
    elif spoil == "another shape":
        tensors[name] = tensor[:-1].clone()
    # A new file: the old one is linked to the UNet that other tests use.
    (assembled / "unet" / WEIGHTS).rename(assembled / "kept")
    try:
        save_file(tensors, assembled / "unet" / WEIGHTS)
        with pytest.raises(CheckpointError, match="fps_embedding|another form") as caught:
            load_model(str(assembled))
        assert "\n" not in str(caught.value)
    finally:
        (assembled / "kept").replace(assembled / "unet" / WEIGHTS)


def test_told_fps_must_be_a_rate(assembled, zeroscope, videocrafter2_unet, tmp_path) -> None:
    assemble(videocrafter2_unet, zeroscope, tmp_path / "model", SETTINGS)
    (tmp_path / "model" / "longtake.json").write_text(json.dumps({"told_fps": -1}))
    with pytest.raises(CheckpointError, match="told_fps is -1"):
        model_spec(str(tmp_path / "model"))
