"""Do generated clips teach? The judge's network from scratch on real clips, on generated ones, and on both.

Clips of 16 frames are made by ordinary sampling, as `longtake batch` makes them, and written as `longtake data shards`
writes them; their captions, of trained triples, are what they teach. Real clips are worlds of the same shots. Every
network takes as many steps of as many clips, and then reads clips from which none has learnt, real and generated.
What is made and what is read stays in the folder, and is not done again.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lab.common import HEADS, Frames, measured_model, share_right
from lab.score.judge import real_clips, visible_clip
from longtake.apps.batch import Manifest, Progress, Turns, make_videos, numbered
from longtake.apps.generate.stopping import Stop
from longtake.apps.shards import shards_command
from longtake.data.sprites import Shot, SpriteWorld, caption, parse_caption, training_shots
from longtake.metrics.judge import CLIP_FRAMES, Judge, JudgeNetwork
from longtake.model import Continuation
from longtake.ranks.world import ALONE
from longtake.report import Order
from longtake.request import PromptTimeline, Request
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.train.judge import SETTINGS, Batch, augmented, labels_of, taught
from longtake.video.output import Output

Clips = tuple[Frames, Sequence[Shot]]
"""uint8 (clips, 16, 64, 64, 3), and what each is said to show."""

_FIRST_REAL = 20_000_000
"""Seeds of the real worlds that teach; neither the models nor the package's judge saw them, nor are they read."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is made, who learns from it, and what is read."""

    model: str = "sprites-fast"
    sampling_steps: int = 16
    together: int = 16  # clips that share a call of the network
    clips: int = 192  # of each kind to learn from
    steps: int = 200
    batch: int = 16
    seeds: int = 2  # networks for each kind of lesson
    read_real: int = 300  # clips that are read and not learnt from
    read_generated: int = 64  # the same, of generated ones
    folder: Path = Path("runs/teach")


def asked_shots(count: int) -> list[Shot]:
    """Return shots of trained triples in an order that is always the same, all of them before any comes again."""
    trained = training_shots()
    order = np.random.default_rng(41).permutation(len(trained))
    return [trained[order[number % len(trained)]] for number in range(count)]


def make_clips(chosen: Settings) -> dict[str, object]:
    """Make the clips that are not there yet, each with a seed of its own, and shards; return the head of the report."""
    model, head = measured_model(chosen.model, Continuation)
    path, shards = chosen.folder / "made" / "clip.mkv", chosen.folder / "shards"
    path.parent.mkdir(parents=True, exist_ok=True)
    shots = asked_shots(chosen.read_generated + chosen.clips)
    orders = [
        Order(
            model=chosen.model,
            request=Request(
                prompts=PromptTimeline.constant(caption(shot, number)),
                frames=CLIP_FRAMES,
                seed=1000 + number,
                steps=chosen.sampling_steps,
            ),
            sampler=Autoregressive(),
            output=Output(path=numbered(path, number)),
        )
        for number, shot in enumerate(shots)
    ]
    making = Turns(model=model, progress=Progress(len(orders), "made", Stop()), world=ALONE)
    make_videos(making, orders, Manifest(path, overwrite=False), chosen.together)
    if _held(shards) < len(orders):
        licence = ["--licence", "Apache-2.0", "--content", "frames"]
        shards_command([str(path.parent), "-o", str(shards), "--overwrite", *licence])
    return head


def _held(folder: Path) -> int:
    """Return how many clips the shards of a folder hold."""
    names = (name for path in folder.glob("shard-*.tar") for name in tarfile.open(path).getnames())
    return sum(name.endswith(".json") for name in names)


def read_shards(folder: Path) -> Clips:
    """Return the clips in the shards of a folder, in order, and what their captions say that they show."""
    frames: list[Frames] = []
    shots: list[Shot] = []
    for path in sorted(folder.glob("shard-*.tar")):
        with tarfile.open(path) as shard:
            for entry in shard:
                data = shard.extractfile(entry)
                assert data is not None, entry.name
                if entry.name.endswith(".png"):
                    frames.append(np.asarray(Image.open(data)))
                else:
                    shot = parse_caption(json.load(data)["prompt"])
                    assert shot is not None, entry.name
                    shots.append(shot)
    return np.stack(frames).reshape(len(shots), CLIP_FRAMES, *frames[0].shape), shots


