"""Noise levels and the samplers of the authors, replayed from their own noise through the common step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.errors import InputError
from longtake.models.pvdm.model import alphas_cumprod, pvdm_schedule
from longtake.models.pvdm.unet import PvdmUnet
from longtake.schedule import Clip, Schedule, step, to_x0

from .goldens import arrays, each_golden, golden_unet, largest, meta


def clean(network: PvdmUnet, x: Tensor, schedule: Schedule, level: int, condition: Tensor | None, extra: float):
    """Return x0 with the authors' guidance: what the condition adds counts 1 + `extra` times."""

    def branch(previous: Tensor | None) -> Tensor:
        now = schedule.now(torch.tensor(level))
        with torch.no_grad():
            return to_x0(network(x, schedule.timestep[level][None], previous), x, now, "epsilon")

    if condition is None or extra == 0:
        return branch(condition)
    return (1 + extra) * branch(condition) - extra * branch(None)


def sampled(
    network: PvdmUnet,
    schedule: Schedule,
    tape: Tensor,
    condition: Tensor | None,
    clip: Clip,
    eta: float = 1.0,
    extra: float = 0.0,
) -> Tensor:
    x = tape[0]
    for draw, level in enumerate(range(schedule.num_levels, 0, -1), start=1):
        x0 = clean(network, x, schedule, level, condition, extra)
        now, next = schedule.now(torch.tensor(level)), schedule.next(torch.tensor(level))
        # The last step needs no noise; the authors' DDIM draws none there.
        noise = tape[draw] if draw < len(tape) else torch.zeros_like(x)
        x = step(x, x0, now, next, eta, noise if eta else None, clip)
    return x


def replayed(golden: Path, name: str) -> float:
    """Return how far a recorded sampler's result is from ours."""
    case: dict[str, Any] = meta(golden)[name]
    data = arrays(golden, "unet")
    is_ddim = name.startswith("ddim")
    result = sampled(
        golden_unet(golden),
        pvdm_schedule(case["sampling_timesteps"], num_train=case.get("timesteps", 1000)),
        data["noise_tape"][: case["n_noise"]],
        data["cond"][:1] if case["cond"] else None,
        "x0" if is_ddim else "x0_and_eps",
        case.get("ddim_sampling_eta", 1.0),
        case["w"] if is_ddim else 0.0,
    )
    return largest(result - data[f"{name}_out"])


def recorded(golden: Path, kind: str) -> list[str]:
    return [name for name, case in meta(golden).items() if name.startswith(kind) and isinstance(case, dict)]


@each_golden
def test_levels_of_the_authors(golden: Path) -> None:
    ours = alphas_cumprod().float()
    assert torch.equal(ours, arrays(golden, "unet")["buf_alphas_cumprod"])


@each_golden
def test_ddpm_of_the_authors(golden: Path) -> None:
    names = recorded(golden, "ddpm")
    assert names
    assert max(replayed(golden, name) for name in names) <= 1e-5


@each_golden
def test_ddim_of_the_authors(golden: Path) -> None:
    names = recorded(golden, "ddim")
    assert names
    assert max(replayed(golden, name) for name in names) <= 1e-3


@each_golden
def test_two_clips_of_the_authors(golden: Path) -> None:
    network, data = golden_unet(golden), arrays(golden, "unet")
    num_steps = meta(golden)["chain_n_noise"] // 2
    schedule, tape = pvdm_schedule(num_steps), data["noise_tape"]
    first = sampled(network, schedule, tape[:num_steps], None, "x0")
    second = sampled(network, schedule, tape[num_steps : 2 * num_steps], first, "x0")
    assert largest(first - data["chain_a"]) <= 1e-3
    assert largest(second - data["chain_b"]) <= 1e-3


@each_golden
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_single_ddim_steps(golden: Path, eta: float) -> None:
    """From the same latent and epsilon every step gives what the authors' formula gives, noise level by noise level."""
    network, data, schedule, bars = golden_unet(golden), arrays(golden, "unet"), pvdm_schedule(5), alphas_cumprod()
    x, tape = data["noise_tape"][0], data["noise_tape"]
    for level in range(5, 0, -1):
        with torch.no_grad():
            eps = network(x, schedule.timestep[level][None])
        bar = bars[schedule.timestep[level]]
        x0 = ((1 / bar).sqrt() * x.double() - (1 / bar - 1).sqrt() * eps).clamp(-1, 1)
        expected = x0
        if level > 1:
            bar_next = bars[schedule.timestep[level - 1]]
            sigma = eta * ((1 - bar / bar_next) * (1 - bar_next) / (1 - bar)).sqrt()
            expected = bar_next.sqrt() * x0 + (1 - bar_next - sigma**2).sqrt() * eps + sigma * tape[level]
        now, next = schedule.now(torch.tensor(level)), schedule.next(torch.tensor(level))
        x = step(x, to_x0(eps, x, now, "epsilon"), now, next, eta, tape[level] if eta else None, "x0")
        assert largest(x - expected) <= 1e-5, level


def test_trailing_levels_are_rounded_down() -> None:
    # The authors' sampler with 400 steps: -1, 1.5, 4, 6.5, ... 999.
    assert pvdm_schedule(400).timestep[1:5].tolist() == [1, 4, 6, 9]
    assert pvdm_schedule(400).timestep[-1] == 999


@pytest.mark.parametrize("num_levels", [0, 1001])
def test_impossible_number_of_levels(num_levels: int) -> None:
    with pytest.raises(InputError, match="1000"):
        pvdm_schedule(num_levels)
