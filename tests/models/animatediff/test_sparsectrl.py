"""AnimateDiff with SparseCtrl against diffusers itself, on tiny real components, and as NUWA-XL's local diffusion."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline, AnimateDiffSparseControlNetPipeline
from PIL import Image
from torch import Tensor

from longtake.errors import LongtakeError
from longtake.model import Continuation, Infill, Known
from longtake.models import load_model, model_spec
from longtake.models.animatediff.model import SparseCtrlModel
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.samplers.step import Windows, between, ddim, free

FRAMES, STEPS, GUIDANCE = 5, 4, 3.0
PROMPTS = ["a blue boat", "a red car", "a green hill"]


@pytest.fixture(scope="module")
def model(sparsectrl_folder: Path) -> SparseCtrlModel:
    return load_model(str(sparsectrl_folder), "cpu", torch.float32)


@pytest.fixture(scope="module")
def pipeline(sparsectrl_folder: Path) -> Any:
    """The library's own, with noise levels placed as ours, and an encoder that draws nothing."""
    found: Any = AnimateDiffSparseControlNetPipeline.from_pretrained(sparsectrl_folder, local_files_only=True)
    found.set_progress_bar_config(disable=True)
    found.scheduler = type(found.scheduler).from_config(found.scheduler.config, timestep_spacing="trailing")
    channels = found.vae.config.latent_channels
    with torch.no_grad():
        found.vae.quant_conv.weight[channels:] = 0
        found.vae.quant_conv.bias[channels:] = -60
    return found


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), np.uint8)


def encoded(model: SparseCtrlModel, frames: np.ndarray) -> Tensor:
    """Clean latents, (channels, frames, height, width)."""
    return model.encode_frames(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255)


def sampled(model: SparseCtrlModel, rows: list[int], ends: Tensor | None = None) -> Tensor:
    """A window by DDIM from fixed noise, with a prompt for every frame, between two known frames or free."""
    windows = Windows(
        schedule=model.schedule(STEPS), condition=model.encode(PROMPTS), prompt_index=torch.tensor([rows])
    )
    denoiser = free(model, windows, GUIDANCE)
    if ends is not None:
        denoiser = between(model, windows, GUIDANCE, Known(latents=ends[None], places=(0, len(rows) - 1)))
    return ddim(denoiser, seeded_noise(5)((4, len(rows), 8, 8), "base")[None], windows.schedule)


def stock(pipeline: Any, **changes: Any) -> Tensor:
    return pipeline(
        PROMPTS[1],
        negative_prompt=PROMPTS[0],
        num_frames=FRAMES,
        height=16,
        width=16,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=seeded_noise(5)((4, FRAMES, 8, 8), "base")[None],
        output_type="latent",
        **changes,
    ).frames


def test_the_frames_between_two_equal_those_of_the_library(model: SparseCtrlModel, pipeline: Any) -> None:
    ends = pictures(2)
    expected = stock(
        pipeline, conditioning_frames=[Image.fromarray(end) for end in ends], controlnet_frame_indices=[0, FRAMES - 1]
    )
    known = encoded(model, ends)
    made = sampled(model, [1] * FRAMES, ends=known)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)
    other = sampled(model, [1] * FRAMES, ends=known.flip(1))
    assert (other - made).abs().mean() > 1e-2


def test_without_known_frames_it_is_animatediff(model: SparseCtrlModel, pipeline: Any) -> None:
    parts = ("vae", "text_encoder", "tokenizer", "unet", "motion_adapter", "scheduler")
    plain = AnimateDiffPipeline(**{name: getattr(pipeline, name) for name in parts})
    plain.set_progress_bar_config(disable=True)
    torch.testing.assert_close(sampled(model, [1] * FRAMES), stock(plain), atol=1e-4, rtol=1e-4)


