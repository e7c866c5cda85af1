"""The parts of a model folder as objects of diffusers and transformers: local files only, nothing that runs code."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from diffusers.utils import is_accelerate_available
from diffusers.utils import logging as library_logging
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging

from longtake.arrays import check_finite
from longtake.errors import CheckpointError
from longtake.models.hub.files import read_json, variant
from longtake.models.hub.folder import part_folders, read_extras, stem
from longtake.models.modelscope.videocrafter2 import embedded_fps
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
    fps_embedding: Tensor | None
    """What is added to the embedding of every timestep, where the network is told of frames per second."""


def load_parts(folder: Path, device: torch.device, dtype: torch.dtype) -> Parts:
    """Load a model folder, the text encoder in float32 whatever `dtype`.

    Raises CheckpointError for damaged files, InputError for a model of another kind.
    """
    places = part_folders(folder)
    alphas_cumprod, prediction = noise_levels(places["scheduler"])
    with one_line_errors(places["tokenizer"]):
        tokenizer = CLIPTokenizer.from_pretrained(places["tokenizer"], local_files_only=True)
    told_fps = read_extras(folder).told_fps
    with _quiet_library() if told_fps else nullcontext():
        unet = library_part(UNet3DConditionModel, places["unet"], "unet", dtype).to(device)
    return Parts(
        unet=unet,
        vae=image_decoder(places["vae"], device, dtype),
        text_encoder=text_encoder(CLIPTextModel, places["text_encoder"], torch.float32).to(device),
        tokenizer=tokenizer,
        alphas_cumprod=alphas_cumprod,
        prediction=prediction,
        fps_embedding=None if told_fps is None else embedded_fps(unet, places["unet"], told_fps),
    )


def image_decoder(place: Path, device: torch.device, dtype: torch.dtype) -> AutoencoderKL:
    """Load an image autoencoder. Raises CheckpointError for missing or damaged weights."""
    vae = library_part(AutoencoderKL, place, "vae", dtype).to(device)
    # Measured on the embedded decoder: 0.75 of the time on a CPU. The UNet gains nothing from it.
    return vae.to(memory_format=torch.channels_last) if device.type == "cpu" else vae


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
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        NotImplementedError,
        SafetensorError,
        UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{where} cannot be loaded ({reason}); fetch the model again") from error


def library_part(kind: Any, place: Path, part: str, dtype: torch.dtype) -> Any:
    """Load a network of diffusers from its folder, to be run and not to be trained.

    `part` names it in the pipeline. Raises CheckpointError for missing or damaged weights.
    """
    with one_line_errors(place):
        module, report = kind.from_pretrained(
            place,
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            variant=variant(place, stem(part)),
            low_cpu_mem_usage=is_accelerate_available(),
            output_loading_info=True,
        )
    return _frozen(module, place, report["missing_keys"])


def text_encoder(kind: Any, place: Path, dtype: torch.dtype) -> Any:
    """Load a text encoder of transformers from its folder. Raises CheckpointError for missing or damaged weights."""
    with one_line_errors(place), no_progress_bar():
        module, report = kind.from_pretrained(
            place,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            variant=variant(place, stem("text_encoder")),
            output_loading_info=True,
        )
    return _frozen(module, place, report["missing_keys"])


def _frozen(module: Any, place: Path, missing: Any) -> Any:
    if missing:
        some = sorted(missing)[0]
        raise CheckpointError(f"{place} lacks {len(missing)} tensors, such as {some}; fetch the model again")
    check_weights(module, place)
    return module.eval().requires_grad_(False)


def check_weights(network: nn.Module, place: Path) -> None:
    """Raise NonFiniteError for a network, loaded from `place`, that holds a weight that is infinite or no number."""
    check_finite(network.state_dict(), str(place), "no video can come of it: fetch the model again")


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Keep diffusers from warning of tensors that it has no place for, where somebody else has."""
    level = library_logging.get_verbosity()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(level)


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing on the terminal, which belongs to the command line's own display."""
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()
