"""The embedded `nuwa-sprites`: that it is there, small, reads text and sees known frames."""

import numpy as np
import torch

from lab.score.nuwa_xl import filled
from lab.score.pvdm import pixels
from longtake.data.sprites import SpriteWorld, caption, training_shots
from longtake.metrics.scores import psnr
from longtake.model import Continuation, Infill, Strided
from longtake.models import MODELS, load_model, model_spec
from longtake.models.nuwa_xl.model import NuwaXlModel


def test_it_is_small_and_known_before_loading():
    folder = MODELS["nuwa-sprites"].folder
    assert folder is not None and sum(file.stat().st_size for file in folder.rglob("*")) < 12e6
    spec = model_spec("nuwa-sprites")
    assert (spec.num_frames, spec.height, spec.width, spec.strides) == (16, 64, 64, (225, 15, 1))
    assert spec.vocabulary and "pumpkin" in spec.vocabulary and spec.forward_flops and spec.decode_flops
    assert {Infill, Continuation, Strided} <= set(spec.capabilities)


def test_it_fills_a_gap_in_view_of_its_ends():
    model = load_model("nuwa-sprites")
    assert isinstance(model, NuwaXlModel)
    shot, other = training_shots()[0], training_shots()[-1]
    real = SpriteWorld(5_800_000, {0: shot}).frames(40, 56)
    latents = model.encode_frames(pixels(real))
    wrong = model.encode_frames(pixels(SpriteWorld(5_800_001, {0: other}).frames(40, 42)))
    made, astray = (
        filled(model, caption(shot), 1, first, last, 0, 6)
        for first, last in ((latents[:, :1], latents[:, -1:]), (wrong[:, :1], wrong[:, 1:]))
    )
    assert psnr(real, made) > psnr(real, astray) + 1
    assert psnr(real[[0, -1]], made[[0, -1]]) > 18
    assert torch.isfinite(latents).all() and np.abs(np.diff(made.astype(int), axis=0)).max() > 8
