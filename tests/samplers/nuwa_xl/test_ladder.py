"""The tree of NUWA-XL: counts against the paper's and the formulas, everything else against trees listed in full."""

import sys

import pytest

from longtake.errors import InputError
from longtake.samplers.nuwa_xl.ladder import Ladder, Node, fitted_ladder, ladder_between

LADDERS = [
    *(Ladder(lengths=(length,) * depth, frames=None) for length in (3, 5, 8, 16, 17) for depth in (1, 2, 3)),
    Ladder(lengths=(2, 3, 6), frames=None),
    Ladder(lengths=(4, 3, 5), frames=None),
]


def nodes(ladder: Ladder, frames: range) -> list[Node]:
    """Every call that these frames take, by following the tree from its first call."""
    found, waiting = [], [Node(1, 0)]
    while waiting:
        found.append(waiting.pop())
        waiting += ladder.children(found[-1], frames)
    return found


def made(ladder: Ladder, node: Node) -> list[int]:
    """The frames that a call makes, those that it is given left out."""
    window = list(ladder.window(node))
    if node.level > 1:
        return window[1:-1]
    return window[1:] if node.index else window


def identifier(ladder: Ladder) -> str:
    return "x".join(map(str, ladder.lengths))


@pytest.mark.parametrize(("length", "depth"), [(3, 3), (5, 3), (8, 2), (16, 1), (16, 2), (16, 3), (16, 4), (17, 2)])
def test_a_tree_has_as_many_frames_as_the_formula_says(length, depth):
    frames = (length - 1) ** depth + 1
    ladder = fitted_ladder(length, frames, None, "cut")
    assert ladder.depth == depth
    assert ladder.span(1) == frames - 1
    assert [ladder.num_needed(level, range(frames)) for level in range(1, depth + 1)] == [
        (length - 1) ** above for above in range(depth)
    ]
    assert fitted_ladder(length, frames + 1, None, "cut").depth == depth + 1


@pytest.mark.parametrize(
    ("frames", "calls"),
    [
        (16, [1]),
        (226, [1, 15]),
        (256, [1, 2, 17]),
        (1024, [1, 5, 69]),
        (3376, [1, 15, 225]),
        (1_000_000, [1, 2, 20, 297, 4445, 66667]),
    ],
)
def test_the_calls_of_the_papers_lengths(frames, calls):
    ladder = fitted_ladder(16, frames, None, "cut")
    assert [ladder.num_needed(level, range(frames)) for level in range(1, ladder.depth + 1)] == calls


@pytest.mark.parametrize("ladder", LADDERS, ids=identifier)
def test_every_frame_is_made_once_by_its_owner(ladder):
    span = ladder.span(1)
    for num_frames in {1, 2, span, span + 2, 2 * span + 1} if span < 1000 else {span + 1}:
        owners = {}
        for node in nodes(ladder, range(num_frames)):
            for frame in made(ladder, node):
                assert frame not in owners
                owners[frame] = node
        assert set(range(num_frames)) <= set(owners)
        assert all(ladder.owner(frame) == node for frame, node in owners.items())


@pytest.mark.parametrize("ladder", LADDERS, ids=identifier)
def test_given_frames_are_those_of_the_parent(ladder):
    for node in nodes(ladder, range(min(2 * ladder.span(1) + 1, 1000))):
        window, parent = ladder.window(node), ladder.parent(node)
        if parent is None:
            assert node == Node(1, 0) and not ladder.given(node)
            continue
        given = [ladder.window(parent)[place] for place in ladder.given(node)]
        assert given == ([window[0], window[-1]] if node.level > 1 else [window[0]])
        assert node in ladder.children(parent, range(sys.maxsize))


@pytest.mark.parametrize("ladder", [each for each in LADDERS if each.span(1) < 350], ids=identifier)
def test_a_part_takes_the_owners_and_what_these_wait_for(ladder):
    stop = 2 * ladder.span(1) + 1
    for start in range(0, stop, 1 + stop // 9):
        for length in (1, 2, ladder.lengths[-1], stop // 3):
            frames = range(start, min(start + length, stop))
            needed = set()
            for frame in frames:
                node = ladder.owner(frame)
                while node is not None:
                    needed.add(node)
                    node = ladder.parent(node)
            found = nodes(ladder, frames)
            assert set(found) == needed and len(found) == len(needed)
            for level in range(1, ladder.depth + 1):
                assert ladder.num_needed(level, frames) == sum(node.level == level for node in needed)


@pytest.mark.parametrize(
    ("frames", "calls"),
    [
        (range(1688, 1689), 3),
        (range(1000, 1101), 10),
        (range(225, 226), 1),
        (range(15, 16), 2),
        (range(224, 227), 5),
        (range(1024), 75),
        (range(0), 0),
    ],
)
def test_what_a_look_into_the_middle_takes(frames, calls):
    ladder = fitted_ladder(16, 3376, None, "cut")
    assert sum(ladder.num_needed(level, frames) for level in (1, 2, 3)) == calls


@pytest.mark.parametrize("frames", [17, 30, 227, 300, 1024, 3376])
def test_stretch_ends_the_story_with_the_video(frames):
    cut, stretched = (fitted_ladder(16, frames, None, fit) for fit in ("cut", "stretch"))
    assert stretched.depth == cut.depth and stretched.lengths[1:] == cut.lengths[1:]
    assert frames - 1 <= stretched.span(1) < frames - 1 + stretched.stride(1)
    assert [stretched.num_needed(level, range(frames)) for level in (1, 2)] == [
        cut.num_needed(level, range(frames)) for level in (1, 2)
    ]


def test_stretch_leaves_a_single_call_as_it_is():
    assert fitted_ladder(16, 9, None, "stretch").lengths == (16,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((2, 9, None, "cut"), "3 or more"),
        ((16, None, None, "cut"), "endless"),
        ((16, None, 2, "stretch"), "no effect"),
        ((16, 3000, 2, "stretch"), "no effect"),
        ((16, 100, 0, "cut"), "1 to 12"),
        ((16, 100, 13, "cut"), "1 to 12"),
    ],
)
def test_what_makes_no_tree_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        fitted_ladder(*settings)


@pytest.mark.parametrize(
    ("keyframes", "frames", "lengths"),
    [(2, 16, (2, 16)), (6, 76, (6, 16)), (6, 62, (6, 16)), (6, 902, (6, 16, 16)), (2, 17, (2, 16, 16))],
)
def test_keyframes_are_filled_in_between(keyframes, frames, lengths):
    ladder = ladder_between(keyframes, 16, frames)
    assert ladder.lengths == lengths
    assert ladder.window(Node(1, 0))[-2] < frames - 1 <= ladder.window(Node(1, 0))[-1]


@pytest.mark.parametrize("frames", [None, 61, 77, 901])
def test_keyframes_that_the_video_would_not_reach_are_refused(frames):
    with pytest.raises(InputError, match="6 keyframes make 62 to 76 frames .*, 902 to 1126 with two"):
        ladder_between(6, 16, frames)
