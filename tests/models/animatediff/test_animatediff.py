"""AnimateDiff against diffusers itself, on tiny real components: as saved, and as an image model and an adapter."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AnimateDiffPipeline,
    EulerDiscreteScheduler,
    LCMScheduler,
    MotionAdapter,
    UNet2DConditionModel,
    UNetMotionModel,
)
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import Tensor, nn

from longtake.attention import FrameMixer, attention
from longtake.errors import LongtakeError
from longtake.model import PerFrameNoise, TemporalHooks
from longtake.models import load_model, model_spec
from longtake.models.animatediff.model import AnimateDiffModel, ClipPositions
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.freenoise import loop as freenoise
from longtake.samplers.freenoise.plan import FreeNoise
from longtake.samplers.step import Windows, ddim, free
from longtake.samplers.video_infinity.plan import VideoInfinity

SLOW = pytest.mark.slow
FRAMES, STEPS, GUIDANCE = 8, 4, 3.0
TRAILING = {"timestep_spacing": "trailing"}
PROMPTS = ["a blue boat", "a red car", "a green hill"]


@pytest.fixture(scope="module", params=["animatediff_folder", "adapter_folder"])
def place(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def model(place: Path) -> AnimateDiffModel:
    return load_model(str(place), "cpu", torch.float32)


def latents(windows: int, frames: int = FRAMES) -> Tensor:
    return torch.randn((windows, 4, frames, 8, 8), generator=torch.Generator().manual_seed(0))


def ones(windows: int, frames: int = FRAMES) -> Tensor:
    return torch.ones((windows, frames), dtype=torch.long)


def test_a_native_clip_is_the_stock_pipeline_s(model: AnimateDiffModel, place: Path) -> None:
    pipeline: Any = AnimateDiffPipeline.from_pretrained(place, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **TRAILING)
    noise = seeded_noise(5)((4, FRAMES, 8, 8), "base")[None]
    expected = pipeline(
        PROMPTS[1],
        negative_prompt=PROMPTS[0],
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=noise,
        output_type="latent",
    ).frames
    windows = Windows(schedule=model.schedule(STEPS), condition=model.encode(PROMPTS), prompt_index=ones(1))
    made = ddim(free(model, windows, GUIDANCE), noise, windows.schedule)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


def test_a_level_and_a_prompt_belong_to_their_frame(model: AnimateDiffModel) -> None:
    """With the motion modules idle, a frame is as in a window that has its level and prompt throughout."""
    x, schedule, condition = latents(1), model.schedule(10), model.encode(PROMPTS)
    level, rows = torch.arange(1, FRAMES + 1)[None], torch.tensor([[1, 1, 2, 1, 2, 2, 2, 1]])
    named = model.pipeline.unet.named_parameters()
    motion = [one for name, one in named if "motion_modules" in name and "proj_out" in name]
    before = [one.clone() for one in motion]
    try:
        for one in motion:
            one.data.zero_()
        x0 = model.denoise(x, level, schedule, condition, rows)
        for frame in range(FRAMES):
            alike = model.denoise(x, level[:, frame], schedule, condition, rows[:, frame : frame + 1].expand(1, FRAMES))
            torch.testing.assert_close(x0[:, :, frame], alike[:, :, frame], atol=1e-5, rtol=1e-5)
    finally:
        for one, old in zip(motion, before, strict=True):
            one.data.copy_(old)


class Plain(FrameMixer):
    """What the network does itself, in clips that do not see each other where `places` begins anew."""

    def __init__(self, places: Sequence[tuple[int, int]]) -> None:
        self.given, self.length = places, places[0][1]

    def attend(self, key: Tensor, value: Tensor, tokens: int = 1, rotate: Any = None) -> Callable[[Tensor], Tensor]:
        def answer(query: Tensor) -> Tensor:
            clips = zip(*(part.split(self.length, 1) for part in (query, key, value)), strict=True)
            return torch.cat([attention(*clip) for clip in clips], dim=1)

        return answer

    def normalise(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        return torch.cat([norm(clip) for clip in x.split(self.length, 2)], dim=2)

    def placed(self, layers: Callable[..., Tensor], *parts: Tensor) -> Tensor:
        return layers(*parts)

    def places(self) -> Sequence[tuple[int, int]]:
        return self.given

    def convolve(self, convolution: nn.Conv3d, x: Tensor) -> Tensor:
        raise AssertionError("AnimateDiff has no convolution over time")

    def block(self, block: Callable[[Tensor], Tensor], x: Tensor, reach: int) -> Tensor:
        raise AssertionError("AnimateDiff has no convolution over time")


def test_a_mixer_of_two_clips_that_do_not_see_each_other_makes_two_windows(model: AnimateDiffModel) -> None:
    """Every clip's positions count from its start."""
    x, schedule, condition = latents(2), model.schedule(10), model.encode(PROMPTS)
    apart = model.denoise(x, torch.tensor([6, 6]), schedule, condition, ones(2))
    with model.mixing(Plain([(place, FRAMES) for place in range(FRAMES)] * 2)):
        joint = model.denoise(torch.cat(list(x), 1)[None], torch.tensor([6]), schedule, condition, ones(1, 2 * FRAMES))
    torch.testing.assert_close(joint[0], torch.cat(list(apart), dim=1), atol=1e-5, rtol=1e-5)


