"""What is found in a finished video of any origin: the figures of metrics, some of its frames, and a copy that is small
enough to play in a page."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from longtake import __version__
from longtake.errors import InputError, LongtakeError, unknown_name
from longtake.lazy import named
from longtake.metrics import METRICS
from longtake.metrics.of_video import DEFAULT_FPS, OfVideo
from longtake.reading import check_file
from longtake.report import Order, read_order, report_path
from longtake.typed import read_typed, read_word
from longtake.video.encoding import Encoding
from longtake.video.formats.mp4 import Mp4
from longtake.video.read import open_video, read_frames, told_seconds

Frames = NDArray[np.uint8]

SHOWN = 12
"""Frames of a video that a page shows as pictures."""
LONGEST, LARGEST = 4096, 6_000_000
"""Frames, and bytes, of a copy that is small enough to play in a page."""
_COUNTS = ("num frames", "cuts", "clips", "switches")
"""Figures that say how much was asked for, not how a video is."""
_NOWHERE = Path("-")
_OF_ONE = ("path", "scale", "track")
"""Options of a metric that say something of one video."""
_SIDE = 256
_FPS = 24
_SEGMENT = 32
_CUT = 0.02
"""Of what a file says that it lasts: what may be missing before it counts as cut off."""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What a page shows of a video."""

    num_frames: int
    width: int
    height: int
    seconds: float | None
    """None where the file does not say its rate."""
    places: list[int]
    """Numbers of the frames that are shown as pictures."""
    pictures: list[Frames]
    copy: bytes | None
    """An MP4 of H.264; None where it would be too large."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished video and what was found in it."""

    path: Path
    label: str
    """What is compared: a sampler, or the name of a file."""
    story: str
    """The prompts: videos of the same ones and of one seed are shown side by side."""
    seed: int | None
    order: Order | None
    """What was asked for, where a report beside the video says it."""
    sha256: str | None
    looks: Looks | None
    """None where no frame can be read."""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By metric."""
    reasons: dict[str, str] = field(default_factory=dict)
    """By metric, why there are no figures of it; under "video" what is wrong with the file."""


def video_metrics(names: str | None) -> dict[str, OfVideo]:
    """Return the metrics of one video of these names, with commas between them, each with its settings behind colons;
    without any, those that are no slower than the video plays. They are of no video yet.

    Raises InputError for names and settings that there are not, and for a metric that is there twice.
    """
    if names is None:
        return {name: kind(path=_NOWHERE) for name, kind in _known().items() if not METRICS[name].slow}
    found = {text: _metric(text) for text in dict.fromkeys(filter(None, map(str.strip, names.split(","))))}
    kinds = [type(metric) for metric in found.values()]
    for text, metric in found.items():
        if kinds.count(type(metric)) > 1:
            raise InputError(f"the metric {text} is there twice with other settings; make a page for each")
    return found


def metric_name(text: str) -> str:
    """Return the name of a metric in the table, from what `video_metrics` calls it."""
    return text.partition(":")[0]


def _known() -> dict[str, type[OfVideo]]:
    return {name: kind for name, row in METRICS.items() if issubclass(kind := named(row.kind), OfVideo)}


def _metric(text: str) -> OfVideo:
    """Return a metric with its settings: "similarity:network=dino.pt:device=cpu"."""
    name, *given = re.split(r":(?=\w+=)", text)
    known = _known()
    if name not in known:
        raise unknown_name("metric of a single video", name, known)
    kind, settings = known[name], dict[str, Any]()
    options = [field.name for field in fields(kind) if field.name not in _OF_ONE]
    for setting in given:
        key, _, value = setting.partition("=")
        if key not in options:
            raise unknown_name(f"setting of {name} on a page", key, options)
        settings[key] = read_word(value)
    return read_typed(kind, {"path": str(_NOWHERE), **settings}, f"--metrics {text}")


def look_into(
    path: Path,
    metrics: Mapping[str, OfVideo],
    *,
    label: str,
    story: str,
    before: Mapping[str, Any] | None = None,
) -> Finished:
    """Read a finished video as far as it goes. `before` is what `as_json` gave of it earlier, whose figures hold where
    neither the file nor the program has changed.

    Raises InputError for a file that is not there; what is wrong inside is said in what is returned.
    """
    check_there(path)
    reasons: dict[str, str] = {}
    order, scale = _order(path, reasons)
    digest = _digest(path)
    looks = _looks(path, scale, (order.output.fps if order else None) or DEFAULT_FPS, reasons)
    figures: dict[str, dict[str, Any]] = {}
    is_same = before is not None and digest is not None and before.get("sha256") == digest
    measured = before.get("figures", {}) if before and is_same and before.get("longtake") == __version__ else {}
    for name, metric in metrics.items() if looks else ():
        # A file that a setting names may have changed under its name.
        if name in measured and metric_name(name) == name:
            figures[name] = measured[name]
            continue
        try:
            figures[name] = _rounded(replace(metric, path=path).judged(_as_far_as_it_goes(path, scale, {}), order))
        except LongtakeError as reason:
            reasons[name] = _why(reason, path)
    seed = order.request.seed if order else None
    return Finished(
        path=path, label=label, story=story, seed=seed, order=order, sha256=digest, looks=looks, figures=figures,
        reasons=reasons,
    )  # fmt: skip


def check_there(path: Path) -> None:
    """Raise InputError for a video that is not there, or is a pipe or a device."""
    if not path.exists():
        raise InputError(f"there is no {path}; give a video file or a folder of numbered PNG files")
    try:
        check_file(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; leave it out") from None


def as_json(video: Finished, content: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what was found as JSON has it, without pictures; `content` is what it was made with."""
    return {
        "longtake": __version__,
        "file": video.path.name,
        "sha256": video.sha256,
        "label": video.label,
        "story": f"{video.story}, seed {video.seed}" if video.story else "",
        "seed": video.seed,
        "frames": video.looks.num_frames if video.looks else 0,
        "order": content,
        "figures": video.figures,
        "reasons": video.reasons,
    }


