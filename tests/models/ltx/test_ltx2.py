"""LTX-2 without its sound, against diffusers itself, on tiny real components saved as the hub has them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.model import Continuation, Infill, Known, PerFrameNoise, TemporalHooks
from longtake.models import load_model, model_spec
from longtake.models.ltx.decoder import decode
from longtake.models.ltx.model import Ltx2Model
from longtake.models.ltx.spec import Autoencoder, decoder_layers, remembered_numbers
from longtake.noise import seeded_noise
from longtake.request import PromptTimeline, Request
from longtake.samplers.chunked import loop as chunked_loop
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.planning import checked_plan, plan_warnings
from longtake.typed import read_typed

from ..mixers import PlainMixer
from .ltx_fixture import CHANNELS, FRAMES, HEIGHT, SECOND, THIRD, WIDTH, latents, rows_of, tiny_ltx2, tiny_vae_2

PROMPTS = ["", "a red car", "a blue boat"]


VERSIONS = [
    pytest.param((), id="2.0"),
    pytest.param((True,), id="2.3"),
    pytest.param((True, True), id="2.5", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=VERSIONS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_ltx2(tmp_path_factory.mktemp("models"), *request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> Ltx2Model:
    found = load_model(str(folder))
    assert isinstance(found, Ltx2Model)
    return found


def request(frames: int) -> Request:
    prompts = PromptTimeline.constant(PROMPTS[1])
    return Request(prompts=prompts, frames=frames, negative_prompt=PROMPTS[2], steps=4, guidance=2.0)


def test_the_spec_says_that_sound_is_not_made(folder: Path, model: Ltx2Model) -> None:
    spec = model_spec(str(folder))
    assert spec == model.spec and spec.drops_sound and spec.clean_frames
    assert spec.capabilities == {PerFrameNoise, TemporalHooks, Infill, Continuation}
    (said,) = plan_warnings(checked_plan(spec, request(33), Chunked()))
    assert "makes sound, too; longtake makes its picture alone" in said


def test_a_native_clip_is_the_stock_pipeline_s_with_both_halves_kept_apart(
    model: Ltx2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = chunked_loop.prepare(model, Chunked().plan(request(33), model.spec), seeded_noise(5))
    made = chunked_loop.sample(setting, 0, None)
    pipeline, transformer = model.pipeline, model.pipeline.transformer
    pipeline.set_progress_bar_config(disable=True)
    real = transformer.forward

    def apart(**given: Any) -> Any:
        assert given.pop("isolate_modalities") is False, "the stock pipeline lets both see each other"
        return real(**given, isolate_modalities=True)

    monkeypatch.setattr(transformer, "forward", apart)
    monkeypatch.setattr(pipeline, "audio_vae", Sound())
    channels = transformer.config.audio_in_channels
    expected = pipeline(
        prompt=PROMPTS[1],
        negative_prompt=PROMPTS[2],
        height=32 * HEIGHT,
        width=32 * WIDTH,
        num_frames=33,
        num_inference_steps=4,
        guidance_scale=2.0,
        stg_scale=0.0,
        modality_scale=1.0,
        guidance_rescale=0.0,
        audio_stg_scale=0.0,
        audio_modality_scale=1.0,
        audio_guidance_rescale=0.0,
        latents=pipeline._pack_latents(setting.draw_window(0, range(FRAMES), "frame")[None], 1, 1),
        audio_latents=torch.randn(1, 34, channels),
        output_type="latent",
    ).frames
    vae = pipeline.vae
    expected = pipeline._normalize_latents(expected, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    torch.testing.assert_close(made[None], expected, atol=1e-4, rtol=0)


class Sound:
    """What the stock pipeline wants to know of the sound's autoencoder, which longtake does not load."""

    latents_mean, latents_std = torch.zeros(1), torch.ones(1)
    config = type("Config", (), {"mel_bins": 8, "latent_channels": 3})