def test_a_prompt_belongs_to_its_frame(model: SparseCtrlModel) -> None:
    """Where the motion modules do nothing, another prompt of one frame changes that frame alone."""
    awake = [
        one for name, one in model.pipeline.unet.named_parameters() if "motion_modules" in name and "proj_out" in name
    ]
    before = [one.clone() for one in awake]
    try:
        for one in awake:
            one.data.zero_()
        changed = sampled(model, [1, 1, 2, 1, 1]) - sampled(model, [1] * FRAMES)
    finally:
        for one, old in zip(awake, before, strict=True):
            one.data.copy_(old)
    amounts = changed.abs().amax(dim=(0, 1, 3, 4))
    assert len(awake) > 4 and amounts[2] > 1e-3 and amounts[[0, 1, 3, 4]].max() < 1e-6


def test_a_batch_of_windows_is_as_each_by_itself(model: SparseCtrlModel) -> None:
    x = seeded_noise(1)((2, 4, FRAMES, 8, 8), "x")
    ends = seeded_noise(2)((2, 2, 4, 8, 8), "ends").permute(1, 2, 0, 3, 4)
    schedule, condition = model.schedule(10), model.encode(PROMPTS)
    levels, rows = torch.tensor([3, 9]), torch.tensor([[1] * FRAMES, [2] * FRAMES])
    together = model.denoise_between(x, levels, schedule, condition, rows, Known(latents=ends, places=(0, FRAMES - 1)))
    for i in range(2):
        one = slice(i, i + 1)
        given = Known(latents=ends[one], places=(0, FRAMES - 1))
        alone = model.denoise_between(x[one], levels[one], schedule, condition, rows[one], given)
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sampler", [NuwaXl(), Autoregressive()])
def test_long_videos_of_it(model: SparseCtrlModel, sampler: Any) -> None:
    request = Request(prompts=PromptTimeline((0, 9), (PROMPTS[1], PROMPTS[2])), frames=17, steps=2)
    plan = sampler.plan(request, model.spec)
    frames = np.concatenate([chunk.frames for chunk in run_plan(model, plan, seeded_noise(0), ALONE, None)])
    assert frames.shape == (17, 16, 16, 3) and frames.std() > 0


def test_the_tree_says_that_it_was_not_trained_at_such_distances(model: SparseCtrlModel) -> None:
    request = Request(prompts=PromptTimeline.constant("a"), frames=17, steps=2)
    assert any("apart" in warning for warning in NuwaXl().plan(request, model.spec).warnings)


def test_the_folder_is_found_by_its_pipeline(sparsectrl_folder: Path) -> None:
    spec = model_spec(str(sparsectrl_folder))
    assert (spec.width, spec.height, spec.num_frames, spec.guidance, spec.fps) == (16, 16, FRAMES, 3.0, 8)
    assert spec.latent_shape == (4, FRAMES, 8, 8) and spec.capabilities == {Infill, Continuation}
    loaded = load_model(str(sparsectrl_folder))
    assert isinstance(loaded, SparseCtrlModel) and loaded.spec == spec
    parts = (loaded.pipeline.unet, loaded.pipeline.controlnet, loaded.pipeline.vae, loaded.pipeline.text_encoder)
    assert spec.parameters == sum(tensor.numel() for part in parts for tensor in part.state_dict().values())


BAD = {
    "drawings": ("controlnet/config.json", {"use_simplified_condition_embedding": False}, "sparsectrl-rgb"),
    "other latents": ("controlnet/config.json", {"conditioning_channels": 3}, "other latents"),
    "too long": ("longtake.json", {"num_frames": 7}, "num_frames 7 is .* takes 1 to 6 latent frames; the next is 6$"),
    "unknown to it": ("longtake.json", {"told_fps": 24}, "told_fps has no effect"),
    "another control": ("model_index.json", {"controlnet": ["diffusers", "ControlNetModel"]}, "SparseControlNetModel"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_is_refused_in_one_line(sparsectrl_folder: Path, tmp_path: Path, case: str) -> None:
    file, changes, message = BAD[case]
    folder = shutil.copytree(sparsectrl_folder, tmp_path / "copy")
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes))
    with pytest.raises(LongtakeError, match=message) as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)
