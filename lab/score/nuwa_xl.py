"""The score of a model of NUWA-XL's tree: python -m lab score nuwa-xl [--parts losses infill motion stories blocks].

Losses (of `nuwa-sprites`, whose network is NUWA-XL's own): the training's loss on worlds that were never trained on, at
the strides of all levels, and that of a network of the same shape with random weights. Infill: what the network makes
between two real frames of such worlds, beside a linear blend of the two, and beside what it makes between ends of two
different worlds. Motion: how often the judge reads the right one there. Stories: whole videos with changes of scene, by
every way of `--ways`, all with as many evaluations of the network: from coarse to fine (tree), with fewer levels and so
one tree after the other (tree-2; tree-1 goes on from one frame, call after call), and by a window that slides half its
length (sliding), the autoregressive baselines. Blocks: how far these videos are from real ones of the same stories,
from the first part to the last. The judge and the features are stand-ins that know sprite worlds alone.
"""

import json
import sys
from bisect import bisect_right
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.ablation.nuwa_xl_figures import validation_loss
from lab.common import Frames, chosen_shots, measured_model, pixels
from lab.score.pvdm import FIRST_SEED
from longtake._generate import Output, generate
from longtake.data.sprites import MOTIONS, Shot, SpriteWorld, caption, random_world, training_shots
from longtake.decoding import decode_clip
from longtake.metrics.blocks import BlockRows, read_blocks, score_blocks
from longtake.metrics.judge import Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy
from longtake.metrics.scores import psnr
from longtake.metrics.video_networks import stand_in_features, stand_in_looks
from longtake.model import Infill, Known, Strided, VideoModel
from longtake.models.modelscope.model import UNetModel
from longtake.models.nuwa_xl.model import NuwaXlModel
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.noise import seeded_noise
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.samplers.planning import checked_plan
from longtake.samplers.step import Windows, between, ddim
from longtake.train.nuwa_xl.unet import level_mask
from longtake.train.sprites.cache import Drawn
from longtake.video.read import read_frames

WAYS: dict[str, Sampler] = {
    "tree": NuwaXl(),
    "tree-2": NuwaXl(depth=2),
    "tree-1": NuwaXl(depth=1),
    "sliding": Autoregressive(),
}
"""Ways to a long video; the first one's number of evaluations is that of all."""
_STORIES = FIRST_SEED + 40_000
_HELD = 1000
"""Stories from this number on are those of the losses."""
_SHOT_FRAMES = (120, 280)
_SCALE = 4
_TWINS = 4
_LOCAL_STRIDES = (15, 1)
"""How far apart frames lie in both local diffusions of a tree of three levels."""