def test_positions_are_those_of_the_network_and_spread_in_longer_clips(model: AnimateDiffModel) -> None:
    block = model.pipeline.unet.mid_block.motion_modules[0].transformer_blocks[0]

    def positions(length: int) -> Tensor:
        mixer = Plain([(place, length) for place in range(length)])
        return ClipPositions(mixer, FRAMES)(torch.zeros(1, length, 32))

    torch.testing.assert_close(positions(FRAMES), block.pos_embed.pe[:, :FRAMES])
    torch.testing.assert_close(positions(5), block.pos_embed.pe[:, :5])
    longer = positions(2 * FRAMES - 1)
    torch.testing.assert_close(longer[:, ::2], positions(FRAMES))
    torch.testing.assert_close(longer[0, 1, :2], torch.tensor([np.sin(0.5), np.cos(0.5)], dtype=torch.float32))


@pytest.mark.parametrize(
    ("frames", "weighting"),
    [(20, "pyramid"), *(pytest.param(*row, marks=SLOW) for row in ((19, "flat"), (16, "delayed_reverse_sawtooth")))],
)
def test_freenoise_is_what_diffusers_makes_of_the_same_noise(adapter_folder: Path, frames: int, weighting: Any) -> None:
    """19 frames are no whole number of strides, where diffusers divides by a wrong sum unless weights are flat."""
    pipeline: Any = AnimateDiffPipeline.from_pretrained(adapter_folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **TRAILING)
    pipeline.enable_free_noise(FRAMES, 4, weighting, "shuffle_context")
    model, noise = load_model(str(adapter_folder), "cpu", torch.float32), seeded_noise(5)
    sampler = FreeNoise(context_length=FRAMES, context_stride=4, weighting_scheme=weighting)
    prompts = PromptTimeline.constant(PROMPTS[1])
    request = Request(prompts=prompts, negative_prompt=PROMPTS[0], frames=frames, steps=STEPS, guidance=GUIDANCE)
    plan = sampler.plan(request, model.spec)
    expected = pipeline(
        PROMPTS[1],
        negative_prompt=PROMPTS[0],
        num_frames=frames,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=freenoise.prepare(model, plan, noise, ALONE).draw(),
        output_type="latent",
    ).frames
    *_, last = freenoise.run(model, plan, noise, ALONE, None)
    torch.testing.assert_close(last.state()["latents"][None], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("sampler", "steps"), [(Fifo(partitions=1, lookahead=False), None), (Chunked(), 2), (VideoInfinity(), 2)]
)
def test_long_videos_of_it(animatediff_folder: Path, sampler: Any, steps: int | None) -> None:
    model = load_model(str(animatediff_folder))
    request = Request(prompts=PromptTimeline((0, 9), (PROMPTS[1], PROMPTS[2])), frames=17, steps=steps)
    plan = sampler.plan(request, model.spec)
    frames = np.concatenate([chunk.frames for chunk in run_plan(model, plan, seeded_noise(0), ALONE, None)])
    assert frames.shape == (17, 16, 16, 3) and frames.std() > 0


def run_layers(unet: Any, size: tuple[int, int]) -> list[tuple[str, int, int]]:
    """Return the layers that mix frames in the order in which a forward meets them."""
    found: list[tuple[str, int, int]] = []

    def note(module: Any, inputs: tuple[Tensor, ...], options: dict[str, Tensor]) -> None:
        x = inputs[0] if inputs else options["hidden_states"]
        is_norm = isinstance(module, nn.GroupNorm)
        found.append(("norm", module.num_groups, 1) if is_norm else ("attention", module.inner_kv_dim, len(x)))

    for owner in (module for module in unet.modules() if isinstance(module, AnimateDiffTransformer3D)):
        for module in owner.modules():
            if isinstance(module, (nn.GroupNorm, Attention)):
                module.register_forward_pre_hook(note, with_kwargs=True)
    with torch.no_grad():
        unet(torch.zeros(1, 4, 2, *size), torch.tensor([1]), torch.zeros(2, 3, 16))
    return found


@pytest.mark.parametrize("has_middle", [False, True])
def test_the_layers_that_mix_frames_are_those_of_the_network(
    adapter_folder: Path, animatediff_folder: Path, tmp_path: Path, has_middle: bool
) -> None:
    shape: dict[str, Any] = {"sample_size": (6, 10), "block_out_channels": (16, 32, 48), "norm_num_groups": 8}
    shape |= {"layers_per_block": 2, "cross_attention_dim": 16, "attention_head_dim": 2}
    down: Any = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
    up: Any = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
    image = UNet2DConditionModel(down_block_types=down, up_block_types=up, **shape)
    adapter = MotionAdapter(
        block_out_channels=(16, 32, 48),
        motion_layers_per_block=2,
        motion_transformer_layers_per_block=(1, 2, 1),
        motion_num_attention_heads=2,
        motion_norm_num_groups=8,
        use_motion_mid_block=has_middle,
    )
    merged: Any = UNetMotionModel.from_unet2d(image, adapter)
    specs = []
    for source, parts in ((adapter_folder, {"unet": image, "motion_adapter": adapter}), (animatediff_folder, {})):
        folder = Path(shutil.copytree(source, tmp_path / source.parent.name / "copy"))
        for name, part in (parts or {"unet": merged}).items():
            shutil.rmtree(folder / name)
            part.save_pretrained(folder / name)
        specs.append(model_spec(str(folder)))
    assert specs[0].temporal_layers == specs[1].temporal_layers == tuple(run_layers(merged, (6, 10)))


