"""FIFO against the numbers of the authors' own code, one test per recorded case."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.model import Condition, PerFrameNoise
from longtake.models.schedules import discrete_schedule
from longtake.models.toy_spec import TOY
from longtake.request import PromptTimeline, Request, num_branches
from longtake.samplers.fifo.loop import advance, base_clip, fill, prepare, shift
from longtake.samplers.fifo.plan import Fifo
from longtake.schedule import to_x0

DATA = Path(__file__).parents[2] / "golden" / "data" / "fifo"
FOLDERS = [DATA] + [Path(os.environ[name]) / "fifo" for name in ("LONGTAKE_GOLDEN",) if name in os.environ]
CASES = sorted(path for folder in FOLDERS for path in folder.glob("*.npz"))


class Analytic(PerFrameNoise):
    """The analytic denoiser that the recordings were made with (an epsilon per slot, smooth in all its inputs)."""

    def __init__(self, case: dict, meta: dict) -> None:
        shape = case["base"].shape
        self.spec = replace(TOY, num_frames=shape[1], latent_shape=shape, height=2, width=3, guidance=meta["cfg"])
        self.device, self.dtype, self.digest = torch.device("cpu"), torch.float64, "analytic"
        self.fps = meta.get("fps", 0)
        self.kappas = [0.0, *meta.get("kappas", [meta.get("kappa")])]
        self.is_opensora = "kappa" in meta
        self.use_scale = meta.get("use_scale", False)
        self.forwards = 0

    def encode(self, prompts):
        rows = [1 + int(prompt.removeprefix("prompt ")) if prompt else 0 for prompt in prompts]
        return Condition({"kappa": torch.tensor([self.kappas[row] for row in rows], dtype=torch.float64)})

    def schedule(self, num_levels, spacing="trailing"):
        if self.is_opensora:
            betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float32)
        else:
            betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        bar = torch.cumprod(1 - betas, 0).float().double()
        scale = torch.cat([torch.linspace(1, 0.7, 400, dtype=torch.float64), torch.full((600,), 0.7)])
        return discrete_schedule(bar, num_levels, spacing, "epsilon", scale if self.use_scale else None)

    def denoise(self, x, level, schedule, condition, prompt_index):
        eps = self.predict(x, level, schedule, condition, prompt_index)
        return to_x0(eps, x, schedule.now(level[:, None, :, None, None]), "epsilon")

    def predict(self, x, level, schedule, condition, prompt_index):
        """Return the epsilon of a level for every frame."""
        self.forwards += len(x)
        t = schedule.timestep[level].double()[:, None, :, None, None]
        prev = torch.cat([torch.zeros_like(x[:, :, :1]), x[:, :, :-1]], dim=2)
        m = x.mean(dim=(1, 2), keepdim=True)
        kappa = condition.rows["kappa"][prompt_index][:, None, :, None, None]
        j = torch.arange(x.shape[2], dtype=x.dtype)[:, None, None]
        eps = 0.3 * x + 0.04 * prev + 0.05 * m.sin() + 0.0002 * t + 0.02 * (0.7 * j).cos()
        return eps + 0.03 * (kappa * x).tanh() + 0.001 * self.fps

    def decode(self, latents, state, last):
        raise NotImplementedError

    def encode_frames(self, frames):
        raise NotImplementedError


class Tape:
    """Recorded draws by name; knows the order in which the authors drew and notes what was read."""

    def __init__(self, case: dict, plan, draws_at_zero: bool) -> None:
        self.draws, self.plan = torch.from_numpy(case["noise"]).double(), plan
        self.base = torch.from_numpy(case["base_noise"]).double() if "base_noise" in case else None
        labels = [[max(plan.level(s), 1) for s in range(w.start, w.stop)] for w in plan.windows]
        self.drawn = [[draws_at_zero or label > 1 for label in window] for window in labels]
        self.per_iteration = sum(map(sum, self.drawn)) + 1
        self.read: list[int] = []

    def __call__(self, shape, stream, *key):
        if stream == "base":
            return self.base[0]
        if stream == "base_step":
            return self.base[self.plan.num_levels + 1 - key[0]]
        index = getattr(self, stream)(*key)
        if index is None:
            return torch.zeros(shape, dtype=torch.float64)
        self.read.append(index)
        return self.draws[index]

    def queue(self, slot):
        return slot

    def enqueue(self, frame):
        iteration = frame + self.plan.warmup_frames - self.plan.body
        return self.plan.queue_length + (iteration + 1) * self.per_iteration - 1

    def step(self, frame, level):
        """Windows from the noisy end to the clean end, slots in order, without the draws that were left out."""
        iteration = frame + self.plan.warmup_frames - (level - 1)
        slot = self.plan.head + level - 1
        mine = next((i for i, w in enumerate(self.plan.windows) if w.keep_start <= slot < w.keep_stop), 0)
        offset = slot - self.plan.windows[mine].start
        if not self.drawn[mine][offset]:
            return None
        before = sum(sum(drawn) for drawn in self.drawn[mine + 1 :]) + sum(self.drawn[mine][:offset])
        return self.plan.queue_length + iteration * self.per_iteration + before


def load(path: Path):
    with np.load(path) as file:
        case = {name: file[name] for name in file.files}
    return case, json.loads(str(case["meta"]))


def planned(case, meta, window_batch):
    model = Analytic(case, meta)
    is_opensora = model.is_opensora
    sampler = Fifo(
        partitions=meta["n"],
        lookahead=meta["lookahead"],
        eta=1.0 if is_opensora else meta["eta"],
        window_batch=window_batch,
        compat="opensora" if is_opensora else "videocrafter2",
    )
    lengths = meta.get("lengths") or [1]
    starts = tuple(int(sum(lengths[:i])) for i in range(len(lengths)))
    prompts = PromptTimeline(starts, tuple(f"prompt {i}" for i in range(len(starts))))
    # Endless: the recordings compute every window to the end.
    plan = sampler.plan(Request(prompts=prompts, frames=None), model.spec)
    return model, plan, Tape(case, plan, draws_at_zero=not is_opensora)


def same(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(ours, torch.from_numpy(theirs).double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("window_batch", [1, 64], ids=["serial", "batched"])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_queue_equals_the_authors(path, window_batch):
    case, meta = load(path)
    model, plan, tape = planned(case, meta, window_batch)
    setting = prepare(model, plan, tape)
    queue = fill(setting, torch.from_numpy(case["base"]).double())
    same(queue.frames, case["queue_init"])
    for emitted_there, queue_there in zip(case["emitted"], case["queue_after"], strict=True):
        updated, emitted = advance(setting, queue)
        same(updated, queue_there)
        same(emitted[:, 0], emitted_there)
        queue = shift(setting, queue, updated, emitted)
    if "queue_final" in case:
        same(queue.frames, case["queue_final"])
    assert len(case["noise"]) == plan.queue_length + queue.iteration * tape.per_iteration
    assert len(set(tape.read)) == len(tape.read), "a draw was used twice"
    if plan.settings.eta and not model.is_opensora:
        context = plan.queue_length + queue.iteration * (plan.body + 1)
        assert len(tape.read) == context, "every draw that a kept slot needs, and no other"
    # Open-Sora-Plan puts both branches of guidance into one call.
    assert model.forwards == meta["calls"] * (num_branches(plan.guidance) if model.is_opensora else 1)


@pytest.mark.parametrize("path", [p for p in CASES if "base_noise" in np.load(p).files], ids=lambda path: path.stem)
def test_base_clip_equals_the_authors(path):
    case, meta = load(path)
    model, plan, tape = planned(case, meta, 1)
    same(base_clip(prepare(model, plan, tape)), case["base"])
    assert model.forwards == meta["base_calls"]


def test_there_are_cases():
    assert len(CASES) >= 8
