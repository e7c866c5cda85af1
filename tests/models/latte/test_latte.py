"""The adapter for Latte against diffusers itself, on tiny real components."""

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LattePipeline
from torch import Tensor, nn

from longtake.attention import FrameMixer, attention
from longtake.errors import LongtakeError
from longtake.guidance import guided
from longtake.model import Condition, LongNegative, PerFrameNoise, TemporalHooks
from longtake.models import load_model, model_spec
from longtake.models.latte.model import LatteModel, frame_positions
from longtake.noise import seeded_noise
from longtake.schedule import step, to_x0

PROMPTS = ["", "a red car", "a blue boat at sea"]
FRAMES = 8


@pytest.fixture(scope="module")
def model(latte_folder: Path) -> LatteModel:
    """The model in double precision, so that any difference is one of meaning.

    Only the library's position table stays in float32.
    """
    return load_model(str(latte_folder), "cpu", torch.float64)


def latents(windows: int, frames: int = FRAMES) -> Tensor:
    return torch.randn((windows, 4, frames, 8, 8), generator=torch.Generator().manual_seed(0)).double()


def text_of(model: LatteModel, prompt: str, num_tokens: int | None = None) -> Tensor:
    """T5's states of the tokens of a prompt, or of that many."""
    tokens = model.pipeline.tokenizer([prompt], padding="max_length", max_length=120, return_tensors="pt")
    states = model.pipeline.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
    return states[:, : num_tokens or int(tokens.attention_mask.sum())]


def stock_x0(model: LatteModel, x: Tensor, level: int, text: Tensor) -> Tensor:
    """The plain path: diffusers' forward of one window, with a timestep and a text."""
    schedule = model.schedule(10)
    with torch.no_grad():
        output = model.pipeline.transformer(x, schedule.timestep[[level]], encoder_hidden_states=text).sample
    return to_x0(output[:, :4], x, schedule.now(torch.tensor(level)), "epsilon")


class Plain(FrameMixer):
    """Lets every frame attend to every frame, as the model itself does."""

    def __init__(self, places: Sequence[tuple[int, int]]) -> None:
        self.given, self.shapes = places, set()

    def attend(self, key: Tensor, value: Tensor, tokens: int = 1, rotate: Any = None) -> Callable[[Tensor], Tensor]:
        self.shapes.add((tuple(key.shape), tokens, rotate))
        return lambda query: attention(query, key, value)

    def placed(self, layers: Callable[..., Tensor], *parts: Tensor) -> Tensor:
        return layers(*parts)

    def places(self) -> Sequence[tuple[int, int]]:
        return self.given

    def convolve(self, convolution: nn.Conv3d, x: Tensor) -> Tensor:
        raise AssertionError("Latte has no convolution over time")

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        raise AssertionError("Latte has no norm over time")

    def block(self, block: Callable[[Tensor], Tensor], x: Tensor, reach: int) -> Tensor:
        raise AssertionError("Latte has no convolution over time")


@pytest.mark.parametrize("row", [1, 2])
def test_equals_the_stock_forward(model, row) -> None:
    x, condition = latents(1), model.encode(PROMPTS)
    expected = stock_x0(model, x, 6, text_of(model, PROMPTS[row]))
    rows = torch.full((1, FRAMES), row)
    for level in (torch.tensor([6]), torch.full((1, FRAMES), 6)):
        x0 = model.denoise(x, level, model.schedule(10), condition, rows)
        torch.testing.assert_close(x0, expected, atol=1e-6, rtol=1e-5)


def test_a_batch_of_windows_is_as_each_by_itself(model) -> None:
    x, condition, schedule = latents(2), model.encode(PROMPTS), model.schedule(10)
    levels, rows = torch.tensor([3, 9]), torch.tensor([[1] * FRAMES, [2] * FRAMES])
    together = model.denoise(x, levels, schedule, condition, rows)
    for i in range(2):
        expected = stock_x0(model, x[i : i + 1], int(levels[i]), text_of(model, PROMPTS[i + 1]))
        torch.testing.assert_close(together[i : i + 1], expected, atol=1e-6, rtol=1e-5)


