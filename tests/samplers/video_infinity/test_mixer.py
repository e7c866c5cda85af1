"""What processes exchange for a network's layers over time: nothing of it may depend on how many there are."""

import importlib.util
from pathlib import Path

import pytest
import torch

from longtake.models.modelscope.model import frame_mixing
from longtake.ranks.world import ALONE
from longtake.samplers.clips import released_global_frames, split_evenly, spread_frames
from longtake.samplers.video_infinity.dual_scope import DualScope, Scope
from longtake.samplers.video_infinity.loop import ClipMixer

# By path, since worker processes load this file by its path as well.
CASES_FILE = Path(__file__).with_name("cases.py")
spec = importlib.util.spec_from_file_location("cases", CASES_FILE)
assert spec and spec.loader
cases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cases)


def network_input(num_frames):
    generator = torch.Generator().manual_seed(num_frames)
    return torch.randn((1, 4, num_frames, 8, 8), generator=generator), torch.randn((1, 5, 16), generator=generator)


@torch.inference_mode()
def mixed_forward(world, num_frames, num_clips, padding, top_k, compat):
    """One rank's frames of the recorded network's output, and what it sent."""
    torch.set_num_threads(1)
    clips = split_evenly(num_frames, num_clips)
    far = released_global_frames(clips, top_k) if compat else spread_frames(num_frames, top_k)
    scope = Scope(total=num_frames, padding=padding, global_frames=far, zeros=compat, repeats=compat)
    mixer = ClipMixer(clips, world.clip, scope, joint_norms=not compat, windowed_blocks=compat)
    mixer.weights = (1.0, 2.0)
    unet, (x, text) = cases.load_unet(), network_input(num_frames)
    with frame_mixing(unet, mixer):
        answer = unet(x[:, :, mixer.frames.start : mixer.frames.stop], 500, text).sample
    return answer, world.clip.traffic.messages, world.clip.traffic.bytes


def joined(parts):
    return torch.cat([part[0] for part in parts], dim=2)


@pytest.mark.parametrize("ranks_", [pytest.param(2, marks=pytest.mark.slow), 3, 4])
@pytest.mark.parametrize(
    ("num_frames", "num_clips", "padding", "top_k"),
    [(16, 4, 4, 4), (14, 5, 3, 3), (13, 4, 0, 5), (13, 4, 9, 0), (12, 12, 5, 20)],
    ids=["even", "unequal clips", "padding 0", "padding beyond a clip, no global frames", "a frame a clip"],
)
def test_exact_does_not_depend_on_the_number_of_processes(num_frames, num_clips, padding, top_k, ranks_, ranks):
    alone, *_ = mixed_forward(ALONE, num_frames, num_clips, padding, top_k, False)
    several = joined(ranks.run(ranks_, mixed_forward, num_frames, num_clips, padding, top_k, False))
    assert (several - alone).abs().max() <= 1e-5 * alone.std()


