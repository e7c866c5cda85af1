"""A model folder as a pipeline of diffusers: local files only, nothing that runs code, one line for what is broken."""

import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, CogVideoXDDIMScheduler, DDIMScheduler
from diffusers.utils import is_accelerate_available
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file
from torch import nn
from transformers.utils import logging as transformers_logging

from longtake.errors import CheckpointError, InputError, LongtakeError, LongtakeWarning
from longtake.finite import check_finite
from longtake.models.hooks import join_sides
from longtake.models.hub.blank import check_stored, class_named, made_of_config
from longtake.models.hub.configs import Configs, Part, stem
from longtake.models.hub.family import Family
from longtake.models.hub.files import read_json, variant, weight_files
from longtake.models.hub.loading import DENOISERS, Offload
from longtake.models.hub.offload import HOST, rests_on_host
from longtake.schedule import Prediction, Table
from longtake.words import counted

# What turns a scheduler's config into noise levels; the rest of it concerns the library's own sampling loop.
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
SHIFTED_BETAS = (*BETAS, "snr_shift_scale")
FETCH = "no video can come of it: fetch the model again"


def load_pipeline(
    configs: Configs,
    family: Family,
    device: torch.device,
    dtype: torch.dtype,
    offload: Offload = "none",
    away: Collection[str] = (),
    joined: bool = False,
) -> Any:
    """Return the pipeline of a model folder, its networks on `device`, to be run and not to be trained; on the host
    those that `offload` lets in for their calls alone, for which `take_turns` sees, and those that are `away`. If
    `joined`, its pictures have no sides: see `join_sides`.

    It is diffusers' own where the family names one, else a plain holder of the parts. Raises CheckpointError for
    damaged files, InputError for what this version of the libraries does not have.
    """
    for name, part in configs.parts.items():
        _check_headers(part, name, family)
    places = {name: HOST if name in away or rests_on_host(name, offload) else device for name in configs.parts}
    parts = {name: load_part(part, name, family, places[name], dtype) for name, part in configs.parts.items()}
    pipeline = assembled(configs, family, parts)
    for name in (*DENOISERS, "vae") if joined else ():
        if name in parts:
            join_sides(getattr(pipeline, name))
    return pipeline


def assembled(configs: Configs, family: Family, parts: Mapping[str, Any]) -> Any:
    """Return the pipeline of these parts; see `load_pipeline`."""
    others = [other for part, other in family.pipeline_with.items() if part in parts]
    with quiet_libraries():
        kind = getattr(diffusers, (others or [family.pipeline])[0], None)
    if kind is None:
        return SimpleNamespace(**parts)
    wanted = inspect.signature(kind.__init__).parameters
    # What the pipeline must be given, and is not run; and what the index says beside its parts.
    lacking = {name: None for name, given in wanted.items() if name != "self" and given.default is given.empty}
    said = {name: value for name, value in configs.index.items() if name in wanted and isinstance(value, bool | float)}
    said |= dict.fromkeys(wanted.keys() & {"requires_safety_checker"}, False)
    with one_line_errors(Path(configs.where)), quiet_libraries(), warnings.catch_warnings(action="ignore"):
        return kind(**{**lacking, **said, **parts})


def library_part(kind: Any, place: Path, part: str, dtype: torch.dtype, wanted: str | None = None) -> Any:
    """Load a network of diffusers from its folder, to be run and not to be trained.

    `part` names it in the pipeline, `wanted` is the variant of its files. Raises CheckpointError for missing or damaged
    weights.
    """
    if kind._keep_in_fp32_modules and not is_accelerate_available():
        return _partly_float32(kind, place, part, dtype, wanted)
    with one_line_errors(place), quiet_libraries():
        module, report = kind.from_pretrained(
            place,
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            variant=variant(place, stem(part), wanted),
            low_cpu_mem_usage=is_accelerate_available(),
            output_loading_info=True,
        )
    _warn_unused(place, report["unexpected_keys"])
    return _frozen(module, place, report["missing_keys"])


