"""The adapter for UNet3DConditionModel against diffusers itself, on tiny real components."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from diffusers import TextToVideoSDPipeline, UNet3DConditionModel
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from longtake.attention import FrameMixer, attention
from longtake.model import Condition, Known
from longtake.models import load_model
from longtake.models.image_model import decode_frames, encode_frames
from longtake.models.modelscope.model import UNetModel
from longtake.noise import seeded_noise
from longtake.request import PromptTimeline, Request
from longtake.samplers.fifo.loop import base_clip, prepare
from longtake.samplers.fifo.plan import Fifo
from longtake.schedule import to_x0

PROMPTS = ["", "a red car", "a blue boat at sea"]
FRAMES = 8


@pytest.fixture(scope="module")
def model(folder: Path) -> UNetModel:
    return load_model(str(folder), "cpu", torch.float32)


@pytest.fixture(scope="module")
def exact(folder: Path) -> UNetModel:
    """The model in double precision, so that any difference is one of meaning."""
    return load_model(str(folder), "cpu", torch.float64)


@pytest.fixture(scope="module")
def condition(model: UNetModel) -> Condition:
    return model.encode(PROMPTS)


def latents(windows: int, seed: int = 0) -> Tensor:
    return torch.randn((windows, 4, FRAMES, 8, 8), generator=torch.Generator().manual_seed(seed))


def stock_x0(model: UNetModel, x: Tensor, level: Sequence[int], rows: Sequence[int]) -> Tensor:
    """The plain path: diffusers' forward, a timestep and a text per window."""
    schedule = model.schedule(10)
    levels = torch.tensor(level)
    text = model.text_states(PROMPTS)[list(rows)].to(model.dtype)
    with torch.no_grad():
        prediction = model.pipeline.unet(x, schedule.timestep[levels], text).sample
    return to_x0(prediction, x, schedule.now(levels[:, None, None, None, None]), "v_prediction")


@pytest.mark.parametrize(
    ("levels", "rows"), [([4], [1]), ([10, 3], [1, 1]), ([2, 9, 1], [0, 2, 1])], ids=["one", "one prompt", "mixed"]
)
def test_equals_the_stock_forward_where_frames_agree(exact, levels, rows) -> None:
    model, condition, x = exact, exact.encode(PROMPTS), latents(len(levels)).double()
    prompt_index = torch.tensor(rows)[:, None].expand(-1, FRAMES)
    expected = stock_x0(model, x, levels, rows)
    per_frame = torch.tensor(levels)[:, None].expand(-1, FRAMES)
    for level in (torch.tensor(levels), per_frame):
        x0 = model.denoise(x, level, model.schedule(10), condition, prompt_index)
        torch.testing.assert_close(x0, expected, atol=1e-9, rtol=0)


def test_a_level_and_a_prompt_belong_to_their_frame(exact) -> None:
    """With the layers for time made idle, a frame is as in a window that has its level and prompt throughout."""
    model, condition, x = exact, exact.encode(PROMPTS), latents(1).double()
    level, rows = torch.arange(1, FRAMES + 1)[None], torch.tensor([[0, 1, 2, 1, 0, 2, 2, 1]])
    idle = [module for module in model.pipeline.unet.modules() if isinstance(module, torch.nn.Conv3d)]
    idle += [module.proj_out for name, module in model.pipeline.unet.named_modules() if is_temporal_transformer(name)]
    saved = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in idle]
    try:
        for module in idle:
            module.weight.data.zero_()
            module.bias.data.zero_()
        x0 = model.denoise(x, level, model.schedule(10), condition, rows)
        for frame in range(FRAMES):
            expected = stock_x0(model, x, [int(level[0, frame])], [int(rows[0, frame])])
            torch.testing.assert_close(x0[:, :, frame], expected[:, :, frame], atol=1e-9, rtol=0)
    finally:
        for module, state in zip(idle, saved, strict=True):
            module.load_state_dict(state)


def is_temporal_transformer(name: str) -> bool:
    return name == "transformer_in" or name.split(".")[-2:-1] == ["temp_attentions"]


def test_hooks_leave_no_trace_even_after_an_error(model, condition) -> None:
    before = {name: id(module) for name, module in model.pipeline.unet.named_modules()}
    processors = dict(model.pipeline.unet.attn_processors)
    with pytest.raises(RuntimeError):
        model.denoise(
            latents(1)[:, :3], torch.ones(1, FRAMES).long(), model.schedule(10), condition, torch.ones(1, FRAMES).long()
        )
    assert {name: id(module) for name, module in model.pipeline.unet.named_modules()} == before
    assert model.pipeline.unet.attn_processors == processors


def test_a_network_may_take_squares_of_latents_as_one(folder: Path, tmp_path: Path) -> None:
    """Four times the autoencoder's channels: pictures are twice as wide, and go through the autoencoder as ever."""
    squares = Path(shutil.copytree(folder, tmp_path / "squares"))
    unet = UNet3DConditionModel.from_pretrained(
        folder / "unet", in_channels=16, out_channels=16, low_cpu_mem_usage=False, ignore_mismatched_sizes=True
    )
    # What did not fit holds whatever lay in memory.
    for layer in (unet.conv_in, unet.conv_out):
        layer.reset_parameters()
    unet.save_pretrained(squares / "unet")
    model = load_model(str(squares), "cpu", torch.float32)
    assert model.spec.latent_shape == (16, FRAMES, 8, 8) and (model.spec.height, model.spec.width) == (32, 32)
    clip = torch.randn(16, 2, 8, 8)
    frames, _ = model.decode(clip, None, last=True)
    own = pixel_shuffle(clip.transpose(0, 1), 2).transpose(0, 1)
    torch.testing.assert_close(frames, decode_frames(model.pipeline.vae, own))
    there = encode_frames(model.pipeline.vae, frames).unflatten(3, (8, 2)).unflatten(2, (8, 2))
    back = model.encode_frames(frames)
    assert torch.equal(back.unflatten(0, (4, 2, 2)).permute(0, 3, 4, 1, 5, 2), there)
    level = torch.full((1, FRAMES), 3)
    x = torch.randn(1, *model.spec.latent_shape)
    made = model.denoise(x, level, model.schedule(10), model.encode(PROMPTS), torch.zeros_like(level))
    assert made.shape == x.shape and made.isfinite().all()


