"""FIFO-Diffusion on the adapter: what the plan promises is what the network does, and a run can be cut anywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.models import load_model
from longtake.models.hub.precision import auto_dtype
from longtake.models.modelscope.model import UNetModel
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.sampler import Chunk, State
from longtake.samplers import run_plan
from longtake.samplers.fifo.plan import Fifo

REQUEST = Request(prompts=PromptTimeline((0, 3), ("a red car", "a blue boat")), frames=5)


@pytest.fixture(scope="module")
def model(folder: Path) -> UNetModel:
    return load_model(str(folder), "cpu", torch.float32)


def run(model: UNetModel, sampler: Fifo, resume: State | None = None) -> list[tuple[Chunk, State]]:
    chunks = run_plan(model, sampler.plan(REQUEST, model.spec), seeded_noise(3), ALONE, resume)
    return [(chunk, {name: tensor.clone() for name, tensor in chunk.state().items()}) for chunk in chunks]


def pixels(chunks: list[tuple[Chunk, State]]) -> np.ndarray:
    return np.concatenate([chunk.frames for chunk, _ in chunks])


@contextmanager
def counted(model: UNetModel) -> Iterator[list[int]]:
    windows: list[int] = []
    handle = model.pipeline.unet.register_forward_pre_hook(lambda _, inputs: windows.append(len(inputs[0])))
    try:
        yield windows
    finally:
        handle.remove()


@pytest.mark.parametrize(
    "sampler",
    [Fifo(lookahead=False), Fifo(partitions=2, window_batch=4), Fifo(frames_per_level=2, guided_windows=1)],
    ids=["plain", "lookahead", "beyond"],
)
def test_the_network_runs_as_often_as_the_plan_says(model: UNetModel, sampler: Fifo) -> None:
    with counted(model) as windows:
        video = pixels(run(model, sampler))
    assert sum(windows) == sampler.plan(REQUEST, model.spec).forwards
    assert video.shape == (5, 16, 16, 3) and video.std() > 0


def test_a_run_goes_on_from_any_chunk_to_the_same_bytes(model: UNetModel, folder: Path) -> None:
    sampler = Fifo(eta=0.5, decode_batch=2)
    whole = run(model, sampler)
    for cut in range(len(whole)):
        fresh = load_model(str(folder), "cpu", torch.float32)
        video = np.concatenate([pixels(whole[: cut + 1]), *(c.frames for c, _ in run(fresh, sampler, whole[cut][1]))])
        assert np.array_equal(video, pixels(whole))


def test_batches_of_windows_change_rounding_only(model: UNetModel) -> None:
    serial, batched = (pixels(run(model, Fifo(window_batch=batch))) for batch in (1, 2))
    assert np.abs(serial.astype(int) - batched).max() <= 1


@pytest.mark.parametrize(
    ("device", "flags", "expected"),
    [
        ("cpu", "sse avx512_bf16", ("bfloat16", "avx512_bf16")),
        ("cpu", "sse avx2", ("float32", "no instructions")),
        ("cpu", None, ("float32", "not known")),
        ("cuda:1", "", ("float16", "GPU")),
        ("mps", "", ("float32", "mps")),
    ],
)
def test_the_automatic_number_format_says_why(tmp_path: Path, device, flags, expected) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"flags : {flags}\n")
    dtype, reason = auto_dtype(device, cpuinfo=cpuinfo)
    assert dtype == expected[0] and expected[1] in reason
    assert auto_dtype(device, "bfloat16", cpuinfo)[0] == ("bfloat16" if device == "cuda:1" else expected[0])
