"""What we want of the embedded models, and what they are: python -m lab score bars [--parts clips videos ...].

A table of figures, each beside its bar, by the judge, the exact state and the data of the other scores, which stay as
they are. Parts are counted as --clips, --videos and --stories say; the bars ask for 200, 20 and 20. Speed is that of
the machine this runs on, and means something where nothing else runs there.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from lab.common import HEADS, measured_model
from lab.measure.fifo import PROMPT, speed
from lab.score import nuwa_xl, pvdm, sprites
from lab.score.autoencoder import brought_back, figures, unseen_frames
from lab.score.sprite_state import video_scores
from longtake.data.sprites import MOTIONS
from longtake.model import Infill, PerFrameNoise
from longtake.models import DEFAULT_MODEL
from longtake.models.embedded import WEIGHTS
from longtake.models.pvdm.model import PvdmModel
from longtake.samplers.fifo.plan import Fifo, realtime

Part = Literal["clips", "state", "autoencoder", "videos", "stories", "scenery", "nuwa", "pvdm", "speed", "size"]
Row = tuple[str, float, str, bool]
"""What, its figure, its bar, and whether that is met."""
PASSING = MOTIONS[:4]
"""The motions of what passes by."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is scored, and how much of it."""

    model: str = DEFAULT_MODEL
    parts: tuple[Part, ...] = ("clips", "state", "autoencoder", "videos", "stories", "speed", "size")
    preset: str | None = None  # of FIFO-Diffusion, for videos and stories; its defaults if not given
    clips: int = 200
    videos: int = 20
    frames: int = 1024
    stories: int = 20
    folder: Path = Path("runs/bars")  # where the videos go


def least(what: str, figure: float, bar: float) -> Row:
    """A row whose figure should be as large as the bar, or larger."""
    return what, figure, f">= {bar:g}", figure >= bar


def most(what: str, figure: float, bar: float) -> Row:
    """A row whose figure should be as large as the bar, or smaller."""
    return what, figure, f"<= {bar:g}", figure <= bar


def clips(chosen: Settings) -> Iterator[Row]:
    """Clips of 16 frames, read by the judge."""
    model, _ = measured_model(chosen.model, PerFrameNoise)
    report = sprites.clips_part(model, sprites.Settings(model=chosen.model, clips=chosen.clips))
    for kind in ("trained", "unseen"):
        shares = report[kind]
        assert isinstance(shares, dict)
        for head, bar in zip(HEADS, (95, 99, 85), strict=True):
            yield least(f"{chosen.clips} clips, {kind} triples: {head}, %", 100 * shares[head], bar)


def state(chosen: Settings) -> Iterator[Row]:
    """Two videos of 64 frames against the true sprites; of real worlds all are 1."""
    for prompt, (read, _) in video_scores(chosen.model, 64):
        yield least(f"{prompt}: outline", read.outline or 0.0, 0.9)
        yield least(f"{prompt}: the same from frame to frame", read.identity.get(1) or 0.0, 0.9)


def autoencoder(chosen: Settings) -> Iterator[Row]:
    """Frames of unseen worlds, there and back."""
    frames, objects = unseen_frames(640)
    report = figures(frames, brought_back(WEIGHTS / "sprites" / "vae", frames), objects)
    yield least("autoencoder, 640 unseen frames, dB", float(str(report["psnr"])), 32)


def videos(chosen: Settings) -> Iterator[Row]:
    """Long videos: their first and last 64 frames."""
    model, _ = measured_model(chosen.model, PerFrameNoise)
    given = sprites.Settings(
        model=chosen.model, preset=chosen.preset, videos=chosen.videos, frames=chosen.frames, folder=chosen.folder
    )
    report = sprites.videos_part(model, given)
    name = f"{chosen.videos} videos of {chosen.frames} frames"
    for head, bar in zip(HEADS, (90, 98, 80), strict=True):
        first, last = (float(str(report[f"{end}_{head}"])) for end in ("first", "last"))
        yield least(f"{name}: {head}, first 64, %", 100 * first, bar)
        yield least(f"{name}: {head}, last over first", last / max(first, 1e-9), 0.95)
    change = float(str(report["step_over_real"]))
    yield f"{name}: change from frame to frame over real", change, "0.8 to 1.25", 0.8 <= change <= 1.25


