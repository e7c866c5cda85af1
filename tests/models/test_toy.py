from functools import partial

import pytest
import torch

from longtake.guidance import guided
from longtake.model import Known
from longtake.models.toy import VARIANCE, Toy, colour, covariance
from longtake.schedule import step

F = 8


def sample(count, seed=0):
    """Return clean videos of the prompt "a", each channel and cell on its own: (count, 3, F, 1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.linalg.cholesky(covariance(F))
    wander = torch.randn(count, 3, F, generator=generator, dtype=torch.float64) @ root.T
    return (wander + colour("a")[:, None])[..., None, None]


def prompts(count, row=1):
    return torch.full((count, F), row)


def test_x0_is_the_best_guess_there_is():
    """The mean squared error of E[x0 | x] is the posterior variance; no other guess reaches it."""
    toy, clean = Toy(torch.float64), sample(4000)
    schedule, condition = toy.schedule(10), toy.encode(["", "a"])
    levels = torch.tensor([0, 1, 2, 4, 6, 8, 9, 10])
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    now = schedule.now(levels[None, None, :, None, None])
    x = now.mix(clean, noise)
    guess = toy.denoise(x, levels.expand(4000, F), schedule, condition, prompts(4000))
    a, s = schedule.alpha[levels], schedule.sigma[levels]
    k = covariance(F)
    noisy = a[:, None] * k * a + torch.diag(s**2)
    variance = k - k * a @ torch.linalg.solve(noisy, a[:, None] * k)
    error = (guess - clean).square().mean(dim=(0, 1, 3, 4))
    torch.testing.assert_close(error, variance.diagonal(), rtol=0.06, atol=1e-6)
    assert error[0] < 1e-9, "a clean frame stays as it is"


def test_many_steps_from_noise_reach_the_right_distribution():
    toy = Toy(torch.float64)
    schedule, condition = toy.schedule(250), toy.encode(["", "a"])
    x = torch.randn(2000, 3, F, 1, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for level in range(250, 0, -1):
        at = torch.full((2000,), level)
        x0 = toy.denoise(x, at, schedule, condition, prompts(2000))
        x = step(x, x0, schedule.now(torch.tensor(level)), schedule.next(torch.tensor(level)))
    centred = (x - colour("a")[:, None, None, None])[..., 0, 0]
    assert centred.mean().abs() < 0.02
    found = torch.einsum("ncf,ncg->fg", centred, centred) / (2000 * 3)
    assert (found - covariance(F)).abs().max() < 0.1 * VARIANCE


@pytest.mark.parametrize("places", [[0, F - 1], [0, 3, 4]])
def test_infill_is_the_gaussian_bridge(places):
    toy, clean = Toy(torch.float64), sample(1)
    schedule, condition = toy.schedule(10), toy.encode(["", "a"])
    blank = torch.zeros_like(clean)
    k, ends = covariance(F), places
    given = Known(latents=clean[:, :, places], places=places)
    middle = toy.denoise_between(blank, torch.tensor([10]), schedule, condition, prompts(1), given)
    mean = colour("a")[None, :, None]
    known = clean[..., 0, 0][..., ends] - mean
    expected = mean + known @ torch.linalg.solve(k[ends][:, ends], k[ends])
    torch.testing.assert_close(middle[..., 0, 0], expected, atol=1e-8, rtol=0)


def test_continuation_decays_from_the_last_frame():
    toy, clean = Toy(torch.float64), sample(1)
    schedule, condition = toy.schedule(10), toy.encode(["", "a"])
    rest = toy.denoise_after(
        torch.zeros(1, 3, F - 3, 1, 1, dtype=torch.float64),
        torch.tensor([10]),
        schedule,
        condition,
        prompts(1)[:, 3:],
        Known(latents=clean[:, :, :3]),
    )
    mean = colour("a")[None, :]
    decay = torch.exp(torch.tensor(-1 / 8.0, dtype=torch.float64))
    torch.testing.assert_close(rest[:, :, 0, 0, 0] - mean, (clean[:, :, 2, 0, 0] - mean) * decay, atol=1e-8, rtol=0)


@pytest.mark.parametrize(("scale", "calls"), [(0.0, 1), (1.0, 1), (3.0, 2)])
def test_guidance_moves_the_mean_away_from_the_negative_prompt(scale, calls, monkeypatch):
    toy = Toy(torch.float64)
    schedule, condition = toy.schedule(10), toy.encode(["b", "a"])
    counted = []
    plain = toy.denoise
    monkeypatch.setattr(toy, "denoise", lambda *a: counted.append(1) or plain(*a))
    noise = torch.zeros(1, 3, F, 1, 1, dtype=torch.float64)
    at = torch.tensor([10])
    x0 = guided(partial(toy.denoise, noise, at, schedule, condition), prompts(1), scale)
    expected = colour("b") + scale * (colour("a") - colour("b"))
    torch.testing.assert_close(x0[0, :, 0, 0, 0], expected, atol=1e-8, rtol=0)
    assert len(counted) == calls


def test_pixels_and_latents_round_trip():
    toy, latents = Toy(), torch.rand(3, 5, 8, 8) * 3 - 1.5
    frames, _ = toy.decode(latents, None, last=True)
    assert frames.shape == (5, 3, 8, 8)
    torch.testing.assert_close(toy.encode_frames(frames), latents, atol=1e-5, rtol=0)
