"""`longtake train nuwa-xl`: mask temporal diffusion on episodes of one's own."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from longtake.apps.arguments import parse_arguments
from longtake.apps.train.session import RunSession, run_training
from longtake.errors import InputError
from longtake.models.hub.files import digest
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.settings import MtdSettings, NuwaXlRun
from longtake.train.nuwa_xl.start import chosen_network, chosen_size, read_start
from longtake.typed import Flag, Setting, Typed, to_json

if TYPE_CHECKING:
    from longtake.data.episodes import Episodes
    from longtake.train.fit.job import Job


@dataclass(frozen=True, kw_only=True)
class NuwaXlSettings(Typed):
    """Train NUWA-XL's diffusion on long videos with captions. The same command continues an interrupted run."""

    data: Annotated[Path | None, Setting(positional=True, metavar="FOLDER")] = None
    """A folder for every episode: a video or numbered pictures, and captions.jsonl."""
    base: Annotated[str, Setting(metavar="NAME|FOLDER")] = "sprites"
    """What to start from: a folder in the hub layout of Stable Diffusion 1 or 2, of a text-to-video model of the
    ModelScope family (its pictures), or of a NUWA-XL model, to train it further; or the name of an embedded one."""
    size: Annotated[int | None, Setting(metavar="INT", unset="that of --base")] = None
    """Side of the frames in pixels, where it is to be another."""
    frames: Annotated[int | None, Setting(metavar="INT", unset="16")] = None
    """Frames of a clip, the paper's L."""
    levels: int = 3
    """Levels of the tree: clips are taken from spans of (frames - 1)^levels + 1 frames, which a video must have."""
    finest_only: Flag = False
    """Tell the finest scale alone of the known frames: without the paper's multi-scale injection (MI)."""
    upward_only: Flag = False
    """Tell the way up alone of the known frames: without the paper's symmetric injection (SI)."""
    t_klvae_steps: Annotated[int, Setting(metavar="INT", unset="none")] = 0
    """Before all else, train the decoder to see the frames around each (T-KLVAE) in so many steps; 0 leaves it as it
    is, frame by frame."""
    loss: Annotated[MtdSettings, Setting(boxed=True)] = MtdSettings(batch_size=2, sample_steps=12)
    fit: Annotated[FitSettings, Setting(boxed=True)] = FitSettings(
        num_steps=100_000, learning_rate=1e-4, warmup_steps=500, ema_decay=0.9995
    )
    session: Annotated[RunSession, Setting(name="")] = RunSession(output=Path("nuwa-xl"))


def nuwa_xl_command(arguments: Sequence[str]) -> int:
    """Train mask temporal diffusion."""
    settings = parse_arguments(NuwaXlSettings, "train nuwa-xl", arguments)
    folder = _episodes_folder(settings.data)
    start = read_start(settings.base)
    chosen = {"finest_only": settings.finest_only, "upward_only": settings.upward_only}
    network = chosen_network(start, settings.frames, settings.levels, **chosen)
    settings.loss.check(network)
    size = chosen_size(start, settings.size)
    run = NuwaXlRun(
        network=network,
        start=start,
        size=size,
        loss=settings.loss,
        fit=settings.fit,
        t_klvae_steps=settings.t_klvae_steps,
    )

    def train(job: "Callable[..., Job]") -> bool:
        from longtake.data.episodes import episode_folders
        from longtake.train.nuwa_xl.stages import nuwa_xl_stage
        from longtake.video.read import open_video

        span = network.strides[0] * (network.frames - 1) + 1
        episodes = episode_folders(folder, size=size, min_frames=span, open_video=open_video)
        footage = episodes.footage
        return nuwa_xl_stage(run, episodes, job(train=footage, shown=footage, settings=_asked(run, episodes)))

    smaller = f"lower --batch-size ({run.loss.batch_size}), --size ({size}) or --frames ({network.frames})"
    return run_training(settings.session, settings.fit, smaller=smaller, train=train)


def _asked(run: NuwaXlRun, episodes: "Episodes") -> dict[str, Any]:
    asked, told = to_json({"run": run}), [[one.starts, one.stops, one.texts] for one in episodes.captions]
    asked["captions"] = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    # What it is, and not where it lies.
    asked["run"]["start"] = digest(run.start.parts.values())
    return asked


def _episodes_folder(data: Path | None) -> Path:
    if data is None:
        raise InputError("what to train on is missing; give a folder that holds a folder for every episode")
    folder = data.expanduser()
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give one that holds a folder for every episode")
    if not any(folder.glob("*/captions.jsonl")):
        raise InputError(f"{folder} holds no EPISODE/captions.jsonl; every episode needs its captions")
    return folder
