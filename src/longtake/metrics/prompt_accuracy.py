"""Does a video show what was asked for? The judge reads it clip by clip."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from longtake.data.sprites import SIZE, Shot
from longtake.errors import InputError
from longtake.metrics.judge import CLIP_FRAMES, Judge, Reading
from longtake.video.read import read_frames

Frames = NDArray[np.uint8]
Source = Frames | str | Path | Iterator[Frames]
_HEADS = ("object", "scene", "motion")
_CLIPS_AT_ONCE = 8


def prompt_accuracy(
    source: Source,
    timeline: Mapping[int, Shot],
    *,
    start: int = 0,
    stop: int | None = None,
    stride: int = CLIP_FRAMES,
    scale: int = 1,
    judge: Judge | None = None,
) -> dict[str, float | int]:
    """Share of the 16-frame clips of a video that the judge reads as the object, scene and motion asked for.

    `source` is a delivered video (a file or a folder of images; `scale` undoes an enlargement), its frames, uint8
    (n, 64, 64, 3), or those from `start` to `stop`, some at a time; `timeline` says from which frame on which shot was
    asked for. Only frames start to stop count, one clip every `stride` frames; clips across a change of the timeline
    are left out. Gives "object", "scene", "motion" and "all" (three right at once), each 0 to 1, and "clips", their
    number. InputError where no clip fits.
    """
    judge = Judge.load() if judge is None else judge
    starts = sorted(timeline)
    if not starts or starts[0] > start:
        raise InputError(f"the timeline says nothing of frame {start}; add an entry at or before it")
    right: list[dict[str, bool]] = []
    for place, reading in read_clips(source, judge, start=start, stop=stop, stride=stride, scale=scale):
        current = [first for first in starts if first < place + CLIP_FRAMES]
        if current[-1] <= place:
            wanted = timeline[current[-1]]
            right.append({head: getattr(reading, head) == getattr(wanted, head) for head in _HEADS})
    if not right:
        raise InputError(f"no {CLIP_FRAMES} frames in a row show one shot; give a longer video or a smaller stride")
    shares = {head: sum(row[head] for row in right) / len(right) for head in _HEADS}
    return {**shares, "all": sum(all(row.values()) for row in right) / len(right), "clips": len(right)}


def read_clips(
    source: Source,
    judge: Judge,
    *,
    start: int = 0,
    stop: int | None = None,
    stride: int = CLIP_FRAMES,
    scale: int = 1,
) -> Iterator[tuple[int, Reading]]:
    """Yield (first frame, reading) of a 16-frame clip every `stride` frames, in memory that does not grow."""
    pending: list[tuple[int, Frames]] = []
    for place, clip in _clips(_chunks(source, start, stop, scale), start, stride):
        pending.append((place, clip))
        if len(pending) == _CLIPS_AT_ONCE:
            yield from _read(judge, pending)
            pending = []
    if pending:
        yield from _read(judge, pending)


def switch_response(
    source: Frames | str | Path,
    timeline: Mapping[int, Shot],
    *,
    within: int = CLIP_FRAMES,
    scale: int = 1,
    judge: Judge | None = None,
) -> list[dict[str, float | int | None]]:
    """How fast a video follows each change of its timeline that changes the object or the scene.

    Each frame is judged alone, by its object and scene. For every switch: "frame", where it was asked for; "delay",
    frames until the first one that shows the new shot (None: never before the next switch); "new", the share of
    frames that do from `within` frames after the switch up to the next one, at most `within` of them.
    """
    judge = Judge.load() if judge is None else judge
    starts = sorted(timeline)
    result = []
    for before, now in pairwise(starts):
        wanted = timeline[now]
        if (wanted.object, wanted.scene) == (timeline[before].object, timeline[before].scene):
            continue
        end = min([now + 2 * within, *[later for later in starts if later > now]])
        hits = [
            seen == (wanted.object, wanted.scene)
            for chunk in _chunks(source, now, end, scale)
            for seen in judge.read_stills(chunk)
        ]
        settled = hits[within:] or hits[-1:]
        delay = hits.index(True) if True in hits else None
        result.append({"frame": now, "delay": delay, "new": float(np.mean(settled)) if settled else 0.0})
    return result


def _read(judge: Judge, clips: list[tuple[int, Frames]]) -> Iterator[tuple[int, Reading]]:
    readings = judge.read_batch(np.stack([clip for _, clip in clips]))
    yield from zip([place for place, _ in clips], readings, strict=True)


def _chunks(source: Source, start: int, stop: int | None, scale: int) -> Iterator[Frames]:
    chunks: Iterable[Frames]
    if isinstance(source, np.ndarray):
        chunks = [source[start:stop]]
    elif isinstance(source, str | Path):
        chunks = read_frames(source, start=start, stop=stop, scale=scale)
    else:
        chunks = source
    for chunk in chunks:
        if chunk.shape[1:] != (SIZE, SIZE, 3):
            height, width = chunk.shape[1:3]
            raise InputError(
                f"the judge reads {SIZE}x{SIZE} pixels and this video has {width}x{height}; "
                f"set the scale by which it was enlarged"
            )
        yield chunk


def _clips(chunks: Iterator[Frames], start: int, stride: int) -> Iterator[tuple[int, Frames]]:
    """Cut a stream of chunks into clips, (first frame, frames)."""
    held = np.empty((0, SIZE, SIZE, 3), dtype=np.uint8)
    place = start
    skip = 0
    for chunk in chunks:
        held = np.concatenate([held, chunk])
        dropped = min(skip, len(held))
        held, skip = held[dropped:], skip - dropped
        while len(held) >= CLIP_FRAMES:
            yield place, held[:CLIP_FRAMES]
            place += stride
            skip = max(stride - len(held), 0)
            held = held[stride:]