def blank_network(part: Part) -> nn.Module:
    """Return a network of diffusers without numbers."""
    with torch.device("meta"), quiet_libraries():
        return getattr(diffusers, str(part.config["_class_name"])).from_config(dict(part.config))


def single_file(kind: Any, part: Part, dtype: torch.dtype) -> Any:
    """Load a network of diffusers of a file by itself, in diffusers' names or its authors'; its config lies in the
    part's folder. Raises InputError for a file of another network, or of a part of one."""
    assert part.file is not None and part.folder is not None
    given = {}
    if part.is_quantised:
        given = {"quantization_config": diffusers.GGUFQuantizationConfig(compute_dtype=dtype), "torch_dtype": dtype}
    place = {"config": str(part.folder.parent), "subfolder": part.folder.name, "local_files_only": True}
    try:
        with quiet_libraries():
            network = kind.from_single_file(str(part.file), **place, **given)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{part.file} is not all of a {kind.__name__} as {part.where} describes it ({reason}); give the whole "
            "file, and the --base that it was made for"
        ) from error
    if not given:
        _cast(network, kind, dtype)
    return _frozen(network, part.file, ())


def text_encoder(kind: Any, place: Path, dtype: torch.dtype, wanted: str | None = None) -> Any:
    """Load a text encoder of transformers from its folder. Raises CheckpointError for missing or damaged weights."""
    with one_line_errors(place), quiet_libraries():
        module, report = kind.from_pretrained(
            place,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            variant=variant(place, stem("text_encoder"), wanted),
            output_loading_info=True,
        )
    _warn_unused(place, report["unexpected_keys"])
    return _frozen(module, place, report["missing_keys"])


def filled(make: Callable[[], nn.Module], place: Path, wanted: str | None = None) -> Any:
    """Make a network of our own, and give it the weights in its folder, in their format.

    Raises CheckpointError for missing or damaged ones.
    """
    with one_line_errors(place):
        with torch.device("meta"):
            network = make()
        check_stored(network, weight_files(place, stem(place.name), wanted))
        missing, others = network.load_state_dict(_tensors(place, place.name, wanted), strict=False, assign=True)
    if others:
        raise CheckpointError(
            f"{place} holds {sorted(others)[0]}, which its network does not have; fetch the model again"
        )
    _check_whole(place, missing)
    # In the format of its files: no --dtype can have made it so.
    check_finite(network.state_dict(), str(place), FETCH)
    return network


def _partly_float32(kind: Any, place: Path, part: str, dtype: torch.dtype, wanted: str | None) -> Any:
    """Load a network of which diffusers keeps some layers in float32, which it does with accelerate only."""
    with one_line_errors(place), quiet_libraries():
        network = kind.from_config(kind.load_config(place, local_files_only=True))
        missing, others = network.load_state_dict(_tensors(place, part, wanted), strict=False)
    ignored = kind._keys_to_ignore_on_load_unexpected or ()
    _warn_unused(place, [name for name in others if not any(re.search(pattern, name) for pattern in ignored)])
    _cast(network, kind, dtype)
    return _frozen(network, place, missing)


def _cast(network: nn.Module, kind: Any, dtype: torch.dtype) -> None:
    """Bring the weights of a network into a format, but those that diffusers keeps in float32."""
    for name, parameter in network.named_parameters():
        is_kept = set(kind._keep_in_fp32_modules or ()) & set(name.split("."))
        parameter.data = parameter.data.to(torch.float32 if is_kept else dtype)


def _tensors(place: Path, part: str, wanted: str | None) -> dict[str, torch.Tensor]:
    """Return the weights of a part, in their format; `wanted` is the variant of its files."""
    tensors = {}
    for file in weight_files(place, stem(part), wanted):
        tensors |= load_file(file)
    return tensors


def tokenizer(place: Path, class_name: str = "AutoTokenizer") -> Any:
    """Load a tokenizer of transformers, or what prepares pictures, from its folder. Raises CheckpointError for missing
    or damaged files, InputError for a class that the library does not have."""
    kind = _class_of(transformers, class_name, r"\w*(Tokenizer(Fast)?|Processor(Fast|Pil)?)", place)
    with one_line_errors(place), quiet_libraries():
        return kind.from_pretrained(place, local_files_only=True, trust_remote_code=False)


