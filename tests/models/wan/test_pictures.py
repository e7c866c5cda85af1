"""Networks that are shown pictures, against diffusers: Wan2.1 I2V and FLF2V, Wan2.2 I2V A14B."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from PIL import Image
from torch import Tensor

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, Known, PerFrameNoise
from longtake.models import from_pipe, load_model, model_spec
from longtake.models.wan.model import WanFromPictures
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import GuidanceByLevel, PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.planning import plan_warnings
from longtake.samplers.step import Windows, between, ddim
from longtake.schedule import to_x0

from .stock import EvenLevels
from .wan_fixture import CHANNELS, FRAMES, HEIGHT, SIZES, WIDTH, tiny_from_pictures

PROMPTS = ["a blue boat", "a red car"]
CAPABILITIES = {
    "i2v": {PerFrameNoise, Continuation},
    "flf2v": {PerFrameNoise, Infill},
    "i2v-a14b": {PerFrameNoise, Infill, Continuation},
}
PLACES = {"i2v": (0,), "flf2v": (0, 16), "i2v-a14b": (0, 16)}


@pytest.fixture(scope="module", params=CAPABILITIES)
def folder(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_from_pictures(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> WanFromPictures:
    found = load_model(str(folder))
    assert isinstance(found, WanFromPictures)
    return found


@pytest.fixture(scope="module")
def stock(model: WanFromPictures) -> Any:
    kind: Any = WanImageToVideoPipeline
    parts = {name: part for name, part in model.pipeline.components.items() if part is not None}
    said = {"boundary_ratio": model.pipeline.config.boundary_ratio}
    pipeline = kind(**parts | {"scheduler": EvenLevels(shift=3.0)}, **said)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def name_of(model: WanFromPictures) -> str:
    return model.spec.name.removeprefix("tiny-")


def pictures(count: int) -> Tensor:
    """Pixels in [0, 1], all of 8 bits."""
    numbers = torch.randint(0, 256, (count, 3, 8 * HEIGHT, 8 * WIDTH), generator=torch.Generator().manual_seed(1))
    return numbers / 255


def known_of(model: WanFromPictures) -> Known:
    places = PLACES[name_of(model)]
    pixels = pictures(len(places))
    latents = torch.cat([model.encode_frames(picture[None]) for picture in pixels], dim=1)
    return Known(latents=latents[None], pixels=pixels[None], places=places)


def noise() -> Tensor:
    return seeded_noise(5)((CHANNELS, FRAMES, HEIGHT, WIDTH), "base")[None]


def images(pixels: Tensor) -> list[Image.Image]:
    return [Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()) for picture in pixels]


def seen_by_clip(stock: Any, pixels: Tensor) -> Tensor | None:
    if stock.image_encoder is None:
        return None
    with torch.no_grad():
        return stock.encode_image(images(pixels))


def test_the_spec_tells_what_it_can_be_shown(folder: Path, model: WanFromPictures) -> None:
    name, spec = name_of(model), model_spec(str(folder))
    assert spec == model.spec and spec.capabilities == CAPABILITIES[name]
    assert spec.needs_pictures and spec.known == "pixel" and spec.continues_from == 1
    assert spec.latent_shape == (CHANNELS, FRAMES, HEIGHT, WIDTH)
    two = name == "i2v-a14b"
    assert spec.guidance == (GuidanceByLevel(3.5, 3.5, 900.0) if two else 5.0)
    assert isinstance(model.pipeline, WanPipeline if two else WanImageToVideoPipeline)
    assert from_pipe(model.pipeline, **SIZES).spec.capabilities == spec.capabilities


def test_one_call_equals_the_stock_networks(model: WanFromPictures, stock: Any) -> None:
    """What goes beside the noise is prepared by the stock pipeline."""
    known, level, x = known_of(model), torch.tensor([10]), noise()
    assert known.pixels is not None
    schedule, text = model.schedule(10), model.encode(PROMPTS)
    ends = [picture[None] * 2 - 1 for picture in known.pixels[0]]
    last = ends[1] if len(ends) == 2 else None
    size = {"height": 8 * HEIGHT, "width": 8 * WIDTH, "num_frames": 17, "dtype": torch.float32, "device": "cpu"}
    with torch.no_grad():
        _, beside = stock.prepare_latents(ends[0], 1, CHANNELS, **size, last_image=last)
        given, at = torch.cat([x, beside], dim=1), schedule.timestep[level].float()
        flow = stock.transformer(given, at, text.rows["text"][1:], seen_by_clip(stock, known.pixels[0])).sample
    expected = to_x0(flow, x, schedule.now(level[:, None, None, None, None]), "flow")
    rows = torch.ones((1, FRAMES), dtype=torch.long)
    found = model.denoise_between(x, level, schedule, text, rows, known)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_sampling_between_pictures_equals_the_stock_pipeline(model: WanFromPictures, stock: Any) -> None:
    known, text = known_of(model), model.encode(PROMPTS)
    assert known.pixels is not None
    shown, schedule = images(known.pixels[0]), model.schedule(5)
    windows = Windows(schedule=schedule, condition=text, prompt_index=torch.ones((1, FRAMES), dtype=torch.long))
    two = name_of(model) == "i2v-a14b"
    guidance = GuidanceByLevel(3.0, 2.0, 900.0) if two else 3.0
    found = ddim(between(model, windows, guidance, known), noise(), schedule)
    expected = stock(
        shown[0],
        last_image=shown[1] if len(shown) == 2 else None,
        prompt_embeds=text.rows["text"][1:],
        negative_prompt_embeds=text.rows["text"][:1],
        num_frames=17,
        height=8 * HEIGHT,
        width=8 * WIDTH,
        num_inference_steps=5,
        guidance_scale=3.0,
        guidance_scale_2=2.0 if two else None,
        latents=noise(),
        output_type="latent",
    ).frames
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_prompt_and_a_level_belong_to_their_frame(model: WanFromPictures) -> None:
    """In a batch, whose windows have pictures of their own, too."""
    x, level, schedule = noise().expand(2, -1, -1, -1, -1), torch.full((2, FRAMES), 6), model.schedule(10)
    rows = torch.ones_like(level)
    before = model.denoise(x, level, schedule, model.encode(PROMPTS), rows)
    level[0, 2], rows[1, 3] = 1, 0
    after = model.denoise(x, level, schedule, model.encode(PROMPTS), rows)
    change = (after - before).abs().amax(dim=(1, 3, 4))
    assert change[0, 2] > 1e-2 and change[1, 3] > 2 * change[1, [0, 1, 2, 4]].max() > 0


def test_windows_of_a_batch_are_shown_their_own_pictures(model: WanFromPictures) -> None:
    known, schedule, rows = known_of(model), model.schedule(10), torch.ones((2, FRAMES), dtype=torch.long)
    assert known.pixels is not None
    latents, pixels = (torch.cat([part, part.flip(-1)]) for part in (known.latents, known.pixels))
    both = Known(latents=latents, pixels=pixels, places=known.places)
    x, level, text = noise().expand(2, -1, -1, -1, -1), torch.tensor([9, 3]), model.encode(PROMPTS)
    together = model.denoise_between(x, level, schedule, text, rows, both)
    for place in range(2):
        one = Known(latents=latents[place][None], pixels=pixels[place][None], places=known.places)
        alone = model.denoise_between(x[:1], level[place][None], schedule, text, rows[:1], one)
        torch.testing.assert_close(together[place], alone[0], atol=1e-5, rtol=1e-5)


def test_clips_go_on_from_the_last_picture(model: WanFromPictures, tmp_path: Path) -> None:
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=36, steps=2)
    if name_of(model) == "flf2v":
        pytest.skip("it wants both ends")
    with pytest.raises(InputError, match="was always shown a first picture"):
        Autoregressive().plan(request, model.spec)
    file = tmp_path / "first.png"
    images(pictures(1))[0].save(file)
    plan = Autoregressive().plan(replace(request, init=str(file)), model.spec)
    made = [(chunk.frames, chunk.state()) for chunk in run_plan(model, plan, seeded_noise(3), ALONE, None)]
    assert [len(frames) for frames, _ in made] == [17, 16, 3] and not plan_warnings(plan)
    again = [chunk.frames for chunk in run_plan(model, plan, seeded_noise(3), ALONE, made[0][1])]
    assert all(np.array_equal(a, b) for (a, _), b in zip(made[1:], again, strict=True))


def test_a_sampler_without_pictures_is_warned_of(model: WanFromPictures) -> None:
    (warning,) = plan_warnings(Chunked().plan(Request(prompts=PromptTimeline.constant("a"), frames=17), model.spec))
    assert "always shown a picture in training, and chunked shows it none" in warning


def test_a_folder_without_what_sees_pictures_is_refused(folder: Path, tmp_path: Path) -> None:
    if "a14b" in folder.name:
        pytest.skip("no CLIP")
    index = Path(shutil.copytree(folder, tmp_path / "copy")) / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"image_encoder": [None, None]}))
    with pytest.raises(CheckpointError, match="lacks image_encoder, which its network needs"):
        model_spec(str(index.parent))
