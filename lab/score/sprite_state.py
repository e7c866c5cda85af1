"""How well the state of a sprite frame is read, and what the figures say of spoilt and of generated videos.

python -m lab.score.sprite_state [--parts errors controls video] [--worlds N]
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from lab.measuring import measured_model
from longtake._generate import Output, generate
from longtake.data.sprites import Shot, SpriteWorld, caption, held_out_shots, random_world
from longtake.metrics.judge import Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy
from longtake.metrics.sprite_state.figures import LAGS, QUANTITIES, StateFigures, state_figures, true_state
from longtake.metrics.sprite_state.reader import FrameState, read_state, read_states
from longtake.metrics.sprite_state.scenery import scroll_period
from longtake.metrics.sprite_state.spoilt import SPOILT
from longtake.model import PerFrameNoise
from longtake.models import WEIGHTS
from longtake.request import PromptTimeline, Request
from longtake.samplers.fifo.plan import Fifo
from longtake.train.sprites.autoencode import decode_scaled, encode_scaled
from longtake.video.read import read_frames

Frames = NDArray[np.uint8]

_ERROR_SEED = 7000
_CONTROL_SEED = 9000
_CLIP = 24
_SYMMETRIC = ("cat", "frog", "panda", "robot", "rocket", "balloon", "pumpkin", "butterfly")
VIDEOS = (
    Shot(object="cat", scene="forest", motion="spins"),
    Shot(object="rocket", scene="night sky", motion="flies up"),
)
"""What the embedded model is asked for."""


def reconstructed(frames: Frames) -> Frames:
    """The frames behind the picture autoencoder of the embedded model."""
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "sprites" / "vae")
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    return (decode_scaled(vae, encode_scaled(vae, pixels)) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def errors(num_worlds: int, change: Callable[[Frames], Frames]) -> dict[str, list[float]]:
    """Of one frame of each of so many worlds, what was read against what is true."""
    found: dict[str, list[float]] = {}
    for seed in range(_ERROR_SEED, _ERROR_SEED + num_worlds):
        world = random_world(seed, training_only=False)
        frame = int(np.random.default_rng(seed).integers(0, 3000))
        true = true_state(world, frame)
        start = time.process_time()
        read = read_state(change(world.frames(frame, frame + 1))[0])
        row = {"CPU seconds": time.process_time() - start, "scene": read.scene == true.scene}
        row |= {"seen or not": read.empty == true.empty}
        if true.object:
            row |= _object_errors(read, true)
        if read.scene == true.scene:
            row |= _scene_errors(read, true)
        for name, value in row.items():
            found.setdefault(name, []).append(float(value))
    return found


def _object_errors(read: FrameState, true: FrameState) -> dict[str, float]:
    row = {"object": read.object == true.object, "outline": read.outline, "margin": read.margin}
    if read.object != true.object:
        return row
    turn = abs((read.angle - true.angle + np.pi) % (2 * np.pi) - np.pi)
    return row | {
        "mirrored": read.mirrored == true.mirrored or true.object in _SYMMETRIC,
        "position, pixels": float(np.hypot(read.x - true.x, read.y - true.y)),
        "size, pixels": abs(read.size - true.size),
        "angle, degrees": float(np.degrees(turn)),
        "tint": float(np.abs(np.subtract(read.tint, true.tint)).max()),
    }


def _scene_errors(read: FrameState, true: FrameState) -> dict[str, float]:
    period = scroll_period(true.scene)
    return {
        "horizon, pixels": abs(read.horizon - true.horizon),
        "time of day": abs(read.time_of_day - true.time_of_day),
        "scroll of the ground, pixels": abs((read.scroll_x - true.scroll_x + period / 2) % period - period / 2),
        "scroll of the air, pixels": abs((read.scroll_y - true.scroll_y + 64) % 128 - 64),
    }


_SHARES = ("object", "scene", "seen or not", "mirrored")
_MEANS = ("outline", "margin", "CPU seconds")


def error_table(num_worlds: int) -> None:
    """Print the errors on real and on reconstructed frames."""
    kinds = {"real": lambda frames: frames, "reconstructed": reconstructed}
    tables = {kind: errors(num_worlds, change) for kind, change in kinds.items()}
    print(f"| {num_worlds} worlds | {' | '.join(kinds)} |\n| --- | --- | --- |")
    for name in (*_SHARES, *_MEANS):
        print(f"| {name} | {' | '.join(f'{np.mean(table[name]):.3f}' for table in tables.values())} |")
    for name in tables["real"]:
        if name not in (*_SHARES, *_MEANS):
            levels = [np.percentile(table[name], [50, 90, 98]) for table in tables.values()]
            cells = [f"{half:.3f} / {most:.2f} / {nearly_all:.2f}" for half, most, nearly_all in levels]
            print(f"| error of {name}: half, 90, 98 of 100 below | {' | '.join(cells)} |")


def control_table(num_worlds: int) -> None:
    """Print the figures and the classifier's scores of real, reconstructed and spoilt worlds."""
    shots = [held_out_shots()[number] for number in np.random.default_rng(1).permutation(160)[:num_worlds]]
    worlds = [SpriteWorld(_CONTROL_SEED + number, {0: shot}) for number, shot in enumerate(shots)]
    kinds: dict[str, Callable[[SpriteWorld, range], Frames]] = {
        "real": lambda world, frames: world.frames_at(frames),
        "reconstructed": lambda world, frames: reconstructed(world.frames_at(frames)),
        **SPOILT,
    }
    print(f"{num_worlds} worlds of {_CLIP} frames")
    print(head())
    for kind, make in kinds.items():
        clips = [make(world, range(100, 100 + _CLIP)) for world in worlds]
        print(mean_row(kind, [scored(clip, shot) for clip, shot in zip(clips, shots, strict=True)]), flush=True)


