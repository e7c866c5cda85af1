"""The adapter for Wan against diffusers itself, on tiny real components saved as the hub has them."""

from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline
from torch import Tensor

from longtake.errors import InputError
from longtake.models import load_model
from longtake.models.hub.configs import Part
from longtake.models.wan.attention import temporal_rotation
from longtake.models.wan.model import WanModel
from longtake.models.wan.spec import Autoencoder, decoder_history, remembered_numbers
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.sampler import State
from longtake.samplers import run_plan
from longtake.samplers.fifo.loop import base_clip, prepare
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.video_infinity import loop as video_infinity_loop
from longtake.samplers.video_infinity.loop import ClipMixer
from longtake.samplers.video_infinity.plan import VideoInfinity
from longtake.schedule import to_x0

from ..mixers import PlainMixer
from .stock import EvenLevels
from .wan_fixture import CHANNELS, FRAMES, HEIGHT, MEAN, RESIDUAL, STD, TOKENS, WIDTH, tiny_vae, tiny_wan

PROMPTS = ["", "a red car", "a blue   boat &amp; sea"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def model(folder: Path) -> WanModel:
    found = load_model(str(folder))
    assert isinstance(found, WanModel)
    return found


def latents(windows: int, frames: int = FRAMES, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((windows, CHANNELS, frames, HEIGHT, WIDTH), generator=generator)


def rows_of(texts: Sequence[int], frames: int = FRAMES) -> Tensor:
    return torch.tensor(texts)[:, None].expand(-1, frames)


def stock_text(model: WanModel, folder: Path) -> Tensor:
    pipeline = WanPipeline(
        tokenizer=model.pipeline.tokenizer,
        text_encoder=model.pipeline.text_encoder,
        vae=model.pipeline.vae,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=model.pipeline.transformer,
    )
    with torch.no_grad():
        return pipeline.encode_prompt(PROMPTS, do_classifier_free_guidance=False, max_sequence_length=512)[0]


def stock_x0(model: WanModel, x: Tensor, level: Sequence[int], texts: Sequence[int]) -> Tensor:
    """The plain path: diffusers' forward, a timestep and a text per window."""
    schedule, levels = model.schedule(10), torch.tensor(level)
    text = model.encode(PROMPTS).rows["text"][list(texts)]
    with torch.no_grad():
        flow = model.pipeline.transformer(x, schedule.timestep[levels].float(), text).sample
    return to_x0(flow, x, schedule.now(levels[:, None, None, None, None]), "flow")


def test_prompts_are_embedded_as_the_stock_pipeline_does(model, folder) -> None:
    table = model.encode(PROMPTS).rows["text"]
    torch.testing.assert_close(table, stock_text(model, folder), atol=1e-6, rtol=0)
    assert table.shape == (3, 512, 16) and not table[1, 20:].any()


@pytest.mark.parametrize(("levels", "texts"), [([4], [1]), ([10, 3, 1], [2, 0, 2])], ids=["one", "mixed"])
@pytest.mark.parametrize("is_mixed", [False, True], ids=["own layers", "mixer"])
def test_equals_the_stock_forward_where_frames_agree(model, levels, texts, is_mixed) -> None:
    x, condition, rows = latents(len(levels)), model.encode(PROMPTS), rows_of(texts)
    expected = stock_x0(model, x, levels, texts)
    mixer = PlainMixer()
    for level in (torch.tensor(levels), rows_of(levels)):
        with model.mixing(mixer) if is_mixed else nullcontext():
            x0 = model.denoise(x, level, model.schedule(10), condition, rows)
        torch.testing.assert_close(x0, expected, atol=1e-5, rtol=0)
    assert mixer.layers == (2 * len(model.spec.temporal_layers) if is_mixed else 0)


def test_a_level_and_a_prompt_belong_to_their_frame(model) -> None:
    """With attention over all tokens made idle, a frame is as in a window that has its level and prompt throughout."""
    x, condition = latents(1), model.encode(PROMPTS)
    level, rows = torch.tensor([[1, 9, 4, 4, 10]]), torch.tensor([[0, 1, 2, 1, 0]])
    layers = [block.attn1.to_out[0] for block in model.pipeline.transformer.blocks]
    saved = [{name: tensor.clone() for name, tensor in layer.state_dict().items()} for layer in layers]
    try:
        for layer in layers:
            layer.weight.zero_()
            layer.bias.zero_()
        x0 = model.denoise(x, level, model.schedule(10), condition, rows)
        for frame in range(FRAMES):
            expected = stock_x0(model, x, [int(level[0, frame])], [int(rows[0, frame])])
            torch.testing.assert_close(x0[:, :, frame], expected[:, :, frame], atol=1e-5, rtol=0)
    finally:
        for layer, state in zip(layers, saved, strict=True):
            layer.load_state_dict(state)


def test_a_prompt_changes_what_its_frame_becomes(model) -> None:
    x, condition, schedule = latents(1), model.encode(PROMPTS), model.schedule(10)
    same = model.denoise(x, torch.tensor([5]), schedule, condition, rows_of([1]))
    other = model.denoise(x, torch.tensor([5]), schedule, condition, torch.tensor([[1, 1, 1, 1, 2]]))
    change = (same - other).abs().amax(dim=(0, 1, 3, 4))
    assert change[-1] > 1e-4 and change[-1] > 2 * change[:-1].max()


def test_offsets_beyond_training_count_as_the_farthest_of_training(model) -> None:
    rotate = temporal_rotation(model.pipeline.transformer.rope, FRAMES - 1)
    keys = torch.randn((2, 3 * TOKENS, 2, 24), generator=torch.Generator().manual_seed(1))
    far = rotate(keys, [-1000, 2, FRAMES + 3])
    assert torch.equal(far, rotate(keys, [1 - FRAMES, 2, FRAMES - 1]))
    assert not torch.allclose(far, rotate(keys, [2 - FRAMES, 2, FRAMES - 2]))
    assert torch.equal(far[..., 8:], keys[..., 8:]), "positions in space are not touched"
    assert torch.equal(rotate(keys, [0, 0, 0]), keys)


def test_a_mixer_takes_any_number_of_frames(model) -> None:
    """More frames than the table of positions has: only offsets inside the trained range are looked up."""
    frames = 70
    with model.mixing(PlainMixer()):
        x0 = model.denoise(
            latents(1, frames), torch.tensor([5]), model.schedule(10), model.encode(PROMPTS), rows_of([1], frames)
        )
    assert x0.shape[2] == frames and x0.isfinite().all()


EVERYTHING = VideoInfinity(padding=FRAMES, top_k=0, local_phase=None, global_phase=None)


def clips_mixer(model: WanModel, sampler: VideoInfinity, pixel_frames: int) -> ClipMixer:
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=pixel_frames, steps=2)
    setting = video_infinity_loop.prepare(model, sampler.plan(request, model.spec), seeded_noise(0), ALONE)
    return setting.mixer


def test_a_window_over_the_whole_clip_equals_the_unmodified_network(model) -> None:
    x, condition = latents(1), model.encode(PROMPTS)
    with model.mixing(clips_mixer(model, EVERYTHING, 17)):
        x0 = model.denoise(x, torch.tensor([5]), model.schedule(10), condition, rows_of([1]))
    torch.testing.assert_close(x0, stock_x0(model, x, [5], [1]), atol=1e-5, rtol=0)


def test_narrow_windows_look_no_farther(model) -> None:
    """Two layers with one neighbour each: what changes in the first frame reaches the third, not the fourth."""
    x, changed, rows = latents(1, 9), latents(1, 9), rows_of([1], 9)
    changed[:, :, 0] += 1
    mixer = clips_mixer(model, replace(EVERYTHING, padding=1, clips=3), 33)
    with model.mixing(mixer):
        before, after = (
            model.denoise(z, torch.tensor([5]), model.schedule(10), model.encode(PROMPTS), rows) for z in (x, changed)
        )
    change = (before - after).abs().amax(dim=(0, 1, 3, 4))
    assert change[2] > 1e-6 and not change[3:].any()


def test_video_infinity_makes_a_video_longer_than_the_network_knows(model) -> None:
    request = Request(prompts=PromptTimeline((0, 20), ("a red car", "a blue boat")), frames=34, steps=2)
    sampler = VideoInfinity(padding=2, top_k=3)
    chunks = run_plan(model, sampler.plan(request, model.spec), seeded_noise(3), ALONE, None)
    video = np.concatenate([chunk.frames for chunk in chunks])
    assert video.shape == (34, 32, 48, 3) and video.std() > 0


def test_hooks_leave_no_trace_even_after_an_error(model) -> None:
    transformer = model.pipeline.transformer
    before, rope = dict(transformer.attn_processors), transformer.rope
    with pytest.raises(RuntimeError), model.mixing(PlainMixer()):
        rows = rows_of([1])
        model.denoise(latents(1)[:, :3], torch.tensor([1]), model.schedule(10), model.encode(PROMPTS), rows)
    assert transformer.attn_processors == before and transformer.rope is rope


def with_decoder(model: WanModel, vae: Any) -> WanModel:
    other = copy(model)
    other.pipeline = SimpleNamespace(vae=vae)
    return other


@pytest.mark.parametrize(
    "settings",
    [{}, RESIDUAL],
    ids=["Wan2.1", "Wan2.2"],
)
@pytest.mark.parametrize("cuts", [[5], [1, 4], [2, 1, 2], [1, 1, 1, 1, 1]], ids=str)
def test_a_stream_decodes_in_pieces_as_at_once(model, settings, cuts) -> None:
    torch.manual_seed(1)
    vae = tiny_vae(**settings)
    streaming = with_decoder(model, vae)
    clip, frames, state = latents(1)[0], [], None
    with torch.no_grad():
        expected = vae.decode(clip[None] * STD + MEAN).sample[0].transpose(0, 1) / 2 + 0.5
    for part in clip.split(cuts, dim=1):
        decoded, state = streaming.decode(part, state, last=False)
        frames.append(decoded)
    torch.testing.assert_close(torch.cat(frames), expected, atol=1e-6, rtol=0)
    assert len(frames[0]) == 4 * cuts[0] - 3 and len(torch.cat(frames)) == 17 == model.spec.timing.pixel_frames(5)
    assert expected.std() > 1e-3


def remembered(model: WanModel, latents: Tensor) -> list[Any]:
    memory = None
    for part in latents.split(7, dim=1):
        _, memory = model.decode(part, memory, last=False)
    assert memory is not None
    return memory


@pytest.mark.parametrize(
    ("settings", "history"),
    [
        ({"num_res_blocks": 2}, 38),
        ({"num_res_blocks": 2, **RESIDUAL}, 38),
        ({"temperal_downsample": [True, False, True]}, 32),
        ({"temperal_downsample": [False, False, True]}, 33),
    ],
    ids=["Wan2.1 as released", "Wan2.2 as released", "other", "another"],
)
def test_the_last_latents_bring_back_what_the_decoder_remembers(model, settings, history) -> None:
    torch.manual_seed(1)
    vae = tiny_vae(**settings)
    streaming = with_decoder(model, vae)
    latents = torch.randn(CHANNELS, history + 10, 2, 2)
    counted = decoder_history(vae.config.num_res_blocks, vae.config.temperal_downsample)
    assert counted == history
    whole = remembered(streaming, latents)
    for count, is_enough in ((history, True), (history - 1, False)):
        again = remembered(streaming, latents[:, -count:])
        assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True) if isinstance(a, Tensor)) == is_enough
    read = Part(where="vae", config=dict(vae.config), shapes=dict).read(Autoencoder)
    assert remembered_numbers(read, 2, 2) == sum(part.numel() for part in whole if isinstance(part, Tensor))


