"""`longtake train pvdm-autoencoder` and `longtake train pvdm`: PVDM on videos of one's own, in two stages."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.apps.arguments import parse_arguments
from longtake.apps.train import need, run_training
from longtake.apps.train_pvdm_settings import PvdmAutoencoderSettings, PvdmSettings, Source
from longtake.data.footage_settings import FootageSettings, open_footage
from longtake.errors import InputError
from longtake.models.hub.files import digest
from longtake.models.pvdm.config import AutoencoderConfig
from longtake.models.pvdm.spec import read_config
from longtake.train.fit.run_record import settings_of
from longtake.train.pvdm.settings import EFFICIENTNET_PACKAGE, AutoencoderRun, DiffusionRun, DiffusionSettings

if TYPE_CHECKING:
    from longtake.data.footage import Footage
    from longtake.train.fit.job import Job


def autoencoder_command(arguments: Sequence[str]) -> int:
    """Train the first stage."""
    settings = parse_arguments(PvdmAutoencoderSettings, "train pvdm-autoencoder", arguments)
    run = AutoencoderRun(
        network=settings.network.config(),
        loss=settings.loss,
        perceptual=settings.perceptual,
        judges=settings.judges,
        fit=settings.fit,
        recompute=settings.recompute,
    )
    run.perceptual.check()
    if run.perceptual.kind == "none" and run.loss.weights.perceptual != type(run.loss.weights).perceptual:
        raise InputError("--perceptual-weight has no effect with --perceptual none; choose a network, or leave it out")
    if run.perceptual.kind == "efficientnet":
        need(EFFICIENTNET_PACKAGE, "perceptual")

    def train(job: "Job") -> bool:
        from longtake.train.pvdm.stages import autoencoder_stage

        return autoencoder_stage(run, job)

    footage = settings.source.footage(settings.data)
    smaller = f"lower --batch-size ({run.loss.batch_size}), give --recompute, or make clips smaller: --size "
    smaller += f"({settings.network.size}), --frames ({settings.network.frames})"
    return _run(settings, run.network, footage, settings_of(run=run, footage=footage), train, smaller)


def diffusion_command(arguments: Sequence[str]) -> int:
    """Train the second stage."""
    settings = parse_arguments(PvdmSettings, "train pvdm", arguments)
    part = _autoencoder_part(settings.autoencoder)
    config = read_config(AutoencoderConfig, part)
    # Before anything is encoded for hours.
    if settings.every < 1 or config.grid.frames % settings.every:
        raise InputError(
            f"clips of {config.grid.frames} frames cannot start every {settings.every} frames; use a divisor"
        )
    run = DiffusionRun(
        network=settings.network.config(config),
        autoencoder=part,
        every=settings.every,
        loss=DiffusionSettings(batch_size=settings.batch_size, conditional=settings.conditional),
        fit=settings.fit,
        recompute=settings.recompute,
    )

    def train(job: "Job") -> bool:
        from longtake.train.pvdm.stages import diffusion_stage

        return diffusion_stage(run, job)

    footage = settings.source.footage(settings.data)
    asked = settings_of(run=run, footage=footage) | {"autoencoder_digest": digest([part])}
    smaller = f"lower --batch-size ({settings.batch_size}), give --recompute, or raise --every ({settings.every})"
    return _run(settings, config, footage, asked, train, smaller)


def _run(
    settings: PvdmAutoencoderSettings | PvdmSettings,
    config: AutoencoderConfig,
    footage: FootageSettings,
    asked: dict[str, Any],
    stage: "Callable[[Job], bool]",
    smaller: str,
) -> int:
    """Check what can be checked, open the recordings, and train."""

    def train(job: "Callable[..., Job]") -> bool:
        kept, back = _recordings(settings.source, footage, config.grid.rows * config.patch, config.grid.frames)
        return stage(job(train=kept, shown=back or kept, settings=asked))

    return run_training(settings.output, settings.fit, settings.where, smaller, train)


def _recordings(source: Source, footage: FootageSettings, size: int, frames: int) -> "tuple[Footage, Footage | None]":
    from longtake.data.footage import in_memory
    from longtake.video.seekable import open_video

    kept, back = open_footage(footage, size=size, min_frames=frames, open_video=open_video)
    return (in_memory(kept) if source.in_memory else kept), back


def _autoencoder_part(folder: Path | None) -> Path:
    """Return where the autoencoder lies: in a run's folder, a model's, or just there."""
    if folder is None:
        raise InputError("--autoencoder is missing; give the folder of a finished 'longtake train pvdm-autoencoder'")
    folder = folder.expanduser()
    for part in (folder / "final" / "autoencoder", folder / "autoencoder", folder):
        if part.name == "autoencoder" and (part / "config.json").is_file():
            return part
    raise InputError(f"{folder} holds no finished autoencoder; 'longtake train pvdm-autoencoder' makes one")