def test_a_level_and_a_prompt_belong_to_their_frame(model) -> None:
    """With the blocks over time idle, a frame is as in a window that has its level and prompt throughout."""
    x, condition, schedule = latents(1), model.encode(PROMPTS), model.schedule(10)
    level, rows = torch.arange(1, FRAMES + 1)[None], torch.tensor([[1, 1, 2, 1, 2, 2, 2, 1]])
    blocks = model.pipeline.transformer.temporal_transformer_blocks
    idle = [tensor for block in blocks for tensor in (block.attn1.to_out[0].weight, block.ff.net[2].weight)]
    idle += [tensor for block in blocks for tensor in (block.attn1.to_out[0].bias, block.ff.net[2].bias)]
    saved = [tensor.clone() for tensor in idle]
    try:
        for tensor in idle:
            tensor.data.zero_()
        x0 = model.denoise(x, level, schedule, condition, rows)
        for frame in range(FRAMES):
            expected = stock_x0(model, x, int(level[0, frame]), text_of(model, PROMPTS[int(rows[0, frame])]))
            torch.testing.assert_close(x0[:, :, frame], expected[:, :, frame], atol=1e-6, rtol=1e-5)
    finally:
        for tensor, values in zip(idle, saved, strict=True):
            tensor.data.copy_(values)


def test_levels_of_other_frames_matter(model) -> None:
    x, condition, rows = latents(1), model.encode(PROMPTS), torch.ones((1, FRAMES), dtype=torch.long)
    level = torch.full((1, FRAMES), 6)
    uniform = model.denoise(x, level, model.schedule(10), condition, rows)
    level[0, -1] = 2
    mixed = model.denoise(x, level, model.schedule(10), condition, rows)
    assert (mixed - uniform)[:, :, 0].abs().max() > 1e-6


def test_the_negative_prompt_is_cut_to_the_positive_one(model) -> None:
    x, prompt = latents(1), PROMPTS[1]
    condition = model.encode(["a blue boat at sea", prompt])
    num_tokens = text_of(model, prompt).shape[1]
    expected = stock_x0(model, x, 6, text_of(model, "a blue boat at sea", num_tokens))
    rows = torch.zeros((1, FRAMES), dtype=torch.long)
    x0 = model.denoise(x, torch.tensor([6]), model.schedule(10), condition, rows)
    torch.testing.assert_close(x0, expected, atol=1e-6, rtol=1e-5)


def test_half_a_prompt_lies_between_none_and_all_of_it(model) -> None:
    given = model.encode(PROMPTS).rows
    x, rows = latents(1), torch.zeros((1, FRAMES), dtype=torch.long)

    def x0_of(share: float) -> Tensor:
        condition = Condition({name: torch.lerp(row[1], row[2], share)[None] for name, row in given.items()})
        return model.denoise(x, torch.tensor([6]), model.schedule(10), condition, rows)

    first, middle, last = (x0_of(share) for share in (0.0, 0.5, 1.0))
    assert middle.isfinite().all()
    assert (middle - first).norm() < (last - first).norm() and (middle - last).norm() < (last - first).norm()


