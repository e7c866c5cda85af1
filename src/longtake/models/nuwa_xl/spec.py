"""What can be known of a NUWA-XL folder before its weights are loaded. Imports no torch.

FOLDER/model_index.json            names the pipeline, NuwaXlPipeline, and its parts
FOLDER/unet                        config.json, with that of the image UNet in it, and safetensors
FOLDER/vae, text_encoder, tokenizer, scheduler
                                   as in the folder of a text-to-video model; may lie in one, see `Extras.shared`
FOLDER/vae_over_time               what T-KLVAE adds to the vae; may be lacking
FOLDER/longtake.json               frames per second, guidance, vocabulary (see `Extras`)
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError
from longtake.model import Continuation, Infill, Strided, VideoSpec
from longtake.models.hub.configs import Configs, Count, place_of
from longtake.models.hub.files import read_json
from longtake.models.image_spec import Denoiser, ImageAutoencoder, image_spec
from longtake.models.nuwa_xl.config import MtdConfig
from longtake.typed import read_typed

PIPELINE, UNET, T_KLVAE = "NuwaXlPipeline", "MaskTemporalUnet", "TemporalAutoencoder"
OVER_TIME = "vae_over_time"
"""Part with what T-KLVAE adds to `vae`."""


@dataclass(frozen=True, kw_only=True)
class Image(Denoiser):
    """What is read of the config of the image UNet."""

    sample_size: Count


@dataclass(frozen=True, kw_only=True)
class OverTime:
    """The config of what T-KLVAE adds to an image VAE."""

    frames: Count
    """Frames of the longest clip."""
    image: dict[str, Any]
    """The config of that VAE."""


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model. Raises CheckpointError for broken configs and parts that do not fit each other."""
    unet = configs.parts["unet"]
    config, image = read_unet_config(place_of(unet))
    extras = configs.told(("infill_guidance", "vocabulary"), guidance=3.0, num_frames=config.frames)
    capabilities = {Infill, Continuation, Strided}
    more = {"strides": config.strides, "clip_decoder": _has_over_time(configs, config)}
    return image_spec(configs, extras, unet.read(Image, of=image), capabilities, **more)


def _has_over_time(configs: Configs, config: MtdConfig) -> bool:
    """Return whether the decoder is that of T-KLVAE. Raises CheckpointError for one that does not fit the model."""
    if OVER_TIME not in configs.parts:
        if (Path(configs.where) / OVER_TIME).is_dir():
            raise CheckpointError(
                f"{configs.where}/{OVER_TIME} has no effect, since model_index.json does not name it; remove it, or "
                f'add "{OVER_TIME}": ["longtake", "{T_KLVAE}"] there'
            )
        return False
    part, vae = configs.parts[OVER_TIME], configs.parts["vae"]
    over_time = part.read(OverTime)
    if part.read(ImageAutoencoder, of=over_time.image) != vae.read(ImageAutoencoder):
        raise CheckpointError(f"{part.where} was made for another image autoencoder than {vae.where}")
    if over_time.frames < config.frames:
        raise part.error(f"frames cannot be {over_time.frames}, since a call makes {config.frames}")
    return True


def read_unet_config(place: Path) -> tuple[MtdConfig, dict[str, Any]]:
    """Return what a UNet adds to its image UNet, and the config of that. Raises CheckpointError for other content."""
    path = place / "config.json"
    content = {name: value for name, value in read_json(path).items() if name != "_class_name"}
    image = content.pop("image", None)
    if not isinstance(image, dict):
        raise CheckpointError(f"{path} is no config of a {UNET}: image cannot be {image!r}; fetch the model again")
    return read_typed(MtdConfig, content, str(path), error=CheckpointError, complete=True), image


def unet_config_json(config: MtdConfig, image: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the UNet's config.json."""
    return {"_class_name": UNET} | asdict(config) | {"image": image}


def index_json(*, over_time: bool) -> dict[str, Any]:
    """Return the content of model_index.json; `over_time`: whether the folder has that part."""
    index: dict[str, Any] = {"_class_name": PIPELINE, "unet": ["longtake", UNET]}
    text = {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index |= {OVER_TIME: ["longtake", T_KLVAE]} if over_time else {}
    return index | text | {"vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDIMScheduler"]}
