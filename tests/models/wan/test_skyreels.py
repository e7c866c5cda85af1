"""SkyReels-V2: a noise level for every frame, as it was trained, against the stock pipelines of diffusers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2Pipeline,
)
from torch import Tensor

from longtake.errors import InputError
from longtake.model import Continuation, Known, PerFrameNoise, TemporalHooks
from longtake.models import load_model, model_spec
from longtake.models.wan.model import WanModel
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.autoregressive import loop as autoregressive_loop
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.chunked import loop as chunked_loop
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.schedule import to_x0

from ..mixers import PlainMixer
from .wan_fixture import CHANNELS, FRAMES, HEIGHT, WIDTH, tiny_skyreels

PROMPTS = ["", "a red car", "a blue boat"]
SIGMAS = [1.0, 0.875, 0.625, 0.375]
"""Whole timesteps: the stock pipelines cut off what is behind the point."""


class Given(FlowMatchEulerDiscreteScheduler):
    """The stock scheduler on levels that it is given."""

    def set_timesteps(self, num_inference_steps, device: Any = None) -> None:
        super().set_timesteps(sigmas=SIGMAS, device=device)

    def step(self, model_output, timestep, sample, **settings):
        return super().step(model_output, timestep.float(), sample, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_skyreels(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def model(folder: Path) -> WanModel:
    found = load_model(str(folder))
    assert isinstance(found, WanModel)
    return found


@pytest.fixture
def given(folder: Path, tmp_path: Path) -> WanModel:
    """The same with the levels of `Given`."""
    copy = tiny_skyreels(tmp_path)
    extras = json.loads((copy / "longtake.json").read_text())
    (copy / "longtake.json").write_text(json.dumps(extras | {"sigmas": SIGMAS}))
    found = load_model(str(copy))
    assert isinstance(found, WanModel)
    return found


def latents(windows: int, frames: int = FRAMES) -> Tensor:
    return torch.randn((windows, CHANNELS, frames, HEIGHT, WIDTH), generator=torch.Generator().manual_seed(0))


def stock(model: WanModel, kind: Any) -> Any:
    pipeline = kind(**model.pipeline.components | {"scheduler": Given()})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def texts(model: WanModel) -> dict[str, Tensor]:
    # The stock pipelines clean prompts by a package that longtake does not need.
    text = model.encode(PROMPTS[1:]).rows["text"]
    return {"prompt_embeds": text[:1], "negative_prompt_embeds": text[1:]}


def request(frames: int) -> Request:
    prompts = PromptTimeline.constant(PROMPTS[1])
    return Request(prompts=prompts, frames=frames, negative_prompt=PROMPTS[2], guidance=2.0)


def test_the_spec_says_what_was_trained(folder: Path, model: WanModel) -> None:
    spec = model_spec(str(folder))
    assert spec.capabilities == {PerFrameNoise, TemporalHooks, Continuation} and spec == model.spec
    assert (spec.clean_frames, spec.continues_from, spec.guidance, spec.fps) == (True, None, 6.0, 24)
    (folder / "longtake.json").rename(folder / "aside")
    bare = model_spec(str(folder))
    (folder / "aside").rename(folder / "longtake.json")
    assert bare.latent_shape == (CHANNELS, 25, 68, 120) and bare.timing.pixel_frames(25) == 97


def test_levels_have_the_authors_shift_where_the_folder_says_none(folder: Path, model: WanModel) -> None:
    halfway = model.schedule(2).timestep[1]
    assert halfway == pytest.approx(1000 * 8 / 9), "8 s / (1 + 7 s)"
    config = folder / "scheduler" / "scheduler_config.json"
    said = config.read_text()
    assert json.loads(said)["flow_shift"] == 1
    config.write_text(said.replace('"flow_shift": 1.0', '"flow_shift": 5.0'))
    own = load_model(str(folder)).schedule(2).timestep[1]
    config.write_text(said)
    assert own == pytest.approx(1000 * 5 / 6)


def test_mixed_levels_are_those_of_the_stock_network(model: WanModel) -> None:
    """Of one window; for several, diffusers puts the rate that each is told in the wrong place."""
    x, level, schedule = latents(1), torch.tensor([[0, 0, 3, 7, 10]]), model.schedule(10)
    text = model.encode(PROMPTS).rows["text"][1:2]
    with torch.no_grad():
        flow = model.pipeline.transformer(
            x, schedule.timestep[level], text, enable_diffusion_forcing=True, fps=[1]
        ).sample
    expected = to_x0(flow, x, schedule.now(level[:, None, :, None, None]), "flow")
    x0 = model.denoise(x, level, schedule, model.encode(PROMPTS), torch.ones_like(level))
    torch.testing.assert_close(x0, expected, atol=1e-5, rtol=0)


def test_a_mixer_that_shows_all_frames_to_all_changes_nothing(model: WanModel) -> None:
    x, level, condition = latents(1), torch.tensor([[1, 9, 4, 4, 10]]), model.encode(PROMPTS)
    rows, mixer = torch.ones_like(level), PlainMixer()
    plain = model.denoise(x, level, model.schedule(10), condition, rows)
    with model.mixing(mixer):
        mixed = model.denoise(x, level, model.schedule(10), condition, rows)
    torch.testing.assert_close(mixed, plain, atol=1e-5, rtol=0)
    assert mixer.layers == 2, "of its two blocks"


def test_a_clip_is_that_of_the_stock_pipeline(given: WanModel) -> None:
    setting = chunked_loop.prepare(given, Chunked().plan(request(17), given.spec), seeded_noise(5))
    made = chunked_loop.sample(setting, 0, None)
    pipeline = stock(given, SkyReelsV2DiffusionForcingPipeline)
    noise = setting.draw_window(0, range(FRAMES), "frame")[None]
    # It wants four values of this, which returns one where latents are given.
    pipeline.prepare_latents = lambda *_, **__: (noise.clone(), FRAMES, None, 0)
    expected = pipeline(
        None,
        **texts(given),
        num_frames=17,
        height=32,
        width=48,
        num_inference_steps=len(SIGMAS),
        guidance_scale=2.0,
        output_type="latent",
    ).frames
    torch.testing.assert_close(made[None], expected, atol=1e-4, rtol=0)


def test_a_clip_after_a_picture_is_that_of_the_stock_pipeline(given: WanModel) -> None:
    picture = torch.rand((1, 3, 32, 48), generator=torch.Generator().manual_seed(1))
    setting = autoregressive_loop.prepare(
        given, Autoregressive(context=1).plan(request(17), given.spec), seeded_noise(5)
    )
    first = given.encode_frames(picture)
    known = Known(latents=first[None], pixels=picture[None])
    noise = setting.draw_window(1, setting.plan.frames(1), "frame")
    made = autoregressive_loop.sample(setting, 1, known)
    expected = stock(given, SkyReelsV2DiffusionForcingImageToVideoPipeline)(
        picture,
        **texts(given),
        num_frames=17,
        height=32,
        width=48,
        num_inference_steps=len(SIGMAS),
        guidance_scale=2.0,
        latents=torch.cat([first, noise], dim=1)[None],
        output_type="latent",
    ).frames
    torch.testing.assert_close(torch.cat([first, made], dim=1)[None], expected, atol=1e-4, rtol=0)


def test_fifo_shows_the_network_finished_frames_as_such(model: WanModel, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Fifo().plan(request(40), model.spec)
    assert plan.num_levels == FRAMES and plan.head == FRAMES // 2 and plan.guidance == 2.0
    seen: list[Tensor] = []
    real = model.experts.x0

    def spy(x: Tensor, level: Tensor, *rest: Any) -> Tensor:
        seen.append(level)
        return real(x, level, *rest)

    monkeypatch.setattr(model.experts, "x0", spy)
    chunks = list(run_plan(model, plan, seeded_noise(3), ALONE, None))
    assert sum(len(chunk.frames) for chunk in chunks) == 40
    assert any(torch.equal(level[0], torch.tensor([0, 0, 1, 2, 3])) for level in seen), "levels rise from finished ones"


def test_what_is_not_run_is_refused_for_its_own_reason(folder: Path, tmp_path: Path) -> None:
    plain = model_spec(str(tiny_skyreels(tmp_path, SkyReelsV2Pipeline)))
    assert plain.capabilities == {PerFrameNoise, TemporalHooks} and not plain.clean_frames
    for name, value, reason in (
        ("num_frame_per_block", 5, "must not see later ones"),
        ("in_channels", 2 * CHANNELS + 4, "SkyReels-V2 DF goes on from a picture, too"),
    ):
        copy = Path(shutil.copytree(folder, tmp_path / name))
        config = copy / "transformer" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {name: value}))
        with pytest.raises(InputError, match=reason):
            model_spec(str(copy))
