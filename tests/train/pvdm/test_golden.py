"""The loss of PVDM's diffusion model: the authors' numbers, from their latents, noise and timesteps."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from longtake.train.pvdm.settings import DiffusionSettings
from longtake.train.pvdm.unet import DiffusionTask

from ...models.pvdm.goldens import arrays, each_golden, golden_unet


@each_golden
def test_numbers_of_the_authors(golden: Path) -> None:
    case, none = arrays(golden, "unet"), cast(Any, None)
    task = DiffusionTask(golden_unet(golden), none, none, None, DiffusionSettings(batch_size=2))
    with torch.no_grad():
        for previous, wanted in ((case["cond"], "loss_cond"), (torch.zeros_like(case["cond"]), "loss_zero")):
            loss = task.error(case["z0"], previous, None, case["t"], case["noise"])
            assert loss.item() == pytest.approx(case[wanted].item(), rel=1e-5)
