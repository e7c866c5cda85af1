"""The embedded models as they are shipped."""

import json

import numpy as np
import pytest
import torch
from diffusers import TextToVideoSDPipeline

from longtake.data.sprites import VOCABULARY
from longtake.model import Continuation, Infill
from longtake.models import MODELS, WEIGHTS, load_model, model_spec
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.fifo.plan import Fifo

PROMPT = "a panda rests in the desert"


def test_they_are_small_enough_for_the_package():
    files = [file for name in ("sprites", "sprites-uniform") for file in (WEIGHTS / name).rglob("*")]
    assert sum(file.stat().st_size for file in files if file.is_file()) <= 25e6


def test_no_path_of_another_machine_is_left_in_them():
    for file in WEIGHTS.rglob("*.json"):
        assert "_name_or_path" not in json.loads(file.read_text())


@pytest.mark.parametrize("name", ["sprites", "sprites-uniform"])
def test_the_spec_is_that_of_the_loaded_model(name):
    spec, model = model_spec(name), load_model(name)
    assert model.spec == spec and all(isinstance(model, capability) for capability in spec.capabilities)
    assert spec.latent_shape == (16, 16, 8, 8) and (spec.height, spec.width, spec.fps) == (64, 64, 8.0)
    assert spec.vocabulary == frozenset(VOCABULARY)
    assert spec.parameters > 1e6 and spec.forward_flops and spec.decode_flops
    # Only the one that was trained with clean frames among noisy ones may infill.
    assert ({Infill, Continuation} <= spec.capabilities) == (name == "sprites")


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
