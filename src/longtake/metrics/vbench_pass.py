"""The arithmetic of VBench's dimensions around their networks, in one reading of a video.

Of a whole video a few numbers a frame are kept; features and pictures those of two clips at most.
"""

from array import array
from collections.abc import Callable, Sequence
from math import isnan, nan
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.data.footage import Frames
from longtake.metrics.consistency import Curve
from longtake.metrics.vbench_networks import Networks, warping_error
from longtake.metrics.video_networks import Rows
from longtake.request import PromptTimeline

CLIP_SECONDS, TEXT_CLIP_SECONDS = 2, 10
"""Length of VBench-Long's clips, and of those whose text is asked for."""
FLOW_FPS = 8
"""Pictures a second between which motion is measured."""
FASTEST = 0.05
"""Share of the pixels whose motion counts."""
VICLIP_FRAMES = 8
"""Frames of a clip that ViCLIP sees."""
BESIDE = ("clip_score", "clip_frame_consistency", "warping_error")
"""What is no dimension of VBench's."""
_TITLES = {"dynamic_degree": "optical flow, the largest 5 %, pixels"}


class Clips:
    """Scores of a video's clips of so many things, one after the other; the last one ends with the video, and what it
    lacks it takes from the one before, as VBench-Long cuts them. A shorter video is one clip."""

    def __init__(self, length: int, score: Callable[[Sequence[Any], int], float]) -> None:
        """`score` takes what is in a clip, and the number of the first."""
        self.scores: list[float] = []
        self.firsts: list[Any] = []
        self._length, self._score, self._count = length, score, 0
        self._before: list[Any] = []
        self._held: list[Any] = []

    def add(self, item: Any) -> None:
        """Take the next one."""
        self._held.append(item)
        self._count += 1
        if len(self._held) == self._length:
            self._store(self._held)
            self._before, self._held = self._held, []

    def finish(self) -> None:
        """Score the last clip, where there is a rest."""
        if self._held:
            self._store([*self._before, *self._held][-self._length :])

    def _store(self, items: Sequence[Any]) -> None:
        self.firsts.append(items[0])
        self.scores.append(self._score(items, self._count - len(items)))


def along(rows: Sequence[Rows]) -> NDArray[np.float64]:
    """Return of every row but the first the mean of its cosines with the one before and with the first, none below 0;
    rows have length 1."""
    seen = np.stack(rows).astype(np.float64)
    return (np.maximum((seen[1:] * seen[:-1]).sum(1), 0) + np.maximum(seen[1:] @ seen[0], 0)) / 2


def largest_motion(flow: Rows) -> float:
    """Return the mean length of the longest 5 % of a flow, (2, height, width), in pixels."""
    lengths = np.sort(np.hypot(*flow.astype(np.float64)).ravel())[::-1]
    return float(lengths[: max(1, int(len(lengths) * FASTEST))].mean())


def moves(motions: Sequence[float], side: int) -> float:
    """Return 1 where enough of these motions, those between all pictures of a video whose short side is `side`, are
    large, else 0."""
    large = sum(motion > 6 * side / 256 for motion in motions)
    return float(large >= round(4 * (len(motions) + 1) / 16))


