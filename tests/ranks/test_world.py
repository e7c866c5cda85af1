"""Every exchange between processes, against what one process finds in its own tensors."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import RanksError
from longtake.ranks.world import ALONE, Ask, Group, World

SIZES = (1, 2, 3, 4)
Lists = list[list[int]]


def whole(num_frames: int, part: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (2, frames, 3), known on every rank."""
    return torch.randn(2, num_frames, 3, generator=torch.Generator().manual_seed(part)).to(dtype)


def fetched(world: World, held: Lists, wanted: Lists, parts: int) -> tuple[list[Tensor], int, int]:
    """Fetch from `parts` tensors; return what came, and the messages and bytes it took."""
    num_frames = max(frame for frames in held for frame in frames) + 1
    mine = [whole(num_frames, part)[:, held[world.rank]] for part in range(parts)]
    before = (world.all.traffic.messages, world.all.traffic.bytes)
    finish = world.all.fetch(mine, 1, held, wanted)
    got = finish()
    return got, world.all.traffic.messages - before[0], world.all.traffic.bytes - before[1]


def several_fetches(world: World, cases: list[tuple[Lists, Lists, int]]) -> list[Any]:
    return [fetched(world, *case) for case in cases]


def clips(lengths: Sequence[int], size: int) -> Lists:
    """Give clips of these lengths to the ranks, neighbours to neighbours, as evenly as their number allows."""
    held: Lists = [[] for _ in range(size)]
    start = 0
    for clip, length in enumerate(lengths):
        held[clip * size // len(lengths)] += range(start, start + length)
        start += length
    return held


def with_padding(held: Lists, padding: int) -> Lists:
    """Want what is held and so many frames on both sides, as far as there are any."""
    last = max(frame for frames in held for frame in frames)
    return [
        list(range(max(frames[0] - padding, 0), min(frames[-1] + padding, last) + 1)) if frames else []
        for frames in held
    ]


def cases_for(size: int) -> list[tuple[Lists, Lists, int]]:
    unequal = clips([5, 2, 7, 3], size)
    tiny = clips([1, 2, 1, 1, 2, 1, 1, 1], size)
    cases = [
        (unequal, with_padding(unequal, 2), 1),
        (unequal, with_padding(unequal, 0), 2),
        (unequal, [[] for _ in range(size)], 2),
        # Farther than the neighbour: the next clips are shorter than the padding.
        (tiny, with_padding(tiny, 6), 2),
        # Only the neighbours' frames, and only what is far away.
        (unequal, [[f for f in range(17) if f not in frames][:3] for frames in unequal], 1),
        (unequal, [list(range(16, -1, -1)) if rank == 0 else [0] for rank in range(size)], 3),
    ]
    for seed in range(8):
        chance = random.Random(seed)
        frames = chance.sample(range(20), 20)
        cuts = sorted(chance.sample(range(21), size - 1))
        held = [frames[start:stop] for start, stop in zip([0, *cuts], [*cuts, 20], strict=True)]
        wanted = [chance.sample(range(20), chance.randrange(20)) for _ in range(size)]
        cases.append((held, wanted, chance.choice((1, 2, 3))))
    return cases


@pytest.mark.parametrize("size", SIZES)
def test_fetched_frames_are_those_of_the_whole_video_in_the_order_wanted(ranks: Any, size: int) -> None:
    cases = cases_for(size)
    answers = ranks.run(size, several_fetches, cases)
    for number, (held, wanted, parts) in enumerate(cases):
        num_frames = max(frame for frames in held for frame in frames) + 1
        for rank in range(size):
            got, messages, sent = answers[rank][number]
            assert len(got) == parts
            for part in range(parts):
                assert torch.equal(got[part], whole(num_frames, part)[:, wanted[rank]]), (number, rank)
            out = [[f for f in wanted[peer] if f in held[rank]] if peer != rank else [] for peer in range(size)]
            assert messages == sum(bool(frames) for frames in out)
            assert sent == sum(map(len, out)) * parts * 2 * 3 * 4


def two_at_once(world: World) -> tuple[list[Tensor], list[Tensor]]:
    """Ask twice before the first answer is waited for, as work that overlaps its messages does."""
    held = [[rank] for rank in range(world.size)]
    after = [[(rank + 1) % world.size] for rank in range(world.size)]
    before = [[(rank - 1) % world.size] for rank in range(world.size)]
    mine = [torch.full((1, 2), float(world.rank))]
    first, second = world.all.fetch(mine, 0, held, after), world.all.fetch(mine, 0, held, before)
    return first(), second()


@pytest.mark.parametrize("size", SIZES)
def test_two_fetches_may_be_under_way(ranks: Any, size: int) -> None:
    for rank, (after, before) in enumerate(ranks.run(size, two_at_once)):
        assert after[0].tolist() == [[float((rank + 1) % size)] * 2]
        assert before[0].tolist() == [[float((rank - 1) % size)] * 2]


KINDS = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8)


