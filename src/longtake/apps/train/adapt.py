"""`longtake train adapt`: a LoRA for a model of one's own, or of somebody else's."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from longtake.apps.arguments import parse_arguments
from longtake.apps.train.session import RunSession, run_training
from longtake.data.footage_settings import SPRITES
from longtake.errors import InputError
from longtake.model import PerFrameNoise, VideoSpec
from longtake.models import configs_of, load_model, model_spec
from longtake.models.hub.loading import Loading
from longtake.train.adapt.settings import AdaptSettings
from longtake.train.fit.settings import FitSettings
from longtake.typed import Setting, Typed, to_json

if TYPE_CHECKING:
    from longtake.data.episodes import Episodes
    from longtake.train.fit.job import Job

_WORLDS, _CLIPS = 1_000, 2


@dataclass(frozen=True, kw_only=True)
class AdaptCommand(Typed):
    """Train a LoRA for a model, on videos with captions. The same command continues an interrupted run."""

    data: Annotated[str | None, Setting(positional=True, metavar="FOLDER|sprites")] = None
    """A folder for every episode: a video or numbered pictures, and captions.jsonl; or the sprite worlds, which are
    drawn on the spot."""
    base: Annotated[str, Setting(metavar="NAME|FOLDER")] = "sprites"
    """The model: the name of an embedded one, a folder in the hub layout, or a hub id in the local cache."""
    size: Annotated[str | None, Setting(metavar="WxH", unset="the model's own")] = None
    """Width and height of the clips in pixels, for networks that take others than they were trained at."""
    window: Annotated[int | None, Setting(metavar="N", unset="the model's own")] = None
    """Latent frames of a clip, which are those of one call of the network."""
    worlds: Annotated[int | None, Setting(metavar="INT", unset=str(_WORLDS))] = None
    """How many sprite worlds, of two clips each."""
    adapt: Annotated[AdaptSettings, Setting(boxed=True)] = AdaptSettings()
    fit: Annotated[FitSettings, Setting(boxed=True)] = FitSettings(
        num_steps=4_000, learning_rate=5e-4, decay_steps=2_000, weight_decay=0.0
    )
    session: Annotated[RunSession, Setting(name="")] = RunSession(output=Path("adapted"))


def adapt_command(arguments: Sequence[str]) -> int:
    """Train a LoRA."""
    settings = parse_arguments(AdaptCommand, "train adapt", arguments)
    loading = {"size": settings.size, "window": settings.window}
    spec = _spec(settings.base, loading)
    _check_data(settings)

    def train(job: "Callable[..., Job]") -> bool:
        import torch

        from longtake.models.hub.lora import lora_reader
        from longtake.train.adapt.stages import adapt_stage

        lora_reader(configs_of(settings.base, Loading(**loading).absolute)[1])
        episodes = _episodes(settings, spec)
        footage, asked = episodes.footage, _asked(settings, episodes)
        opened = job(train=footage, shown=footage, settings=asked)
        # The weights that stay as they are take half the memory of a GPU.
        is_half = opened.device.type == "cuda" and settings.fit.precision == "bf16"
        model = load_model(settings.base, opened.device, torch.bfloat16 if is_half else torch.float32, **loading)
        return adapt_stage(model, settings.adapt, settings.fit, episodes, opened)

    smaller = f"lower --batch-size ({settings.adapt.batch_size}), --rank ({settings.adapt.rank}), --size or --window"
    return run_training(settings.session, settings.fit, smaller=smaller, train=train)


def _spec(name: str, loading: dict[str, Any]) -> VideoSpec:
    """Return the spec of a model that can be adapted. Raises InputError for any other."""
    spec = model_spec(name, **loading)
    if PerFrameNoise not in spec.capabilities:
        raise InputError(f"{name} takes no noise level a frame, which both recipes are about; choose another --base")
    if spec.needs_pictures:
        raise InputError(
            f"{name} was trained with a picture in every window, which clips here lack; choose another --base"
        )
    return spec


def _check_data(settings: AdaptCommand) -> None:
    if settings.data is None:
        raise InputError("what to train on is missing; give a folder that holds a folder for every episode, or sprites")
    if settings.data == SPRITES:
        return
    folder = Path(settings.data).expanduser()
    if settings.worlds is not None:
        raise InputError(f"--worlds has no effect on the videos in {folder}; leave it out")
    if not any(folder.glob("*/captions.jsonl")):
        raise InputError(f"{folder} holds no EPISODE/captions.jsonl; every episode needs its captions")


def _episodes(settings: AdaptCommand, spec: VideoSpec) -> "Episodes":
    from longtake.data.episodes import episode_folders, labelled
    from longtake.data.footage_files import sprite_worlds
    from longtake.video.read import open_video

    size = spec.height if spec.height == spec.width else None
    frames = spec.timing.pixel_frames(spec.num_frames)
    if settings.data == SPRITES:
        return labelled(sprite_worlds(settings.worlds or _WORLDS, _CLIPS * frames, size=size, min_frames=frames))
    folder = Path(str(settings.data)).expanduser()
    return episode_folders(folder, size=size, min_frames=frames, open_video=open_video)


def _asked(settings: AdaptCommand, episodes: "Episodes") -> dict[str, Any]:
    told = [[one.starts, one.stops, one.texts] for one in episodes.captions]
    asked = to_json({"adapt": settings.adapt, "fit": settings.fit, "size": settings.size, "window": settings.window})
    return {"run": asked, "captions": hashlib.sha256(json.dumps(told).encode()).hexdigest()}
