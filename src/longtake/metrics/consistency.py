"""Figures of a whole video, read once from start to end in flat memory: change, seams, drift, freezes, loops."""

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

MOST_POINTS = 128
"""A curve has at most as many points, and at least half as many where there are frames for them."""
_LAGS = 48
_SIGNATURE = 16
_STILL = 0.05
_LOOP_SCORE = 0.1


@dataclass(frozen=True, kw_only=True)
class VideoFigures:
    """What a pass over a video finds; each metric has its own beside."""

    num_frames: int
    """Frames read."""


@dataclass(frozen=True, kw_only=True)
class Consistency(VideoFigures):
    """What a pass finds of change, drift and loops; grey levels are 0 to 255."""

    mean_step: float | None
    """Mean absolute change from frame to frame, in grey levels; None where no frame follows another."""
    cuts: int
    """Frames at which the story asks for something else; the change there counts nowhere."""
    seam_ratio: float | None
    """Change across the seams over the change elsewhere (1: invisible); None without seams."""
    colour_drift: float | None
    """Distance of the mean colour of the last block from that of the first, in grey levels; this and the next three are
    None where the blocks overlap, or where the story changes between them."""
    contrast_ratio: float | None
    """Standard deviation of the last block over that of the first."""
    sharpness_ratio: float | None
    """Mean difference of neighbouring pixels of the last block over that of the first."""
    step_ratio: float | None
    """Frame-to-frame change of the last block over that of the first."""
    longest_freeze: int
    """Most frames in a row that repeat the one before."""
    loop_score: float | None
    """Least mean change over 2 to 48 frames between cuts, over the change from frame to frame (0: a perfect loop); None
    where there are not two rounds of any, and 1 where all stands still."""
    loop_period: int | None
    """Frames after which the video repeats itself; None where it does not."""
    curves: dict[str, list[float]]
    """Over the length: how far the mean colour is from that of the first block, contrast, sharpness, and step, as
    above."""


@dataclass(kw_only=True)
class _Block:
    """Running sums over the frames of one block."""

    frames: int = 0
    colour: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    contrast: float = 0.0
    sharpness: float = 0.0
    step: float = 0.0
    steps: int = 0

    @property
    def mean_step(self) -> float:
        return self.step / max(self.steps, 1)

    def mean(self, total: Any) -> Any:
        return total / self.frames

    def add(self, looks: NDArray[np.float64], step: float | None) -> None:
        self.frames += 1
        self.colour += looks[:3]
        self.contrast += float(looks[3])
        self.sharpness += float(looks[4])
        if step is not None:
            self.step += step
            self.steps += 1

    def joined(self, other: "_Block") -> "_Block":
        return _Block(
            frames=self.frames + other.frames,
            colour=self.colour + other.colour,
            contrast=self.contrast + other.contrast,
            sharpness=self.sharpness + other.sharpness,
            step=self.step + other.step,
            steps=self.steps + other.steps,
        )