@pytest.mark.parametrize("ranks_", [pytest.param(2, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(
    ("num_frames", "num_clips", "padding", "top_k"),
    [(24, 6, 8, 8), (12, 6, 0, 4), (12, 3, 3, 0), (12, 4, 11, 5)],
    ids=["padding beyond a clip", "padding 0", "clips shorter than a window's reach", "cut global frames"],
)
def test_compat_does_not_either_given_the_clips(num_frames, num_clips, padding, top_k, ranks_, ranks):
    alone, *_ = mixed_forward(ALONE, num_frames, num_clips, padding, top_k, True)
    several = joined(ranks.run(ranks_, mixed_forward, num_frames, num_clips, padding, top_k, True))
    assert (several - alone).abs().max() <= 2e-5 * alone.std()


@pytest.mark.parametrize("num_clips", [1, 3])
def test_a_scope_that_covers_the_video_is_the_unmodified_network(num_clips):
    x, text = network_input(13)
    with torch.inference_mode():
        plain = cases.load_unet()(x, 500, text).sample
    mixed, *_ = mixed_forward(ALONE, 13, num_clips, 12, 0, False)
    assert (mixed - plain).abs().max() <= 1e-5 * plain.std()


def test_compat_differs_where_the_authors_do():
    """Norms per clip and zeros beyond the ends are no rounding error."""
    compat, *_ = mixed_forward(ALONE, 12, 3, 11, 0, True)
    exact, *_ = mixed_forward(ALONE, 12, 3, 11, 0, False)
    assert (compat - exact).abs().max() > 0.1 * exact.std()


@torch.inference_mode()
def bench_forward(world):
    """The spec's configuration: 48 frames of 16 x 16 on two ranks, p = 8, top_k = 16."""
    torch.set_num_threads(1)
    clips = split_evenly(48, 2)
    far = released_global_frames(clips, 16)
    scope = Scope(total=48, padding=8, global_frames=far, zeros=True, repeats=True)
    mixer = ClipMixer(clips, world.clip, scope, joint_norms=False, windowed_blocks=True)
    x, unet = torch.zeros((1, 4, 24, 16, 16)), cases.load_unet()
    with frame_mixing(unet, mixer):
        unet(x, 500, torch.zeros(1, 5, 16))
    return world.clip.traffic.messages, world.clip.traffic.bytes


def test_messages_and_bytes_of_a_forward(ranks):
    """28 messages and 9.69 MiB are what the released code's exchanges come to when each is packed into one."""
    for messages, sent in ranks.run(2, bench_forward):
        assert messages <= 28
        assert sent <= 9.69 * 2**20


def test_the_cost_of_attention_grows_with_the_length_not_with_its_square():
    def logits(num_frames):
        far = spread_frames(num_frames, 16)
        scope = Scope(total=num_frames, padding=8, global_frames=far, zeros=False, repeats=False)
        blocks = DualScope(scope, range(num_frames)).blocks(range(num_frames), 8)
        return sum(len(block.queries) * (len(block.local) + 16) for block in blocks)

    assert logits(512) <= 2.05 * logits(256)
    assert logits(1024) <= 4.15 * logits(256)


def test_attention_in_blocks_is_attention_with_a_mask():
    """The plain twin: all frames at once under one mask, places beyond the ends as real zero keys."""
    total, padding, far, width = 21, 3, (2, 9, 16), 8
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn((2, total, 2, width), generator=generator, dtype=torch.float64) for _ in range(3))
    for compat in (False, True):
        scope = Scope(total=total, padding=padding, global_frames=far, zeros=compat, repeats=compat, attn_scale=1.3,
                      token_num_scale=True)  # fmt: skip
        mixer = ClipMixer(split_evenly(total, 2), ALONE.clip, scope, joint_norms=True, windowed_blocks=False)
        mixer.weights = (0.5, 1.5)
        expected = plain_dual_scope(query, key, value, scope, 0.5, 1.5)
        torch.testing.assert_close(mixer.attend(key, value)(query), expected, atol=1e-6, rtol=1e-6)


def plain_dual_scope(query, key, value, scope, local_weight, global_weight):
    answers = []
    for frame in range(scope.total):
        places = range(frame - scope.padding, frame + scope.padding + 1)
        seen = [(place, local_weight) for place in places if scope.zeros or 0 <= place < scope.total]
        seen += [(g, global_weight) for g in scope.global_frames if scope.repeats or g not in places]
        inside = [0 <= place < scope.total for place, _ in seen]
        rows = [place if there else 0 for (place, _), there in zip(seen, inside, strict=True)]
        there = torch.tensor(inside)[None, :, None, None]
        keys, values = key[:, rows] * there, value[:, rows] * there
        scale = scope.attn_scale * torch.tensor(len(seen)).double().log() / torch.tensor(16.0).double().log()
        logits = torch.einsum("sha,skha->shk", query[:, frame], keys) * scale / query.shape[-1] ** 0.5
        weights = (logits + torch.tensor([weight for _, weight in seen]).double()).softmax(-1)
        answers.append(torch.einsum("shk,skha->sha", weights, values))
    return torch.stack(answers, dim=1)