def stories(chosen: Settings) -> Iterator[Row]:
    """Stories of four prompts: how soon and how surely a change of prompt shows."""
    model, _ = measured_model(chosen.model, PerFrameNoise)
    fifo, switches = sprites.chosen_fifo(chosen.preset), []
    for seed in range(21, 21 + chosen.stories):
        switches += sprites.story_figures(model, fifo, chosen.folder / f"story-{seed}.mp4", seed)
    name = f"{len(switches)} switches in {chosen.stories} stories"
    yield least(
        f"{name}: read as the new prompt 16 frames later, %", 100 * float(np.mean([s["new"] for s in switches])), 85
    )


def scenery(chosen: Settings) -> Iterator[Row]:
    """Windows between real frames whose scenery passes by."""
    model, _ = measured_model(chosen.model, Infill)
    report = nuwa_xl.motion_part(model, nuwa_xl.Settings(each=6))
    right = sum(report[motion]["right"] for motion in PASSING)  # pyright: ignore[reportIndexIssue]
    yield least(f"{chosen.model}: scenery read as travelling, of 24 windows", right, 18)


def nuwa(chosen: Settings) -> Iterator[Row]:
    """A story of 3,376 frames from coarse to fine."""
    model, _ = measured_model(chosen.model, Infill)
    given = nuwa_xl.Settings(parts=("stories",), stories=(0,), ways=("tree",), folder=chosen.folder / "nuwa")
    report = nuwa_xl.stories_part(model, given)
    read = report["tree"][0]["blocks right"]  # pyright: ignore[reportIndexIssue]
    for head, bar in zip(HEADS, (92, 98, 75), strict=True):
        yield least(f"{chosen.model}, a story of 3,376 frames: {head}, %", 100 * read[head], bar)


def pvdm_sprites(chosen: Settings) -> Iterator[Row]:
    """Reconstruction and clips of `pvdm-sprites`."""
    model, _ = measured_model("pvdm-sprites", PvdmModel)
    given = pvdm.Settings(clips=chosen.clips)
    decibels = pvdm.reconstruction_part(model, given)["dB"]
    assert isinstance(decibels, dict)
    yield least("pvdm-sprites: reconstruction, dB", float(np.mean(list(decibels.values()))), 28)
    first = pvdm.clips_part(model, given)["trained"]["first"]  # pyright: ignore[reportIndexIssue]
    for head, bar in zip(HEADS, (85, 97, 60), strict=True):
        yield least(f"pvdm-sprites, {chosen.clips} clips, trained triples: {head}, %", 100 * first[head], bar)


def speeds(chosen: Settings) -> Iterator[Row]:
    """Frames a second once the queue is under way, decoding included, and the time until one frame is a file."""
    model, _ = measured_model(chosen.model, PerFrameNoise)
    threads = torch.get_num_threads()
    for name, fifo, bar in (("default", Fifo(), 12), ("realtime", realtime(), 24)):
        made = speed(model, fifo)["frames_per_second"]
        yield least(f"{chosen.model}, {name}: frames a second, {threads} threads", made, bar)
    with tempfile.TemporaryDirectory() as folder:
        command = [*(sys.executable, "-m", "longtake", "generate", PROMPT, "--frames", "1", "--preset", "realtime")]
        began = time.perf_counter()
        subprocess.run([*command, "--model", chosen.model, "-o", f"{folder}/x.mp4"], check=True, capture_output=True)
        yield most("first frame, seconds from the start of the process", time.perf_counter() - began, 3)


def size(chosen: Settings) -> Iterator[Row]:
    """All weights of the package."""
    total = sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file())
    yield most("all weights in the package, MB", total / 1e6, 80)


PARTS: dict[Part, Callable[[Settings], Iterator[Row]]] = {
    "clips": clips,
    "state": state,
    "autoencoder": autoencoder,
    "videos": videos,
    "stories": stories,
    "scenery": scenery,
    "nuwa": nuwa,
    "pvdm": pvdm_sprites,
    "speed": speeds,
    "size": size,
}


def score(chosen: Settings) -> str:
    """Return the table, a line for each figure."""
    chosen.folder.mkdir(parents=True, exist_ok=True)
    lines = [f"| `{chosen.model}`, {chosen.preset or 'default'} | figure | bar | met |", "| --- | --- | --- | --- |"]
    for part in chosen.parts:
        for what, figure, bar, met in PARTS[part](chosen):
            lines.append(f"| {what} | {figure:.3g} | {bar} | {'yes' if met else 'no'} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)