def test_mixed_levels_and_texts_belong_to_their_frames(model: Ltx2Model) -> None:
    x, schedule, condition = latents(2), model.schedule(10), model.encode(PROMPTS)
    expected = model.denoise(x, torch.tensor([3, 9]), schedule, condition, rows_of([1, 2]))
    x0 = model.denoise(x, rows_of([3, 9]), schedule, condition, rows_of([1, 2]))
    torch.testing.assert_close(x0, expected, atol=1e-5, rtol=0)
    rows, levels = rows_of([1, 2]).clone(), rows_of([3, 9]).clone()
    rows[0, 3], levels[0, 1] = 2, 7
    text = model.denoise(x, rows_of([3, 9]), schedule, condition, rows)
    level = model.denoise(x, levels, schedule, condition, rows_of([1, 2]))
    assert (text - x0)[0, :, 3].abs().max() > 1e-3 and (level - x0)[0, :, 1].abs().max() > 1e-2
    for moved in (text, level):
        torch.testing.assert_close(moved[1], x0[1], atol=1e-5, rtol=0)


def test_a_mixer_turns_as_the_library_does(model: Ltx2Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """With frames evenly spaced, as they are in a mixer: the first one of a clip is nearer to the second."""
    x, condition, rows = latents(1), model.encode(PROMPTS), rows_of([1])
    monkeypatch.setattr(model.rope, "causal_offset", 8)
    expected = model.denoise(x, torch.tensor([5]), model.schedule(10), condition, rows)
    mixer = PlainMixer()
    with model.mixing(mixer):
        x0 = model.denoise(x, torch.tensor([5]), model.schedule(10), condition, rows)
    # The library turns by thousands of radians in float32, offsets by less.
    torch.testing.assert_close(x0, expected, atol=1e-4, rtol=0)
    assert mixer.layers == 2, "of its two blocks"


@pytest.mark.parametrize("settings", [SECOND, THIRD, SECOND | {"decoder_causal": True}], ids=["2.0", "2.3", "causal"])
@pytest.mark.parametrize("num_latents", [1, 2, 3, 11])
def test_a_stream_decodes_as_the_library_decodes_all_at_once(settings: dict[str, Any], num_latents: int) -> None:
    vae: Any = tiny_vae_2(**settings)
    z = torch.randn(1, CHANNELS, num_latents, HEIGHT, WIDTH)
    with torch.inference_mode():
        expected = vae.decode(z).sample
        parts, memory = [], None
        for place in range(num_latents):
            pixels, memory = decode(vae, z[:, :, place : place + 1], memory, place + 1 == num_latents)
            parts.append(pixels)
    assert expected.shape[2] == 1 + 8 * (num_latents - 1)
    torch.testing.assert_close(torch.cat(parts, dim=2), expected, atol=1e-5, rtol=1e-4)


def test_the_memory_comes_back_bit_for_bit_of_the_last_latents(model: Ltx2Model) -> None:
    history = model.spec.decoder_history
    z, more = latents(1, history + 7)[0], latents(1, 2, seed=1)[0]
    memories = [model.decode(part, None, last=False)[1] for part in (z, z[:, -history:], z[:, 1 - history :])]
    vae: Any = model.pipeline.vae
    said = {name: vae.config[name] for name in Autoencoder.__dataclass_fields__ if name in vae.config}
    read = read_typed(Autoencoder, said, "vae")
    held = sum(kept.numel() for kept in memories[0] if isinstance(kept, Tensor))
    assert remembered_numbers(list(decoder_layers(read)), HEIGHT * WIDTH, causal=False) == held
    whole, rebuilt, fewer = (model.decode(more, memory, last=True)[0] for memory in memories)
    assert torch.equal(whole, rebuilt) and not torch.equal(whole, fewer)


def test_known_frames_stay_and_show(model: Ltx2Model) -> None:
    x, schedule, condition = latents(1), model.schedule(10), model.encode(PROMPTS)
    first, other = (
        model.denoise_after(x[:, :, 1:], torch.tensor([8]), schedule, condition, rows_of([1], 4), Known(latents=known))
        for known in latents(2, 1, seed=2).split(1)
    )
    assert first.shape == x[:, :, 1:].shape and (first - other).abs().max() > 1e-3