def test_the_folder_says_what_it_is(place: Path, model: AnimateDiffModel) -> None:
    spec = model_spec(str(place))
    assert (spec.width, spec.height, spec.num_frames, spec.guidance, spec.fps) == (16, 16, FRAMES, 3.0, 8)
    assert spec.latent_shape == (4, FRAMES, 8, 8) and spec.capabilities == {PerFrameNoise, TemporalHooks}
    assert isinstance(model, AnimateDiffModel) and model.spec == spec
    assert isinstance(model.pipeline.unet, UNetMotionModel) and model.pipeline.motion_adapter is None
    parts = (model.pipeline.unet, model.pipeline.vae, model.pipeline.text_encoder)
    positions = sum(tensor.numel() for name, tensor in model.pipeline.unet.state_dict().items() if ".pe" in name)
    numbers = sum(tensor.numel() for part in parts for tensor in part.state_dict().values())
    assert spec.parameters == numbers and positions < numbers
    assert not any(tensor.requires_grad for tensor in model.pipeline.unet.parameters())


def test_both_layouts_are_the_same_network(animatediff_folder: Path, adapter_folder: Path) -> None:
    one, other = (load_model(str(folder)).pipeline.unet.state_dict() for folder in (animatediff_folder, adapter_folder))
    assert one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def changed(source: Path, target: Path, file: str, changes: dict[str, Any]) -> str:
    folder = shutil.copytree(source, target)
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes))
    return str(folder)


def test_a_model_distilled_to_few_steps_has_little_guidance(place: Path, tmp_path: Path) -> None:
    folder = changed(place, tmp_path / "copy", "scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"})
    (tmp_path / "copy" / "longtake.json").write_text(json.dumps({"num_frames": FRAMES}))
    assert model_spec(folder).guidance == 2.0


@pytest.mark.parametrize("steps", [5, 10, 25])
def test_few_steps_are_at_the_timesteps_of_the_schedulers_of_distilled_models(
    model: AnimateDiffModel, steps: int
) -> None:
    config = model.pipeline.scheduler.config
    for scheduler in (LCMScheduler.from_config(config), EulerDiscreteScheduler.from_config(config, **TRAILING)):
        scheduler.set_timesteps(steps)
        assert model.schedule(steps).timestep[1:].flip(0).tolist() == scheduler.timesteps.tolist()


BAD: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "too long": ("animatediff", "longtake.json", {"num_frames": 11}, "num_frames 11 is .* takes 1 to 10 latent frames"),
    "adapter too short": ("adapter", "motion_adapter/config.json", {"motion_max_seq_length": 6}, "takes 1 to 6 latent"),
    "SDXL": ("animatediff", "unet/config.json", {"addition_embed_type": "text_time"}, "as SDXL's is"),
    "of an SDXL": ("adapter", "unet/config.json", {"addition_embed_type": "text_time"}, "as SDXL's is"),
    "another family's": ("adapter", "motion_adapter/config.json", {"block_out_channels": [16, 32, 64]}, "same family"),
    "PIA": ("adapter", "motion_adapter/config.json", {"conv_in_channels": 9}, "9 in_channels are made for other"),
    "a list too short": ("animatediff", "unet/config.json", {"layers_per_block": [1]}, "each of 1 blocks, .* are 2"),
    "an adapter's list": (
        "adapter",
        "motion_adapter/config.json",
        {"motion_transformer_layers_per_mid_block": [1, 2]},
        "motion_adapter/config.json: .* each of 2 blocks",
    ),
    "unknown to it": ("animatediff", "longtake.json", {"infill_guidance": 2.0}, "infill_guidance has no effect"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_in_one_line(case: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    kind, file, changes, message = BAD[case]
    folder = changed(request.getfixturevalue(f"{kind}_folder"), tmp_path / "copy", file, changes)
    for ask in (model_spec, load_model):
        with pytest.raises(LongtakeError, match=message) as caught:
            ask(folder)
        assert "\n" not in str(caught.value)


def test_an_image_model_alone_says_that_its_motion_is_missing(adapter_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter_folder, tmp_path / "copy"))
    shutil.rmtree(folder / "motion_adapter")
    index = json.loads((folder / "model_index.json").read_text()) | {"_class_name": "StableDiffusionPipeline"}
    (folder / "model_index.json").write_text(
        json.dumps({name: said for name, said in index.items() if "motion" not in name})
    )
    with pytest.raises(LongtakeError, match="motion_adapter is missing; the folder must hold unet, vae"):
        model_spec(str(folder))
