"""`longtake evaluate blocks`: how far long videos are from real ones, from their first part to their last."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from longtake.apps.arguments import Flag, parse_arguments
from longtake.apps.scoring import check_scoring
from longtake.apps.settings import Device
from longtake.errors import InputError
from longtake.metrics.video_sets import find_videos

if TYPE_CHECKING:
    from longtake.metrics.video_networks import VideoNetwork


@dataclass(frozen=True, kw_only=True)
class BlocksSettings:
    """Score long videos against real ones of the same length: Block-FVD and Avg-FID, and their curves over time."""

    real: Annotated[Path, arg(metavar="DIR")]
    """Real videos: files, or folders of numbered PNG files, in any depth."""
    fake: Annotated[Path, arg(metavar="DIR")]
    """The videos to score."""
    frames: int = 16
    """Frames of a block."""
    parts: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: every block)")] = None
    """Parts of the length, of each of which the blocks are pooled; with few videos use few."""
    size: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: as they are)")] = None
    """Cut the middle square out of every frame and resize it to this side."""
    network: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: a small stand-in)")] = None
    """A TorchScript network of features of clips, such as I3D. Loading it runs code inside: give only files that you
    trust. Nothing is ever downloaded."""
    picture_network: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: a small stand-in)")] = (
        None
    )
    """A TorchScript network of features of pictures, such as Inception. The same warning holds."""
    device: Device = "auto"
    """Where the networks of --network and --picture-network run; auto takes a GPU if there is one."""
    json: Flag = False
    """Print one JSON object."""


def blocks_command(arguments: Sequence[str]) -> int:
    """Score a folder of long videos against another, part by part."""
    settings = parse_arguments(BlocksSettings, "evaluate blocks", arguments)
    check_scoring(settings, {"frames": 1, "parts": 1, "size": 8}, ("network", "picture_network"))
    figures = _figures(settings, find_videos(settings.real), find_videos(settings.fake))
    if settings.json:
        print(json.dumps(figures, indent=2))
    else:
        _print(figures)
    for warning in figures["warnings"]:
        print(f"longtake: {warning}", file=sys.stderr)
    return 0


def _figures(settings: BlocksSettings, real: list[Path], fake: list[Path]) -> dict[str, Any]:
    from longtake.metrics.blocks import BlockPlan, read_blocks, score_blocks
    from longtake.video.read import read_frames

    of_clips, of_frames = _networks(settings)
    plan = BlockPlan(num_frames=settings.frames, size=settings.size)
    rows, skipped = [], []
    for videos in (real, fake):
        rows.append([])
        for video in videos:
            try:
                rows[-1].append(read_blocks(read_frames(video), plan, of_clips, of_frames))
            except InputError as reason:
                skipped.append(str(reason))
        if not rows[-1]:
            raise InputError(f"none of the {len(videos)} videos can be scored: {skipped[-1]}")
    scores = score_blocks(rows[0], rows[1], settings.parts)
    return {
        **asdict(scores),
        "videos_real": len(rows[0]),
        "videos_fake": len(rows[1]),
        "warnings": [f"skipped: {reason}" for reason in skipped],
        "frames": settings.frames,
        "size": settings.size,
        "network": of_clips.name,
        "network_sha256": of_clips.digest,
        "picture_network": of_frames.name,
        "picture_network_sha256": of_frames.digest,
    }


def _networks(settings: BlocksSettings) -> tuple["VideoNetwork", "VideoNetwork"]:
    from longtake.apps.hardware import choose_hardware
    from longtake.metrics.video_networks import script_features, script_frames, stand_in_features, stand_in_looks

    device = choose_hardware(settings.device, "float32").device
    of_clips = script_features(settings.network, device) if settings.network else stand_in_features()
    picture_network = settings.picture_network
    of_frames = script_frames(picture_network, device) if picture_network else stand_in_looks()
    if settings.frames < of_clips.least_frames:
        raise InputError(
            f"the {of_clips.name} reads clips of {of_clips.least_frames} frames or more; use more --frames"
        )
    return of_clips, of_frames


def _print(figures: dict[str, Any]) -> None:
    curves = {name: value for name, value in figures.items() if isinstance(value, tuple)}
    single = {
        name: value
        for name, value in figures.items()
        if name not in curves and name != "warnings" and value is not None
    }
    width = max(map(len, figures))
    for name, value in single.items():
        print(f"{name.replace('_', ' '):{width}}  {f'{value:.4f}' if isinstance(value, float) else value}")
    print("from the first part to the last:")
    for name, values in curves.items():
        print(f"{name:{width}}  {'  '.join(f'{value:.2f}' for value in values)}")
    print("not comparable with published numbers unless networks, data, numbers of videos and blocks are the published")
