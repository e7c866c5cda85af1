"""`longtake train nuwa-xl`: mask temporal diffusion on episodes of one's own."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from longtake.apps.arguments import parse_arguments
from longtake.apps.train import Limit, run_training
from longtake.apps.train_nuwa_settings import NuwaXlSettings
from longtake.errors import InputError
from longtake.models.hub.files import digest
from longtake.train.fit.run_record import settings_of
from longtake.train.nuwa_xl.settings import NuwaXlRun
from longtake.train.nuwa_xl.start import chosen_network, chosen_size, read_start

if TYPE_CHECKING:
    from longtake.data.episodes import Episodes


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

    def train(limit: Limit) -> bool:
        return _trained(run, folder, settings, limit)

    return run_training(settings.output, settings.minutes, settings.fit, as_json=settings.json, train=train)


def _trained(run: NuwaXlRun, folder: Path, settings: NuwaXlSettings, limit: Limit) -> bool:
    import torch

    from longtake.apps.hardware import choose_hardware
    from longtake.data.episodes import episode_folders
    from longtake.ranks.rendezvous import joined_world
    from longtake.train.fit.job import Job
    from longtake.train.fit.memory import memory_advice
    from longtake.train.nuwa_xl.stages import nuwa_xl_stage
    from longtake.video.seekable import open_video

    device = choose_hardware(settings.device, "float32").device
    settings.fit.check_device(device)
    network = run.network
    smaller = f"lower --batch-size ({run.loss.batch_size}), --size ({run.size}) or --frames ({network.frames})"
    with joined_world(device) as world, memory_advice(smaller):
        span = network.strides[0] * (network.frames - 1) + 1
        episodes = episode_folders(folder, size=run.size, min_frames=span, open_video=open_video)
        asked = settings_of(run=run)
        asked["captions"] = _told(episodes)
        # What it is, and not where it lies.
        asked["run"]["start"] = digest(run.start.parts.values())
        job = Job(
            folder=settings.output,
            train=episodes.footage,
            shown=episodes.footage,
            settings=asked,
            device=torch.device(device),
            world=world,
            stop=limit,
        )
        return nuwa_xl_stage(run, episodes, job)


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
