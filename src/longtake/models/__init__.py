"""Models by name, by folder and by pipeline. A row costs nothing until it is used: what it names is imported then."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from longtake.errors import CheckpointError, InputError, unknown_name
from longtake.lazy import named
from longtake.model import VideoModel, VideoSpec
from longtake.models.black_box.spec import family as whole_pipeline
from longtake.models.embedded import MODELS
from longtake.models.hub.configs import Configs, read_configs, with_tokenizer
from longtake.models.hub.family import Family, Offer
from longtake.models.hub.find import INDEX, Found, config_of, find, is_hub_id, is_path, read_index, with_transformer
from longtake.models.hub.loading import DENOISERS, Loading, taught
from longtake.models.hub.precision import asked_place, check_there
from longtake.models.tiling import tiled
from longtake.typed import Setting, fitting
from longtake.words import an

if TYPE_CHECKING:
    import torch

BLACK_BOX = "longtake.models.black_box"
TEXT_TO_VIDEO = {"unet": "UNet3DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
DEFAULT_MODEL = "sprites-fast"
"""What makes a video where no model is named."""
T5 = {"text_encoder": "T5EncoderModel"}
OF_WAN = {"vae": "AutoencoderKLWan", "text_encoder": "UMT5EncoderModel"}

FAMILIES: dict[str, Family] = {
    "TextToVideoSDPipeline": Family(
        room="longtake.models.modelscope",
        models="ModelScope, ZeroScope, VideoCrafter2",
        pipeline="TextToVideoSDPipeline",
        networks=TEXT_TO_VIDEO,
        tiles=True,
    ),
    "LattePipeline": Family(
        room="longtake.models.latte",
        models="Latte",
        pipeline="LattePipeline",
        networks={"transformer": "LatteTransformer3DModel", "vae": "AutoencoderKL", "text_encoder": "T5EncoderModel"},
        tiles=True,
    ),
    "WanTransformer3DModel": Family(
        room="longtake.models.wan",
        models="Wan2.1 T2V, I2V and FLF2V, Wan2.2 T2V A14B, I2V A14B and TI2V 5B",
        pipeline="WanPipeline",
        pipeline_with={"image_encoder": "WanImageToVideoPipeline"},
        networks={
            "transformer": "WanTransformer3DModel",
            "transformer_2": "WanTransformer3DModel",
            "vae": "AutoencoderKLWan",
            "text_encoder": "UMT5EncoderModel",
            "image_encoder": "CLIPVisionModel",
        },
        others=("tokenizer", "scheduler", "image_processor"),
        optional=frozenset({"transformer_2", "image_encoder", "image_processor"}),
        takes_turns=True,
        compiles=True,
        tiles=True,
        single_file=True,
    ),
    "WanVACETransformer3DModel": Family(
        room="longtake.models.wan",
        models="Wan2.1 VACE",
        pipeline="WanVACEPipeline",
        networks={"transformer": "WanVACETransformer3DModel", "transformer_2": "WanVACETransformer3DModel", **OF_WAN},
        optional=frozenset({"transformer_2"}),
        compiles=True,
        tiles=True,
        single_file=True,
    ),
    "SkyReelsV2Transformer3DModel": Family(
        room="longtake.models.wan",
        models="SkyReels-V2 DF and T2V",
        pipeline="SkyReelsV2DiffusionForcingPipeline",
        networks={"transformer": "SkyReelsV2Transformer3DModel", **OF_WAN},
        takes_turns=True,
        compiles=True,
        tiles=True,
        single_file=True,
    ),
    "LTXVideoTransformer3DModel": Family(
        room="longtake.models.ltx",
        models="LTX-Video 0.9",
        pipeline="LTXPipeline",
        networks={"transformer": "LTXVideoTransformer3DModel", "vae": "AutoencoderKLLTXVideo"} | T5,
        compiles=True,
        tiles=True,
        single_file=True,
    ),
    "CogVideoXPipeline": Family(
        room="longtake.models.cogvideox",
        models="CogVideoX 2b and 5b",
        pipeline="CogVideoXPipeline",
        networks={"transformer": "CogVideoXTransformer3DModel", "vae": "AutoencoderKLCogVideoX"} | T5,
        unless={"transformer": ("patch_size_t", "use_learned_positional_embeddings")},
        takes_turns=True,
        tiles=True,
    ),
    "LTX2VideoTransformer3DModel": Family(
        room="longtake.models.ltx",
        models="LTX-2, the picture alone",
        pipeline="LTX2Pipeline",
        networks={
            "transformer": "LTX2VideoTransformer3DModel",
            "connectors": "LTX2TextConnectors",
            "vae": "AutoencoderKLLTX2Video",
            "text_encoder": "Gemma3ForConditionalGeneration",
        },
        also={"text_encoder": "Gemma4UnifiedForConditionalGeneration"},
        tiles=True,
    ),
    "AnimateDiffSparseControlNetPipeline": Family(
        room="longtake.models.animatediff",
        models="AnimateDiff with SparseCtrl",
        pipeline="AnimateDiffSparseControlNetPipeline",
        networks=TEXT_TO_VIDEO | {"unet": "UNetMotionModel", "controlnet": "SparseControlNetModel"},
        tiles=True,
    ),
    "UNetMotionModel": Family(
        room="longtake.models.animatediff",
        models="AnimateDiff, as diffusers saves it",
        pipeline="AnimateDiffPipeline",
        networks=TEXT_TO_VIDEO | {"unet": "UNetMotionModel"},
        tiles=True,
    ),
    "UNet2DConditionModel": Family(
        room="longtake.models.animatediff",
        models="AnimateDiff as an image model and a motion adapter",
        pipeline="AnimateDiffPipeline",
        networks=TEXT_TO_VIDEO | {"unet": "UNet2DConditionModel", "motion_adapter": "MotionAdapter"},
        tiles=True,
    ),
    "UNetSpatioTemporalConditionModel": Family(
        room="longtake.models.svd",
        models="Stable Video Diffusion",
        pipeline="StableVideoDiffusionPipeline",
        networks={
            "unet": "UNetSpatioTemporalConditionModel",
            "vae": "AutoencoderKLTemporalDecoder",
            "image_encoder": "CLIPVisionModelWithProjection",
        },
        others=("scheduler", "feature_extractor"),
    ),
    "PvdmPipeline": Family(
        room="longtake.models.pvdm",
        models="PVDM",
        pipeline="PvdmPipeline",
        networks={"autoencoder": "PvdmAutoencoder", "unet": "PvdmUnet", "text_encoder": "CLIPTextModel"},
        others=("tokenizer",),
        optional=frozenset({"text_encoder", "tokenizer"}),
    ),
    "NuwaXlPipeline": Family(
        room="longtake.models.nuwa_xl",
        models="NUWA-XL",
        pipeline="NuwaXlPipeline",
        networks=TEXT_TO_VIDEO | {"unet": "MaskTemporalUnet", "vae_over_time": "TemporalAutoencoder"},
        optional=frozenset({"vae_over_time"}),
    ),
}
"""By the class of a pipeline; or by that of its network, where several pipelines run the same one."""


def model_spec(name: str, **loading: Any) -> VideoSpec:
    """Return what is known of a model without loading weights.

    `name` is one of `MODELS`, a folder in the hub layout, or a repository in the local cache; `loading` are fields
    of `Loading`. Raises InputError for an unknown name or no model to run, CheckpointError for missing or broken files.
    """
    entry = MODELS.get(name)
    if entry and not entry.folder:
        _check_unused(name, loading)
        return named(entry.spec)()
    settings = _here(name, Loading.of(loading))
    return _spec(name, *configs_of(name, settings), settings)


def _spec(name: str, configs: Configs, family: Family, loading: Loading) -> VideoSpec:
    spec = taught(spec_of(configs, family, loading), *(lora.guidance for lora in loading.loras))
    return replace(spec, takes_guidance=MODELS[name].takes_guidance if name in MODELS else "")


def configs_of(name: str, loading: Loading) -> tuple[Configs, Family]:
    """Return what the files of a model say, and the row that runs it; see `model_spec`."""
    found = _found(name, loading)
    family = family_of(found)
    loading.check(family)
    configs = read_configs(found, family, loading.asked)
    loading.quantised(configs, family)
    return configs, family


def load_model(
    name: str, device: "torch.device | str" = "cpu", dtype: "torch.dtype | None" = None, **loading: Any
) -> VideoModel:
    """Load a model; see `model_spec` for its name, for `loading` and for errors.

    `dtype` is float32 unless given. Only safetensors are read, from the local disk.
    """
    kind = Annotated[str, Setting(metavar="NAME|FOLDER|ID")]
    name = fitting(name, kind, "name", "load_model", "the name of a model, its folder or its hub id")
    device, dtype = asked_place(device, dtype)
    settings = _here(name, Loading.of(loading))
    model = _loaded(name, device, dtype, settings)
    model.origin, model.loading = canonical(name), settings.told
    return model


def _loaded(name: str, device: "torch.device | str", dtype: "torch.dtype", loading: Loading) -> VideoModel:
    entry = MODELS.get(name)
    if entry and not entry.folder:
        _check_unused(name, loading.told)
        return named(entry.load)(device=device, dtype=dtype)
    import torch

    from longtake.models.black_box.model import tile_whole
    from longtake.models.hub.load import load_pipeline
    from longtake.models.hub.lora import fuse, read_changes
    from longtake.models.hub.offload import HOST, Turns, come_in_blocks, rests_on_host, take_turns
    from longtake.models.hub.quantise import attend_by, quantise

    if loading.offload == "auto":
        raise InputError("--offload auto is chosen by a command, by its plan; give none, text, model or group")
    configs, family = configs_of(name, loading)
    offload = "none" if family.whole else loading.offload_on(str(device))
    spec = _spec(name, configs, family, loading)
    changes = read_changes(loading.loras, configs, family)
    quantised = loading.quantised(configs, family)
    check_there(str(device))
    pipeline = load_pipeline(configs, family, torch.device(device), dtype, offload, quantised, loading.wrap)
    if loading.vae_tiling and family.whole:
        tile_whole(pipeline)
    fuse(pipeline, changes)
    denoisers = [getattr(pipeline, part) for part in DENOISERS if part in configs.parts]
    for network in denoisers if loading.attention_backend else ():
        attend_by(network, str(loading.attention_backend))
    for part in quantised:
        quantise(getattr(pipeline, part), loading.quantize).to(HOST if rests_on_host(part, offload) else device)
    for network in denoisers if offload == "group" else ():
        come_in_blocks(network, torch.device(device))
    model = named(f"{family.room}.model:wrap")(pipeline, spec, configs)
    take_turns(pipeline, [name for name in family.networks if name in configs.parts], offload, Turns(model.device))
    for network in denoisers if loading.compile else ():
        network.compile()
    model.takes_turns = offload == "model"
    model.digest = loading.digest(model.digest)
    return model


def offers() -> list[Offer]:
    """Return what the models of every family can do that says so, in the order of the table."""
    rooms = dict.fromkeys([*(row.room for row in FAMILIES.values()), BLACK_BOX])
    return [offer for room in rooms for offer in vars(import_module(f"{room}.spec")).get("OFFERS", ())]


def from_pipe(pipe: Any, **extras: Any) -> VideoModel:
    """Make a pipeline of diffusers that somebody has prepared (offloaded, quantised, with a LoRA) a model.

    The spec is read from the configs of its parts as they are; `extras` are what longtake.json says in a folder, such
    as num_frames or size. The pipeline is used, not copied; threads may share the model, but two models of one pipeline
    know nothing of each other. Its digest covers the configs, the extras, and of every tensor the name, the shape, the
    format and up to 1,024 numbers spread over it; not how strongly a LoRA counts, and not the numbers of weights that
    lie on no device, because diffusers brings them for a call. Raises InputError for one that longtake does not run,
    NonFiniteError for weights that are infinite or no numbers.
    """
    from torch.nn import Module

    from longtake.models.hub.live import check_places, live_configs, part_classes, part_devices
    from longtake.models.hub.load import check_weights
    from longtake.models.hub.offload import mend_offload

    parts, name = part_classes(pipe), type(pipe).__name__
    check_places(part_devices(pipe), DENOISERS)
    for part in parts:
        if isinstance(network := getattr(pipe, part), Module):
            check_weights(network, f"the {part} of this pipeline")
    family = _row(name, parts, f"this pipeline is {an(name)}", lambda part: getattr(getattr(pipe, part), "config", {}))
    configs = live_configs(pipe, family, extras)
    loading = Loading(vae_tiling=family.tiles and getattr(pipe.vae, "use_tiling", False))
    model = named(f"{family.room}.model:wrap")(pipe, spec_of(configs, family, loading), configs)
    model.digest = loading.digest(model.digest)
    model.takes_turns = mend_offload(pipe, model.device)
    return model


def canonical(name: str) -> str:
    """Return the name by which a run finds its model again from another folder."""
    path = Path(name).expanduser()
    return name if name in MODELS or (is_hub_id(name) and not path.exists()) else str(path.resolve())


def stock_class(name: str, **loading: Any) -> str:
    """Return what a model folder calls the class of its pipeline; see `model_spec`. Empty for a model made by code."""
    entry = MODELS.get(name)
    is_code = entry is not None and not entry.folder
    return "" if is_code else str(read_index(_found(name, Loading(**loading)))["_class_name"])


def family_of(found: Found) -> Family:
    """Return the row that runs a folder. Raises InputError, with the reason, for models that longtake does not run, and
    CheckpointError for an index that lacks what it runs."""
    index = read_index(found)
    said = index.get("_class_name")
    if not isinstance(said, str):
        raise CheckpointError(f"{found.folder / INDEX}: _class_name cannot be {said!r}; fetch the model again")
    parts = {part: str(entry[1]) for part, entry in index.items() if isinstance(entry, list) and len(entry) == 2}
    parts = {part: kind for part, kind in parts.items() if kind != "None"}
    return _row(said, parts, f"{found.folder} is {an(said)}", partial(config_of, found))


def spec_of(configs: Configs, family: Family, loading: Loading | None = None) -> VideoSpec:
    """Return the spec of a model of this family that is loaded so. Raises as `Loading.checked`."""
    spec, loading = with_tokenizer(named(f"{family.room}.spec:spec")(configs), configs), loading or Loading()
    spec = loading.checked(taught(spec, configs.extras.get("learnt_guidance")), configs)
    return tiled(spec) if loading.vae_tiling and family.tiles else spec


def _row(name: str, parts: Mapping[str, str], what: str, config: Callable[[str], Mapping[str, Any]]) -> Family:
    for kind in (name, *parts.values()):
        if kind in FAMILIES and not FAMILIES[kind].is_another(config):
            # It may run more than one class of a part.
            row = FAMILIES[kind]
            later = {part: other for part, other in row.also.items() if parts.get(part) == other}
            return replace(row, networks={**row.networks, **later}) if later else row
    for kind, row in FAMILIES.items():
        lacking = [part for part, network in row.networks.items() if network == kind and part not in parts]
        if name == row.pipeline and lacking:
            raise CheckpointError(f"{what}, but {INDEX} names no {lacking[0]} ({kind}); fetch the model again")
    if whole := whole_pipeline(name, parts, what):
        return whole
    known = ", ".join(f"{name} ({row.models})" for name, row in FAMILIES.items())
    raise InputError(
        f"{what}, which is none of diffusers {version('diffusers')}; longtake runs its pipelines that make videos of a "
        f"text as a whole, and with every sampler that fits {known}"
    )


def _here(name: str, loading: Loading) -> Loading:
    """Return the settings of a model whose files are all here, fetched if that was asked for. Raises InputError."""
    wanted = loading.base or name
    if name not in MODELS and is_hub_id(wanted) and not Path(wanted).expanduser().exists():
        from longtake.models.hub.download import fetch

        fetch(wanted, loading.revision, loading.variant, download=loading.download, offline=loading.offline)
    elif loading.download or loading.offline:
        option = "--download" if loading.download else "--offline"
        raise InputError(f"{option} has no effect on {wanted}, which is no hub id; leave it out")
    return loading.absolute


def _found(name: str, loading: Loading) -> Found:
    entry = MODELS.get(name)
    if loading.base is not None and entry is None:
        return with_transformer(find(loading.base, loading.revision, loading.variant), name)
    if loading.base is not None:
        raise InputError(f"--base has no effect on the model {name}; leave it out")
    if entry is None and not (is_hub_id(name) or is_path(name) or Path(name).expanduser().exists()):
        raise unknown_name("model", name, MODELS)
    return find(str(entry.folder) if entry else name, loading.revision, loading.variant)


def _check_unused(name: str, told: Mapping[str, Any]) -> None:
    for setting in told:
        raise InputError(f"--{setting} has no effect on the model {name}, which is made by code; leave it out")
