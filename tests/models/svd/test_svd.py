"""Stable Video Diffusion against the stock pipeline of diffusers, on tiny real components."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as stock
from PIL import Image
from torch import Tensor

from longtake.decoding import decode_clip
from longtake.errors import InputError
from longtake.model import Continuation, Known
from longtake.models import load_model, model_spec
from longtake.models.svd.model import SvdModel
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import Request
from longtake.sampler import Chunk, State
from longtake.samplers import run_plan
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.planning import UNCONDITIONAL, checked_plan, plan_warnings
from longtake.samplers.step import ddim

from .svd_fixture import FRAMES, HEIGHT, WIDTH, tiny_svd


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_svd(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def model(folder: Path) -> SvdModel:
    found = load_model(str(folder))
    assert isinstance(found, SvdModel)
    return found


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("pictures") / "first.png"
    pixels = np.random.default_rng(0).integers(0, 256, (2 * HEIGHT, 2 * WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return str(file)


def known_of(model: SvdModel, picture: str) -> Known:
    pixels = torch.from_numpy(np.array(Image.open(picture)))[None].permute(0, 3, 1, 2) / 255
    return Known(latents=model.encode_frames(pixels)[None], pixels=pixels[None])


def noise() -> Tensor:
    return torch.randn(1, 4, FRAMES, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def sampled(model: SvdModel, known: Known, steps: int) -> Tensor:
    schedule = model.schedule(steps)
    return ddim(lambda x, levels: model.after_picture(x, levels[:, 0], schedule, known), noise(), schedule)


def test_the_spec_says_that_it_reads_no_text_and_needs_a_picture(folder: Path, model: SvdModel, picture: str) -> None:
    spec = model_spec(str(folder))
    assert spec == model.spec and spec.capabilities == {Continuation} and spec.num_frames == FRAMES
    assert (spec.fps, spec.guidance, spec.vocabulary, spec.continues_from) == (7, 1.0, frozenset(), 1)
    with pytest.raises(InputError, match="give one with --init"):
        Autoregressive().plan(Request(prompts=UNCONDITIONAL, frames=13), spec)
    with pytest.raises(InputError, match="--guidance has no effect on tiny-svd, which reads no text"):
        checked_plan(spec, Request(prompts=UNCONDITIONAL, frames=13, guidance=2.0, init=picture), Autoregressive())
    blind = checked_plan(spec, Request(prompts=UNCONDITIONAL, frames=13), Chunked())
    assert any("always shown a picture in training" in warning for warning in plan_warnings(blind))


def test_a_clip_is_that_of_the_stock_pipeline(model: SvdModel, picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_of(model, picture)
    grain = seeded_noise(0)((3, 2 * HEIGHT, 2 * WIDTH), "picture")
    monkeypatch.setattr(stock, "randn_tensor", lambda *_, **__: grain[None])
    pipeline: Any = model.pipeline
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        Image.open(picture),
        height=2 * HEIGHT,
        width=2 * WIDTH,
        num_inference_steps=4,
        fps=7,
        latents=noise().transpose(1, 2),
        output_type="latent",
    ).frames
    torch.testing.assert_close(sampled(model, known, 4), expected.transpose(1, 2), atol=1e-4, rtol=1e-4)


def test_the_picture_shows_and_guidance_rises_with_the_frames(model: SvdModel, picture: str) -> None:
    schedule, level, known = model.schedule(10), torch.tensor([8]), known_of(model, picture)
    seeing = model.after_picture(noise(), level, schedule, known)
    other = Known(latents=known.latents, pixels=1 - known.pixels if known.pixels is not None else None)
    assert (model.after_picture(noise(), level, schedule, other) - seeing).abs().max() > 1e-3
    blind = model._x0(noise(), level, schedule, *model._nothing(1))
    plain = model._x0(noise(), level, schedule, *model._shown(known))
    for frame, scale in enumerate((1.0, 1.5, 2.0, 2.5, 3.0)):
        expected = blind[:, :, frame] + scale * (plain - blind)[:, :, frame]
        torch.testing.assert_close(seeing[:, :, frame], expected, atol=1e-5, rtol=1e-5)


def test_windows_decode_as_the_stock_pipeline_decodes_them(model: SvdModel) -> None:
    latents = noise()[0]
    with torch.inference_mode():
        expected = model.pipeline.decode_latents(latents.transpose(0, 1)[None], FRAMES)[0]
    frames, _ = model.decode(latents, None, last=True)
    torch.testing.assert_close(frames, (expected.transpose(0, 1) / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)


def chunks(model: SvdModel, init: str, resume: State | None = None) -> list[tuple[Chunk, State]]:
    plan = checked_plan(model.spec, Request(prompts=UNCONDITIONAL, frames=12, steps=2, init=init), Autoregressive())
    return [(chunk, dict(chunk.state())) for chunk in run_plan(model, plan, seeded_noise(3), ALONE, resume)]


def test_a_long_video_begins_with_the_picture_and_goes_on_from_any_clip(model: SvdModel, picture: str) -> None:
    made = chunks(model, picture)
    assert [chunk.start for chunk, _ in made] == [0, 5, 9] and sum(len(chunk.frames) for chunk, _ in made) == 12
    for index, (chunk, state) in enumerate(made[:-1]):
        assert np.array_equal(state["shown"], chunk.frames[-1:]), "the next clip is shown the last frame"
        again = chunks(model, picture, state)
        assert all(np.array_equal(a.frames, b.frames) for (a, _), (b, _) in zip(made[index + 1 :], again, strict=True))
    assert not np.array_equal(made[0][0].frames[:1], decode_clip(model, noise()[0])[:1])
