"""A first picture, and clips that go on from the last frame of the one before (Wan2.2 TI2V 5B)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image

from longtake.decoding import decode_clip
from longtake.model import Continuation, Known, PerFrameNoise, TemporalHooks
from longtake.models import load_model, model_spec
from longtake.models.wan.model import WanModel
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.sampler import Chunk, State
from longtake.samplers import run_plan
from longtake.samplers.autoregressive.loop import prepare, sample
from longtake.samplers.autoregressive.plan import Autoregressive

from .stock import EvenLevels
from .wan_fixture import FRAMES, tiny_5b


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_5b(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def model(folder: Path) -> WanModel:
    found = load_model(str(folder))
    assert isinstance(found, WanModel)
    return found


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("pictures") / "first.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(file)
    return str(file)


def pixels(picture: str) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(picture)))[None].permute(0, 3, 1, 2) / 255


def test_it_goes_on_from_one_latent_whichever_pipeline_saved_it(folder: Path, tmp_path: Path) -> None:
    spec = model_spec(str(folder))
    assert spec.capabilities == {PerFrameNoise, TemporalHooks, Continuation} and spec.continues_from == 1
    assert spec.guidance == 5.0 and spec.fps == 24 and spec.timing.pixel_frames(FRAMES) == 17
    other = tiny_5b(tmp_path, WanImageToVideoPipeline)
    assert model_spec(str(other)) == spec and load_model(str(other)).digest == load_model(str(folder)).digest


def test_sampling_after_a_picture_equals_the_stock_pipeline(folder: Path, model: WanModel, picture: str) -> None:
    kind: Any = WanImageToVideoPipeline
    parts = {name: part for name, part in model.pipeline.components.items() if part is not None}
    pipeline = kind(**parts | {"scheduler": EvenLevels(shift=3.0)}, expand_timesteps=True)
    pipeline.set_progress_bar_config(disable=True)
    request = Request(
        prompts=PromptTimeline.constant("a red car"),
        frames=17,
        negative_prompt="a blue boat",
        steps=5,
        guidance=2.0,
        init=picture,
    )
    setting = prepare(model, Autoregressive().plan(request, model.spec), seeded_noise(5))
    first = model.encode_frames(pixels(picture))
    made = sample(setting, 0, Known(latents=first[None]))
    # This pipeline cleans prompts by a package that longtake does not need.
    text = model.encode(["a blue boat", "a red car"]).rows["text"]
    expected = pipeline(
        pixels(picture),
        prompt_embeds=text[1:],
        negative_prompt_embeds=text[:1],
        num_frames=17,
        height=64,
        width=96,
        num_inference_steps=5,
        guidance_scale=2.0,
        latents=setting.draw_window(0, range(FRAMES), "frame")[None],
        output_type="latent",
    ).frames[0]
    torch.testing.assert_close(torch.cat([first, made], dim=1), expected, atol=1e-4, rtol=0)


def chunks(model: WanModel, init: str | None, resume: State | None = None) -> list[tuple[Chunk, State]]:
    prompts = PromptTimeline((0, 20), ("a red car", "a blue boat"))
    plan = Autoregressive().plan(Request(prompts=prompts, frames=44, steps=2, init=init), model.spec)
    return [(chunk, dict(chunk.state())) for chunk in run_plan(model, plan, seeded_noise(3), ALONE, resume)]


def test_a_long_video_begins_with_the_picture_and_goes_on_from_any_clip(model: WanModel, picture: str) -> None:
    made = chunks(model, picture)
    assert [chunk.start for chunk, _ in made] == [0, 17, 33] and sum(len(chunk.frames) for chunk, _ in made) == 44
    first = decode_clip(model, model.encode_frames(pixels(picture)))
    assert np.array_equal(made[0][0].frames[:1], first)
    for index, (chunk, state) in enumerate(made[:-1]):
        assert np.array_equal(state["shown"], chunk.frames[-1:]), "the next clip is shown the last frame"
        again = chunks(model, picture, state)
        assert all(np.array_equal(a.frames, b.frames) for (a, _), (b, _) in zip(made[index + 1 :], again, strict=True))
    other = chunks(model, None)
    assert not np.array_equal(other[0][0].frames[:1], first) and sum(len(chunk.frames) for chunk, _ in other) == 44


def test_more_known_frames_than_were_trained_are_warned_of(model: WanModel) -> None:
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=44)
    assert not Autoregressive().plan(request, model.spec).warnings
    (warning,) = Autoregressive(context=2).plan(request, model.spec).warnings
    assert "learned to go on from 1 latent frames, and is shown 2" in warning
