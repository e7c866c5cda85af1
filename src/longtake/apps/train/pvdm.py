"""`longtake train pvdm-autoencoder` and `longtake train pvdm`: PVDM on videos of one's own, in two stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from longtake.apps.arguments import parse_arguments
from longtake.apps.train.session import RunSession, need, run_training
from longtake.data.footage_settings import FootageSettings, open_footage
from longtake.errors import InputError
from longtake.models.hub.files import digest
from longtake.models.pvdm.config import AutoencoderConfig
from longtake.models.pvdm.spec import read_config
from longtake.train.pvdm.settings import EFFICIENTNET_PACKAGE, AutoencoderRun, DiffusionRun
from longtake.typed import Flag, Setting, to_json

if TYPE_CHECKING:
    from longtake.data.footage import Footage
    from longtake.train.fit.job import Job


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """What to learn from."""

    data: Annotated[str | None, Setting(positional=True, metavar="FOLDER|sprites")] = None
    """The training videos, or the sprite worlds, which are drawn on the spot."""
    footage: Annotated[FootageSettings, Setting(boxed=True)] = FootageSettings()
    in_memory: Flag = False
    """Decode everything once and keep it: size x size x 3 bytes a frame."""

    def chosen(self) -> FootageSettings:
        """Return where the recordings are. Raises InputError for nothing, and for settings without effect."""
        return self.footage.of(self.data)

    def opened(self, config: AutoencoderConfig) -> "tuple[Footage, Footage]":
        """Return the recordings to train a network on, and those to show on the way."""
        from longtake.data.footage import in_memory
        from longtake.video.read import open_video

        size, frames = config.grid.rows * config.patch, config.grid.frames
        kept, back = open_footage(self.chosen(), size=size, min_frames=frames, open_video=open_video)
        kept = in_memory(kept) if self.in_memory else kept
        return kept, back or kept


@dataclass(frozen=True, kw_only=True)
class PvdmAutoencoderSettings:
    """Train PVDM's first stage, the autoencoder. The same command continues an interrupted run."""

    recordings: Annotated[Recordings, Setting(name="")] = Recordings()
    frames: int = AutoencoderConfig().grid.frames
    """Frames of a clip. A UNet of 4 levels needs a multiple of 8, and as many patches to a side."""
    size: int = 256
    """Side of the frames in pixels: their middle square, resized."""
    run: Annotated[AutoencoderRun, Setting(name="")] = AutoencoderRun()
    session: Annotated[RunSession, Setting(name="")] = RunSession(output=Path("pvdm-autoencoder"))


@dataclass(frozen=True, kw_only=True)
class PvdmSettings:
    """Train PVDM's second stage, the diffusion model. The same command continues an interrupted run."""

    recordings: Annotated[Recordings, Setting(name="")] = Recordings()
    autoencoder: Annotated[Path | None, Setting(metavar="FOLDER", unset="none")] = None
    """The folder of a finished first stage, or of a PVDM model."""
    run: Annotated[DiffusionRun, Setting(name="")] = DiffusionRun(autoencoder=Path())
    session: Annotated[RunSession, Setting(name="")] = RunSession(output=Path("pvdm"))


def autoencoder_command(arguments: Sequence[str]) -> int:
    """Train the first stage."""
    settings = parse_arguments(PvdmAutoencoderSettings, "train pvdm-autoencoder", arguments)
    run, recordings = settings.run.of_clips(settings.frames, settings.size), settings.recordings
    run.perceptual.check()
    if run.perceptual.kind == "none" and run.loss.weights.perceptual != type(run.loss.weights).perceptual:
        raise InputError("--perceptual-weight has no effect with --perceptual none; choose a network, or leave it out")
    if run.perceptual.kind == "efficientnet":
        need(EFFICIENTNET_PACKAGE, "perceptual")
    asked = to_json({"run": run, "footage": recordings.chosen()})

    def train(job: "Callable[..., Job]") -> bool:
        from longtake.train.pvdm.stages import autoencoder_stage

        kept, shown = recordings.opened(run.network)
        return autoencoder_stage(run, job(train=kept, shown=shown, settings=asked))

    smaller = f"lower --batch-size ({run.loss.batch_size}), give --recompute, or make clips smaller: --size "
    smaller += f"({settings.size}), --frames ({settings.frames})"
    return run_training(settings.session, run.fit, smaller=smaller, train=train)


def diffusion_command(arguments: Sequence[str]) -> int:
    """Train the second stage."""
    settings = parse_arguments(PvdmSettings, "train pvdm", arguments)
    part, recordings = _autoencoder_part(settings.autoencoder), settings.recordings
    config = read_config(AutoencoderConfig, part)
    run = settings.run.on(config, part)
    asked = to_json({"run": run, "footage": recordings.chosen()}) | {"autoencoder_digest": digest([part])}

    def train(job: "Callable[..., Job]") -> bool:
        from longtake.train.pvdm.stages import diffusion_stage

        kept, shown = recordings.opened(config)
        return diffusion_stage(run, job(train=kept, shown=shown, settings=asked))

    smaller = f"lower --batch-size ({run.loss.batch_size}), give --recompute, or raise --every ({run.every})"
    return run_training(settings.session, run.fit, smaller=smaller, train=train)


def _autoencoder_part(folder: Path | None) -> Path:
    """Return where the autoencoder lies: in a run's folder, a model's, or just there."""
    if folder is None:
        raise InputError("--autoencoder is missing; give the folder of a finished 'longtake train pvdm-autoencoder'")
    folder = folder.expanduser()
    for part in (folder / "final" / "autoencoder", folder / "autoencoder", folder):
        if part.name == "autoencoder" and (part / "config.json").is_file():
            return part
    raise InputError(f"{folder} holds no finished autoencoder; 'longtake train pvdm-autoencoder' makes one")
