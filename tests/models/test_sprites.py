"""The embedded models as they are shipped."""

import json

import numpy as np
import pytest
import torch
from diffusers import TextToVideoSDPipeline

from longtake.data.sprites import VOCABULARY, Shot, SpriteWorld
from longtake.model import Continuation, Infill
from longtake.models import MODELS, from_pipe, load_model, model_spec
from longtake.models.embedded import WEIGHTS
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.step import Windows, free

PROMPT = "a panda rests in the desert"


def pixels() -> torch.Tensor:
    """16 frames of a world that shows the prompt."""
    frames = SpriteWorld(5, {0: Shot(object="panda", scene="desert", motion="rests")}).frames(0, 16)
    return torch.from_numpy(frames).permute(0, 3, 1, 2) / 255


def test_they_are_small_enough_for_the_package():
    files = [file for name in ("sprites", "sprites-fast", "sprites-uniform") for file in (WEIGHTS / name).rglob("*")]
    assert sum(file.stat().st_size for file in files if file.is_file()) <= 35e6


def test_no_path_of_another_machine_is_left_in_them():
    for file in WEIGHTS.rglob("*.json"):
        assert "_name_or_path" not in json.loads(file.read_text())


@pytest.mark.parametrize("name", ["sprites", "sprites-fast", "sprites-uniform"])
def test_the_spec_is_that_of_the_loaded_model(name):
    spec, model = model_spec(name), load_model(name)
    assert model.spec == spec and all(isinstance(model, capability) for capability in spec.capabilities)
    assert spec.latent_shape == (16, 16, 8, 8) and (spec.height, spec.width, spec.fps) == (64, 64, 8.0)
    assert spec.vocabulary == frozenset(VOCABULARY)
    assert spec.parameters > 1e6 and spec.forward_flops and spec.decode_flops
    # Only those that were trained with clean frames among noisy ones may infill.
    assert ({Infill, Continuation} <= spec.capabilities) == (name != "sprites-uniform")
    assert (spec.guidance, spec.learnt_guidance) == ((1, 3) if name == "sprites-fast" else (3, None))


def test_a_prepared_pipeline_takes_one_guidance_where_it_is_said_to_have_learnt_one():
    pipeline = TextToVideoSDPipeline.from_pretrained(WEIGHTS / "sprites")
    spec = from_pipe(pipeline, guidance=3.0, learnt_guidance=3.0).spec
    assert (spec.guidance, spec.learnt_guidance) == (1, 3)


@torch.inference_mode()
def test_one_branch_of_the_fast_one_is_nearer_to_what_two_say_with_guidance_than_one_of_the_plain_one_is():
    fast, plain = load_model("sprites-fast"), load_model("sprites")
    assert fast.digest != plain.digest
    schedule, rows = plain.schedule(16), torch.ones((1, 16), dtype=torch.long)
    levels, noise = (
        torch.arange(1, 17)[None],
        torch.randn((1, 16, 16, 8, 8), generator=torch.Generator().manual_seed(0)),
    )
    clip = plain.encode_frames(pixels())
    x = schedule.now(levels[:, None, :, None, None]).mix(clip[None], noise)
    one, guided, unguided = (
        free(model, Windows(schedule=schedule, condition=model.encode(["", PROMPT]), prompt_index=rows), scale)(
            x, levels
        )
        for model, scale in ((fast, 1.0), (plain, 3.0), (plain, 1.0))
    )
    assert (one - guided).square().mean() < (unguided - guided).square().mean()


def test_plain_diffusers_loads_and_samples_it():
    pipeline = TextToVideoSDPipeline.from_pretrained(MODELS["sprites"].folder)
    pipeline.set_progress_bar_config(disable=True)
    frames = pipeline(
        PROMPT,
        num_frames=16,
        height=64,
        width=64,
        num_inference_steps=8,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).frames[0]
    assert frames.shape == (16, 64, 64, 3)
    # A desert is orange: much red, little blue, in every frame.
    red, _, blue = frames.mean((1, 2)).T
    assert (red - blue > 0.2).all()


def test_fifo_makes_the_scene_that_is_asked_for():
    model = load_model("sprites")
    plan = Fifo(lookahead=False).plan(Request(prompts=PromptTimeline.constant(PROMPT), frames=24, seed=0), model.spec)
    video = np.concatenate([chunk.frames for chunk in run_plan(model, plan, seeded_noise(0), ALONE, None)])
    red, _, blue = video.mean((1, 2)).T
    assert video.shape == (24, 64, 64, 3) and (red - blue > 50).all()