def gathered(world: World) -> list[Tensor]:
    tensors = [torch.arange(6).view(3, 2).mT * (1 + world.rank) for _ in KINDS]
    counts = world.all.gather(torch.tensor(world.rank))
    return [counts, *(world.all.gather(tensor.to(kind)) for tensor, kind in zip(tensors, KINDS, strict=True))]


@pytest.mark.parametrize("size", SIZES)
def test_gathered_tensors_stand_in_the_order_of_ranks(ranks: Any, size: int) -> None:
    for answer in ranks.run(size, gathered):
        counts, *tensors = answer
        assert counts.tolist() == list(range(size))
        for tensor, kind in zip(tensors, KINDS, strict=True):
            expected = torch.stack([torch.arange(6).view(3, 2).mT * (1 + rank) for rank in range(size)])
            assert tensor.dtype == kind and torch.equal(tensor, expected.to(kind))


def moments_of(world: World, offset: float, counts: list[int]) -> tuple[Tensor, Tensor, list[Tensor], int]:
    """Return the moments of a sample (rows, groups, values) whose rows the ranks hold in unequal shares, and what
    travels with them: a bfloat16 and the number of the rank before."""
    start = sum(counts[: world.rank])
    mine = sample(offset, counts)[start : start + counts[world.rank]]
    variance, mean = torch.var_mean(mine, dim=2, correction=0)
    before = world.all.traffic.messages
    held, wanted = [[rank] for rank in range(len(counts))], [[max(rank - 1, 0)] for rank in range(len(counts))]
    asks = [Ask([torch.tensor([world.rank], dtype=kind)], 0, held, wanted) for kind in (torch.bfloat16, torch.uint8)]
    mean, variance, answers = world.all.moments(mean, variance, counts, *asks)
    return mean, variance, [part for (part,) in answers], world.all.traffic.messages - before


def sample(offset: float, counts: Sequence[int]) -> Tensor:
    return offset + torch.randn(sum(counts), 4, 30, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_moments_of_shares_are_those_of_the_whole_to_the_last_bit(ranks: Any, size: int, offset: float) -> None:
    counts = [5, 1, 30, 9][:size]
    values = sample(offset, counts).transpose(0, 1).flatten(1).double()
    whole_mean, whole_variance, *_ = moments_of(World(), offset, [sum(counts)])
    for rank, (mean, variance, others, messages) in enumerate(ranks.run(size, moments_of, offset, counts)):
        torch.testing.assert_close(mean, values.mean(1), rtol=1e-6, atol=1e-6)
        # Sums of squares would have lost every digit of the variance at an offset of 1000.
        torch.testing.assert_close(variance, values.var(1, correction=0), rtol=2e-4, atol=0)
        assert torch.equal(mean, whole_mean) and torch.equal(variance, whole_variance)
        assert [part.dtype for part in others] == [torch.bfloat16, torch.uint8]
        assert all(part.tolist() == [max(rank - 1, 0)] for part in others)
        assert messages == size - 1


STATE = {
    "frames": torch.randn(2, 5, generator=torch.Generator().manual_seed(1)),
    "iteration": torch.tensor(7),
    "nothing": torch.zeros(0, 3),
    "half": torch.ones(2, 2, dtype=torch.bfloat16),
    "kept": torch.tensor([True, False]),
}


def shared(world: World) -> list[dict[str, Tensor] | None]:
    mine = STATE if world.rank == 0 else None
    return [world.all.share(mine, torch.device("cpu")), world.all.share(None, torch.device("cpu"))]


@pytest.mark.parametrize("size", SIZES)
def test_everybody_gets_the_tensors_of_rank_0(ranks: Any, size: int) -> None:
    for state, nothing in ranks.run(size, shared):
        assert nothing is None
        assert list(state) == list(STATE)
        for name, tensor in STATE.items():
            assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor)