def numbers(figures: Mapping[str, Any], spoken: Mapping[str, str]) -> dict[str, float]:
    """Return the single numbers among the figures of a metric, by the names that people read."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        several = isinstance(value, Mapping) and name in spoken
        entries = {spoken[name].format(key): one for key, one in value.items()} if several else {name: value}
        for key, one in entries.items():
            if isinstance(one, int | float) and not isinstance(one, bool):
                found[key.replace("_", " ")] = float(one)
    return {name: value for name, value in found.items() if name not in _COUNTS}


def _order(path: Path, reasons: dict[str, str]) -> tuple[Order | None, int]:
    report = report_path(path)
    try:
        order = read_order(str(report)) if report.is_file() else None
    except LongtakeError:
        # A JSON file of another program may lie there, too.
        reasons["video"] = f"{report.name} beside it is no report of a run, so that nothing is known of its prompts"
        order = None
    return order, order.output.scale if order else 1


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures whose curves have four digits: as many as can be drawn."""
    curves = {name: [float(f"{value:.4g}") for value in curve] for name, curve in figures.get("curves", {}).items()}
    return figures | ({"curves": curves} if curves else {})


def _why(reason: LongtakeError, path: Path) -> str:
    """Return what an error says of a video, without its name and what to do about it, which would be another command:
    what holds of several is said in the same words."""
    said = str(reason).partition("; ")[0]
    for name, word in ((report_path(path), "its report"), (path, "it")):
        said = re.sub(rf"(?<!\S){re.escape(str(name))}(?=[\s:,]|$)", word, said)
    return said


def _digest(path: Path) -> str | None:
    if path.is_dir():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _as_far_as_it_goes(path: Path, scale: int, reasons: dict[str, str]) -> Iterator[Frames]:
    """Yield frames up to where the file is damaged, or ends too early, and say so. Raises InputError where there is not
    even a first one."""
    count = 0
    try:
        for batch in read_frames(path, scale=scale):
            yield batch
            count += len(batch)
    except InputError as reason:
        if not count:
            raise
        reasons["video"] = f"it is read up to frame {count} only: {_why(reason, path)}"


def _looks(path: Path, scale: int, fps: float, reasons: dict[str, str]) -> Looks | None:
    """Read a video once from start to end; `fps` holds where the file says nothing."""
    try:
        times, found = _times(path, reasons)
        fps = found or fps
        chosen, copy, shape, count = _Chosen(), None, (0, 0), 0
        for batch in _as_far_as_it_goes(path, scale, reasons):
            if copy is None:
                shape = batch.shape[1:3]
                copy = _Copy(shape, fps)
            for frame in batch:
                chosen.add(frame)
                copy.add(frame, times[count] if times is not None and count < len(times) else count / fps)
                count += 1
    except LongtakeError as reason:
        reasons["video"] = _why(reason, path)
        return None
    if copy is None:
        reasons["video"] = "there is no frame in it"
        return None
    seconds = count / fps if found or path.is_dir() else None
    if seconds and times is not None and count <= len(times):
        seconds = float(times[count - 1] + 1 / fps)
    told = None if path.is_dir() else told_seconds(path)
    if told and seconds and told > seconds + max(2 / fps, _CUT * told):
        reasons["length"] = f"it is cut off: of the {told:.1f} s that it says there are {seconds:.1f}, {count} frames"
    places, pictures = chosen.evenly()
    return Looks(
        num_frames=count, width=shape[1], height=shape[0], seconds=seconds, places=places, pictures=pictures,
        copy=copy.finished(),
    )  # fmt: skip


