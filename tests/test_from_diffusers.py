"""docs/from-diffusers.md, run as it is written, and the pipeline that it speaks of."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtake import InputError, LongVideoPipeline, PromptTimeline, Request, stream
from longtake.samplers.chunked.plan import Chunked

from .models.tiny import TINY

PAGE = Path(__file__).parents[1] / "docs" / "from-diffusers.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
ASKED = {"num_frames": 20, "num_inference_steps": 2, "guidance_scale": 2.0, "negative_prompt": "a blue boat"}


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(TINY["WanTransformer3DModel"](tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def pipe(wan: str) -> LongVideoPipeline:
    return LongVideoPipeline.from_pretrained(wan, sampler="chunked")


def test_the_page_runs_as_it_is_written(wan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    stock, long, streamed, prepared = BLOCKS
    names: dict[str, Any] = {"MODEL": wan}
    exec(stock, names)
    assert len(names["video"]) == 17 and names["video"][0].size == (48, 32)
    exec(long, names)
    assert len(names["video"]) == 65 and names["video"][0].size == (48, 32)
    capsys.readouterr()
    exec(streamed, names)
    assert capsys.readouterr().out.splitlines()[0] == "(17, 32, 48, 3) uint8" and Path("car.mkv").exists()
    exec(prepared, names)
    assert names["pipe"].model is names["model"] and names["pipe"].sampler.name == "fifo"


def test_a_call_is_what_stream_yields(pipe: LongVideoPipeline) -> None:
    seed = torch.Generator().manual_seed(7)
    request = Request(prompts="a red car", frames=20, seed=7, guidance=2.0, negative_prompt="a blue boat", steps=2)
    expected = np.concatenate(list(stream(pipe.model, request, Chunked())))
    by_type = {
        kind: pipe("a red car", generator=seed, output_type=kind, **ASKED).frames for kind in ("np", "pil", "pt")
    }
    assert by_type["np"].shape == (1, 20, 32, 48, 3) and by_type["pt"].shape == (1, 20, 3, 32, 48)
    assert np.array_equal((by_type["np"][0] * 255).round(), expected)
    assert np.array_equal(np.stack([np.asarray(image) for image in by_type["pil"][0]]), expected)
    assert np.array_equal(by_type["pt"][0].permute(0, 2, 3, 1).numpy(), by_type["np"][0])
    assert not np.array_equal(pipe("a red car", generator=8, **ASKED).frames, by_type["np"])


def test_a_callback_hears_of_every_chunk_and_may_end_the_video(pipe: LongVideoPipeline) -> None:
    heard = []

    def listen(called: LongVideoPipeline, step: int, timestep: int, given: Any) -> None:
        heard.append((step, timestep, given["frames"]))
        called._interrupt = step == 1

    asked = ASKED | {"num_frames": 60}
    frames = pipe("a red car", callback_on_step_end=listen, **asked).frames[0]
    assert [step for step, _, _ in heard] == [0, 1] and len(frames) == sum(len(chunk) for _, _, chunk in heard) < 60
    assert len(pipe("a red car", **asked).frames[0]) == 60


def test_prompts_change_over_time(pipe: LongVideoPipeline) -> None:
    story = PromptTimeline((0, 17), ("a red car", "a blue boat"))
    asked = ASKED | {"num_frames": 33}
    one, two = (pipe(prompt, **asked).frames[0] for prompt in ("a red car", story))
    assert np.array_equal(one[:17], two[:17]) and not np.array_equal(one[17:], two[17:])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"prompt": ["a red car", "a blue boat"]}, "a list as prompt would be a batch"),
        ({"generator": [torch.Generator()]}, "a list as generator would be a batch"),
        ({"output_type": "latent"}, "output_type cannot be 'latent'"),
        ({"num_frames": 0}, "0 frames cannot be made"),
        ({"guidance_scale": -1.0}, "out of range"),
        ({"guidance_scale": 1.0, "negative_prompt": "a boat"}, "--negative-prompt has no effect at guidance 1"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    pipe: LongVideoPipeline, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pipe(**{"prompt": "a red car"} | asked)


def test_an_unknown_sampler_is_named(wan: str, pipe: LongVideoPipeline) -> None:
    with pytest.raises(InputError, match="did you mean 'chunked'"):
        LongVideoPipeline(pipe.model, "chunk")
