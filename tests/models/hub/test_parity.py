"""A model against its pipeline of diffusers, whatever scheduler and pipeline its folder names."""

import json
import shutil
from pathlib import Path

import pytest
from diffusers import UniPCMultistepScheduler

from longtake.models import load_model, stock_class
from longtake.models.hub.parity import parity


@pytest.mark.parametrize("pipeline", ["WanPipeline", "WanImageToVideoPipeline"])
def test_whole_timesteps_of_a_scheduler_and_a_pipeline_of_pictures_are_no_difference(
    pipeline: str, wan_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(wan_folder, tmp_path / "wan"))
    # As the released folders have it; at its shift our timesteps are no whole numbers.
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    scheduler.save_pretrained(folder / "scheduler")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": pipeline, "scheduler": ["diffusers", "UniPCMultistepScheduler"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    model = load_model(str(folder))
    assert model.schedule(10).timestep[6] % 1 > 0.1
    assert parity(model, stock_class(str(folder))).difference < 1e-4