TEXTS = ("", "a", "many words " * 50, "\u00e9\u4e00")


def said(world: World) -> list[str]:
    return world.all.say(TEXTS[world.rank])


@pytest.mark.parametrize("size", SIZES)
def test_everybody_hears_everybody(ranks: Any, size: int) -> None:
    assert ranks.run(size, said) == [list(TEXTS[:size])] * size


def mesh(world: World) -> tuple[list[int], list[str], list[str]]:
    name = str(world.rank)
    groups = [world.clip.rank, world.clip.size, world.cfg.rank, world.cfg.size, world.all.rank, world.all.size]
    return groups, world.clip.say(name), world.cfg.say(name)


@pytest.mark.parametrize("size", [2, 4])
def test_the_halves_of_guidance_sit_side_by_side(ranks: Any, size: int) -> None:
    for rank, (groups, same_branch, same_clips) in enumerate(ranks.run(size, mesh, cfg=2)):
        assert groups == [rank // 2, size // 2, rank % 2, 2, rank, size]
        assert same_branch == [str(peer) for peer in range(rank % 2, size, 2)]
        assert same_clips == [str(rank // 2 * 2), str(rank // 2 * 2 + 1)]


@pytest.mark.parametrize("size", SIZES)
def test_without_split_guidance_everybody_shares_the_clips(ranks: Any, size: int) -> None:
    for rank, (groups, same_branch, same_clips) in enumerate(ranks.run(size, mesh)):
        assert groups == [rank, size, 0, 1, rank, size]
        assert same_branch == [str(peer) for peer in range(size)]
        assert same_clips == [str(rank)]


def fetch_in_columns(world: World) -> list[Tensor]:
    """Exchange along the clips, where the ranks of the group are not those of the world."""
    return world.clip.fetch([torch.tensor([10 * world.rank])], 0, [[0], [1]], [[1, 0], [0, 1]])()


def test_groups_have_ranks_of_their_own(ranks: Any) -> None:
    got = [answer[0].tolist() for answer in ranks.run(4, fetch_in_columns, cfg=2)]
    assert got == [[20, 0], [30, 10], [0, 20], [10, 30]]


def test_a_process_that_is_alone_sends_nothing() -> None:
    group = ALONE.all
    assert (ALONE.rank, ALONE.size, group.size) == (0, 1, 1)
    (got,) = group.fetch([whole(6, 0)], 1, [range(6)], [[4, 2]])()
    assert torch.equal(got, whole(6, 0)[:, [4, 2]])
    assert group.traffic.messages == group.traffic.bytes == 0


def leave(world: World) -> list[str]:
    if world.rank == world.size - 1:
        raise ValueError("a rank goes")
    with pytest.raises(RanksError, match="another process"):
        exchange(world.all)()
    raise ValueError("the others know")


def exchange(group: Group) -> Callable[[], list[Tensor]]:
    held = [[rank] for rank in range(group.size)]
    return group.fetch([torch.zeros(1)], 0, held, [list(range(group.size))] * group.size)


@pytest.mark.parametrize("size", [2, 4])
def test_who_loses_a_process_is_told(ranks: Any, size: int) -> None:
    with pytest.raises(AssertionError) as caught:
        ranks.run(size, leave)
    assert str(caught.value).count("ValueError: the others know") == size - 1
