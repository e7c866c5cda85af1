"""A story told otherwise: which frames that changes, which calls of the network it costs, and which frames stay.

A frame whose prompt is the same as in the story before stays as it was there, bit for bit. A call that makes others,
too, is shown those that stay as known frames, wherever in its window they are.
"""

import sys
from dataclasses import dataclass
from itertools import pairwise

from longtake.request import PromptTimeline
from longtake.samplers.nuwa_xl.ladder import Ladder, Node


@dataclass(frozen=True, kw_only=True)
class Change:
    """One story in place of another, on the same tree."""

    ladder: Ladder
    """A single tree."""
    before: PromptTimeline
    now: PromptTimeline

    def at(self, frame: int) -> bool:
        """Return whether a frame has another prompt; those after the end have the prompt of the last one."""
        last = sys.maxsize if self.ladder.frames is None else self.ladder.frames - 1
        now, before = (story.texts[story.at(min(frame, last))] for story in (self.now, self.before))
        return now != before

    def spans(self) -> list[range]:
        """Return the consecutive frames that have another prompt, in order; some may follow each other."""
        starts = {start for story in (self.now, self.before) for start in story.starts}
        inside = sorted(start for start in starts if self.ladder.frames is None or start < self.ladder.frames)
        return [range(*span) for span in pairwise([*inside, sys.maxsize]) if self.at(span[0])]

    def touches(self, node: Node) -> bool:
        """Return whether a frame of a call's window changes."""
        return any(map(self.at, self.ladder.window(node)))

    def is_made(self, node: Node) -> bool:
        """Return whether a call makes a frame that changes; a touched one that does not is only handed another end."""
        window = self.ladder.window(node)
        return any(self.at(window[place]) for place in self.ladder.makes(node))

    def kept(self, node: Node) -> list[int]:
        """Return the places of a touched call's window that it made itself, and that stay; none of any other."""
        window = self.ladder.window(node)
        places = self.ladder.makes(node) if self.touches(node) else ()
        return [place for place in places if not self.at(window[place])]

    def num_made(self, level: int, frames: range) -> int:
        """Return how many of the calls at a level that these consecutive frames take make a frame that changes."""
        needed, count = self.ladder.needed(level, frames), 0
        reached = needed.start
        for span in self.spans():
            makers = self.ladder.makers(level, span)
            start, stop = max(reached, makers.start), min(needed.stop, makers.stop)
            count, reached = count + max(0, stop - start), max(reached, stop)
        return count

    def edges(self) -> set[Node]:
        """Return the calls whose windows may hold both frames that change and frames that stay, and those above."""
        cuts = [cut for span in self.spans() for cut in (span.start, span.stop) if 0 < cut < sys.maxsize]
        levels = range(1, self.ladder.depth + 1)
        return {Node(level, (cut - 1) // self.ladder.span(level)) for cut in cuts for level in levels}
