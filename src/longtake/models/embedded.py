"""The models that are part of the package."""

from pathlib import Path

from longtake.models.hub.family import ModelEntry

WEIGHTS = Path(__file__).parent / "weights"

MODELS: dict[str, ModelEntry] = {
    "sprites": ModelEntry(
        folder=WEIGHTS / "sprites",
        summary="embedded; 64x64 sprite worlds, trained with a noise level for every frame",
    ),
    "sprites-fast": ModelEntry(
        folder=WEIGHTS / "sprites-fast",
        summary="embedded; sprites further, with guidance in one branch and prompts that change: half the work",
        takes_guidance="sprites",
    ),
    "sprites-uniform": ModelEntry(
        folder=WEIGHTS / "sprites-uniform",
        summary="embedded; the same with one noise level per clip, as ordinary models are trained",
    ),
    "pvdm-sprites": ModelEntry(
        folder=WEIGHTS / "pvdm-sprites",
        summary="embedded; sprite worlds as three planes of latents, clip after clip (PVDM)",
    ),
    "nuwa-sprites": ModelEntry(
        folder=WEIGHTS / "nuwa-sprites",
        summary="embedded; sprite worlds from coarse to fine, 3,376 frames in three levels (NUWA-XL)",
    ),
    "toy": ModelEntry(
        spec="longtake.models.toy_spec:toy_spec",
        load="longtake.models.toy:Toy",
        summary="analytic, every capability, known answers; for tests and examples",
    ),
}