OfTree = NuwaXlModel | UNetModel
"""Models whose windows between two frames are scored."""
Part = Literal["losses", "infill", "motion", "stories", "blocks"]
Way = Literal["tree", "tree-2", "tree-1", "sliding"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is scored."""

    model: str = "nuwa-sprites"
    parts: tuple[Part, ...] = ("losses", "infill", "motion", "stories", "blocks")
    steps: int = 20  # denoising steps of a call of the first way
    windows: int = 32
    each: int = 6  # windows of every motion
    stories: tuple[int, ...] = (0, 1, 2)  # numbers, which are seeds, too
    ways: tuple[Way, ...] = ("tree", "tree-2", "tree-1", "sliding")
    frames: int = 3376
    pooled: int = 8  # parts of the length, blocks of which pool
    folder: Path = Path("runs/nuwa/score")  # where the videos go


def losses_part(model: VideoModel, chosen: Settings) -> dict[str, object]:
    """Return the loss of v at every stride, of the model and of a network with random weights."""
    assert isinstance(model, NuwaXlModel), f"{model.spec.name} is no NUWA-XL; leave losses out of --parts"
    trained, size = model.pipeline.unet, model.spec.num_frames
    torch.manual_seed(0)
    shape: Any = trained.image.config
    untrained = MaskTemporalUnet(type(trained.image)(**shape), trained.config).eval()
    report: dict[str, object] = {}
    for level, stride in enumerate(model.spec.strides):
        clips, mask = _held_clips(model, stride, chosen.windows), level_mask(level, size)
        measured = partial(validation_loss, alphas_cumprod=model.alphas_cumprod, clips=clips, mask=mask)
        report[str(stride)] = {"trained": measured(trained), "random weights": measured(untrained)}
    return report


def _held_clips(model: NuwaXlModel, stride: int, count: int) -> Drawn:
    """Return a clip of each of `count` long worlds with changes of scene."""
    latents, text, size = [], [], model.spec.num_frames
    for number in range(count):
        world = story(_HELD + number, 2 * size * stride + _SHOT_FRAMES[1])
        places = range(_SHOT_FRAMES[0], _SHOT_FRAMES[0] + size * stride, stride)
        latents.append(model.encode_frames(pixels(world.frames_at(places))))
        text.append(model.encode([world.caption(at) for at in places]).rows["text"])
    texts, strides = torch.stack(text).float(), torch.full((count,), stride)
    return Drawn(latents=torch.stack(latents).float(), texts=texts, plain=texts, stride=strides)


def infill_part(model: VideoModel, chosen: Settings) -> dict[str, object]:
    """Return PSNR in dB at the strides of both local diffusions."""
    model = _of_tree(model)
    return {str(stride): _infill(model, stride, chosen) for stride in _LOCAL_STRIDES}


def _infill(model: OfTree, stride: int, chosen: Settings) -> dict[str, float]:
    shots, size = chosen_shots(2 * chosen.windows, seed=16)[0], model.spec.num_frames
    rows = []
    for index, shot in enumerate(shots):
        world = SpriteWorld(FIRST_SEED + index, {0: shot})
        real = world.frames_at(range(40, 40 + size * stride, stride))
        other = SpriteWorld(FIRST_SEED + 10_000 + index, {0: shot}).frames(40, 42)
        latents = model.encode_frames(pixels(real))
        made = filled(model, caption(shot, index), stride, latents[:, :1], latents[:, -1:], index, chosen.steps)
        wrong = model.encode_frames(pixels(other))
        astray = filled(model, caption(shot, index), stride, wrong[:, :1], wrong[:, 1:], index, chosen.steps)
        weight = np.linspace(0, 1, size)[:, None, None, None]
        blend = (real[:1] * (1 - weight) + real[-1:] * weight).round().astype(np.uint8)
        again = decode_clip(model, latents)
        middle, ends = slice(1, -1), [0, -1]
        row = [psnr(real[middle], frames[middle]) for frames in (made, astray, blend, again)]
        row += [psnr(real[ends], made[ends]), psnr(again[ends], made[ends])]
        rows.append([*row, *(float(np.abs(np.diff(frames.astype(float), axis=0)).mean()) for frames in (made, real))])
    names = ("made", "made between ends of another world", "linear blend", "autoencoder alone", "predicted ends")
    names += ("predicted ends, against the autoencoder's", "mean step", "real mean step")
    return {"windows": float(len(rows)), **dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))}


def motion_part(model: VideoModel, chosen: Settings) -> dict[str, object]:
    """Return, motion by motion, in how many windows between real frames in a row the judge reads it, and of how many.

    Four of the motions are the scenery's, which passes by (travels); the others are the object's, in its place.
    """
    model = _of_tree(model)
    judge, size, rng = Judge.load(), model.spec.num_frames, np.random.default_rng(99)
    report: dict[str, object] = {}
    for place, motion in enumerate(MOTIONS):
        shots = [shot for shot in training_shots() if shot.motion == motion]
        right = 0
        for number in range(chosen.each):
            seed, shot = place * chosen.each + number, shots[int(rng.integers(len(shots)))]
            world = SpriteWorld(FIRST_SEED + 70_000 + seed, {0: shot})
            latents = model.encode_frames(pixels(world.frames(60, 60 + size)))
            made = filled(model, caption(shot, number), 1, latents[:, :1], latents[:, -1:], seed, chosen.steps)
            right += judge.read(made).motion == motion
        report[motion] = {"right": right, "windows": chosen.each}
    return report


def _of_tree(model: VideoModel) -> OfTree:
    assert isinstance(model, OfTree) and Infill in model.spec.capabilities, f"{model.spec.name} fills no windows"
    return model


def filled(model: OfTree, prompt: str, stride: int, first: Tensor, last: Tensor, seed: int, steps: int) -> Frames:
    """Return a whole window as the network predicts it, its known ends too."""
    request = Request(prompts=PromptTimeline.constant(prompt), frames=model.spec.num_frames, seed=seed, steps=steps)
    finest = model.spec.infill_guidance
    windows = Windows(
        schedule=model.schedule(steps),
        condition=model.encode([request.negative_prompt, prompt]),
        prompt_index=torch.ones(1, model.spec.num_frames, dtype=torch.long),
    )
    guidance = model.spec.guidance if stride > 1 or finest is None else finest
    ends = torch.cat([first[:, :1], last[:, :1]], dim=1)[None]
    denoiser = between(model, windows, guidance, Known(latents=ends, places=(0, model.spec.num_frames - 1)))
    x = seeded_noise(seed)(model.spec.latent_shape, "window")[None].to(torch.promote_types(model.dtype, torch.float32))
    with model.strided(stride) if isinstance(model, Strided) else nullcontext():
        x = ddim(denoiser, x, windows.schedule)
    return decode_clip(model, x[0])


def story(number: int, frames: int) -> SpriteWorld:
    """Return a world that was never trained on, with changes of scene, each shot of a triple that was."""
    world = random_world(_STORIES + number, num_shots=2 + frames // _SHOT_FRAMES[0], shot_frames=_SHOT_FRAMES)
    return SpriteWorld(world.seed, {at: shot for at, shot in world.timeline.items() if not at or at < frames - 60})


def request(model: VideoModel, number: int, way: str, frames: int, steps: int) -> Request:
    """Return the order of a story, with steps for as many evaluations as the first way has."""
    world = story(number, frames)
    prompts = PromptTimeline(tuple(world.timeline), tuple(world.caption(start) for start in world.timeline))
    order = Request(prompts=prompts, frames=frames, seed=number, steps=steps)
    costs = [checked_plan(model.spec, order, WAYS[name]).forwards or 1 for name in (next(iter(WAYS)), way)]
    return Request(prompts=prompts, frames=frames, seed=number, steps=round(steps * costs[0] / costs[1]))


def video(chosen: Settings, number: int, way: str) -> Path:
    """Return where the video of a story lies."""
    return chosen.folder / f"{way}-{number}.mp4"


def shown(path: Path) -> Frames:
    """Return all frames of a video at the model's size, 12 kB each."""
    return np.concatenate(list(read_frames(path, scale=_SCALE)))


def stories_part(model: VideoModel, chosen: Settings) -> dict[str, Any]:
    """Make the videos that are not there yet, and return what the judge reads in each, and how each moves."""
    stories = [story(number, chosen.frames) for number in chosen.stories]
    report: dict[str, object] = {"changes": [len(world.timeline) - 1 for world in stories]}
    report["real"] = [figures(world.frames(0, chosen.frames), world, ()) for world in stories]
    for way in chosen.ways:
        rows = []
        for number, world in zip(chosen.stories, stories, strict=True):
            order, path = request(model, number, way, chosen.frames, chosen.steps), video(chosen, number, way)
            generate(model, order, WAYS[way], Output(path=path, scale=_SCALE))
            plan = checked_plan(model.spec, order, WAYS[way])
            row = figures(shown(path), world, plan.seams(chosen.frames))
            rows.append(
                {"story": number, "steps": order.steps, "calls": plan.tasks, "evaluations": plan.forwards, **row}
            )
            print(json.dumps({way: rows[-1]}), file=sys.stderr, flush=True)
        report[way] = rows
    return report


def figures(frames: Frames, world: SpriteWorld, seams: Collection[int]) -> dict[str, object]:
    """Return what is right in a video of this world's story, frame by frame and block by block, and how it moves.

    Where the story changes the shot, a step from frame to frame is counted neither as a seam nor as interior.
    """
    judge = Judge.load()
    steps = changes(frames)
    numbers = np.arange(1, len(frames))
    cuts = np.isin(numbers, list(world.timeline))
    at_seams = np.isin(numbers, list(seams))
    interior = max(float(steps[~at_seams & ~cuts].mean()), 1e-6)
    return {
        "frames right": frame_accuracy(frames, world.timeline, judge=judge),
        "blocks right": prompt_accuracy(frames, world.timeline, judge=judge),
        "step over real": float(steps.mean()) / _real_change(world, len(frames)),
        "seam step over interior": float(steps[at_seams & ~cuts].mean()) / interior if at_seams.any() else None,
    }


def frame_accuracy(frames: Frames, timeline: Mapping[int, Shot], judge: Judge) -> dict[str, float]:
    """Return the shares of frames, each judged alone, that show the object and the scene asked for."""
    starts = sorted(timeline)
    seen = judge.read_stills(frames)
    pairs = [(still, timeline[starts[bisect_right(starts, frame) - 1]]) for frame, still in enumerate(seen)]
    return {
        "object": float(np.mean([still[0] == shot.object for still, shot in pairs])),
        "scene": float(np.mean([still[1] == shot.scene for still, shot in pairs])),
    }


def changes(frames: Frames) -> NDArray[np.float64]:
    """Return the mean change of the picture from each frame to the next, in grey levels."""
    return np.array([np.abs(now.astype(float) - then).mean() for then, now in pairwise(frames)])


@cache
def _real_change(world: SpriteWorld, frames: int) -> float:
    """Return the mean change from frame to frame in real videos of this world's story."""
    return float(np.mean([changes(_twin(world, twin).frames(0, frames)).mean() for twin in range(_TWINS)]))


def blocks_part(model: VideoModel, chosen: Settings) -> dict[str, Any]:
    """Return the distances of every way's videos, and of as many real ones, from real ones of the same stories."""
    stories = [story(number, chosen.frames) for number in chosen.stories]
    networks = stand_in_features(), stand_in_looks()

    def rows(frames: Frames) -> BlockRows:
        return read_blocks((frames[at : at + 16] for at in range(0, len(frames) // 16 * 16, 16)), *networks)

    real = [rows(_twin(world, twin).frames(0, chosen.frames)) for world in stories for twin in range(_TWINS)]
    other = [rows(_twin(world, _TWINS).frames(0, chosen.frames)) for world in stories]
    made = {way: [rows(shown(video(chosen, number, way))) for number in chosen.stories] for way in chosen.ways}
    scores = {name: score_blocks(real, fake, chosen.pooled) for name, fake in ({"other real": other} | made).items()}
    report: dict[str, object] = {"parts": chosen.pooled, "real videos": len(real)}
    for name, score in scores.items():
        report[name] = {**asdict(score), "last over first": score.fvd[-1] / score.fvd[0]}
    return report


def _twin(world: SpriteWorld, number: int) -> SpriteWorld:
    """Return another world of the same story."""
    return SpriteWorld(world.seed + 1000 * (number + 1), world.timeline)


PARTS = {
    "losses": losses_part,
    "infill": infill_part,
    "motion": motion_part,
    "stories": stories_part,
    "blocks": blocks_part,
}


def score(chosen: Settings) -> dict[str, object]:
    """Return the score."""
    model, head = measured_model(chosen.model, Infill)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    return head | {"steps": chosen.steps} | {part: PARTS[part](model, chosen) for part in chosen.parts}
