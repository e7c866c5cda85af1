"""A sampler whose frames are known: cheap, and any mistake in a restart changes all later frames."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtake.sampler import Chunk
from longtake.video import durable
from longtake.video.formats import FORMATS
from longtake.video.output import Output, Target, make_target
from longtake.video.sink import Sink

from ..forked import in_child

HEIGHT, WIDTH = 16, 12
NAMES = [f"a{row.ending}" if row.ending else "frames" for row in FORMATS.values()]
"""An output of every format."""


def picture(frame: int, value: int) -> np.ndarray:
    """A frame with a moving bar; `value` is the state of the generator that made it."""
    image = np.full((HEIGHT, WIDTH, 3), value % 256, np.uint8)
    image[:, frame % WIDTH] = (255, 10, 60)
    image[frame % HEIGHT, :, 1] = value // 256 % 256
    return image


@dataclass(frozen=True, kw_only=True)
class Run:
    """One command: the same settings, whenever it is given."""

    path: Path
    lengths: Sequence[int] = (1, 3, 7, 0)
    total: Any = 44
    segment: int = 8
    settings: tuple[tuple[str, Any], ...] = (("seed", 7),)
    fps: float = 8.0
    scale: int = 2
    comment: str = "a red car"
    overwrite: bool = False
    audio: str | None = None

    def open(self) -> Sink:
        """Open the output."""
        return Sink(self.target())

    def target(self) -> Target:
        """What the command writes."""
        return make_target(
            Output(
                path=self.path,
                crf=20,
                scale=self.scale,
                segment=self.segment,
                overwrite=self.overwrite,
                audio=self.audio,
            ),
            settings=dict(self.settings),
            fps=self.fps,
            total=self.total,
            size=(HEIGHT, WIDTH),
            comment=self.comment,
        )

    def chunks(self, sink: Sink) -> Iterator[Chunk]:
        """Make what is still missing, in chunks whose lengths come round in turn, 0 among them."""
        frame, turn, value = 0, 0, 1
        if sink.restart is not None:
            assert sink.restart.next_frame == int(sink.restart.state["frame"])
            frame, turn, value = (int(sink.restart.state[name]) for name in ("frame", "turn", "value"))
        while frame < self.total:
            images = np.empty((0, HEIGHT, WIDTH, 3), np.uint8)
            start = frame
            for _ in range(min(self.lengths[turn % len(self.lengths)], self.total - frame)):
                images = np.concatenate([images, picture(frame, value)[None]])
                frame, value = frame + 1, value * 1103515245 % 2**31
            turn += 1
            state = {"frame": torch.tensor(frame), "turn": torch.tensor(turn), "value": torch.tensor(value)}
            yield Chunk(start=start, frames=images, state=lambda state=state: state)

    def finish(self) -> None:
        """Do the whole command."""
        with self.open() as sink:
            if not sink.finished:
                for chunk in self.chunks(sink):
                    sink.append(chunk)
                sink.finish()

    def output(self) -> dict[str, bytes]:
        """Every byte of the output, by file name."""
        files = sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]
        return {file.name: file.read_bytes() for file in files}

    def elsewhere(self, name: str) -> "Run":
        """The same command in another folder, which is created."""
        folder = self.path.parent / name
        folder.mkdir()
        return replace(self, path=folder / self.path.name)

    def but(self, **changes: Any) -> "Run":
        """The command with other settings."""
        return replace(self, **changes)

    def truth(self, num_frames: int | None = None) -> np.ndarray:
        """The frames that the finished output holds, before they are enlarged."""
        value, images = 1, []
        for frame in range(self.total if num_frames is None else num_frames):
            images.append(picture(frame, value))
            value = value * 1103515245 % 2**31
        return np.stack(images)

    def killed_at(self, point: str, nth: int) -> int:
        """Give the command to a process that kills itself at a point; return the signal that ended it, else 0."""

        def command() -> None:
            durable.reach = at_point(point, nth, lambda: os.kill(os.getpid(), signal.SIGKILL))
            self.finish()

        return in_child(command)


def at_point(point: str, nth: int, action: Callable[[], None]) -> Callable[[str], None]:
    """Return a `reach` that does something when a point is reached for the nth time."""
    counter = count(1)

    def reach(name: str) -> None:
        if name == point and next(counter) == nth:
            action()

    return reach


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Run]:
    """Return a function that makes a command which writes a file or folder of this name."""
    return lambda name="a.mp4", **settings: Run(path=tmp_path / name, **settings)


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets an error happen when a point is reached for the nth time."""

    def plan(point: str, nth: int, error: BaseException) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr(durable, "reach", at_point(point, nth, fail))

    return plan


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip fsync, which only matters when the power fails and takes most of the time of these tests."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