def looks_of(frame: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a frame's mean red, green and blue, its standard deviation, and the mean difference of neighbours."""
    sharpness = np.abs(np.diff(frame, axis=1)).mean() + np.abs(np.diff(frame, axis=0)).mean()
    return np.array([*frame.mean((0, 1), dtype=np.float64), frame.std(), sharpness])


class Curve:
    """A number or an array over the length of a video, in memory that does not grow with it: means over equal parts, as
    long as they need to be."""

    def __init__(self) -> None:
        self._sums: list[Any] = []
        self._size, self._last = 1, 0

    def add(self, value: Any) -> None:
        """Take the number of the next frame."""
        if self._last == self._size or not self._sums:
            self._halve()
            self._sums.append(0.0)
            self._last = 0
        self._sums[-1] = self._sums[-1] + value
        self._last += 1

    def _halve(self) -> None:
        if len(self._sums) == MOST_POINTS:
            self._sums = [one + other for one, other in zip(self._sums[::2], self._sums[1::2], strict=True)]
            self._size *= 2

    @property
    def values(self) -> list[Any]:
        """Return the mean of every part, in order; the last part may be shorter."""
        counts = [self._size] * (len(self._sums) - 1) + [self._last]
        return [total / count for total, count in zip(self._sums, counts, strict=False)]


class _Loops:
    """Mean change over every lag, from small grey signatures of the last frames."""

    def __init__(self) -> None:
        self.past: deque[NDArray[np.float32]] = deque(maxlen=_LAGS)
        self.sums = np.zeros(_LAGS + 1)
        self.counts = np.zeros(_LAGS + 1)

    def add(self, frame: NDArray[np.float32]) -> None:
        rows, columns = frame.shape[0] // _SIGNATURE, frame.shape[1] // _SIGNATURE
        cut = frame[: rows * _SIGNATURE, : columns * _SIGNATURE]
        now = cut.reshape(_SIGNATURE, rows, _SIGNATURE, columns, 3).mean((1, 3))
        if self.past:
            lags = np.arange(1, len(self.past) + 1)
            self.sums[lags] += np.abs(np.stack(self.past)[::-1] - now).mean((1, 2, 3))
            self.counts[lags] += 1
        self.past.append(now)

    def forget(self) -> None:
        """Compare what comes with nothing that was."""
        self.past.clear()

    def best(self) -> tuple[float | None, int | None]:
        lags = [lag for lag in range(2, _LAGS + 1) if self.counts[lag] >= lag]
        if not lags:
            return None, None
        step = self.sums[1] / self.counts[1]
        if step < _STILL:
            return 1.0, None
        scores = {lag: self.sums[lag] / self.counts[lag] / step for lag in lags}
        score = min(scores.values())
        period = next(lag for lag in lags if scores[lag] <= 1.2 * score + 1e-9)
        return float(score), period if score < _LOOP_SCORE else None


def consistency(
    chunks: Iterable[Frames], seams: Collection[int] = (), block: int = 64, cuts: Collection[int] = ()
) -> Consistency:
    """Read a video once and give its figures; memory does not grow with its length.

    `chunks` are consecutive frames, uint8 (n, height, width, 3), at least 16 pixels high and wide; `seams` are the
    numbers of the frames that start a new piece of work, `cuts` of those at which the story asks for something else;
    the first `block` frames, or what there is of them before a cut, and the last are compared.
    """
    seam_frames, cut_frames = frozenset(seams), frozenset(cuts) - {0}
    first, loops, looks, changes = _Block(), _Loops(), Curve(), Curve()
    # The last block is the sum of the last eight parts; a part is an eighth of a block.
    parts: deque[_Block] = deque([_Block()], maxlen=9)
    steps = {False: [0.0, 0], True: [0.0, 0]}
    freeze = longest = num_frames = counted = 0
    previous = None
    for frame in (frame.astype(np.float32) for chunk in chunks for frame in chunk):
        is_cut = num_frames in cut_frames
        step = None if previous is None or is_cut else float(np.abs(frame - previous).mean())
        if step is not None:
            total = steps[num_frames in seam_frames]
            total[0] += step
            total[1] += 1
            freeze = freeze + 1 if step < _STILL else 0
            longest = max(longest, freeze)
            changes.add(step)
        if is_cut:
            freeze, counted = 0, counted + 1
            loops.forget()
        seen = looks_of(frame)
        looks.add(seen)
        # What another prompt asks for is no start.
        if num_frames < block and not counted:
            first.add(seen, step)
        if parts[-1].frames >= max(block // 8, 1):
            parts.append(_Block())
        parts[-1].add(seen, step)
        loops.add(frame)
        previous, num_frames = frame, num_frames + 1
    are_comparable = num_frames >= 2 * block and not any(cut <= num_frames - block for cut in cut_frames)
    curves = _curves(first, looks, changes)
    last = _last(parts, block) if are_comparable else None
    return _figures(first, last, loops, steps, longest, num_frames, counted, curves)


def _curves(first: _Block, looks: Curve, changes: Curve) -> dict[str, list[float]]:
    begin, seen = first.mean(first.colour), np.array(looks.values)
    return {
        "distance of the mean colour from the start": np.linalg.norm(seen[:, :3] - begin, axis=1).tolist(),
        "contrast": seen[:, 3].tolist(),
        "sharpness": seen[:, 4].tolist(),
        "change from frame to frame": changes.values,
    }


def _last(parts: deque[_Block], block: int) -> _Block:
    last = _Block()
    for part in reversed(parts):
        if last.frames < block:
            last = last.joined(part)
    return last


def _figures(
    first: _Block,
    last: _Block | None,
    loops: _Loops,
    steps: dict[bool, list],
    longest: int,
    num_frames: int,
    cuts: int,
    curves: dict[str, list[float]],
) -> Consistency:
    assert num_frames > 0, "no frames"
    inner, across = (steps[kind][0] / max(steps[kind][1], 1) for kind in (False, True))
    score, period = loops.best()
    num_steps = steps[False][1] + steps[True][1]
    return Consistency(
        num_frames=num_frames,
        mean_step=(steps[False][0] + steps[True][0]) / num_steps if num_steps else None,
        cuts=cuts,
        seam_ratio=across / max(inner, 1e-6) if steps[True][1] else None,
        colour_drift=None if last is None else float(np.linalg.norm(last.mean(last.colour) - first.mean(first.colour))),
        contrast_ratio=None if last is None else last.mean(last.contrast) / max(first.mean(first.contrast), 1e-6),
        sharpness_ratio=None if last is None else last.mean(last.sharpness) / max(first.mean(first.sharpness), 1e-6),
        step_ratio=None if last is None else last.mean_step / max(first.mean_step, 1e-6),
        longest_freeze=longest,
        loop_score=score,
        loop_period=period,
        curves=curves,
    )
