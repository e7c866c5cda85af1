"""Numbers that are infinite or none end a run in one line, whatever they come from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from longtake._generate import Output, generate
from longtake.decoding import to_uint8
from longtake.errors import NonFiniteError
from longtake.finite import check_finite
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.request import PromptTimeline, Request
from longtake.samplers import SAMPLERS, sampler_class
from longtake.video.read import read_frames

REQUEST = Request(prompts=PromptTimeline.constant("a"), frames=24)


class Failing(Toy):
    """Denoises well a number of times, and then no more, as half precision does when it overflows."""

    calls = 0
    good = 0

    def denoise(self, *args):
        self.calls += 1
        return super().denoise(*args) * (1.0 if self.calls <= self.good else float("nan"))

    def denoise_between(self, *args):
        return super().denoise_between(*args) * float("nan")

    def denoise_after(self, *args):
        return super().denoise_after(*args) * float("nan")


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_sampler_makes_a_black_video_of_them(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        NonFiniteError, match=r"^stopped at frame 0; .*in step 1 of \d+ .* frame \d+ of its .*not finite.*--dtype.*$"
    ):
        generate(Failing(), REQUEST, sampler_class(name)(), Output(path=tmp_path / "a.mkv"))
    assert not list(tmp_path.glob("a.mkv.state/*.safetensors"))


def test_the_frames_before_are_kept(tmp_path: Path) -> None:
    model, plan = Failing(), sampler_class("chunked")().plan(REQUEST, TOY)
    model.good = plan.forwards // 2
    with pytest.raises(NonFiniteError, match=r"^stopped at frame (\d+); the frames before it are kept") as stopped:
        generate(model, REQUEST, sampler_class("chunked")(), Output(path=tmp_path / "a.mkv"))
    kept = int(str(stopped.value).split()[3].rstrip(";"))
    whole = tmp_path / "whole.mkv"
    generate(Toy(), REQUEST, sampler_class("chunked")(), Output(path=whole))
    right = np.concatenate(list(read_frames(whole)))
    assert kept > 0 and np.array_equal(np.concatenate(list(read_frames(tmp_path / "a.mkv"))), right[:kept])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_pixels_that_are_no_numbers_are_no_black_picture(value: float) -> None:
    frames = torch.rand(2, 3, 4, 4)
    frames[1, 2, 3, 0] = value
    with pytest.raises(NonFiniteError, match="picture that the decoder made"):
        to_uint8(frames)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_tensor_is_named(dtype: torch.dtype) -> None:
    tensors = {"none": torch.zeros(0, dtype=dtype), "a": torch.ones(3, dtype=dtype), "count": torch.ones(2).int()}
    check_finite(tensors, "here", "do this")
    with pytest.raises(NonFiniteError, match="^here: b is not finite .*; do this$"):
        check_finite(tensors | {"b": torch.tensor([1, float("nan")], dtype=dtype)}, "here", "do this")