def test_what_is_stored_of_the_decoder_at_720p_is_small() -> None:
    """With the published sizes of Wan2.1: 16 channels, 8 pixels a side, 2 residual blocks; what it remembers is not."""
    released, height, width = Autoencoder(), 720 // 8, 1280 // 8
    history = decoder_history(released.num_res_blocks, released.temperal_downsample)
    assert history * released.z_dim * height * width * 4 <= 40_000_000
    assert remembered_numbers(released, height, width) * 4 > 8 * 2**30


def test_encoding_gives_latents_of_the_right_scale(model) -> None:
    frames = torch.rand((9, 3, 32, 48), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        encoded = model.pipeline.vae.encode(frames.transpose(0, 1)[None] * 2 - 1).latent_dist.mean
    torch.testing.assert_close(model.encode_frames(frames), ((encoded - MEAN) / STD)[0], atol=1e-6, rtol=0)
    with pytest.raises(InputError, match="1 frame and 4 for each further latent, not 8"):
        model.encode_frames(frames[:8])


def test_sampling_equals_the_stock_pipeline(model, folder) -> None:
    pipeline = WanPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.scheduler = EvenLevels.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=17, negative_prompt="a blue boat")
    noise = seeded_noise(5)
    expected = pipeline(
        "a red car",
        negative_prompt="a blue boat",
        num_frames=17,
        height=32,
        width=48,
        num_inference_steps=FRAMES,
        guidance_scale=2.0,
        latents=noise((CHANNELS, FRAMES, HEIGHT, WIDTH), "base")[None],
        output_type="pt",
    ).frames[0]
    clip = base_clip(prepare(model, Fifo().plan(request, model.spec), noise))
    frames, _ = model.decode(clip, None, last=True)
    torch.testing.assert_close(frames, expected, atol=1e-4, rtol=0)


