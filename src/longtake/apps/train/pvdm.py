"""`longtake train pvdm-autoencoder` and `longtake train pvdm`: PVDM on videos of one's own, in two stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from longtake.apps.arguments import parse_arguments
from longtake.apps.train.session import RunSession, need, run_training
from longtake.data.footage_settings import FootageSettings, open_footage
from longtake.errors import InputError
from longtake.models.hub.files import digest
from longtake.models.pvdm.config import AutoencoderConfig, UnetConfig
from longtake.models.pvdm.spec import part_name, read_config
from longtake.train.pvdm.settings import EFFICIENTNET_PACKAGE, AutoencoderRun, DiffusionRun
from longtake.typed import Flag, Setting, Typed, to_json

if TYPE_CHECKING:
    from longtake.data.footage import Footage
    from longtake.train.fit.job import Job


@dataclass(frozen=True, kw_only=True)
class Recordings(Typed):
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
class PvdmAutoencoderSettings(Typed):
    """Train PVDM's first stage, the autoencoder. The same command continues an interrupted run."""

    recordings: Annotated[Recordings, Setting(name="")] = Recordings()
    frames: int = AutoencoderConfig().grid.frames
    """Frames of a clip. A UNet of 4 levels needs a multiple of 8, and as many patches to a side."""
    size: int = 256
    """Side of the frames in pixels: their middle square, resized."""
    run: Annotated[AutoencoderRun, Setting(name="")] = AutoencoderRun()
    session: Annotated[RunSession, Setting(name="")] = RunSession(output=Path("pvdm-autoencoder"))


@dataclass(frozen=True, kw_only=True)
class PvdmSettings(Typed):
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
    run = replace(run, base=_base(run.base, run.network))
    asked = _asked(run, recordings)

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
    run = replace(run, base=_base(run.base, run.network))
    asked = _asked(run, recordings) | {"autoencoder_digest": digest([part])}

    def train(job: "Callable[..., Job]") -> bool:
        from longtake.train.pvdm.stages import diffusion_stage

        kept, shown = recordings.opened(config)
        return diffusion_stage(run, job(train=kept, shown=shown, settings=asked))

    smaller = f"lower --batch-size ({run.loss.batch_size}), give --recompute, or raise --every ({run.every})"
    return run_training(settings.session, run.fit, smaller=smaller, train=train)


def _autoencoder_part(folder: Path | None) -> Path:
    if folder is None:
        raise InputError("--autoencoder is missing; give the folder of a finished 'longtake train pvdm-autoencoder'")
    if part := _part(folder, "autoencoder"):
        return part
    raise InputError(f"{folder} holds no finished autoencoder; 'longtake train pvdm-autoencoder' makes one")


def _part(folder: Path, name: str) -> Path | None:
    """Return where a network lies: in a run's folder, a model's, or just there."""
    folder = folder.expanduser()
    parts = (folder / "final" / name, folder / name, folder)
    return next((part for part in parts if part.name == name and (part / "config.json").is_file()), None)


def _base(folder: Path | None, network: AutoencoderConfig | UnetConfig) -> Path | None:
    """Return where the weights are that a run begins with. Raises InputError for those of another network."""
    if folder is None:
        return None
    part = _part(folder, part_name(network))
    if part is None:
        raise InputError(f"--base {folder} holds no {part_name(network)} of PVDM; give a run's folder, or a model's")
    is_first = isinstance(network, AutoencoderConfig)
    found = read_config(AutoencoderConfig, part) if is_first else read_config(UnetConfig, part)
    for name, value in vars(network).items():
        if (there := getattr(found, name)) != value:
            raise InputError(f"the {part_name(network)} of --base {folder} has {name} {there}, not {value}")
    return part


def _asked(run: AutoencoderRun | DiffusionRun, recordings: Recordings) -> dict[str, Any]:
    asked = to_json({"run": run, "footage": recordings.chosen()})
    # What it is, and not where it lies.
    asked["run"]["base"] = run.base and digest([run.base])
    return asked
