"""What a person sees while a video is made, on standard error: a live bar in a terminal, else a line now and then."""

import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from longtake.apps.shown import duration, pace, say, size
from longtake.machine import memory_now
from longtake.request import PromptTimeline
from longtake.words import counted, plain

# Long enough to even out chunks, short enough to follow a machine that changes its pace.
PACE_SECONDS = 30.0
LINE_SECONDS = 10.0


class Pace:
    """Frames per second over the last half minute."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def add(self, frames: int, now: float) -> None:
        """Note that so many frames exist at a time in seconds."""
        self._marks.append((now, frames))
        while len(self._marks) > 2 and now - self._marks[1][0] > PACE_SECONDS:
            self._marks.popleft()

    @property
    def rate(self) -> float:
        """Frames per second; 0 while that is not known."""
        (begin, first), (end, last) = self._marks[0], self._marks[-1]
        return (last - first) / (end - begin) if end > begin else 0.0


class Display:
    """Shows how far a run is; use it in `with`."""

    def __init__(self, prompts: PromptTimeline, frames: int | None) -> None:
        self._prompts, self._total = prompts, frames
        self._console = Console(stderr=True, highlight=False)
        self._live = self._console.is_terminal
        self._pace = Pace()
        self._line_at = 0.0
        self._progress = Progress(
            BarColumn(bar_width=24),
            # What a prompt says is no markup.
            TextColumn("{task.fields[figures]}", markup=False),
            TextColumn("{task.description}", style="dim", markup=False),
            console=self._console,
            transient=True,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task("starting", total=frames, figures="", visible=self._live)

    def __enter__(self) -> Self:
        """Start the bar, in a terminal."""
        if self._live:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away; the lines stay."""
        if self._live:
            self._progress.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self._live:
            self._console.print(Text(plain(line)))
        else:
            say(line)

    def show(self, frames: int, doing: str = "") -> None:
        """Show that so many frames exist, and what goes on until there are more."""
        now = time.monotonic()
        self._pace.add(frames, now)
        figures = self.figures(frames, doing)
        if self._live:
            prompt = plain(self._prompts.texts[self._prompts.at(frames)])
            shown = prompt if len(prompt) <= 32 else prompt[:29] + "..."
            self._progress.update(self._task, completed=frames, description=shown, figures=figures)
        elif now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            self.say(f"{figures}; {self._prompts.texts[self._prompts.at(frames)]}")

    def figures(self, frames: int, doing: str = "") -> str:
        """Return frames made, pace, time left and memory in words; in place of a pace that is 0, what goes on."""
        parts = [counted(frames, "frame") if self._total is None else f"{frames}/{counted(self._total, 'frame')}"]
        rate = self._pace.rate
        if rate:
            parts.append(pace(rate))
            if self._total is not None:
                parts.append(f"{duration((self._total - frames) / rate)} left")
        elif doing or not frames:
            parts.append(doing or "warming up")
        return ", ".join([*parts, size(memory_now())])
