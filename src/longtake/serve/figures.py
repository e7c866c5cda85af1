"""What a video shows, in figures, while it is made: measured piece by piece, once somebody looks."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.errors import LongtakeError
from longtake.metrics.consistency import looks_of
from longtake.serve.stream import Growth, Piece, frames_of, pieces
from longtake.steer.video import find_video

MOST = 64
"""Pieces that are measured at once."""
RETRY_SECONDS = 5.0


class Figures:
    """Rows of figures, one for every piece of a video's file."""

    def __init__(self, path: Path) -> None:
        self._path, self._growth, self._lock = path, Growth(path), threading.Lock()
        self._seams: frozenset[int] | None = None
        self._asked = 0.0
        self._forget()

    def read(self, most: int = MOST) -> bool:
        """Measure what has come since the last time, up to so many pieces of it; return whether there is more."""
        with self._lock, suppress(FileNotFoundError):
            now = self._growth.now()
            if now.bytes < self._place:
                # It was begun anew.
                self._forget()
            for _, piece in zip(range(most), pieces(self._path, self._place, now.bytes, self._frames), strict=False):
                self._measure(piece)
                self._place, self._frames = piece.stop, piece.first + piece.frames
            return self._place < now.bytes
        return False

    def since(self, frame: int) -> Sequence[dict[str, Any]]:
        """Return the rows of the pieces that begin at a frame or later.

        frame: the first of the piece; steps: mean absolute change from each frame to the next, in grey levels, the
        first of them from the piece before; seams: those of its frames at which one window meets another, None where
        that is not known yet; colour: the mean red, green and blue; drift, contrast and sharpness: distance of the mean
        colour from that of the first piece, in grey levels, and ratios to the first piece.
        """
        seams, rows = self._known_seams(), [row for row in self._rows if row["frame"] >= frame]
        return [{**row, "seams": None if seams is None else _among(row, seams)} for row in rows]

    def _forget(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._place = self._frames = 0
        self._first: NDArray[np.float64] | None = None
        self._last: NDArray[np.float32] | None = None

    def _measure(self, piece: Piece) -> None:
        seen, steps = np.zeros(5), list[float | None]()
        for frame in frames_of(self._path, piece):
            pixels = frame.astype(np.float32)
            steps.append(None if self._last is None else round(float(np.abs(pixels - self._last).mean()), 3))
            seen += looks_of(pixels) / piece.frames
            self._last = pixels
        first = self._first = seen if self._first is None else self._first
        self._rows.append(
            {
                "frame": piece.first,
                "steps": steps,
                "colour": [round(float(one), 2) for one in seen[:3]],
                "drift": round(float(np.linalg.norm(seen[:3] - first[:3])), 3),
                "contrast": round(float(seen[3] / max(first[3], 1e-6)), 4),
                "sharpness": round(float(seen[4] / max(first[4], 1e-6)), 4),
            }
        )

    def _known_seams(self) -> frozenset[int] | None:
        if self._seams is None and time.monotonic() - self._asked > RETRY_SECONDS:
            self._asked = time.monotonic()
            # A run that has just begun has no report yet.
            with suppress(LongtakeError):
                video = find_video(self._path)
                if video is not None and video.order.frames is not None:
                    self._seams = frozenset(video.plan.seams(video.order.frames))
        return self._seams


def _among(row: Mapping[str, Any], seams: frozenset[int]) -> list[int]:
    """Return which frames of a row are seams."""
    frames = range(row["frame"], row["frame"] + len(row["steps"]))
    return [frame for frame in frames if frame in seams]
