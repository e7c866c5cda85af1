"""Which code runs a model folder: chosen by the class of the pipeline that saved it. Imports no torch.

A new family of models is one more row of PIPELINES.
"""

from dataclasses import dataclass
from pathlib import Path

from longtake.errors import InputError
from longtake.models.hub.files import read_json


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The functions for the folders of one pipeline."""

    spec: str
    """module:function that returns the spec of a folder; neither it nor its module may import torch."""
    load: str
    """module:function that returns the model of a folder, given keywords device and dtype."""
    models: str
    """What people know these folders as."""


PIPELINES: dict[str, Pipeline] = {
    "TextToVideoSDPipeline": Pipeline(
        spec="longtake.models.hub.folder:folder_spec",
        load="longtake.models.modelscope.model:load_unet",
        models="ModelScope, ZeroScope, VideoCrafter2",
    ),
    "LattePipeline": Pipeline(
        spec="longtake.models.latte.spec:latte_spec",
        load="longtake.models.latte.model:load_latte",
        models="Latte",
    ),
    "WanPipeline": Pipeline(
        spec="longtake.models.wan.spec:wan_spec",
        load="longtake.models.wan.model:load_wan",
        models="Wan2.1 T2V, Wan2.2 TI2V 5B",
    ),
    "AnimateDiffSparseControlNetPipeline": Pipeline(
        spec="longtake.models.animatediff.spec:sparsectrl_spec",
        load="longtake.models.animatediff.model:load_sparsectrl",
        models="AnimateDiff with SparseCtrl",
    ),
    "PvdmPipeline": Pipeline(
        spec="longtake.models.pvdm.spec:pvdm_spec",
        load="longtake.models.pvdm.model:load_pvdm",
        models="PVDM",
    ),
    "NuwaXlPipeline": Pipeline(
        spec="longtake.models.nuwa_xl.spec:nuwa_xl_spec",
        load="longtake.models.nuwa_xl.model:load_nuwa_xl",
        models="NUWA-XL",
    ),
}

ABSOLUTE = "whose absolute positions in time ({}) say nothing beyond its clip or between clips"


def pipeline_of(folder: Path) -> Pipeline:
    """Return the row for a folder in the hub layout.

    Raises InputError, with the reason, for models that longtake does not run, CheckpointError for a broken index.
    """
    found = _class_of(folder)
    if found in PIPELINES:
        return PIPELINES[found]
    known = ", ".join(f"{name} ({row.models})" for name, row in PIPELINES.items())
    raise InputError(f"{folder} is a {found}, {_reason(folder, found)}; longtake runs {known}")


def _class_of(folder: Path) -> str:
    """Return what the folder says it holds: the class of a pipeline, or a part of one by itself."""
    index, part = folder / "model_index.json", folder / "config.json"
    if index.is_file():
        return str(read_json(index).get("_class_name", "model of an unknown kind"))
    if part.is_file():
        return f"single part ({read_json(part).get('_class_name')})"
    raise InputError(f"{folder} holds no {index.name}; give a folder in the hub layout, as diffusers saves it")


def _reason(folder: Path, found: str) -> str:
    """Return why such a folder is not among them."""
    if "AnimateDiff" in found or "MotionAdapter" in found:
        return ABSOLUTE.format("up to 32, in the motion adapter")
    if not found.startswith("CogVideoX"):
        return "which is not supported"
    if read_json(folder / "transformer" / "config.json").get("use_rotary_positional_embeddings", False):
        return "which is not supported yet"
    return ABSOLUTE.format("of the 2B model")
