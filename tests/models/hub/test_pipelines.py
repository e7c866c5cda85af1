"""Which folders are run, and why others are not."""

import json
from pathlib import Path

import pytest

from longtake.errors import InputError
from longtake.models import load_model, model_spec
from longtake.models.hub.pipelines import PIPELINES, pipeline_of

REFUSED = {
    "AnimateDiff": ({"model_index.json": "AnimateDiffPipeline"}, "AnimateDiffPipeline.*absolute positions.*up to 32"),
    "AnimateDiff XL": ({"model_index.json": "AnimateDiffSDXLPipeline"}, "absolute positions"),
    "motion adapter": ({"config.json": "MotionAdapter"}, "single part .MotionAdapter.*absolute positions"),
    "CogVideoX 2B": (
        {"model_index.json": "CogVideoXPipeline", "transformer/config.json": False},
        "CogVideoXPipeline.*absolute positions.*2B",
    ),
    "CogVideoX 5B": (
        {"model_index.json": "CogVideoXPipeline", "transformer/config.json": True},
        "CogVideoXPipeline, which is not supported yet",
    ),
    "another": ({"model_index.json": "StableDiffusionPipeline"}, "StableDiffusionPipeline, which is not supported"),
    "unnamed": ({"model_index.json": None}, "model of an unknown kind"),
    "class no text": ({"model_index.json": ["a", "list"]}, "which is not supported"),
    "a UNet alone": ({"config.json": "UNet3DConditionModel"}, "single part .UNet3DConditionModel"),
    "empty": ({}, "holds no model_index.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_folder_is_refused_with_the_reason_in_one_line(tmp_path: Path, case: str) -> None:
    files, message = REFUSED[case]
    for name, said in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        field = "use_rotary_positional_embeddings" if name.startswith("transformer") else "_class_name"
        (tmp_path / name).write_text(json.dumps({} if said is None else {field: said}))
    for ask in (model_spec, load_model):
        with pytest.raises(InputError, match=message) as caught:
            ask(str(tmp_path))
        assert "\n" not in str(caught.value)
        assert not files or all(known in str(caught.value) for known in PIPELINES)


def test_a_folder_is_run_by_the_row_of_its_pipeline(folder: Path, latte_folder: Path) -> None:
    assert pipeline_of(folder) is PIPELINES["TextToVideoSDPipeline"]
    assert pipeline_of(latte_folder) is PIPELINES["LattePipeline"]