def middles(frames: int, parts: int) -> list[int]:
    """Return the middle frame of equal parts of a clip; of a shorter one all, and the last again."""
    borders = np.linspace(0, frames, min(parts, frames) + 1).astype(int)
    found = [int(start + stop - 1) // 2 for start, stop in zip(borders, borders[1:], strict=False)]
    return found + found[-1:] * (parts - len(found))


class _Series:
    """A number of every frame, None where it has none; of a clip the first ones, which look back at frames before it,
    do not count."""

    def __init__(self, length: int, *, looks_back: int = 0, score: Callable[[Sequence[float]], float] = fmean) -> None:
        self.curve, self.clips = Curve(), Clips(length, lambda values, _: self._of(values))
        self._all, self._looks_back, self._score = array("d"), looks_back, score

    def add(self, value: float | None) -> None:
        self._all.append(nan if value is None else value)
        self.clips.add(self._all[-1])
        if value is not None:
            self.curve.add(value)

    def _of(self, values: Sequence[float]) -> float:
        kept = [value for value in values[self._looks_back :] if not isnan(value)]
        return self._score(kept) if kept else nan

    @property
    def whole(self) -> float:
        return self._of(self._all)


class _Consistency(_Series):
    """Rows of features in place of numbers."""

    def __init__(self, length: int) -> None:
        super().__init__(length, looks_back=1)
        self.clips = Clips(length, lambda rows, _: _mean(along(rows)))
        self._ends: list[Rows] = []

    def add_row(self, row: Rows) -> float | None:
        """Take the features of the next frame; return their cosine with those before."""
        row = row / max(float(np.linalg.norm(row)), 1e-12)
        before, self._ends = self._ends, [*self._ends[:1], row]
        value = float(along([before[0], before[-1], row])[-1]) if before else nan
        self._all.append(value)
        self.clips.add(row)
        if before:
            self.curve.add(value)
        return float(before[-1] @ row) if before else None


class Pass:
    """One reading of a video."""

    def __init__(self, networks: Networks, told: PromptTimeline | None, fps: float) -> None:
        self._networks, self._told, self._every = networks, told, max(1, round(fps / FLOW_FPS))
        whole = max(1, int(fps))
        self._length, self._count = CLIP_SECONDS * whole, 0
        self._series: dict[str, _Series] = {}
        self._previous = self._even = self._picked = np.empty(0, np.uint8)
        self._texts = Clips(TEXT_CLIP_SECONDS * whole, self._overall)

    def add(self, batch: Frames) -> None:
        """Take consecutive frames."""
        given, rows, scores = self._networks, dict[str, Rows](), dict[str, Rows]()
        if given.dino:
            rows["subject_consistency"] = given.dino(batch)
        if given.clip:
            rows["background_consistency"] = given.clip.pictures(batch)
        if given.aesthetic:
            scores["aesthetic_quality"] = given.aesthetic(batch)[:, 0] / np.float32(10)
        if given.musiq:
            scores["imaging_quality"] = given.musiq(batch)[:, 0] / np.float32(100)
        small = given.viclip.reduced(batch) if given.viclip else ()
        for number in range(len(batch)):
            for name, found in rows.items():
                self._look(name, found[number])
            self._move(batch[number : number + 1])
            for name, found in scores.items():
                self._note(name, float(found[number]))
            for one in small[number : number + 1]:
                self._texts.add(one)
            self._count += 1

    def figures(self) -> dict[str, Any]:
        """Return what was found."""
        for clips in (self._texts, *(series.clips for series in self._series.values())):
            clips.finish()
        whole = {name: series.whole for name, series in self._series.items()}
        if self._networks.viclip and len(self._texts.scores) == 1:
            whole["overall_consistency"] = self._texts.scores[0]
        slow, fast = dict[str, float](), dict[str, float]()
        clips = len(self._series["temporal_flickering"].clips.scores)
        for name, series in self._series.items() if clips > 1 else ():
            if name not in BESIDE:
                slow[name] = _mean([score for score in series.clips.scores if not isnan(score)])
            if isinstance(series, _Consistency):
                fast[name] = _mean(along(series.clips.firsts))
        if len(self._texts.scores) > 1:
            slow["overall_consistency"] = _mean(self._texts.scores)
        return {
            "num_frames": self._count,
            **{name: None if isnan(value) else value for name, value in whole.items()},
            "clips": clips,
            "slow": {name: value for name, value in slow.items() if not isnan(value)} or None,
            "fast": fast or None,
            "curves": {_TITLES.get(name, name.replace("_", " ")): series.curve.values
                       for name, series in self._series.items() if series.curve.values},
        }  # fmt: skip

    def _look(self, name: str, row: Rows) -> None:
        series = self._series.setdefault(name, _Consistency(self._length))
        assert isinstance(series, _Consistency)
        beside = series.add_row(row)
        if name == "background_consistency":
            self._note("clip_frame_consistency", beside, looks_back=1)
            if self._told is not None and self._networks.clip is not None:
                said = self._networks.clip.text(self._told.texts[self._told.at(self._count)])
                cosine = float(row @ said / max(np.linalg.norm(row) * np.linalg.norm(said), 1e-12))
                self._note("clip_score", 100 * max(cosine, 0))

    def _move(self, frame: Frames) -> None:
        """Compare a frame, (1, height, width, 3), with those before."""
        given, count = self._networks, self._count
        self._note("temporal_flickering", _alike(self._previous, frame) if count else None, looks_back=1)
        if given.amt:
            # Every odd frame is made again of its neighbours, in a last clip that begins with an odd one, too.
            made = given.amt(self._even, frame) if count and count % 2 == 0 else None
            self._note("motion_smoothness", None if made is None else _alike(self._previous, made), looks_back=2)
            self._even = self._even if count % 2 else frame
        if given.raft:
            is_picked, motion, error = count % self._every == 0, None, None
            if is_picked and count:
                flow = given.raft(self._picked, frame)
                motion, error = largest_motion(flow), warping_error(self._picked, frame, flow)
            side = min(frame.shape[1:3])
            self._note("dynamic_degree", motion, self._every, lambda motions: moves(motions, side))
            self._note("warping_error", error, self._every)
            self._picked = frame if is_picked else self._picked
        self._previous = frame

    def _note(self, name: str, value: float | None, looks_back: int = 0, score: Callable[..., float] = fmean) -> None:
        if name not in self._series:
            self._series[name] = _Series(self._length, looks_back=looks_back, score=score)
        self._series[name].add(value)

    def _overall(self, frames: Sequence[Frames], start: int) -> float:
        assert self._networks.viclip is not None and self._told is not None
        chosen = np.stack([frames[place] for place in middles(len(frames), VICLIP_FRAMES)])
        return self._networks.viclip.cosine(chosen, self._told.texts[self._told.at(start + len(frames) // 2)])


def try_out(networks: Networks, frame: Frames, told: PromptTimeline | None) -> None:
    """Raise CheckpointError for a network that cannot take a frame, (1, height, width, 3), or makes something else of
    it, before more is read."""
    for read in filter(None, (networks.dino, networks.aesthetic, networks.musiq)):
        read(frame)
    for compare in filter(None, (networks.amt, networks.raft)):
        compare(frame, frame)
    if networks.clip:
        networks.clip.pictures(frame)
    if networks.clip and told is not None:
        networks.clip.text(told.texts[0])
    if networks.viclip and told is not None:
        networks.viclip.cosine(networks.viclip.reduced(frame).repeat(VICLIP_FRAMES, 0), told.texts[0])


def _alike(frame: Frames, other: Frames) -> float:
    """Return 1 less the mean absolute difference of two frames, over 255."""
    return 1 - float(np.abs(frame.astype(np.int16) - other).mean()) / 255


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else nan
