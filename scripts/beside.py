"""What the authors' own loops take beside ours, in one run: the same network in both, in turn, medians.

    PYTHONPATH=. python scripts/beside.py [--fifo CHECKOUT] [--video-infinity CHECKOUT] [--pvdm CHECKOUT]

A checkout is a copy of their repository that you have fetched and may run under its own licence; nothing of it is here.
It needs einops beside what longtake needs; what their loops import and do not use need not be there, and their calls of
a GPU are answered for the processor. Seconds are of the process (one thread), so that other work counts as little as
can be.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lab.common import in_turn, machine, released
from lab.measure.processes import on_ranks
from lab.measure.pvdm import beside as pvdm
from lab.measure.rank_trials import CELLS, PADDING, SIZES, TOP_K
from longtake.machine import peak_memory
from longtake.model import Condition, PerFrameNoise
from longtake.models import load_model
from longtake.models.modelscope.model import frame_mixing
from longtake.noise import Noise, seeded_noise
from longtake.ranks.world import ALONE, World
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.clips import released_global_frames, split_evenly
from longtake.samplers.fifo.loop import Setting, base_clip, fill, prepare
from longtake.samplers.fifo.plan import Fifo, FifoPlan
from longtake.samplers.video_infinity.dual_scope import Scope
from longtake.samplers.video_infinity.loop import ClipMixer
from longtake.schedule import Schedule
from longtake.train.sprites.build import build_unet

SIDE = 32
"""Of a picture, in pixels: half of what the network was trained on, so that the loops themselves weigh more."""
PROMPT = "a rocket flies up through the night sky"


def epsilon_model(folder: Path) -> PerFrameNoise:
    """Return the embedded network, of whose answers both loops take it that they are epsilon: the videos are noise, and
    every step costs what it always does."""
    import longtake.models

    shutil.copytree(Path(longtake.models.__file__).parent / "weights" / "sprites", folder)
    config = folder / "scheduler" / "scheduler_config.json"
    told = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}
    for file, changed in {config: told, folder / "longtake.json": {"size": [SIDE, SIDE]}}.items():
        file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    model = load_model(str(folder), "cpu", torch.float32)
    assert isinstance(model, PerFrameNoise)
    return model


class AsTheirs:
    """A model as the loop of FIFO-Diffusion knows one."""

    use_scale = False
    device = torch.device("cpu")

    def __init__(self, model: Any, schedule: Schedule, condition: Condition) -> None:
        self._model, self._schedule, self._condition = model, schedule, condition
        self.alphas_cumprod = model.alphas_cumprod.float()
        self.alphas_cumprod_prev = torch.cat([torch.ones(1), self.alphas_cumprod[:-1]])
        self.betas = 1 - self.alphas_cumprod / self.alphas_cumprod_prev
        self.num_timesteps, self.calls = len(self.betas), 0
        self.decoded: list[Tensor] = []
        self._levels = {int(timestep): level for level, timestep in enumerate(schedule.timestep.tolist()) if level}

    def get_learned_conditioning(self, prompts: Sequence[str]) -> Tensor:
        """Return the row of the table of prompts: 0 is the empty one."""
        return torch.tensor([[int(prompt != "")] for prompt in prompts])

    def apply_model(self, x: Tensor, t: Tensor, cond: dict[str, Any], **_: Any) -> Tensor:
        """Return epsilon; a timestep a frame."""
        self.calls += 1
        level = torch.tensor([[self._levels[timestep] for timestep in t.tolist()]])
        rows = cond["c_crossattn"][0].expand(-1, len(t))
        x0 = self._model.denoise(x, level, self._schedule, self._condition, rows)
        now = self._schedule.now(level[:, None, :, None, None])
        return ((x - now.alpha * x0) / now.sigma).float()

    def decode_first_stage_2DAE(self, latents: Tensor) -> Tensor:
        """Return pixels from -1 to 1."""
        self.decoded.append(latents[0])
        frames, _ = self._model.decode(latents[0], None, last=True)
        return frames.transpose(0, 1)[None] * 2 - 1


class FifoTrial:
    """The queue of one video in their loop and in ours, both from the same filled base clip."""

    def __init__(self, checkout: Path, folder: Path, frames: int, partitions: int) -> None:
        with released(checkout, ("cv2", "decord", "imageio", "torchvision")):
            self.code = import_module("scripts.evaluation.funcs")
        self.code.trange = lambda count, desc: range(count)  # pyright: ignore[reportAttributeAccessIssue]
        self.model, self.folder, self.frames = epsilon_model(folder / "model"), folder, frames
        self.plan = self.planned(frames, partitions)
        self.setting = self.prepared(self.plan, seeded_noise(1))
        self.base = base_clip(self.setting)
        torch.save(self.base[None], folder / f"{self.plan.num_levels}.pt")
        condition = self.setting.prompts.used([1])[0]
        self.theirs = AsTheirs(self.model, self.setting.schedule, condition)

    def planned(self, frames: int | None, partitions: int, window_batch: int = 1) -> FifoPlan:
        """Return our plan of the same queue."""
        sampler = Fifo(partitions=partitions, window_batch=window_batch, compat="videocrafter2")
        return sampler.plan(Request(prompts=PromptTimeline.constant(PROMPT), frames=frames, seed=1), self.model.spec)

    def prepared(self, plan: FifoPlan, noise: Noise) -> Setting:
        """Return the setting of our loop."""
        return prepare(self.model, plan, noise)

    @torch.inference_mode()
    def run_theirs(self) -> list[np.ndarray]:
        """Return the frames of the video by their loop."""
        code: Any = self.code

        class Sampler(code.DDIMSampler):
            def register_buffer(self, name: str, attr: Any) -> None:
                """Keep it where it is."""
                setattr(self, name, attr)

        f, levels = self.plan.spec.num_frames, self.plan.num_levels
        sampler = Sampler(self.theirs)
        sampler.make_schedule(levels, ddim_eta=0.0, verbose=False)
        told = SimpleNamespace(
            video_length=f,
            num_inference_steps=levels,
            new_video_length=self.frames,
            num_partitions=levels // f,
            lookahead_denoising=True,
            save_frames=False,
        )
        prompt = {"c_crossattn": [self.theirs.get_learned_conditioning([PROMPT])]}
        shape = [1, *self.plan.spec.latent_shape]
        images = code.fifo_ddim_sampling(
            told, self.theirs, prompt, shape, sampler, self.plan.guidance, latents_dir=str(self.folder)
        )
        return [np.asarray(image) for image in images[-self.frames :]]

    @torch.inference_mode()
    def run_ours(self, noise: Noise | None = None, window_batch: int = 1) -> np.ndarray:
        """Return the frames of the video by our loop."""
        plan, noise = self.planned(self.frames, self.plan.settings.partitions, window_batch), noise or seeded_noise(1)
        begun = fill(self.prepared(plan, noise), self.base)
        return np.concatenate([chunk.frames for chunk in run_plan(self.model, plan, noise, ALONE, begun.state())])

    def recorded(self) -> tuple[list[np.ndarray], Noise]:
        """Return their frames, and noise for ours that is what they drew, in the order in which they did."""
        drawn: list[Tensor] = []
        draw = torch.randn_like

        def noted(like: Tensor) -> Tensor:
            drawn.append(draw(like))
            return drawn[-1]

        torch.randn_like = noted
        try:
            frames = self.run_theirs()
        finally:
            torch.randn_like = draw
        plan, slots = self.plan, self.plan.queue_length

        def noise(shape: Any, stream: str, *key: int) -> Tensor:
            entered = slots + key[0] + plan.warmup_frames - plan.body
            return drawn[key[0] if stream == "queue" else entered].reshape(shape)

        return frames, noise


@torch.inference_mode()
def steady_seconds(trial: FifoTrial, chunks: int = 2) -> float:
    """Return the seconds a frame that our loop takes in the middle of a long video."""
    plan, noise = trial.planned(None, trial.plan.settings.partitions), seeded_noise(1)
    stream = run_plan(trial.model, plan, noise, ALONE, fill(trial.prepared(plan, noise), trial.base).state())
    while not len(next(stream).frames):
        pass
    start = time.process_time()
    made = sum(len(next(stream).frames) for _ in range(chunks))
    return (time.process_time() - start) / made


def fifo(checkout: Path, frames: int, partitions: int, repeats: int) -> dict[str, Any]:
    """Return FIFO-Diffusion in both loops: the distance of the frames at the same noise, then costs."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trial = FifoTrial(checkout, Path(folder), frames, partitions)
        there, noise = trial.recorded()
        here = trial.run_ours(noise)
        forwards = trial.theirs.calls
        seconds = in_turn(
            {
                "theirs": trial.run_theirs,
                "ours": trial.run_ours,
                "ours, windows together": lambda: trial.run_ours(window_batch=2 * partitions),
            },
            repeats,
        )
        steady = statistics.median(steady_seconds(trial) for _ in range(repeats))
    assert trial.plan.forwards is not None and trial.plan.iterations is not None
    ours = trial.plan.forwards - 2 * trial.plan.num_levels
    return {
        "frames": frames,
        "levels": trial.plan.num_levels,
        "largest difference of a pixel": int(np.abs(np.stack(there).astype(int) - here).max()),
        "deviation of a pixel": float(here.std()),
        "forwards a frame": {"theirs": forwards / frames, "ours": ours / frames},
        "seconds a frame": {name: taken / frames for name, taken in seconds.items()},
        "over theirs": {name: taken / seconds["theirs"] for name, taken in seconds.items()},
        "seconds a frame in a long video": {"theirs": seconds["theirs"] / trial.plan.iterations, "ours": steady},
    }


