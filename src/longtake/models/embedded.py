"""The models that are part of the package."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from longtake.lazy import named
from longtake.models.hub.family import ModelEntry

WEIGHTS = Path(__file__).parent / "weights"
_CAPTIONS = "longtake.data.sprite_captions:phrases"

MODELS: dict[str, ModelEntry] = {
    "sprites": ModelEntry(
        folder=WEIGHTS / "sprites",
        summary="what sprites-fast shows, for twice the work; takes guidance and a negative prompt",
        phrases=_CAPTIONS,
    ),
    "sprites-fast": ModelEntry(
        folder=WEIGHTS / "sprites-fast",
        summary="small cartoons, 64x64: one thing that moves through a scene; the one to begin with",
        phrases=_CAPTIONS,
        takes_guidance="sprites",
    ),
    "sprites-uniform": ModelEntry(
        folder=WEIGHTS / "sprites-uniform",
        summary="the same, far less well: trained as most models are, for comparing methods",
        phrases=_CAPTIONS,
    ),
    "pvdm-sprites": ModelEntry(
        folder=WEIGHTS / "pvdm-sprites",
        summary="the same, less well, clip after clip; a small PVDM",
        phrases=_CAPTIONS,
    ),
    "nuwa-sprites": ModelEntry(
        folder=WEIGHTS / "nuwa-sprites",
        summary="the same, less well, as a story planned as a whole; a small NUWA-XL",
        phrases=_CAPTIONS,
    ),
    "toy": ModelEntry(
        spec="longtake.models.toy_spec:toy_spec",
        load="longtake.models.toy:Toy",
        summary="plain colours, at once; for tests, not for films",
    ),
}


def phrases(name: str) -> Mapping[str, Sequence[str]] | None:
    """Return what prompts of a model can be made of, part by part; None where that is not known."""
    entry = MODELS.get(name)
    return named(entry.phrases)() if entry and entry.phrases else None
