"""The stages that the command line names are those that the recipe has."""

from typing import get_args

import pytest

from longtake.apps.train import Stage


@pytest.mark.slow
def test_every_stage_can_be_named() -> None:
    from longtake.train.sprites.recipe import STAGES

    assert get_args(Stage) == (*STAGES, "weights")
