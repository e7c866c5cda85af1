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

from longtake.errors import CheckpointError, InputError
from longtake.model import Continuation, Infill, Strided, VideoSpec
from longtake.models.hub.configs import Configs, Count, place_of
from longtake.models.hub.family import Offer
from longtake.models.hub.files import read_json
from longtake.models.image_spec import Denoiser, ImageAutoencoder, image_spec
from longtake.typed import Typed, read_typed

PIPELINE, UNET, T_KLVAE = "NuwaXlPipeline", "MaskTemporalUnet", "TemporalAutoencoder"
OVER_TIME = "vae_over_time"
"""Part with what T-KLVAE adds to `vae`."""


OFFERS = (
    Offer(
        models="NUWA-XL, `nuwa-sprites` (embedded)",
        page="methods/nuwa_xl.md",
        capabilities=frozenset({Infill, Continuation}),
        trained="known frames, the distances between frames of its levels, a prompt a frame",
        extrapolated="other distances",
    ),
)
"""Rows of the table of what runs on what."""


@dataclass(frozen=True, kw_only=True)
class MtdConfig(Typed):
    """What mask temporal diffusion adds to an image UNet."""

    frames: int = 16
    """Frames of a clip, the paper's L; the network runs on as many or fewer."""
    multi_scale: bool = True
    """Tell every scale of the UNet of the known frames (the paper's MI), rather than the finest alone."""
    symmetric: bool = True
    """Tell the way down as well as the way up (the paper's SI)."""
    condition_channels: int = 32
    """Channels in which the known frames travel to the scales."""
    strides: tuple[int, ...] = (225, 15, 1)
    """Frames of the video from one frame of a clip to the next: those it learns, from the coarsest level on."""

    def __post_init__(self) -> None:
        """Raise InputError for sizes that no network can have."""
        super().__post_init__()
        if self.frames < 3:
            raise InputError(f"a clip of {self.frames} frames has nothing between its ends; use 3 or more")
        if self.condition_channels < 1:
            raise InputError(f"{self.condition_channels} condition channels carry nothing; use 1 or more")
        if not self.strides or min(self.strides) < 1:
            raise InputError(f"strides cannot be {list(self.strides)}; name one or more, each 1 or more")


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
