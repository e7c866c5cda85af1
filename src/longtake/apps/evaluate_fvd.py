"""`longtake evaluate fvd`: how far a folder of videos is from real ones."""

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
from longtake.metrics.video_sets import find_videos, pair_videos

if TYPE_CHECKING:
    from longtake.metrics.clips import ClipDraw, DrawnSet
    from longtake.metrics.video_networks import VideoNetwork

NOT_COMPARABLE = "not comparable with published FVD"


@dataclass(frozen=True, kw_only=True)
class FvdSettings:
    """Score a folder of videos against real ones: Frechet and kernel video distance, and inception score."""

    real: Annotated[Path, arg(metavar="DIR")]
    """Real videos: files, or folders of numbered PNG files, in any depth."""
    fake: Annotated[Path, arg(metavar="DIR")]
    """The videos to score."""
    frames: int = 16
    """Frames of a clip; published numbers use 16 or 128."""
    clips: int = 2048
    """Most clips of each folder; published numbers use 2,048. The distance falls as they grow."""
    size: Annotated[int | None, arg(metavar="INT", help_behavior_hint="(default: as they are)")] = None
    """Cut the middle square out of every frame and resize it to this side."""
    seed: int = 0
    """What decides the clips."""
    paired: Flag = False
    """The second folder holds reconstructions under the same names: takes the same clips, and adds PSNR."""
    network: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: a small stand-in)")] = None
    """A TorchScript network of features, such as I3D. Loading it runs code inside: give only files that you trust.
    Nothing is ever downloaded."""
    classifier: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: the stand-in's own)")] = None
    """A TorchScript network of class probabilities, such as C3D, for the inception score. The same warning holds."""
    device: Device = "auto"
    """Where the networks of --network and --classifier run; auto takes a GPU if there is one."""
    json: Flag = False
    """Print one JSON object."""


def fvd_command(arguments: Sequence[str]) -> int:
    """Score a folder of videos against another."""
    settings = parse_arguments(FvdSettings, "evaluate fvd", arguments)
    check_scoring(settings, {"frames": 1, "clips": 2, "seed": 0, "size": 8}, ("network", "classifier"))
    real, fake = find_videos(settings.real), find_videos(settings.fake)
    if settings.paired:
        pairs = pair_videos(settings.real, real, settings.fake, fake)
        real, fake = [original for original, _ in pairs], [copy for _, copy in pairs]
    figures = _figures(settings, real, fake)
    if settings.json:
        print(json.dumps(figures, indent=2))
    else:
        _print(figures)
    for warning in figures["warnings"]:
        print(f"longtake: {warning}", file=sys.stderr)
    return 0


def _figures(settings: FvdSettings, real: list[Path], fake: list[Path]) -> dict[str, Any]:
    from longtake.metrics.clips import ClipDraw, draw, draw_alike
    from longtake.metrics.fvd import mean_psnr, score_sets

    network, classifier = _networks(settings)
    plan = ClipDraw(num_frames=settings.frames, num_clips=settings.clips, size=settings.size, seed=settings.seed)
    drawn_real = draw(real, plan)
    drawn_fake = draw_alike(drawn_real, fake) if settings.paired else draw(fake, plan)
    scores = score_sets(drawn_real, drawn_fake, plan, network, classifier)
    clips = scores.clips_real, scores.clips_fake
    return {
        "label": _label(settings, clips),
        **asdict(scores),
        "psnr": mean_psnr(drawn_real, drawn_fake, plan) if settings.paired else None,
        "network": network.name,
        "network_sha256": network.digest,
        "classifier": classifier.name if classifier else None,
        "classifier_sha256": classifier.digest if classifier else None,
        **asdict(plan),
        "skipped_real": drawn_real.num_skipped + len(drawn_real.unread),
        "skipped_fake": drawn_fake.num_skipped + len(drawn_fake.unread),
        "warnings": _warnings(plan, drawn_real, drawn_fake, scores.features),
    }


def _networks(settings: FvdSettings) -> tuple["VideoNetwork", "VideoNetwork | None"]:
    from longtake.apps.hardware import choose_hardware
    from longtake.metrics.video_networks import script_classes, script_features, stand_in_classes, stand_in_features

    device = choose_hardware(settings.device, "float32").device
    network = script_features(settings.network, device) if settings.network else stand_in_features()
    classifier = script_classes(settings.classifier, device) if settings.classifier else None
    if settings.network is None and classifier is None:
        classifier = stand_in_classes()
    for each in (network, classifier):
        if each is not None and settings.frames < each.least_frames:
            raise InputError(f"the {each.name} reads clips of {each.least_frames} frames or more; use more --frames")
    return network, classifier


def _label(settings: FvdSettings, clips: tuple[int, int]) -> str:
    from longtake.metrics.fvd import PUBLISHED_CLIPS, PUBLISHED_FRAMES

    if settings.network is None:
        return f"{NOT_COMPARABLE}: a stand-in network, good for ranking videos of one kind"
    if clips != (PUBLISHED_CLIPS, PUBLISHED_CLIPS):
        return f"{NOT_COMPARABLE}: that takes {PUBLISHED_CLIPS:,} clips of each, not {clips[0]:,} and {clips[1]:,}"
    if settings.frames not in PUBLISHED_FRAMES:
        return f"{NOT_COMPARABLE}: that takes clips of 16 or 128 frames, not {settings.frames}"
    return (
        f"comparable with published FVD only if {settings.network.name} is the published I3D, and the data are the same"
    )


def _warnings(plan: "ClipDraw", real: "DrawnSet", fake: "DrawnSet", features: int) -> list[str]:
    found = []
    for name, drawn in (("real", real), ("scored", fake)):
        if drawn.num_skipped:
            found.append(
                f"{drawn.num_skipped} of {len(drawn.videos)} {name} videos have fewer than {plan.num_frames} frames"
            )
        found += [f"skipped, 1 of {len(drawn.videos)} {name} videos: {reason}" for reason in drawn.unread]
        num_videos = sum(map(bool, drawn.starts))
        if drawn.num_clips > num_videos:
            found.append(
                f"the {drawn.num_clips} {name} clips are of {num_videos} videos, and clips of one video are alike: "
                "fvd and kvd come out too large; give more videos, or fewer --clips"
            )
        if drawn.num_clips <= features:
            found.append(
                f"{drawn.num_clips} {name} clips are too few for {features} features: "
                "fvd comes out too large and differs from draw to draw; kvd does not depend on their number"
            )
    return found


def _print(figures: dict[str, Any]) -> None:
    labelled = {"fvd", "kvd", "inception_score"}
    short, _, reason = figures["label"].partition(": ")
    width = max(map(len, figures))
    for name, value in figures.items():
        if name in ("label", "warnings") or value is None:
            continue
        shown = f"{value:.4f}" if isinstance(value, float) else value
        note = f"  ({short})" if name in labelled else ""
        print(f"{name.replace('_', ' '):{width}}  {shown}{note}")
    if reason:
        print(f"{short}: {reason}")
