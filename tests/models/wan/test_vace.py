"""Wan2.1 VACE against diffusers: known frames through blocks of their own."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanVACEPipeline
from torch import Tensor

from longtake.errors import CapabilityError, CheckpointError
from longtake.model import Continuation, Infill, Known
from longtake.models import from_pipe, load_model, model_spec
from longtake.models.wan.model import WanVace
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.planning import checked_plan, plan_warnings
from longtake.samplers.step import Windows, after, between, ddim, free
from longtake.schedule import to_x0

from .stock import EvenLevels
from .wan_fixture import CHANNELS, FRAMES, HEIGHT, SIZES, WIDTH, tiny_vace

PROMPTS = ["a blue boat", "a red car"]
SIZE = (8 * HEIGHT, 8 * WIDTH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vace(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def model(folder: Path) -> WanVace:
    found = load_model(str(folder))
    assert isinstance(found, WanVace)
    return found


@pytest.fixture(scope="module")
def stock(model: WanVace) -> Any:
    kind: Any = WanVACEPipeline
    parts = {name: part for name, part in model.pipeline.components.items() if part is not None}
    pipeline = kind(**parts | {"scheduler": EvenLevels(shift=3.0)})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def known_of(model: WanVace, places: tuple[int, ...]) -> Known:
    pixels = torch.rand((len(places), 3, *SIZE), generator=torch.Generator().manual_seed(1))
    latents = torch.cat([model.encode_frames(picture[None]) for picture in pixels], dim=1)
    return Known(latents=latents[None], pixels=pixels[None], places=places)


def shown(known: Known | None) -> tuple[Tensor, Tensor]:
    """Video and mask as the stock pipeline takes them: grey, and white where a frame is to be made."""
    video, mask = torch.full((1, 17, 3, *SIZE), 0.5), torch.ones((1, 17, 3, *SIZE))
    if known is not None and known.pixels is not None:
        places = list(known.places)
        video[:, places], mask[:, places] = known.pixels, torch.zeros(3, *SIZE)
    return video, mask


def noise() -> Tensor:
    return seeded_noise(5)((CHANNELS, FRAMES, HEIGHT, WIDTH), "base")[None]


def rows(*texts: int) -> Tensor:
    return torch.tensor(texts)[:, None].expand(-1, FRAMES)


def test_the_spec_tells_what_it_fills_and_goes_on_from(folder: Path, model: WanVace) -> None:
    spec = model_spec(str(folder))
    assert spec == model.spec and spec.capabilities == {Infill, Continuation} and spec.guidance == 5.0
    assert spec.known == "pixel" and not spec.needs_pictures and spec.continues_from is None
    assert isinstance(model.pipeline, WanVACEPipeline) and from_pipe(model.pipeline, **SIZES).spec.known == "pixel"
    with pytest.raises(CapabilityError, match="fifo needs PerFrameNoise"):
        checked_plan(spec, Request(prompts=PromptTimeline.constant("a"), frames=40), Fifo())


def test_one_call_equals_the_stock_network(model: WanVace, stock: Any) -> None:
    """What steers it is prepared by the stock pipeline."""
    known, level, x = known_of(model, (0, 1, 2, 3, 4, 16)), torch.tensor([6]), noise()
    video, mask = (part.transpose(1, 2) for part in shown(known))
    schedule, text = model.schedule(10), model.encode(PROMPTS)
    with torch.no_grad():
        latents = stock.prepare_video_latents(video * 2 - 1, mask, [[]], None, "cpu")
        control = torch.cat([latents, stock.prepare_masks(mask, [[]])], dim=1)
        assert 0 < control[:, -1].mean() < 1
        flow = stock.transformer(
            x, schedule.timestep[level].float(), text.rows["text"][1:], control_hidden_states=control
        ).sample
    expected = to_x0(flow, x, schedule.now(level[:, None, None, None, None]), "flow")
    found = model.denoise_between(x, level, schedule, text, rows(1), known)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("places", [(), (0, 16), (0, 1, 2, 3, 4)], ids=["nothing", "both ends", "a start"])
def test_sampling_equals_the_stock_pipeline(model: WanVace, stock: Any, places) -> None:
    known, text, schedule = known_of(model, places) if places else None, model.encode(PROMPTS), model.schedule(5)
    windows = Windows(schedule=schedule, condition=text, prompt_index=rows(1))
    denoiser = free(model, windows, 3.0) if known is None else between(model, windows, 3.0, known)
    video, mask = shown(known)
    expected = stock(
        video=video,
        mask=mask,
        prompt_embeds=text.rows["text"][1:],
        negative_prompt_embeds=text.rows["text"][:1],
        num_frames=17,
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=5,
        guidance_scale=3.0,
        latents=noise(),
        output_type="latent",
    ).frames
    torch.testing.assert_close(ddim(denoiser, noise(), schedule), expected, atol=1e-4, rtol=0)


def test_what_follows_known_frames_is_in_view_of_them(model: WanVace) -> None:
    """As windows that have the same noise everywhere, known places included."""
    known, schedule, text = known_of(model, (0, 1, 2, 3, 4)), model.schedule(10), model.encode(PROMPTS)
    assert known.pixels is not None
    first = Known(latents=model.encode_frames(known.pixels[0])[None], pixels=known.pixels)
    level, x = torch.tensor([7]), noise()
    noisy = schedule.now(level.view(1, 1, 1, 1, 1)).mix(
        first.latents, seeded_noise(0)((CHANNELS, 2, HEIGHT, WIDTH), "known")[None]
    )
    whole = torch.cat([noisy, x[:, :, 2:]], dim=2)
    expected = model.denoise_between(whole, level, schedule, text, rows(1), known)[:, :, 2:]
    found = after(model, Windows(schedule=schedule, condition=text, prompt_index=rows(1)[:, 2:]), 1.0, first)(
        x[:, :, 2:], level[:, None].expand(-1, 3)
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_prompt_belongs_to_its_frame_in_both_kinds_of_blocks(folder: Path) -> None:
    """With attention over all tokens made idle, a frame is as in a window that has its prompt throughout."""
    model: Any = load_model(str(folder))
    network, known = model.pipeline.transformer, known_of(model, (0, 16))
    with torch.no_grad():
        for block in (*network.blocks, *network.vace_blocks):
            block.attn1.to_out[0].weight.zero_()
    schedule, text, x, level = model.schedule(10), model.encode(PROMPTS), noise(), torch.tensor([6])
    own, zeros, ones = (
        model.denoise_between(x, level, schedule, text, index, known)
        for index in (torch.tensor([[0, 1, 1, 0, 1]]), rows(0), rows(1))
    )
    for frame, row in enumerate([0, 1, 1, 0, 1]):
        torch.testing.assert_close(own[:, :, frame], (zeros, ones)[row][:, :, frame], atol=1e-5, rtol=0)
    assert (zeros - ones).abs().amax(dim=(0, 1, 3, 4)).min() > 1e-4


def test_a_long_video_goes_on_from_half_a_window_of_pixels(model: WanVace) -> None:
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=40, steps=2)
    plan = Autoregressive().plan(request, model.spec)
    assert plan.context == 2 and plan.shown_pixels == 5 and not plan_warnings(plan)
    made = [(chunk.frames, chunk.state()) for chunk in run_plan(model, plan, seeded_noise(3), ALONE, None)]
    assert [len(frames) for frames, _ in made] == [17, 12, 11] and made[0][1]["shown"].shape == (5, *SIZE, 3)
    again = [chunk.frames for chunk in run_plan(model, plan, seeded_noise(3), ALONE, made[0][1])]
    assert all(np.array_equal(a, b) for (a, _), b in zip(made[1:], again, strict=True))


def test_channels_that_do_not_fit_the_latents_are_refused(folder: Path, tmp_path: Path) -> None:
    config = Path(shutil.copytree(folder, tmp_path / "copy")) / "transformer" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"vace_in_channels": 96}))
    with pytest.raises(CheckpointError, match="are not 4 and 72"):
        model_spec(str(config.parent.parent))
