"""The family in docs/extending.md, run as it is written there."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake import from_pipe
from longtake.errors import CheckpointError
from longtake.model import PerFrameNoise
from longtake.models import FAMILIES, load_model, model_spec
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.planning import checked_plan
from longtake.schedule import to_x0

from ...extending import BLOCKS, write_modules
from .tiny_pictures import pictures_pipeline

# The library's own advice on the tiny scheduler that is made here.
pytestmark = pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning")
PROMPTS = ["", "a red car", "a blue boat"]


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    write_modules(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = dict(FAMILIES)
    exec(BLOCKS["family row"], {})
    yield
    FAMILIES.clear()
    FAMILIES.update(known)
    for module in [name for name in sys.modules if name.split(".")[0] == "stable_diffusion"]:
        del sys.modules[module]


@pytest.fixture
def pipe(folder: Path) -> Any:
    return pictures_pipeline(folder)


def test_the_family_makes_videos_from_a_folder(family: None, pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "pictures")
    spec = model_spec(str(tmp_path / "pictures"))
    assert (spec.num_frames, spec.height, spec.width, spec.guidance) == (16, 16, 16, 7.5)
    model = load_model(str(tmp_path / "pictures"))
    assert model.spec == spec and isinstance(model, PerFrameNoise)
    sampler = Fifo(partitions=2)
    request = Request(prompts=PromptTimeline((0, 9), ("a", "b")), frames=17)
    plan = checked_plan(spec, request, sampler)
    frames = sum(len(chunk.frames) for chunk in run_plan(model, plan, seeded_noise(0), ALONE, None))
    assert frames == 17


def test_levels_and_prompts_for_every_frame_are_exact(family: None, pipe: Any) -> None:
    """Each frame is what the network says of it alone."""
    model, x = from_pipe(pipe, num_frames=3), torch.randn((2, 4, 3, 8, 8))
    schedule, condition = model.schedule(10), model.encode(PROMPTS)
    level, rows = torch.tensor([[1, 5, 10], [10, 2, 3]]), torch.tensor([[1, 2, 1], [2, 0, 1]])
    x0 = model.denoise(x, level, schedule, condition, rows)
    for window, frame in ((0, 0), (0, 1), (1, 1), (1, 2)):
        at, text = level[window, frame], condition.rows["text"][rows[window, frame]][None]
        with torch.no_grad():
            said = pipe.unet(x[window, :, frame][None], schedule.timestep[at], text).sample[0]
        alone = to_x0(said, x[window, :, frame], schedule.now(at), "v_prediction")
        torch.testing.assert_close(x0[window, :, frame], alone, atol=1e-5, rtol=1e-5)
    even = model.denoise(x, torch.tensor([4, 7]), schedule, condition, rows)
    torch.testing.assert_close(
        even, model.denoise(x, torch.tensor([[4] * 3, [7] * 3]), schedule, condition, rows), atol=0, rtol=0
    )


def test_a_network_for_other_latents_is_refused(family: None, pipe: Any) -> None:
    pipe.unet.register_to_config(in_channels=9)
    with pytest.raises(CheckpointError, match="pipe.unet.config: 9 in_channels are made for other latents"):
        from_pipe(pipe)
