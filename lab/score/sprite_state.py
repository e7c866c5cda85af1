"""How well the state of a sprite frame is read, and what its figures say of spoilt and of generated videos.

Errors are those of one frame of each world, real and behind the picture autoencoder. Controls are short videos of
held-out worlds, spoilt on purpose; videos are a model's own. The classifier's scores stand beside.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.common import Frames, made_video, measured_model
from lab.score.autoencoder import brought_back
from lab.score.spoilt import SPOILT
from longtake.data.sprites import Shot, SpriteWorld, held_out_shots, parse_caption, random_world
from longtake.metrics.judge import Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy
from longtake.metrics.sprite_state.figures import LAGS, QUANTITIES, StateFigures, state_figures, true_state
from longtake.metrics.sprite_state.reader import FrameState, read_state, read_states
from longtake.metrics.sprite_state.scenery import scroll_period
from longtake.model import PerFrameNoise
from longtake.models.embedded import WEIGHTS
from longtake.request import PromptTimeline, Request
from longtake.samplers.fifo.plan import Fifo

_ERROR_SEED = 7000
_CONTROL_SEED = 9000
_CLIP = 24
_SYMMETRIC = ("cat", "frog", "panda", "robot", "rocket", "balloon", "pumpkin", "butterfly")
VIDEOS = ("a cat spins in the forest", "a rocket flies up in the night sky")
"""What the model is asked for."""


def reconstructed(frames: Frames) -> Frames:
    """The frames behind the picture autoencoder of the embedded model."""
    return brought_back(WEIGHTS / "sprites" / "vae", frames)


def errors(num_worlds: int, change: Callable[[Frames], Frames]) -> dict[str, list[float]]:
    """Of one frame of each of so many worlds, what was read against what is true."""
    found: dict[str, list[float]] = {}
    for seed in range(_ERROR_SEED, _ERROR_SEED + num_worlds):
        world = random_world(seed, training_only=False)
        frame = int(np.random.default_rng(seed).integers(0, 3000))
        true = true_state(world, frame)
        start = time.process_time()
        read = read_state(change(world.frames(frame, frame + 1))[0])
        row = {"CPU seconds": time.process_time() - start, "scene": read.scenery.name == true.scenery.name}
        row |= {"seen or not": read.empty == true.empty}
        if true.object:
            row |= _object_errors(read, true)
        if read.scenery.name == true.scenery.name:
            row |= _scene_errors(read, true)
        for name, value in row.items():
            found.setdefault(name, []).append(float(value))
    return found


def _object_errors(read: FrameState, true: FrameState) -> dict[str, float]:
    row = {"object": read.object == true.object, "outline": read.outline, "margin": read.margin}
    if read.object != true.object:
        return row
    ours, theirs = read.pose, true.pose
    turn = abs((ours.angle - theirs.angle + np.pi) % (2 * np.pi) - np.pi)
    return row | {
        "mirrored": ours.mirrored == theirs.mirrored or true.object in _SYMMETRIC,
        "position, pixels": float(np.hypot(ours.x - theirs.x, ours.y - theirs.y)),
        "size, pixels": abs(ours.size - theirs.size),
        "angle, degrees": float(np.degrees(turn)),
        "tint": float(np.abs(np.subtract(ours.tint, theirs.tint)).max()),
    }


def _scene_errors(read: FrameState, true: FrameState) -> dict[str, float]:
    ours, theirs, period = read.scenery, true.scenery, scroll_period(true.scenery.name)
    return {
        "horizon, pixels": abs(ours.horizon - theirs.horizon),
        "time of day": abs(ours.time_of_day - theirs.time_of_day),
        "scroll of the ground, pixels": abs((read.scroll[0] - true.scroll[0] + period / 2) % period - period / 2),
        "scroll of the air, pixels": abs((read.scroll[1] - true.scroll[1] + 64) % 128 - 64),
    }


_SHARES = ("object", "scene", "seen or not", "mirrored")
_MEANS = ("outline", "margin", "CPU seconds")


def error_table(num_worlds: int) -> list[str]:
    """Return the errors on real and on reconstructed frames."""
    kinds = {"real": lambda frames: frames, "reconstructed": reconstructed}
    tables = {kind: errors(num_worlds, change) for kind, change in kinds.items()}
    lines = [f"| {num_worlds} worlds | {' | '.join(kinds)} |", "| --- | --- | --- |"]
    for name in (*_SHARES, *_MEANS):
        lines.append(f"| {name} | {' | '.join(f'{np.mean(table[name]):.3f}' for table in tables.values())} |")
    for name in tables["real"]:
        if name not in (*_SHARES, *_MEANS):
            levels = [np.percentile(table[name], [50, 90, 98]) for table in tables.values()]
            cells = [f"{half:.3f} / {most:.2f} / {nearly_all:.2f}" for half, most, nearly_all in levels]
            lines.append(f"| error of {name}: half, 90, 98 of 100 below | {' | '.join(cells)} |")
    return lines


def control_rows(num_worlds: int) -> list[str]:
    """Return a row of figures for real, for reconstructed and for spoilt worlds."""
    shots = [held_out_shots()[number] for number in np.random.default_rng(1).permutation(160)[:num_worlds]]
    worlds = [SpriteWorld(_CONTROL_SEED + number, {0: shot}) for number, shot in enumerate(shots)]
    kinds: dict[str, Callable[[SpriteWorld, range], Frames]] = {
        "real": lambda world, frames: world.frames_at(frames),
        "reconstructed": lambda world, frames: reconstructed(world.frames_at(frames)),
        **SPOILT,
    }
    rows = []
    for kind, make in kinds.items():
        clips = [make(world, range(100, 100 + _CLIP)) for world in worlds]
        scores = [scored(clip, shot) for clip, shot in zip(clips, shots, strict=True)]
        rows.append(mean_row(f"{kind}, {num_worlds} x {_CLIP} frames", scores))
    return rows


def video_scores(name: str, num_frames: int) -> Iterator[tuple[str, tuple[StateFigures, dict]]]:
    """Yield the prompt of each video of a model of sprites, and what is read in it."""
    model, _ = measured_model(name, PerFrameNoise)
    for prompt in VIDEOS:
        shot = parse_caption(prompt)
        assert shot is not None, prompt
        request = Request(prompts=PromptTimeline.constant(prompt), frames=num_frames, seed=0)
        with tempfile.TemporaryDirectory() as folder:
            video = made_video(model, request, Fifo(), Path(folder) / "video.mkv")
        yield prompt, scored(video, shot)


def video_rows(name: str, num_frames: int) -> list[str]:
    """Return a row of figures for each video of a model of sprites."""
    return [
        mean_row(f"`{Path(name).name}`, {prompt}, {num_frames} frames", [read])
        for prompt, read in video_scores(name, num_frames)
    ]


def scored(video: Frames, shot: Shot) -> tuple[StateFigures, dict]:
    """The figures of a video, and what the classifier says."""
    timeline = {0: shot}
    return state_figures(read_states([video], timeline), timeline), prompt_accuracy(video, timeline, judge=Judge.load())


def head() -> list[str]:
    """Return the head of a table of figures."""
    names = ["", "outline", "margin", "object", *(f"same at {lag}" for lag in LAGS[:3]), *QUANTITIES, "steady"]
    names += ["flags", "classifier: object", "motion"]
    return [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]


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


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is read; 0 leaves a part out."""

    worlds: int = 100  # one frame each, for the errors
    controls: int = 4  # videos of each kind
    frames: int = 64  # of each video of the model
    model: str = "sprites"  # whose videos are read


def score(chosen: Settings) -> str:
    """Return the table of errors and that of figures."""
    lines = error_table(chosen.worlds) if chosen.worlds else []
    if chosen.controls or chosen.frames:
        lines += ["", *head()]
    lines += control_rows(chosen.controls) if chosen.controls else []
    lines += video_rows(chosen.model, chosen.frames) if chosen.frames else []
    return "\n".join(lines)
