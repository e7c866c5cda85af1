import torch

from longtake.noise import seeded_noise


def test_a_name_always_gives_the_same_draw():
    first = seeded_noise(7)((4, 3), "step", 12, 3)
    seeded_noise(7)((100,), "other")
    assert torch.equal(first, seeded_noise(7)((4, 3), "step", 12, 3))


def test_seed_stream_and_key_all_count():
    base = seeded_noise(7)((64,), "step", 12, 3)
    others = [
        seeded_noise(8)((64,), "step", 12, 3),
        seeded_noise(7)((64,), "queue", 12, 3),
        seeded_noise(7)((64,), "step", 1, 23),
        seeded_noise(7)((64,), "step", 12),
        seeded_noise(7)((64,), "step", -12, 3),
    ]
    assert all(not torch.equal(base, other) for other in others)


def test_draws_are_standard_normal():
    draws = torch.stack([seeded_noise(1)((1000,), "enqueue", frame) for frame in range(50)])
    assert abs(draws.mean()) < 0.02 and abs(draws.std() - 1) < 0.02
    correlation = torch.corrcoef(draws)
    assert (correlation - torch.eye(50)).abs().max() < 0.2
