"""Models by name. A row costs nothing until it is used: what it names is imported then."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.errors import unknown_name
from longtake.model import VideoModel, VideoSpec
from longtake.models.hub.pipelines import pipeline_of

if TYPE_CHECKING:
    import torch

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """Where a model comes from."""

    spec: str
    """module:function that returns the spec; neither it nor its module may import torch."""
    load: str
    """module:function that returns the model, given keywords device and dtype."""
    folder: Path | None = None
    """Passed to both, where the functions read a folder."""
    summary: str
    """A line for people who choose."""


MODELS: dict[str, ModelEntry] = {
    "sprites": ModelEntry(
        spec="longtake.models.hub.folder:folder_spec",
        load="longtake.models.modelscope.model:load_unet",
        folder=WEIGHTS / "sprites",
        summary="embedded; 64x64 sprite worlds, trained with a noise level for every frame",
    ),
    "sprites-uniform": ModelEntry(
        spec="longtake.models.hub.folder:folder_spec",
        load="longtake.models.modelscope.model:load_unet",
        folder=WEIGHTS / "sprites-uniform",
        summary="embedded; the same with one noise level per clip, as ordinary models are trained",
    ),
    "pvdm-sprites": ModelEntry(
        spec="longtake.models.pvdm.spec:pvdm_spec",
        load="longtake.models.pvdm.model:load_pvdm",
        folder=WEIGHTS / "pvdm-sprites",
        summary="embedded; sprite worlds as three planes of latents, clip after clip (PVDM)",
    ),
    "nuwa-sprites": ModelEntry(
        spec="longtake.models.nuwa_xl.spec:nuwa_xl_spec",
        load="longtake.models.nuwa_xl.model:load_nuwa_xl",
        folder=WEIGHTS / "nuwa-sprites",
        summary="embedded; sprite worlds from coarse to fine, 3,376 frames in three levels (NUWA-XL)",
    ),
    "toy": ModelEntry(
        spec="longtake.models.toy_spec:toy_spec",
        load="longtake.models.toy:Toy",
        summary="analytic, every capability, known answers; for tests and examples",
    ),
}


def resolve(target: str) -> Any:
    """Import what "module:name" names."""
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def model_spec(name: str) -> VideoSpec:
    """Return what is known of a model, by name or by the path of a folder in the hub layout, without loading weights.

    Raises InputError for an unknown name and for a folder whose model cannot be run.
    """
    entry = _entry(name)
    return resolve(entry.spec)(entry.folder) if entry.folder else resolve(entry.spec)()


def load_model(name: str, device: "torch.device | str" = "cpu", dtype: "torch.dtype | None" = None) -> VideoModel:
    """Load a model by name or by the path of a folder in the hub layout.

    `dtype` is float32 unless given. Raises InputError for an unknown name, CheckpointError for damaged weights.
    """
    import torch

    entry, dtype = _entry(name), dtype or torch.float32
    if entry.folder:
        return resolve(entry.load)(entry.folder, device=device, dtype=dtype)
    return resolve(entry.load)(device=device, dtype=dtype)


def _entry(name: str) -> ModelEntry:
    if name in MODELS:
        return MODELS[name]
    folder = Path(name).expanduser()
    if folder.exists():
        found = pipeline_of(folder)
        return ModelEntry(spec=found.spec, load=found.load, folder=folder, summary=found.models)
    raise unknown_name("model", name, MODELS)