def lessons(real: Frames, generated: Frames, shots: Sequence[Shot]) -> dict[str, Clips]:
    """Return what each network learns from, by what it is called; clip i of either kind shows shot i."""
    half = len(shots) // 2
    return {
        "real": (real, shots),
        "generated": (generated, shots),
        "half of each": (np.concatenate([real[:half], generated[half:]]), shots),
        "both": (np.concatenate([real, generated]), [*shots, *shots]),
        "half of the real": (real[:half], shots[:half]),
    }


def learnt(lesson: Clips, chosen: Settings, seed: int) -> Judge:
    """Return a judge that has learnt from nothing else; with one seed all begin with the same weights."""
    torch.manual_seed(seed)
    network, rng = JudgeNetwork(), np.random.default_rng([seed, 31])
    for _ in taught(network, _batches(lesson, chosen, rng), chosen.steps, SETTINGS["learning_rate"]):
        pass
    return Judge(network)


def _batches(lesson: Clips, chosen: Settings, rng: np.random.Generator) -> Iterator[Batch]:
    frames, labels = lesson[0], [labels_of(shot) for shot in lesson[1]]
    for _ in range(chosen.steps):
        drawn = rng.choice(len(frames), chosen.batch, replace=len(frames) < chosen.batch)
        targets = {head: torch.tensor([labels[number][head] for number in drawn]) for head in HEADS}
        yield augmented(torch.from_numpy(frames[drawn]), rng), targets


def read_right(judge: Judge, sets: dict[str, Clips]) -> dict[str, dict[str, float]]:
    """Return, for each set of clips, the shares that a judge reads as they are said to be."""
    return {
        name: share_right(zip(judge.read_batch(clips), shots, strict=True)) for name, (clips, shots) in sets.items()
    }


def over_seeds(rows: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean, lowest and highest of what networks that differ in their seed have read."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in rows[0]:
        read = {head: [row[name][head] for row in rows] for head in HEADS}
        found[name] = {
            head: {"mean": float(np.mean(shares)), "lowest": min(shares), "highest": max(shares)}
            for head, shares in read.items()
        }
    return found


def measure(chosen: Settings) -> dict[str, object]:
    """Return the report."""
    head = make_clips(chosen)
    made, asked = read_shards(chosen.folder / "shards")
    first, last = chosen.read_generated, chosen.read_generated + chosen.clips
    shots = asked[first:last]
    real = [visible_clip(SpriteWorld(_FIRST_REAL + n, {0: shot}), n * 977) for n, shot in enumerate(shots)]
    sets = {"real": real_clips(chosen.read_real), "generated": (made[:first], asked[:first])}
    taught_by = lessons(np.stack(real), made[first:last], shots)
    rows: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in taught_by}
    for seed in range(chosen.seeds):
        for name, lesson in taught_by.items():
            rows[name].append(_row(name, lesson, sets, chosen, seed))
    return head | {
        "the package's judge": read_right(Judge.load(), sets | {"generated, to learn from": taught_by["generated"]}),
        **{name: over_seeds(read) | {"each": read} for name, read in rows.items()},
    }


def _row(name: str, lesson: Clips, sets: dict[str, Clips], chosen: Settings, seed: int) -> dict[str, dict[str, float]]:
    """Return what a network reads, from the folder where it has been trained before."""
    numbers = (chosen.clips, chosen.steps, chosen.batch, chosen.read_real, chosen.read_generated, seed)
    path = chosen.folder / f"{name.replace(' ', '-')}-{'-'.join(map(str, numbers))}.json"
    if not path.exists():
        read = read_right(learnt(lesson, chosen, seed), sets)
        path.write_text(json.dumps(read, indent=1) + "\n")
        print(f"{name}, seed {seed}: {read}", flush=True)
    return json.loads(path.read_text())
