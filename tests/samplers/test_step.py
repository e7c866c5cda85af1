"""The order of the two steps, on the toy model, along whose noise levels every path is known."""

import math

import pytest
import torch
from torch import Tensor

from longtake.model import Known
from longtake.models.toy import Toy, colour, covariance
from longtake.request import GuidanceByLevel
from longtake.samplers.step import Windows, after, between, ddim, ddim_step, dpmpp, free
from longtake.schedule import Schedule, chained

FRAMES = 8
START = torch.randn(1, 3, FRAMES, 1, 1, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def even(num_levels: int) -> Schedule:
    """Levels evenly spaced in log(alpha / sigma), all of them noisy."""
    ratio = torch.linspace(3, -2, num_levels + 1, dtype=torch.float64)
    alpha, sigma = torch.sigmoid(2 * ratio).sqrt(), torch.sigmoid(-2 * ratio).sqrt()
    return chained(alpha, sigma, torch.arange(num_levels + 1))


def exact(schedule: Schedule) -> Tensor:
    """Where the noise-free path from START ends: every part of a Gaussian keeps its place in units of its deviation."""
    parts, axes = torch.linalg.eigh(covariance(FRAMES))
    mean = colour("a")[:, None]
    (clean, noisy), (little, much) = schedule.alpha[[0, -1]], schedule.sigma[[0, -1]]
    scale = ((clean**2 * parts + little**2) / (noisy**2 * parts + much**2)).sqrt()
    centred = START[0, :, :, 0, 0] - noisy * mean
    return (clean * mean + centred @ axes @ torch.diag(scale) @ axes.T)[None, ..., None, None]


def windows(schedule: Schedule) -> Windows:
    """One window of the toy under the prompt "a"."""
    prompts = torch.ones(1, FRAMES, dtype=torch.long)
    return Windows(schedule=schedule, condition=Toy(torch.float64).encode(["", "a"]), prompt_index=prompts)


def error(schedule: Schedule, is_second: bool) -> float:
    denoiser = free(Toy(torch.float64), windows(schedule), guidance=1.0)
    x = dpmpp(denoiser, START, schedule, bounded=False) if is_second else ddim(denoiser, START, schedule)
    return (x - exact(schedule)).square().mean().sqrt().item()


@pytest.mark.parametrize(("is_second", "order"), [(False, 1), (True, 2)])
def test_order_of_convergence(is_second, order):
    errors = [error(even(num_levels), is_second) for num_levels in (40, 80, 160)]
    for rough, fine in zip(errors, errors[1:], strict=False):
        assert math.log2(rough / fine) == pytest.approx(order, abs=0.15)


def test_one_step_of_either_is_the_same():
    assert error(even(1), True) == error(even(1), False)
    assert error(even(2), True) != error(even(2), False)


@pytest.mark.parametrize("num_levels", [10, 20, 50])
def test_second_order_is_nearer_on_the_model_s_own_levels(num_levels):
    """By a quarter: they begin at pure noise and end clean, where log(alpha / sigma) has no bound, and the last step,
    of first order in both, has most of the error."""
    schedule = Toy().schedule(num_levels)
    assert error(schedule, True) < 0.85 * error(schedule, False)


@pytest.mark.parametrize("known", ["first and last", "before"])
def test_one_level_a_window_has_to_be_that_of_all_its_frames(known):
    """What a model of one level cannot be asked is refused rather than read as the first frame's level."""
    model, schedule, clean = Toy(torch.float64), even(8), START[:, :, :1]
    if known == "before":
        denoiser = after(model, windows(schedule), 1.0, Known(latents=clean))
    else:
        denoiser = between(model, windows(schedule), 1.0, Known(latents=START[:, :, [0, -1]], places=(0, FRAMES - 1)))
    same = torch.full((1, FRAMES), 4)
    assert denoiser(START, same).shape == START.shape
    with pytest.raises(AssertionError, match="one level a window"):
        denoiser(START, same + torch.arange(FRAMES))


def test_a_loop_adjusts_windows_between_its_steps():
    """The adjusted windows are what the next step begins with, and what comes out in the end."""
    seen = []

    def adjust(x: Tensor, x0: Tensor, level: int) -> Tensor:
        seen.append((level, x))
        return x + 1

    def denoiser(x: Tensor, levels: Tensor) -> Tensor:
        assert not seen or torch.equal(x, seen[-1][1] + 1)
        return x

    made = ddim(denoiser, START, even(3), adjust=adjust)
    assert [level for level, _ in seen] == [2, 1, 0] and torch.equal(made, seen[-1][1] + 1)


def test_every_frame_has_the_guidance_of_its_own_level():
    """FIFO's windows hold levels on both sides of where two guidances meet."""
    toy = Toy(torch.float64)
    schedule, levels = toy.schedule(10), torch.arange(1, FRAMES + 1)[None]
    by_level = GuidanceByLevel(3.0, 1.7, float(schedule.timestep[5]))
    x0, noisy, clean = (
        free(toy, windows(schedule), guidance)(START, levels) for guidance in (by_level, by_level.noisy, by_level.clean)
    )
    assert torch.equal(x0[:, :, 4:], noisy[:, :, 4:]) and torch.equal(x0[:, :, :4], clean[:, :, :4])
    assert not torch.equal(noisy[:, :, :4], clean[:, :, :4])


def test_guidance_changes_on_the_way_where_the_level_does():
    toy = Toy(torch.float64)
    schedule = toy.schedule(10)
    by_level = GuidanceByLevel(3.0, 1.7, float(schedule.timestep[5]))
    expected = START
    for level in range(10, 0, -1):
        denoiser = free(toy, windows(schedule), by_level.noisy if level >= 5 else by_level.clean)
        expected, _ = ddim_step(denoiser, expected, level, schedule)
    assert torch.equal(ddim(free(toy, windows(schedule), by_level), START, schedule), expected)


def test_guidance_by_level_reads_as_two_numbers():
    assert f"{GuidanceByLevel(4.0, 3.0, 875):g}" == "4 from timestep 875 up, 3 below"