def test_fifo_makes_a_video_and_goes_on_from_any_chunk(model) -> None:
    request = Request(prompts=PromptTimeline((0, 5), ("a red car", "a blue boat")), frames=14)
    sampler = Fifo(decode_batch=2)
    plan = sampler.plan(request, model.spec)

    def run(resume: State | None = None) -> list[tuple[np.ndarray, State]]:
        return [(chunk.frames, chunk.state()) for chunk in run_plan(model, plan, seeded_noise(3), ALONE, resume)]

    whole = run()
    video = np.concatenate([frames for frames, _ in whole])
    assert video.shape == (14, 32, 48, 3) and video.std() > 0
    cut = next(i for i, (frames, _) in enumerate(whole) if len(frames))
    again = np.concatenate([frames for frames, _ in (*whole[: cut + 1], *run(whole[cut][1]))])
    assert np.array_equal(video, again)


def test_half_precision_stays_close(folder, model) -> None:
    half = load_model(str(folder), "cpu", torch.bfloat16)
    x, rows = latents(1), rows_of([1])
    reference = model.denoise(x, rows * 5, model.schedule(10), model.encode(PROMPTS), rows)
    close = half.denoise(x, rows * 5, half.schedule(10), half.encode(PROMPTS), rows)
    assert close.dtype == torch.float32
    assert (close - reference).pow(2).mean().sqrt() < 0.05 * reference.std()


def test_the_schedule_is_the_models_flow(model) -> None:
    schedule = model.schedule(4)
    s = torch.arange(5, dtype=torch.float64) / 4
    torch.testing.assert_close(schedule.sigma, 3 * s / (1 + 2 * s))
    with pytest.raises(InputError, match="use trailing"):
        model.schedule(4, "leading")
