"""The embedded `pvdm-sprites`: that it is there, small, and reads text; what it scores stands in its card."""

import numpy as np
import torch

from lab.score.pvdm import Settings, pixels, prepared, shown
from longtake.data.sprites import SpriteWorld, caption, training_shots
from longtake.metrics.scores import psnr
from longtake.model import Known
from longtake.models import MODELS, load_model, model_spec
from longtake.models.pvdm.model import PvdmModel
from longtake.samplers.autoregressive.loop import sample


def test_it_is_small_and_known_before_loading() -> None:
    folder = MODELS["pvdm-sprites"].folder
    assert folder is not None and sum(file.stat().st_size for file in folder.rglob("*")) < 12e6
    spec = model_spec("pvdm-sprites")
    assert (spec.num_frames, spec.height, spec.width, spec.bounded) == (16, 64, 64, True)
    assert spec.vocabulary and "pumpkin" in spec.vocabulary and spec.forward_flops and spec.decode_flops


def test_clips_come_back_and_prompts_and_the_clip_before_matter() -> None:
    model = load_model("pvdm-sprites")
    assert isinstance(model, PvdmModel)
    first, second = training_shots()[0], training_shots()[-1]
    frames = SpriteWorld(1, {0: first}).frames(0, 16)
    latents = model.encode_frames(pixels(frames))
    assert psnr(frames, shown(model, latents)) > 20
    clips = [
        sample(prepared(model, caption(shot), Settings(steps=2), 0), int(before is not None), before)
        for shot, before in ((first, None), (second, None), (first, Known(latents=latents[None])))
    ]
    assert all(torch.isfinite(clip).all() for clip in clips)
    assert np.abs(clips[0] - clips[1]).max() > 0.1 and np.abs(clips[0] - clips[2]).max() > 0.1
