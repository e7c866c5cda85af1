"""The recipe of the next embedded model: what its stages say that they lack, and a folder of runs that is begun."""

from pathlib import Path

import pytest
import torch

from longtake.errors import InputError
from longtake.train.fit.runs import Runs
from longtake.train.sprites import next_recipe as recipe
from longtake.train.sprites.build import SpriteSizes, build_vae
from longtake.train.sprites.stages import trained_vae


@pytest.mark.parametrize("stage", ["pictures", "clips", "sharp", "decoder", "sharp-weights"])
def test_stages_say_what_is_missing(tmp_path: Path, stage: str) -> None:
    with pytest.raises(InputError, match="must come first"):
        recipe.STAGES[stage](Runs(folder=tmp_path))


def test_a_base_fills_only_a_new_folder(tmp_path: Path) -> None:
    vae = build_vae(SpriteSizes(picture=16, vae_channels=(8, 8, 8), latent_channels=4))
    vae.half().save_pretrained(tmp_path / "base" / "vae")
    arguments = ["sharp", "--runs", str(tmp_path / "runs"), "--base", str(tmp_path / "base")]
    with pytest.raises(InputError, match="sprites must come first"):
        recipe.main(arguments)
    begun = trained_vae(Runs(folder=tmp_path / "runs"))
    assert begun.dtype == torch.float32
    for name, value in vae.state_dict().items():
        assert torch.equal(begun.state_dict()[name], value.float())
    with pytest.raises(InputError, match="sprites must come first"):
        recipe.main([*arguments[:-1], "no-such-folder"])
