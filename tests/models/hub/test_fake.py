"""Parts that are counted on fake tensors take what they take in real ones."""

import ctypes
import gc
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from longtake.apps.plan.costs import by_formula
from longtake.machine import memory_now, peak_memory
from longtake.model import PerFrameNoise
from longtake.models import configs_of, load_model, model_spec
from longtake.models.hub.fake import LiveBytes, fake_model
from longtake.models.hub.loading import Loading
from longtake.request import Request
from longtake.samplers.fifo.plan import Fifo

from ..ltx.ltx_fixture import tiny_ltx
from ..wan.wan_fixture import tiny_transformer, tiny_wan

M_MMAP_THRESHOLD = -3  # malloc.h of glibc


def small_wan(parent: Path) -> Path:
    """As wide as Wan in proportion, 1,344 tokens a window: what is counted is more than what surrounds it."""
    sizes = {"num_attention_heads": 4, "attention_head_dim": 64, "ffn_dim": 1400}
    extras = {"num_frames": 6, "size": [224, 256]}
    return tiny_wan(parent, "small-wan", parts=lambda: {"transformer": tiny_transformer(**sizes)}, extras=extras)


def small_ltx(parent: Path) -> Path:
    folder = tiny_ltx(parent)
    (folder / "longtake.json").write_text(json.dumps({"num_frames": 4, "size": [512, 704], "guidance": 2.0}))
    return folder


@pytest.fixture(params=[small_wan, small_ltx])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param(tmp_path))


def test_what_is_counted_is_what_real_tensors_take(folder: str) -> None:
    spec = model_spec(folder)
    plan = Fifo().plan(Request(prompts="a", frames=200), spec)
    counted = fake_model(*configs_of(folder, Loading()), spec, torch.float32).counted(plan)
    formula = by_formula(spec, plan, 4)
    for part in ("text encoder", "network", "decoder"):
        assert counted[part] == pytest.approx(formula[part], rel=0.01), part
    assert counted["decoder's memory"] == pytest.approx(formula["decoder's memory"], rel=0.1)

    model = load_model(folder)
    assert isinstance(model, PerFrameNoise)
    x, levels = torch.randn(1, *spec.latent_shape), torch.full((1, spec.num_frames), 5)
    given = model.schedule(10), model.encode(["", "a"]), torch.ones_like(levels)
    gc.disable()
    try:
        with LiveBytes() as live, torch.inference_mode():
            model.denoise(x, levels, *given)
        left = live.now
    finally:
        gc.enable()
    assert live.peak == pytest.approx(counted["denoising"], rel=0.1)
    # What waited for the collector would be counted or not, by when it comes.
    gc.collect()
    assert live.now == left


def window_of_wan(folder: Path) -> tuple[int, int]:
    """Return by how many bytes this process grows in a window, and how many are counted."""
    spec = model_spec(str(folder))
    plan = Fifo().plan(Request(prompts="a", frames=200), spec)
    counted = fake_model(*configs_of(str(folder), Loading()), spec, torch.float32).counted(plan)
    model = load_model(str(folder))
    assert isinstance(model, PerFrameNoise)
    x, levels = torch.randn(1, *spec.latent_shape), torch.full((1, spec.num_frames), 5)
    given = model.schedule(10), model.encode(["", "a"]), torch.ones_like(levels)
    # What a first call brings in once is none of the window. Blocks from 128 KB up go back at once, as they do until
    # the allocator raises that bound.
    model.denoise(x[:, :, :1], levels[:, :1], *given[:2], given[2][:, :1])
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 131072)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory_now()
    model.denoise(x, levels, *given)
    return peak_memory() - before, counted["denoising"]


@pytest.mark.slow
def test_the_process_grows_by_what_is_counted(tmp_path: Path) -> None:
    """By the kernel's own account, of a window that takes far more than an allocator keeps."""
    folder = small_wan(tmp_path)
    (folder / "longtake.json").write_text(json.dumps({"num_frames": 9, "size": [384, 512], "guidance": 1.0}))
    # What other tests have left in a process counts as its own.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as own:
        grown, counted = own.submit(window_of_wan, folder).result()
    assert grown == pytest.approx(counted, rel=0.1)