def image_decoder(place: Path, device: torch.device, dtype: torch.dtype, wanted: str | None = None) -> AutoencoderKL:
    """Load an image autoencoder. Raises CheckpointError for missing or damaged weights."""
    vae = library_part(AutoencoderKL, place, "vae", dtype, wanted).to(device)
    # Measured on the embedded decoder: 0.75 of the time on a CPU. The UNet gains nothing from it.
    return vae.to(memory_format=torch.channels_last) if device.type == "cpu" else vae


def noise_levels(place: Path) -> tuple[Table, Prediction]:
    """Return the noise levels of the scheduler in a folder; see `levels_of`."""
    file = place / "scheduler_config.json"
    return levels_of(read_json(file), str(file))


def levels_of(config: Mapping[str, Any], where: str) -> tuple[Table, Prediction]:
    """Return the noise levels that a model was trained at, and what it predicts, from its scheduler's config.

    `where` names it. Raises CheckpointError for one that cannot be.
    """
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction", "sample"):
        raise CheckpointError(f"{where}: prediction_type cannot be {prediction!r}; fetch the model again")
    with one_line_errors(where):
        # What is CogVideoX's shifts the ratio of signal to noise, too.
        is_shifted = str(config.get("_class_name")).startswith("CogVideoX")
        kind, names = (CogVideoXDDIMScheduler, SHIFTED_BETAS) if is_shifted else (DDIMScheduler, BETAS)
        levels = kind(**{name: config[name] for name in names if name in config}).alphas_cumprod.double()
    if not (levels[:-1].diff() < 0).all() or not levels[:-1].min() > 0:
        raise CheckpointError(f"{where}: its betas make no noise levels that fall; fetch the model again")
    return levels, prediction


def _frozen(module: nn.Module, place: Path, missing: Any) -> Any:
    """Return a network that is whole, for running. Raises CheckpointError where weights are missing, and what
    `check_weights` raises."""
    _check_whole(place, missing)
    check_weights(module, place)
    return module.eval().requires_grad_(False)


def _check_whole(place: Path, missing: Collection[str]) -> None:
    if missing:
        some = sorted(missing)[0]
        raise CheckpointError(f"{place} lacks {counted(len(missing), 'tensor')}, such as {some}; fetch the model again")


def _warn_unused(place: Path, names: Collection[str]) -> None:
    """Warn of tensors that a network of the libraries has no place for. They warn of them, too, and leave them out:
    earlier versions stored some that are made by now, and the files of a whole may be given for a part of it."""
    if names:
        held = f"{place} holds {counted(len(names), 'tensor')}, such as {min(names)}"
        warnings.warn(
            f"{held}, that a network of its config.json does not have and does without; if videos look wrong, fetch "
            "the model again",
            LongtakeWarning,
            stacklevel=2,
        )


def check_weights(network: nn.Module, place: Path | str) -> None:
    """Raise NonFiniteError for a network, loaded from `place`, that holds a weight that is infinite or no number.

    Weights that a package keeps in a class of its own, as torchao does, or that are elsewhere, are not looked at.
    """
    plain = {name: tensor for name, tensor in network.state_dict().items() if type(tensor) is torch.Tensor}
    here = {name: tensor for name, tensor in plain.items() if not tensor.is_meta}
    half = {name: tensor for name, tensor in here.items() if tensor.dtype == torch.float16}
    # Half precision ends at 65,504, and a weight may be above.
    check_finite(half, str(place), f"float16 may be too small for it: use --dtype bfloat16 or float32; else, {FETCH}")
    check_finite({name: here[name] for name in here.keys() - half.keys()}, str(place), FETCH)


def where_run(pipeline: Any, network: Any) -> tuple[torch.device, torch.dtype]:
    """Return where a network of a pipeline computes, and in which format; diffusers may keep it elsewhere till then."""
    weights = next(network.parameters())
    if not isinstance(pipeline, diffusers.DiffusionPipeline):
        return weights.device, weights.dtype
    is_away = weights.device.type in ("cpu", "meta")
    return pipeline._execution_device if is_away else weights.device, network.dtype