def video_table(num_frames: int) -> None:
    """Print the figures of videos of the embedded model."""
    model, _, _ = measured_model("sprites", PerFrameNoise)
    print(f"{num_frames} frames of `sprites`, default")
    print(head())
    for shot in VIDEOS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.mkv"
            request = Request(prompts=PromptTimeline.constant(caption(shot)), frames=num_frames, seed=0)
            generate(model, request, Fifo(), Output(path=path))
            video = np.concatenate(list(read_frames(path)))
        print(mean_row(caption(shot), [scored(video, shot)]), flush=True)


def scored(video: Frames, shot: Shot) -> tuple[StateFigures, dict]:
    """The figures of a video, and what the classifier says."""
    timeline = {0: shot}
    return state_figures(read_states([video], timeline), timeline), prompt_accuracy(video, timeline, judge=Judge.load())


def head() -> str:
    """The head of a table of figures."""
    names = ["", "outline", "margin", "object", *(f"same at {lag}" for lag in LAGS[:3]), *QUANTITIES, "steady"]
    names += ["flags", "classifier: object", "motion"]
    return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}"


def mean_row(name: str, scores: Sequence[tuple[StateFigures, dict]]) -> str:
    """A row of means over videos."""
    figures = [each for each, _ in scores]
    columns = [[each.outline for each in figures], [each.margin for each in figures], [each.object for each in figures]]
    columns += [[each.identity.get(lag) for each in figures] for lag in LAGS[:3]]
    columns += [[each.steps[quantity] for each in figures] for quantity in QUANTITIES]
    columns += [[each.steady for each in figures], [len(each.flags) for each in figures]]
    columns += [[judged[head] for _, judged in scores] for head in ("object", "motion")]
    known = [[value for value in column if value is not None] for column in columns]
    return f"| {name} | {' | '.join(f'{np.mean(column):.2f}' if column else '-' for column in known)} |"


def main(arguments: Sequence[str]) -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["errors", "controls", "video"])
    parser.add_argument("--worlds", type=int, default=200)
    options = parser.parse_args(arguments)
    if "errors" in options.parts:
        error_table(options.worlds)
    if "controls" in options.parts:
        control_table(max(options.worlds // 20, 1))
    if "video" in options.parts:
        video_table(96)


if __name__ == "__main__":
    main(sys.argv[1:])
