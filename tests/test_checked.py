"""The checks of shapes that all tests run under."""

import sys
from collections.abc import Callable

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
from jaxtyping import Float
from torch import Tensor

from longtake import noise, schedule

from .checked import checked


@checked
def first(rows: Float[Tensor, "rows width"], weights: Float[Tensor, "width"], cut: int = 0) -> Float[Tensor, "rows"]:
    return rows.mean(dim=1)[cut:] * weights.mean()


def test_names_of_dimensions_mean_the_same_in_arguments_and_result() -> None:
    rows = torch.ones(3, 2)
    assert first(rows, torch.ones(2)).shape == (3,)
    for wrong in ((rows, torch.ones(3)), (rows[0], torch.ones(2)), (rows.int(), torch.ones(2)), (rows, rows[0], "0")):
        with pytest.raises(BeartypeCallHintParamViolation):
            first(*wrong)
    with pytest.raises(BeartypeCallHintReturnViolation):
        first(rows, torch.ones(2), cut=1)
    # The names of a call that failed are forgotten.
    assert first(torch.ones(5, 4), torch.ones(4)).shape == (5,)


def adding(number: float) -> Callable[..., Tensor]:
    @checked
    def add(values: Float[Tensor, "values"]) -> Float[Tensor, "values"]:
        return values + number

    return add


def test_inner_functions_keep_their_own_values_and_are_checked_each() -> None:
    one, two = adding(1), adding(2)
    assert (one(torch.zeros(1)).item(), two(torch.zeros(1)).item(), one(two(torch.zeros(1))).item()) == (1, 2, 3)
    with pytest.raises(BeartypeCallHintParamViolation):
        two(torch.zeros(1, 1))


def test_what_a_checked_module_imports_has_its_ordinary_bytecode() -> None:
    cached = {name: str(vars(module).get("__cached__")) for name, module in list(sys.modules.items())}
    assert [name for name, path in cached.items() if "opt-jaxtyping" in path] == []


def test_the_package_is_checked() -> None:
    with pytest.raises(BeartypeCallHintParamViolation):
        noise.seeded_noise("7")
    with pytest.raises(BeartypeCallHintParamViolation):
        schedule.Level(alpha=torch.ones(1), sigma=1.0)