def fifo_peak(world: World, checkout: Path, frames: int, partitions: int, who: str) -> float:
    """Return by how many MB the loop of one raises the peak of this process, which has made the base clip before."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trial = FifoTrial(checkout, Path(folder), frames, partitions)
        before = peak_memory()
        trial.run_theirs() if who == "theirs" else trial.run_ours()
        return (peak_memory() - before) / 1e6


@contextmanager
def counted(sent: list[int]) -> Iterator[None]:
    """Count the collective calls inside the block, and the bytes that leave this process in them, as our own do."""
    calls = {name: getattr(dist, name) for name in ("all_gather", "all_reduce")}

    def all_gather(received: Sequence[Tensor], tensor: Tensor, group: Any = None) -> None:
        sent.append(tensor.numel() * tensor.element_size() * (len(received) - 1))
        calls["all_gather"](received, tensor, group=group)

    def all_reduce(tensor: Tensor) -> None:
        sent.append(tensor.numel() * tensor.element_size() * (dist.get_world_size() - 1))
        calls["all_reduce"](tensor)

    dist.all_gather, dist.all_reduce = all_gather, all_reduce  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        dist.all_gather, dist.all_reduce = calls["all_gather"], calls["all_reduce"]


def their_network(world: World, checkout: Path, unet: Any, exact: bool) -> None:
    """Hang their layers into a network: those that they released, or all of which the paper tells."""
    torch.cuda.synchronize = lambda device=None: None
    with released(checkout, ("imageio",)):
        code: Any = import_module("src.video_infinity.wrapper")

    class Mounted(code.DistWrapper):
        def plugin_mount(self) -> None:
            """Hang them in."""
            self.plugins = {}
            self.unet_plugin_mount()
            self.attn_plugin_mount()
            if exact:
                self.group_norm_plugin_mount()
                self.conv_3d_plugin_mount()
            else:
                self.conv_plugin_mount()

    size, rank = world.all.size, world.all.rank
    neighbours = [dist.new_group([left, left + 1]) for left in range(size - 1)]
    controller = SimpleNamespace(rank=rank, world_size=size, is_master=False, adj_groups=neighbours)
    mounted = Mounted(SimpleNamespace(unet=unet), controller, {})
    mounted.global_state.set("plugin_configs", {"attn": {"padding": PADDING, "top_k": TOP_K}})


def video_infinity(world: World, checkout: Path, frames: int, repeats: int) -> dict[str, Any]:
    """Return both codes on this process of several, as the authors released theirs, and with every layer over time."""
    modes = {"as released": False, "exact": True}
    return {name: one_forward(world, checkout, frames, exact, repeats) for name, exact in modes.items()}


@torch.inference_mode()
def one_forward(world: World, checkout: Path, frames: int, exact: bool, repeats: int) -> dict[str, Any]:
    """Return a forward of the network by both codes: distance, messages, bytes, seconds."""
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(build_unet(SIZES).eval())
    theirs, ours = networks
    for network in networks:
        torch.manual_seed(2)
        for parameter in network.parameters():
            # Layers over time begin as nothing.
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn_like(parameter))
    their_network(world, checkout, theirs, exact)
    clips = split_evenly(frames, world.all.size)
    spread = released_global_frames(clips, TOP_K)
    scope = Scope(total=frames, padding=PADDING, global_frames=spread, zeros=True, repeats=True)
    mixer = ClipMixer(clips, world.clip, scope, joint_norms=exact, windowed_blocks=not exact)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((1, SIZES.latent_channels, frames, CELLS, CELLS), generator=generator)[:, :, mixer.frames]
    text, timestep = torch.randn((1, 8, SIZES.text_width), generator=generator), torch.tensor([900])

    def run_theirs() -> Tensor:
        return theirs(x, timestep, text, return_dict=False)[0]

    def run_ours() -> Tensor:
        with frame_mixing(ours, mixer):
            return ours(x, timestep, text, return_dict=False)[0]

    sent: list[int] = []
    with counted(sent):
        there = run_theirs()
    traffic = world.clip.traffic
    before = (traffic.messages, traffic.bytes)
    here = run_ours()
    mine = (traffic.messages - before[0], traffic.bytes - before[1])
    seconds = in_turn({"theirs": run_theirs, "ours": run_ours}, repeats, lambda: world.all.gather(torch.zeros(1)))
    return {
        "difference over deviation": float((there - here).abs().max() / here.std()),
        "messages": {"theirs": len(sent), "ours": mine[0]},
        "MiB sent": {"theirs": sum(sent) / 2**20, "ours": mine[1] / 2**20},
        "seconds a frame": {name: taken / len(mixer.frames) for name, taken in seconds.items()},
        "over theirs": seconds["ours"] / seconds["theirs"],
    }


def asked() -> argparse.Namespace:
    """Return what is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("fifo", "video-infinity", "pvdm"):
        parser.add_argument(f"--{name}", type=Path, metavar="CHECKOUT")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--partitions", type=int, nargs="+", default=[4])
    parser.add_argument("--steps", type=int, default=2, help="of a clip of PVDM")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def main() -> None:
    """Print the report."""
    torch.set_num_threads(1)
    told, report = asked(), {"machine": machine()}
    for partitions in told.partitions if told.fifo else ():
        measured = fifo(told.fifo, told.frames, partitions, told.repeats)
        peaks = {who: on_ranks(1, fifo_peak, told.fifo, told.frames, partitions, who)[0] for who in ("theirs", "ours")}
        report[f"fifo, {partitions} partitions"] = {**measured, "MB at the peak above the base clip's": peaks}
    if told.video_infinity:
        parts = on_ranks(2, video_infinity, told.video_infinity, told.frames, told.repeats)
        report["video-infinity"] = {f"process {rank}": part for rank, part in enumerate(parts)}
    if told.pvdm:
        report["pvdm"] = pvdm(told.pvdm, told.steps, told.repeats)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