def test_sampling_equals_the_stock_pipeline(latte_folder) -> None:
    model = load_model(str(latte_folder), "cpu", torch.float32)
    pipeline: Any = LattePipeline.from_pretrained(latte_folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    x = seeded_noise(5)((4, FRAMES, 8, 8), "base")[None]
    expected = pipeline(
        "A red car",
        negative_prompt="a blue boat",
        video_length=FRAMES,
        height=16,
        width=16,
        num_inference_steps=5,
        guidance_scale=7.5,
        latents=x,
        clean_caption=False,
        output_type="pt",
    ).frames[0]
    schedule, condition = model.schedule(5), model.encode(["a blue boat", "A red car"])
    for level in torch.arange(5, 0, -1):
        branch = partial(model.denoise, x, level[None], schedule, condition)
        x0 = guided(branch, torch.ones((1, FRAMES), dtype=torch.long), 7.5)
        x = step(x, x0, schedule.now(level), schedule.next(level))
    frames, state = model.decode(x[0], None, last=True)
    torch.testing.assert_close(frames, expected, atol=1e-4, rtol=0)
    assert state is None


def test_a_mixer_that_attends_to_all_frames_changes_nothing(model) -> None:
    x, condition, rows = latents(1), model.encode(PROMPTS), torch.ones((1, FRAMES), dtype=torch.long)
    plain = model.denoise(x, torch.tensor([6]), model.schedule(10), condition, rows)
    mixer = Plain([(i, FRAMES) for i in range(FRAMES)])
    with model.mixing(mixer):
        mixed = model.denoise(x, torch.tensor([6]), model.schedule(10), condition, rows)
    torch.testing.assert_close(mixed, plain, atol=1e-12, rtol=0)
    assert mixer.shapes == {((16, FRAMES, 2, 8), 1, None)}
    assert model.mixer is None


def test_positions_count_from_the_start_of_each_clip(model) -> None:
    """Two clips that do not see each other are as two windows."""
    x, condition = latents(2), model.encode(PROMPTS)
    rows = torch.ones((2, FRAMES), dtype=torch.long)
    apart = model.denoise(x, torch.tensor([6, 6]), model.schedule(10), condition, rows)

    class Apart(Plain):
        def attend(self, key: Tensor, value: Tensor, tokens: int = 1, rotate: Any = None) -> Callable[[Tensor], Tensor]:
            def halves(query: Tensor) -> Tensor:
                clips = zip(query.split(FRAMES, 1), key.split(FRAMES, 1), value.split(FRAMES, 1), strict=True)
                return torch.cat([attention(*clip) for clip in clips], dim=1)

            return halves

    video, places = torch.cat(list(x), dim=1)[None], [(i, FRAMES) for i in range(FRAMES)] * 2
    with model.mixing(Apart(places)):
        joint = model.denoise(video, torch.tensor([6]), model.schedule(10), condition, rows.reshape(1, -1))
    torch.testing.assert_close(joint[0], torch.cat(list(apart), dim=1), atol=1e-6, rtol=1e-5)


def test_positions_of_longer_clips_are_spread_over_the_trained_range(model) -> None:
    trained = model.pipeline.transformer.temp_pos_embed[0].double()
    native = frame_positions([(i, 8) for i in range(8)], 8, 16)
    torch.testing.assert_close(native, trained, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(frame_positions([(i, 5) for i in range(5)], 8, 16), native[:5])
    longer = frame_positions([(i, 15) for i in range(15)], 8, 16)
    torch.testing.assert_close(longer[::2], native)
    angle = torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(longer[1, [0, 8]], torch.stack([angle.sin(), angle.cos()]))
    assert frame_positions([(0, 1)], 8, 16).abs().max() == 0


def test_the_folder_is_found_by_its_pipeline(latte_folder) -> None:
    spec = model_spec(str(latte_folder))
    assert (spec.width, spec.height, spec.num_frames, spec.guidance, spec.fps) == (16, 16, FRAMES, 7.5, 8)
    assert spec.latent_shape == (4, FRAMES, 8, 8) and spec.temporal_layers == (("attention", 16, 16),) * 2
    assert spec.capabilities == {LongNegative, PerFrameNoise, TemporalHooks}
    model = load_model(str(latte_folder))
    assert isinstance(model, LatteModel) and model.spec == spec
    parts = (model.pipeline.transformer, model.pipeline.vae, model.pipeline.text_encoder)
    assert spec.parameters == sum(tensor.numel() for part in parts for tensor in part.parameters())


def test_frames_become_latents_of_the_right_scale(model) -> None:
    frames = torch.rand(5, 3, 16, 16)
    expected = model.pipeline.vae.encode(frames.double() * 2 - 1).latent_dist.mean.float() * 0.7
    torch.testing.assert_close(model.encode_frames(frames), expected.transpose(0, 1))


BAD = {
    "another norm": ("transformer/config.json", {"norm_type": "layer_norm"}, "ada_norm_single"),
    "odd outputs": ("transformer/config.json", {"out_channels": 5}, "out_channels cannot be 5"),
    "no layers": ("transformer/config.json", {"num_layers": 0}, "num_layers is 0"),
    "another length": ("longtake.json", {"num_frames": 5}, "num_frames.*no effect"),
    "unknown to it": ("longtake.json", {"told_fps": 24}, "told_fps has no effect"),
    "another text encoder": ("model_index.json", {"text_encoder": ["transformers", "CLIPTextModel"]}, "T5EncoderModel"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_in_one_line(latte_folder, tmp_path, case) -> None:
    file, changes, message = BAD[case]
    folder = shutil.copytree(latte_folder, tmp_path / "copy")
    content = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(content | changes))
    with pytest.raises(LongtakeError, match=message) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


def test_half_precision_stays_close(latte_folder, model) -> None:
    half = load_model(str(latte_folder), "cpu", torch.bfloat16)
    x, level, rows = latents(1), torch.full((1, FRAMES), 3), torch.ones((1, FRAMES), dtype=torch.long)
    reference = model.denoise(x, level, model.schedule(10), model.encode(PROMPTS), rows)
    close = half.denoise(x.float(), level, half.schedule(10), half.encode(PROMPTS), rows)
    assert close.dtype == torch.float32
    assert (close - reference).pow(2).mean().sqrt() < 0.05 * reference.std()
