"""The parts of a model folder as objects of diffusers and transformers: local files only, nothing that runs code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from diffusers.utils import is_accelerate_available
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging

from longtake.errors import CheckpointError
from longtake.models.diffusers.folder import STEMS, part_folders
from longtake.models.diffusers.hub_files import read_json, variant
from longtake.schedule import Prediction, Table

# What turns a scheduler's config into noise levels; the rest of it concerns the library's own sampling loop.
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a text-to-video model consists of, ready to run."""

    unet: UNet3DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    alphas_cumprod: Table
    """Of the training schedule, cleanest first, float64."""
    prediction: Prediction


def load_parts(folder: Path, device: torch.device, dtype: torch.dtype) -> Parts:
    """Load a model folder, the text encoder in float32 whatever `dtype`.

    Raises CheckpointError for damaged files, InputError for a model of another kind.
    """
    places = part_folders(folder)
    alphas_cumprod, prediction = noise_levels(places["scheduler"])
    with one_line_errors(places["tokenizer"]):
        tokenizer = CLIPTokenizer.from_pretrained(places["tokenizer"], local_files_only=True)
    vae = _library_part(AutoencoderKL, places["vae"], "vae", dtype).to(device)
    if device.type == "cpu":
        # Measured on the embedded decoder: 0.75 of the time. The UNet gains nothing from it.
        vae = vae.to(memory_format=torch.channels_last)
    return Parts(
        unet=_library_part(UNet3DConditionModel, places["unet"], "unet", dtype).to(device),
        vae=vae,
        text_encoder=_text_encoder(places["text_encoder"]).to(device),
        tokenizer=tokenizer,
        alphas_cumprod=alphas_cumprod,
        prediction=prediction,
    )


def noise_levels(place: Path) -> tuple[Table, Prediction]:
    """Return the noise levels that a model was trained at, and what it predicts, from its scheduler's config."""
    file = place / "scheduler_config.json"
    config = read_json(file)
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise CheckpointError(f"{file}: prediction_type cannot be {prediction!r}; fetch the model again")
    with one_line_errors(file):
        scheduler = DDIMScheduler(**{name: config[name] for name in BETAS if name in config})
    return scheduler.alphas_cumprod.double(), prediction


@contextmanager
def one_line_errors(where: Path) -> Iterator[None]:
    """Turn what the libraries raise for files that they cannot use into a CheckpointError."""
    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, NotImplementedError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{where} cannot be loaded ({reason}); fetch the model again") from error


def _library_part(kind: Any, place: Path, part: str, dtype: torch.dtype) -> Any:
    with one_line_errors(place):
        module, report = kind.from_pretrained(
            place,
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            variant=variant(place, STEMS[part]),
            low_cpu_mem_usage=is_accelerate_available(),
            output_loading_info=True,
        )
    return _frozen(module, place, report["missing_keys"])


def _text_encoder(place: Path) -> Any:
    with one_line_errors(place), _no_progress_bar():
        loaded: Any = CLIPTextModel.from_pretrained(
            place,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            variant=variant(place, STEMS["text_encoder"]),
            output_loading_info=True,
        )
    module, report = loaded
    return _frozen(module, place, report["missing_keys"])


def _frozen(module: Any, place: Path, missing: Any) -> Any:
    if missing:
        some = sorted(missing)[0]
        raise CheckpointError(f"{place} lacks {len(missing)} tensors, such as {some}; fetch the model again")
    return module.eval().requires_grad_(False)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing on the terminal, which belongs to the command line's own display."""
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()