@contextmanager
def one_line_errors(where: Path | str) -> Iterator[None]:
    """Turn what the libraries raise for files that they cannot use into a CheckpointError."""
    try:
        yield
    except LongtakeError:
        raise
    except Exception as error:
        # The first line says what is wrong; others advise what longtake does not do, such as to trust pickles.
        reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:200]
        raise CheckpointError(f"{where} cannot be loaded ({reason}); fetch the model again") from error


def load_part(part: Part, name: str, family: Family, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a part of a pipeline from its folder; see `load_pipeline`."""
    assert part.folder is not None
    if name == "scheduler":
        return _scheduler(part)
    if name == "guider":
        return _guider(part.folder, str(part.config["_class_name"]))
    if name not in family.networks:
        return tokenizer(part.folder, str(part.config["_class_name"]))
    class_name = family.networks[name]
    dtype = kept_dtype(class_name, dtype)
    if class_name == "AutoencoderKL":
        return image_decoder(part.folder, device, dtype, part.variant)
    if part.file is not None:
        return single_file(getattr(diffusers, class_name), part, dtype).to(device)
    if kind := class_named(class_name):
        if issubclass(kind, transformers.PreTrainedModel):
            return text_encoder(kind, part.folder, dtype, part.variant).to(device)
        return library_part(kind, part.folder, name, dtype, part.variant).to(device)
    network = importlib.import_module(f"{family.room}.load").load_network(part).to(dtype)
    if dtype == torch.float16:
        check_weights(network, part.folder)
    return network.to(device).eval().requires_grad_(False)


def _check_headers(part: Part, name: str, family: Family) -> None:
    """Raise CheckpointError for a network of the libraries whose files, by their headers, are those of another.

    Quantised weights, and files by themselves, which have their authors' names, are left to who loads them; networks of
    our own to `filled`.
    """
    kind = class_named(family.networks[name]) if name in family.networks else None
    if kind is None or part.folder is None or part.is_quantised or part.file is not None:
        return
    config = {key: value for key, value in part.config.items() if not key.startswith("_")}
    with one_line_errors(part.folder), quiet_libraries(), torch.device("meta"):
        network = made_of_config(kind, config)
    check_stored(network, weight_files(part.folder, stem(name), part.variant))


def kept_dtype(class_name: str, dtype: torch.dtype) -> torch.dtype:
    """Return the format of a network where it is not the model's."""
    if class_name in ("CLIPTextModel", "CLIPVisionModel", "AutoencoderKLWan", "AutoencoderKLTemporalDecoder"):
        # Small and run once; and as the stock pipeline advises.
        return torch.float32
    # T5 overflows in float16.
    return torch.bfloat16 if "T5" in class_name and dtype == torch.float16 else dtype


def _class_of(library: Any, class_name: Any, kinds: str, where: Path | str) -> Any:
    """Return a class of a library, if its name is one of these kinds. Raises InputError for one that it lacks."""
    with quiet_libraries():
        is_known = isinstance(class_name, str) and re.fullmatch(kinds, class_name)
        kind = getattr(library, class_name, None) if is_known else None
    if kind is None:
        raise InputError(
            f"{where} is of a {class_name!r}, which {library.__name__} {library.__version__} does not have"
        )
    return kind


def _guider(place: Path, class_name: str) -> Any:
    kind = _class_of(diffusers, class_name, r"\w*Guidance", place)
    with one_line_errors(place), quiet_libraries():
        return kind.from_pretrained(place, local_files_only=True)


def _scheduler(part: Part) -> Any:
    kind = _class_of(diffusers, part.config.get("_class_name", "DDIMScheduler"), r"\w*Scheduler", part.where)
    with one_line_errors(part.where), quiet_libraries():
        return kind.from_config({key: value for key, value in part.config.items() if key != "_class_name"})


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep both libraries from drawing on the terminal, which belongs to the command line's own display, and from
    warning of what is checked here."""
    libraries: Any = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, (level, shown) in zip(libraries, before, strict=True):
            library.set_verbosity(level)
            if shown:
                library.enable_progress_bar()
