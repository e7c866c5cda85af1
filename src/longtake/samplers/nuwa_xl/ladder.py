"""The tree of NUWA-XL by index arithmetic: which frames every call of the network makes, and on whose it waits.

A call at level 1 makes frames far apart; every call below fills the gap between two neighbouring frames of one call
above (Yin et al., 2023, arXiv 2303.12346, section 3.3). A level of calls of L frames multiplies the density by L - 1.
Nothing here is as long as the video, so that a million frames cost as little as a hundred.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from longtake.errors import InputError
from longtake.request import PromptTimeline

Fit = Literal["cut", "stretch"]


class Node(NamedTuple):
    """A call of the network: number `index` from the left among those of a level; level 1 is the coarsest."""

    level: int
    index: int


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """A tree, or a row of trees of which each begins with the last frame of the one before."""

    lengths: tuple[int, ...]
    """Frames of a call at every level, coarsest first; each at least 2."""
    frames: int | None
    """Frames of the video; calls that only make later ones are left out. None has no end."""

    @property
    def depth(self) -> int:
        """Return the number of levels."""
        return len(self.lengths)

    def stride(self, level: int) -> int:
        """Return the distance between neighbouring frames of a call at a level."""
        stride = 1
        for length in self.lengths[level:]:
            stride *= length - 1
        return stride

    def span(self, level: int) -> int:
        """Return the distance from the first frame of a call at a level to its last."""
        return self.stride(level) * (self.lengths[level - 1] - 1)

    def window(self, node: Node) -> range:
        """Return the frames of a call, those that it is given included."""
        start = node.index * self.span(node.level)
        return range(start, start + self.span(node.level) + 1, self.stride(node.level))

    def parent(self, node: Node) -> Node | None:
        """Return the call that has this one's given frames: the one above, or the tree before; None for the first."""
        if node.level > 1:
            return Node(node.level - 1, node.index // (self.lengths[node.level - 2] - 1))
        return Node(1, node.index - 1) if node.index else None

    def given(self, node: Node) -> range:
        """Return the places of the given frames within the window of the parent; none for the first call of all."""
        if node.level > 1:
            place = node.index % (self.lengths[node.level - 2] - 1)
            return range(place, place + 2)
        length = self.lengths[0]
        return range(length - 1, length) if node.index else range(0)

    def makes(self, node: Node) -> range:
        """Return the places of a call's window that it makes itself."""
        length = self.lengths[node.level - 1]
        return range(1, length - 1) if node.level > 1 else range(1 if node.index else 0, length)

    def owner(self, frame: int) -> Node:
        """Return the call that makes a frame."""
        level = next(level for level in range(1, self.depth + 1) if frame % self.stride(level) == 0)
        # At level 1 a tree makes its last frame, which is the first of the next one; below, owned frames lie inside.
        return Node(level, max(0, frame - 1) // self.span(level))

    def makers(self, level: int, frames: range) -> range:
        """Return the indices of the calls at a level that make any of these consecutive frames."""
        stride, span = self.stride(level), self.span(level)
        first, last = -(-frames.start // stride) * stride, (frames.stop - 1) // stride * stride
        if level > 1:
            # What lies on the border of two calls is given to both.
            first, last = first + stride * (first % span == 0), last - stride * (last % span == 0)
        return range(0) if first > last else range(max(0, first - 1) // span, max(0, last - 1) // span + 1)

    def covers(self, node: Node, frames: range) -> bool:
        """Return whether a call, or one that waits for it, makes any of these consecutive frames."""
        if not frames:
            return False
        start = node.index * self.span(node.level)
        if node.level == 1:
            # Every later tree waits for this one.
            return frames[-1] > start or not node.index
        return frames[0] < start + self.span(node.level) and frames[-1] > start

    def children(self, node: Node, frames: range) -> Iterator[Node]:
        """Yield the calls that wait for this one and are needed for these consecutive frames, left to right."""
        if node.level < self.depth:
            size = self.lengths[node.level - 1] - 1
            span = self.span(node.level + 1)
            # Of a hundred thousand siblings only those that may be needed are looked at.
            first = max(node.index * size, frames[0] // span if frames else 0)
            last = min(node.index * size + size - 1, frames[-1] // span if frames else 0)
            for index in range(first, last + 1):
                if self.covers(child := Node(node.level + 1, index), frames):
                    yield child
        if node.level == 1 and self.covers(after := Node(1, node.index + 1), frames):
            yield after

    def needed(self, level: int, frames: range) -> range:
        """Return the indices of the calls at a level that these consecutive frames take: those that make them, and
        those that are waited for."""
        if not frames:
            return range(0)
        span = self.span(level)
        last = (frames[-1] - 1) // span
        if level == 1:
            return range(1 + max(0, last))
        # A frame on the border of two calls is inside neither.
        return range(frames[0] // span, last + 1)

    def num_needed(self, level: int, frames: range) -> int:
        """Return how many calls at a level these consecutive frames take."""
        return len(self.needed(level, frames))


@dataclass(frozen=True, kw_only=True)
class Change:
    """A story told otherwise on the same tree: which calls of the network that costs, and which frames stay.

    A frame whose prompt is the same as before stays as it was, bit for bit. A call that makes others, too, is shown
    those that stay as known frames, wherever in its window they are.
    """

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


def fitted_ladder(length: int, frames: int | None, depth: int | None, fit: Fit) -> Ladder:
    """Return the tree for a video, with calls of `length` frames.

    `depth` None is the fewest levels that hold all frames in one tree; fewer make a row of trees. "cut" leaves out what
    lies beyond the end; "stretch" also takes frames off the first call, so that its last lies as near the end as can
    be. Raises InputError for lengths, depths and fits that make no tree.
    """
    if length < 3:
        raise InputError(f"a window of {length} frames has none between its ends; NUWA-XL needs 3 or more")
    if frames is None and depth is None:
        raise InputError(
            "an endless video needs a number of levels, then trees follow each other; set depth, or frames"
        )
    if frames is None and fit == "stretch":
        raise InputError("stretch has no effect on an endless video; leave fit out")
    if depth is not None and not 1 <= depth <= 12:
        raise InputError(f"depth is {depth}; it must be 1 to 12")
    step = length - 1
    if depth is not None and frames is not None and fit == "stretch" and frames - 1 > step**depth:
        raise InputError("stretch has no effect where trees follow each other; leave fit out, or give a larger depth")
    if depth is None:
        depth = next(depth for depth in range(1, 64) if step**depth + 1 >= (frames or 0))
    first = length
    if fit == "stretch" and frames is not None and depth > 1:
        first = min(length, max(2, 1 + -(-(frames - 1) // step ** (depth - 1))))
    return Ladder(lengths=(first, *[length] * (depth - 1)), frames=frames)


def ladder_between(keyframes: int, length: int, frames: int | None) -> Ladder:
    """Return the tree whose first level is there already: so many frames, evenly spread, 2 or more.

    It has the fewest levels of calls of `length` frames that fill the gaps. Raises InputError where a keyframe would
    lie after the end, or the end after the last one.
    """
    step, depth = length - 1, 1
    while frames is not None and (keyframes - 1) * step**depth < frames - 1:
        depth += 1
    gap = step**depth
    if frames is None or frames - 1 <= (keyframes - 2) * gap:
        shorter, longer = (f"{(keyframes - 2) * step**n + 2} to {(keyframes - 1) * step**n + 1}" for n in (1, 2))
        raise InputError(
            f"{keyframes} keyframes make {shorter} frames with one level of calls between them, {longer} with two; "
            "ask for as many, or give other keyframes"
        )
    return Ladder(lengths=(keyframes, *[length] * depth), frames=frames)