def test_sampling_equals_the_stock_pipeline(model, folder) -> None:
    pipeline = TextToVideoSDPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    request = Request(prompts=PromptTimeline.constant("a red car"), frames=FRAMES, negative_prompt="a blue boat")
    noise = seeded_noise(5)
    expected = pipeline(
        "a red car",
        negative_prompt="a blue boat",
        num_frames=FRAMES,
        num_inference_steps=FRAMES,
        guidance_scale=3.0,
        latents=noise((4, FRAMES, 8, 8), "base")[None],
        output_type="pt",
    ).frames[0]
    clip = base_clip(prepare(model, Fifo().plan(request, model.spec), noise))
    frames, state = model.decode(clip, None, last=True)
    torch.testing.assert_close(frames, expected, atol=1e-4, rtol=0)
    assert state is None


def test_decoding_is_the_same_in_any_batch(model) -> None:
    clip = latents(1)[0]
    frames, _ = model.decode(clip, None, last=True)
    single = torch.cat([model.decode(clip[:, i : i + 1], None, last=True)[0] for i in range(FRAMES)])
    torch.testing.assert_close(frames, single, atol=1e-6, rtol=0)
    assert frames.shape == (FRAMES, 3, 16, 16) and frames.min() >= 0 and frames.max() <= 1


def test_encoding_gives_latents_of_the_right_scale(model) -> None:
    frames = torch.rand(5, 3, 16, 16)
    expected = model.pipeline.vae.encode(frames * 2 - 1).latent_dist.mean * 0.7
    torch.testing.assert_close(model.encode_frames(frames), expected.transpose(0, 1))


class Recorder(FrameMixer):
    """Mixes as the model itself would, and notes what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def attend(self, key, value, tokens=1, rotate=None):
        self.seen.append(("attention", key.shape[1]))
        return lambda query: attention(query, key, value)

    def convolve(self, convolution, x):
        self.seen.append(("convolution", x.shape[2]))
        return convolution(x)

    def normalise(self, norm, x):
        self.seen.append(("norm", x.shape[2]))
        return norm(x)

    def block(self, block, x, reach):
        self.seen.append(("block", x.shape[2]))
        return block(x)

    def places(self):
        raise AssertionError("this network has no positions over time")

    placed = places


def test_a_mixer_meets_every_layer_over_time_and_nothing_else(exact) -> None:
    x, rows = latents(1).double(), torch.ones((1, FRAMES), dtype=torch.long)
    arguments = (x, rows + 4, exact.schedule(10), exact.encode(PROMPTS), rows)
    plain, recorder = exact.denoise(*arguments), Recorder()
    names = {name: id(module) for name, module in exact.pipeline.unet.named_modules()}
    with exact.mixing(recorder):
        torch.testing.assert_close(exact.denoise(*arguments), plain, atol=1e-10, rtol=0)
    assert {frames for _, frames in recorder.seen} == {FRAMES}
    modules = list(exact.pipeline.unet.modules())
    temporal = [module for module in modules if isinstance(module, TransformerTemporalModel)]
    convolutions = [module for module in modules if isinstance(module, TemporalConvLayer)]
    expected = {
        "norm": len(temporal) + 4 * len(convolutions),
        "attention": 2 * len(temporal),
        "convolution": 4 * len(convolutions),
        "block": len(convolutions),
    }
    assert Counter(kind for kind, _ in recorder.seen) == expected
    assert {name: id(module) for name, module in exact.pipeline.unet.named_modules()} == names
    recorder.seen.clear()
    exact.denoise(*arguments)
    assert not recorder.seen


def test_known_frames_are_put_in_as_clean(model, condition) -> None:
    x, level, rows = latents(1), torch.tensor([6]), torch.ones((1, FRAMES), dtype=torch.long)
    schedule, known = model.schedule(10), latents(1, seed=1)
    between = model.denoise_between(
        x, level, schedule, condition, rows, Known(latents=known[:, :, :2], places=(0, FRAMES - 1))
    )
    after = model.denoise_after(x[:, :, 3:], level, schedule, condition, rows[:, 3:], Known(latents=known[:, :, :3]))
    assert between.shape == x.shape and after.shape[2] == FRAMES - 3


def test_half_precision_stays_close(folder, model, condition) -> None:
    half = load_model(str(folder), "cpu", torch.bfloat16)
    x, level, rows = latents(1), torch.full((1, FRAMES), 5), torch.ones((1, FRAMES), dtype=torch.long)
    reference = model.denoise(x, level, model.schedule(10), condition, rows)
    close = half.denoise(x, level, half.schedule(10), half.encode(PROMPTS), rows)
    assert close.dtype == torch.float32
    assert (close - reference).pow(2).mean().sqrt() < 0.05 * reference.std()


def test_the_digest_depends_on_the_weights(folder, model, tmp_path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert load_model(str(copy), "cpu", torch.float32).digest == model.digest
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert load_model(str(copy), "cpu", torch.float32).digest != model.digest
