"""`longtake train nuwa-xl`: mask temporal diffusion on episodes of one's own."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from longtake.apps.arguments import parse_arguments
from longtake.apps.train import run_training
from longtake.apps.train_nuwa_settings import NuwaXlSettings
from longtake.errors import InputError
from longtake.models.hub.files import digest
from longtake.train.fit.run_record import settings_of
from longtake.train.nuwa_xl.settings import NuwaXlRun
from longtake.train.nuwa_xl.start import chosen_network, chosen_size, read_start

if TYPE_CHECKING:
    from longtake.data.episodes import Episodes
    from longtake.train.fit.job import Job


def nuwa_xl_command(arguments: Sequence[str]) -> int:
    """Train mask temporal diffusion."""
    settings = parse_arguments(NuwaXlSettings, "train nuwa-xl", arguments)
    folder = _episodes_folder(settings.data)
    start = read_start(settings.base)
    chosen = {"finest_only": settings.finest_only, "upward_only": settings.upward_only}
    network = chosen_network(start, settings.frames, settings.levels, **chosen)
    settings.loss.check(network)
    size = chosen_size(start, settings.size)
    run = NuwaXlRun(network=network, start=start, size=size, loss=settings.loss, fit=settings.fit)

    def train(job: "Callable[..., Job]") -> bool:
        from longtake.data.episodes import episode_folders
        from longtake.train.nuwa_xl.stages import nuwa_xl_stage
        from longtake.video.seekable import open_video

        span = network.strides[0] * (network.frames - 1) + 1
        episodes = episode_folders(folder, size=size, min_frames=span, open_video=open_video)
        asked = settings_of(run=run)
        asked["captions"] = _told(episodes)
        # What it is, and not where it lies.
        asked["run"]["start"] = digest(run.start.parts.values())
        return nuwa_xl_stage(run, episodes, job(train=episodes.footage, shown=episodes.footage, settings=asked))

    smaller = f"lower --batch-size ({run.loss.batch_size}), --size ({size}) or --frames ({network.frames})"
    return run_training(settings.output, settings.fit, settings.where, smaller, train)


def _told(episodes: "Episodes") -> str:
    """Return a digest of all captions."""
    told = [[one.starts, one.stops, one.texts] for one in episodes.captions]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _episodes_folder(data: Path | None) -> Path:
    if data is None:
        raise InputError("what to train on is missing; give a folder that holds a folder for every episode")
    folder = data.expanduser()
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give one that holds a folder for every episode")
    if not any(folder.glob("*/captions.jsonl")):
        raise InputError(f"{folder} holds no EPISODE/captions.jsonl; every episode needs its captions")
    return folder