def _times(path: Path, reasons: dict[str, str]) -> tuple[NDArray[np.float64] | None, float | None]:
    """Return at which second each frame is shown and the frames per second, None where that is not known; say of a rate
    that changes on the way."""
    if path.is_dir():
        return None, None
    try:
        video = open_video(path)
    except InputError:
        # What can be read of it comes out all the same; of most damaged files that is much.
        return None, None
    if video.times is not None and len(video.times) > 2:
        gaps = Counter(np.diff(video.times).round(3).tolist())
        (usual, _), *_ = gaps.most_common()
        least, most = min(gaps), max(gaps)
        if most > 1.5 * usual or least < usual / 1.5:
            reasons["rate"] = f"frames are shown for {least * 1000:.0f} to {most * 1000:.0f} ms each"
    return video.times, video.fps


class _Chosen:
    """Evenly spaced frames of a video whose length is not known: up to four times as many as are shown."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, Frames]] = []
        self._every, self._count = 1, 0

    def add(self, frame: Frames) -> None:
        if self._count % self._every == 0:
            if len(self._kept) == 4 * SHOWN:
                self._kept = self._kept[::2]
                self._every *= 2
            if self._count % self._every == 0:
                self._kept.append((self._count, _reduced(frame, _SIDE)))
        self._count += 1

    def evenly(self) -> tuple[list[int], list[Frames]]:
        """Return numbers and pictures, the first one among them."""
        places = np.linspace(0, len(self._kept) - 1, min(SHOWN, len(self._kept))).round().astype(int)
        chosen = [self._kept[place] for place in places]
        return [number for number, _ in chosen], [picture for _, picture in chosen]


class _Copy:
    """A small copy of a video, of constant rate, as long as it fits into a page."""

    def __init__(self, shape: Sequence[int], fps: float) -> None:
        rate = Fraction(min(fps, _FPS)).limit_denominator(1001)
        height, width = (max(side // 2 * 2, 2) for side in _fitted(shape, _SIDE))
        self._size, self._rate = (height, width), rate
        # Colour is stored at half the size: what is small is stored twice as large.
        scale = 2 if max(shape) <= _SIDE // 2 else 1
        self._format = Mp4(
            Encoding(rate=rate, height=height, width=width, scale=scale, crf=23, segment=_SEGMENT, comment="")
        )
        self._segments: list[bytes] = []
        self._waiting: list[Frames] = []
        self._held: Frames | None = None
        self._count = 0
        self._fits = True

    def add(self, frame: Frames, seconds: float) -> None:
        """Take a frame, and the moment from which it is shown; before it, the one before is repeated."""
        # Time stamps are rounded, in some files to a millisecond.
        while self._held is not None and self._fits and self._count + 0.5 < seconds * self._rate:
            self._append(self._held)
        # What is replaced before its moment has come is never seen in the copy.
        self._held = _reduced(frame, _SIDE, self._size) if self._fits else None

    def _append(self, frame: Frames) -> None:
        self._waiting.append(frame)
        self._count += 1
        if len(self._waiting) == _SEGMENT:
            self._store()

    def _store(self) -> None:
        first = self._count - len(self._waiting)
        self._segments.append(self._format.segment(first, np.stack(self._waiting)))
        self._waiting = []
        self._fits = self._count <= LONGEST and sum(map(len, self._segments)) <= LARGEST

    def finished(self) -> bytes | None:
        """Return the file; None where it would be too large."""
        if self._held is not None:
            self._append(self._held)
        if self._waiting:
            self._store()
        return b"".join(chain([self._format.header(self._count)], self._segments)) if self._fits else None


def _fitted(shape: Sequence[int], side: int) -> tuple[int, int]:
    height, width = shape[:2]
    share = min(1.0, side / max(height, width))
    return max(1, round(height * share)), max(1, round(width * share))


def _reduced(frame: Frames, side: int, size: tuple[int, int] | None = None) -> Frames:
    """Return a frame of at most this side, or of this size."""
    height, width = size or _fitted(frame.shape, side)
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))
