"""The adapter for LTX-Video against diffusers itself, on tiny real components saved as the hub has them."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTXConditionPipeline, LTXPipeline
from torch import Tensor

from longtake.errors import InputError
from longtake.model import Known, Timing
from longtake.models import load_model
from longtake.models.ltx.decoder import decode
from longtake.models.ltx.model import LtxModel
from longtake.models.ltx.spec import Autoencoder, decoder_held, decoder_history, decoder_layers, remembered_numbers
from longtake.samplers.step import Windows, ddim, free

from ..mixers import PlainMixer
from .ltx_fixture import CHANNELS, FIRST, FRAMES, HEIGHT, LATER, WIDTH, latents, rows_of, tiny_ltx, tiny_vae

PROMPTS = ["", "a red car", "a blue boat"]


@pytest.fixture(scope="module", params=[False, True], ids=["0.9.0", "0.9.5"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LtxModel:
    found = load_model(str(tiny_ltx(tmp_path_factory.mktemp("models"), request.param)))
    assert isinstance(found, LtxModel)
    return found


def stock(model: LtxModel) -> Any:
    kind = LTXConditionPipeline if model.takes_conditions else LTXPipeline
    names = ("scheduler", "vae", "text_encoder", "tokenizer", "transformer")
    pipeline = kind(**{name: getattr(model.pipeline, name) for name in names})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_a_single_step_begins_with_noise_alone(model: LtxModel) -> None:
    now = model.schedule(1).now(torch.tensor([0, 1]))
    assert now.sigma.tolist() == [0, 1] and now.alpha.tolist() == [1, 0]


def test_a_native_clip_is_the_stock_pipeline_s(model: LtxModel) -> None:
    """The same noise, prompts and guidance, whole: levels, positions, texts and steps."""
    noise = torch.randn(1, *model.spec.latent_shape, generator=torch.Generator().manual_seed(3))
    schedule = model.schedule(4)
    windows = Windows(schedule=schedule, condition=model.encode(PROMPTS), prompt_index=rows_of([1]))
    made = ddim(free(model, windows, 2.0), noise, schedule)
    pipeline = stock(model)
    # The later pipeline draws its own noise, whatever it is given.
    given = {"generator": torch.Generator().manual_seed(3)}
    if not model.takes_conditions:
        given = {"latents": pipeline._pack_latents(noise, 1, 1)}
    size: dict[str, Any] = {"height": 32 * HEIGHT, "width": 32 * WIDTH, "num_frames": 33, "num_inference_steps": 4}
    result = pipeline(
        prompt=PROMPTS[1], negative_prompt="", guidance_scale=2.0, output_type="latent", **size, **given
    ).frames
    expected = result if result.ndim == 5 else pipeline._unpack_latents(result, FRAMES, HEIGHT, WIDTH, 1, 1)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("is_mixed", [False, True], ids=["own layers", "mixer"])
def test_a_text_and_a_level_for_every_frame_are_as_one_where_they_agree(model: LtxModel, is_mixed: bool) -> None:
    if is_mixed and model.takes_conditions:
        pytest.skip("its first two frames are nearer to each other than others")
    x, schedule, condition = latents(2), model.schedule(10), model.encode(PROMPTS)
    expected = model.denoise(x, torch.tensor([3, 9]), schedule, condition, rows_of([1, 2]))
    with model.mixing(PlainMixer()) if is_mixed else nullcontext():
        x0 = model.denoise(x, rows_of([3, 9]), schedule, condition, rows_of([1, 2]))
    # The library turns by up to 16,000 radians in float32, offsets by less.
    near = {"atol": 1e-4 if is_mixed else 1e-5, "rtol": 0}
    torch.testing.assert_close(x0, expected, **near)
    mixed_rows = rows_of([1, 2]).clone()
    mixed_rows[0, 3] = 2
    moved = model.denoise(x, rows_of([3, 9]), schedule, condition, mixed_rows)
    assert (moved - x0)[0, :, 3].abs().max() > 1e-3
    torch.testing.assert_close(moved[1], x0[1], **near)


@pytest.mark.parametrize("settings", [FIRST, LATER, FIRST | {"decoder_causal": True}], ids=["0.9.0", "0.9.1", "causal"])
@pytest.mark.parametrize("num_latents", [1, 2, 3, 11])
def test_a_stream_decodes_as_the_library_decodes_all_at_once(settings: dict[str, Any], num_latents: int) -> None:
    vae: Any = tiny_vae(**settings | {"decoder_inject_noise": (False,) * 5})
    z, time = torch.randn(1, CHANNELS, num_latents, HEIGHT, WIDTH), torch.zeros(1)
    with torch.inference_mode():
        expected = vae.decode(z, time if settings is LATER else None).sample
        parts, memory = [], None
        for place in range(num_latents):
            pixels, memory = decode(vae, z[:, :, place : place + 1], memory, place + 1 == num_latents)
            parts.append(pixels)
    assert expected.shape[2] == 1 + 8 * (num_latents - 1)
    torch.testing.assert_close(torch.cat(parts, dim=2), expected, atol=1e-5, rtol=1e-4)


def test_the_memory_comes_back_bit_for_bit_of_the_last_latents(model: LtxModel) -> None:
    history = model.spec.decoder_history
    z = latents(1, history + 7)[0]
    _, whole = model.decode(z, None, last=False)
    _, rebuilt = model.decode(z[:, -history:], None, last=False)
    more = latents(1, 2, seed=1)[0]
    ends = [model.decode(more, memory, last=True)[0] for memory in (whole, rebuilt)]
    assert torch.equal(ends[0], ends[1])
    _, fewer = model.decode(z[:, 1 - history :], None, last=False)
    assert not torch.equal(model.decode(more, fewer, last=True)[0], ends[0])


@pytest.mark.parametrize("settings", [FIRST, LATER, FIRST | {"decoder_causal": True}], ids=["0.9.0", "0.9.1", "causal"])
def test_the_decoder_holds_back_as_many_latents_as_the_plan_says(settings: dict[str, Any]) -> None:
    vae: Any = tiny_vae(**settings)
    read = Autoencoder(**{name: vae.config[name] for name in Autoencoder.__dataclass_fields__ if name in vae.config})
    timing, memory, came = Timing(stride=read.stride), None, 0
    given = decoder_history(list(decoder_layers(read)), read.decoder_causal) + 3
    for part in latents(1, given).split(1, dim=2):
        pixels, memory = decode(vae, part, memory, last=False)
        came += pixels.shape[2]
    held = -(-(timing.pixel_frames(given) - came) // read.stride)
    assert decoder_held(list(decoder_layers(read)), read.decoder_causal, timing) == held
    assert (held == 0) == read.decoder_causal


def test_released_decoders_remember_what_the_plan_says() -> None:
    vae: Any = tiny_vae(**LATER)
    read = Autoencoder(**{name: vae.config[name] for name in Autoencoder.__dataclass_fields__ if name in vae.config})
    layers = list(decoder_layers(read))
    _, memory = decode(vae, latents(1, 1), None, last=False)
    for part in latents(1, 20).split(1, dim=2):
        _, memory = decode(vae, part, memory, last=False)
    kept = [held for held in memory if isinstance(held, Tensor)]
    assert remembered_numbers(layers, HEIGHT * WIDTH, causal=False) == sum(held.numel() for held in kept)
    assert decoder_history(list(decoder_layers(Autoencoder())), causal=False) == 48


def test_known_frames_stay_and_show(model: LtxModel) -> None:
    x, schedule, condition = latents(1), model.schedule(10), model.encode(PROMPTS)
    first, other = latents(2, 1, seed=2).split(1)
    made = [
        model.denoise_after(x[:, :, 1:], torch.tensor([8]), schedule, condition, rows_of([1], 4), Known(latents=known))
        for known in (first, other)
    ]
    assert made[0].shape == x[:, :, 1:].shape and (made[0] - made[1]).abs().max() > 1e-3


def test_pixels_become_latents_and_odd_numbers_of_them_are_refused(model: LtxModel) -> None:
    frames = torch.rand(9, 3, 32 * HEIGHT, 32 * WIDTH)
    encoded = model.encode_frames(frames)
    assert encoded.shape == (CHANNELS, 2, HEIGHT, WIDTH)
    with torch.inference_mode():
        expected = model.pipeline.vae.encode((frames * 2 - 1).transpose(0, 1)[None]).latent_dist.mode()
    pipeline = stock(model)
    vae = model.pipeline.vae
    expected = pipeline._normalize_latents(expected, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    torch.testing.assert_close(encoded, expected[0], atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="encodes 1 frame and 8 for each further latent, not 8; give 1, 9, 17, "):
        model.encode_frames(frames[:8])


def test_sizes_that_do_not_fit_are_refused_before_weights(tmp_path: Path) -> None:
    folder = tiny_ltx(tmp_path)
    (folder / "longtake.json").write_text('{"size": [60, 96]}')
    with pytest.raises(InputError, match="multiples of 32"):
        load_model(str(folder))
