"""Metrics of a folder of videos against a folder of real ones."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from longtake.errors import InputError
from longtake.metrics.metric import Metric
from longtake.metrics.video_sets import find_videos, pair_videos
from longtake.models.hub.precision import DeviceChoice, choose_hardware
from longtake.typed import Flag, Setting

if TYPE_CHECKING:
    from longtake.metrics.blocks import BlockPlan, BlockRows
    from longtake.metrics.clips import ClipDraw, DrawnSet
    from longtake.metrics.video_networks import VideoNetwork

NOT_COMPARABLE = "not comparable with published FVD"


@dataclass(frozen=True, kw_only=True)
class _OfSets(Metric):
    """A metric of a folder of videos against another: which are compared, and in which form."""

    real: Annotated[Path, Setting(metavar="DIR")]
    """Real videos: files, or folders of numbered PNG files, in any depth."""
    fake: Annotated[Path, Setting(metavar="DIR")]
    """The videos to score."""
    frames: int = 16
    """Frames of a clip, or block; published numbers use 16 or 128."""
    size: Annotated[int | None, Setting(metavar="INT", unset="as they are")] = None
    """Cut the middle square out of every frame and resize it to this side."""
    network: Annotated[Path | None, Setting(metavar="FILE", unset="a small stand-in")] = None
    """A TorchScript network of features of clips, such as I3D. Loading it runs code inside: give only files that you
    trust. Nothing is ever downloaded."""
    device: DeviceChoice = "auto"
    """Where networks from files run; auto takes a GPU if there is one."""

    def check(self, counts: Mapping[str, tuple[int | None, int]], second: Mapping[str, Path | None]) -> None:
        """Raise InputError for what cannot be: `counts` are further numbers by option, each with the least that it may
        be, `second` is the option of a network beside `network`."""
        for option, (value, least) in {"--frames": (self.frames, 1), "--size": (self.size, 8), **counts}.items():
            if value is not None and value < least:
                raise InputError(f"{option} {value} is too small; use {least} or more")
        networks = {"--network": self.network, **second}
        for option, path in networks.items():
            if path is not None and not path.is_file():
                raise InputError(f"there is no file {path}; {option} takes a TorchScript file, or leave it out")
        if self.device != "auto" and not any(networks.values()):
            raise InputError(
                f"--device has no effect without {' or '.join(networks)}: the stand-ins for them run on the processor"
            )

    def check_length(self, *networks: "VideoNetwork | None") -> None:
        """Raise InputError where a network reads longer clips only."""
        for each in networks:
            if each is not None and self.frames < each.least_frames:
                raise InputError(
                    f"the {each.name} reads clips of {each.least_frames} frames or more; use more --frames"
                )


@dataclass(frozen=True, kw_only=True)
class Fvd(_OfSets):
    """Score a folder of videos against real ones: Frechet and kernel video distance, and inception score."""

    labelled: ClassVar[frozenset[str]] = frozenset({"fvd", "kvd", "inception_score"})

    clips: int = 2048
    """Most clips of each folder; published numbers use 2,048. The distance falls as they grow."""
    seed: int = 0
    """What decides the clips."""
    paired: Flag = False
    """The second folder holds reconstructions under the same names: takes the same clips, and adds PSNR."""
    classifier: Annotated[Path | None, Setting(metavar="FILE", unset="the stand-in's own")] = None
    """A TorchScript network of class probabilities, such as C3D, for the inception score. The same warning holds."""

    def measure(self) -> dict[str, Any]:
        """Return the distances, and what they were measured with."""
        self.check({"--clips": (self.clips, 2), "--seed": (self.seed, 0)}, {"--classifier": self.classifier})
        real, fake = find_videos(self.real), find_videos(self.fake)
        if self.paired:
            pairs = pair_videos(self.real, real, self.fake, fake)
            real, fake = [original for original, _ in pairs], [copy for _, copy in pairs]
        from longtake.metrics.clips import ClipDraw, draw, draw_alike
        from longtake.metrics.fvd import mean_psnr, score_sets

        network, classifier = self._networks()
        plan = ClipDraw(num_frames=self.frames, num_clips=self.clips, size=self.size, seed=self.seed)
        drawn_real = draw(real, plan)
        drawn_fake = draw_alike(drawn_real, fake) if self.paired else draw(fake, plan)
        scores = score_sets(drawn_real, drawn_fake, plan, network, classifier)
        return {
            "label": _fvd_label(self, (scores.clips_real, scores.clips_fake)),
            **asdict(scores),
            "psnr": mean_psnr(drawn_real, drawn_fake, plan) if self.paired else None,
            "network": network.name,
            "network_sha256": network.digest,
            "classifier": classifier.name if classifier else None,
            "classifier_sha256": classifier.digest if classifier else None,
            **asdict(plan),
            "skipped_real": drawn_real.num_skipped + len(drawn_real.unread),
            "skipped_fake": drawn_fake.num_skipped + len(drawn_fake.unread),
            "warnings": _warnings(plan, drawn_real, drawn_fake, scores.features),
        }

    def _networks(self) -> tuple["VideoNetwork", "VideoNetwork | None"]:
        from longtake.metrics.video_networks import script_classes, script_features, stand_in_classes, stand_in_features

        given, device = self.network, choose_hardware(self.device, "float32").device
        network = script_features(given, device) if given else stand_in_features()
        classifier = script_classes(self.classifier, device) if self.classifier else None
        if given is None and classifier is None:
            classifier = stand_in_classes()
        self.check_length(network, classifier)
        return network, classifier


@dataclass(frozen=True, kw_only=True)
class Blocks(_OfSets):
    """Score long videos against real ones of the same length: Block-FVD and Avg-FID, and their curves over time."""

    parts: Annotated[int | None, Setting(metavar="INT", unset="every block")] = None
    """Parts of the length, of each of which the blocks are pooled; with few videos use few."""
    picture_network: Annotated[Path | None, Setting(metavar="FILE", unset="a small stand-in")] = None
    """A TorchScript network of features of pictures, such as Inception. The same warning holds."""

    def measure(self) -> dict[str, Any]:
        """Return the distances, their curves from the first part to the last, and what they were measured with."""
        self.check({"--parts": (self.parts, 1)}, {"--picture-network": self.picture_network})
        real, fake = find_videos(self.real), find_videos(self.fake)
        from longtake.metrics.blocks import BlockPlan, score_blocks

        of_clips, of_frames = self._networks()
        plan = BlockPlan(num_frames=self.frames, size=self.size)
        (rows_real, lost_real), (rows_fake, lost_fake) = (
            _read_all(videos, plan, of_clips, of_frames) for videos in (real, fake)
        )
        return {
            **asdict(score_blocks(rows_real, rows_fake, self.parts)),
            "videos_real": len(rows_real),
            "videos_fake": len(rows_fake),
            "warnings": [f"skipped: {reason}" for reason in (*lost_real, *lost_fake)],
            "frames": self.frames,
            "size": self.size,
            "network": of_clips.name,
            "network_sha256": of_clips.digest,
            "picture_network": of_frames.name,
            "picture_network_sha256": of_frames.digest,
            "label": "not comparable with published numbers: networks, data, numbers of videos and blocks must be the "
            "published ones",
        }

    def _networks(self) -> tuple["VideoNetwork", "VideoNetwork"]:
        from longtake.metrics.video_networks import script_features, script_frames, stand_in_features, stand_in_looks

        clips, frames, device = self.network, self.picture_network, self.device
        device = choose_hardware(device, "float32").device
        of_clips = script_features(clips, device) if clips else stand_in_features()
        self.check_length(of_clips)
        return of_clips, script_frames(frames, device) if frames else stand_in_looks()


def _read_all(
    videos: list[Path], plan: "BlockPlan", of_clips: "VideoNetwork", of_frames: "VideoNetwork"
) -> tuple[list["BlockRows"], list[str]]:
    """Return what the networks see in every video that can be read, and why others cannot."""
    from longtake.metrics.blocks import read_blocks
    from longtake.video.read import read_frames

    rows, skipped = [], []
    for video in videos:
        try:
            rows.append(read_blocks(read_frames(video), plan, of_clips, of_frames))
        except InputError as reason:
            skipped.append(str(reason))
    if not rows:
        raise InputError(f"none of the {len(videos)} videos can be scored: {skipped[-1]}")
    return rows, skipped


def _fvd_label(sets: Fvd, clips: tuple[int, int]) -> str:
    from longtake.metrics.fvd import PUBLISHED_CLIPS, PUBLISHED_FRAMES

    if sets.network is None:
        return f"{NOT_COMPARABLE}: a stand-in network, good for ranking videos of one kind"
    if clips != (PUBLISHED_CLIPS, PUBLISHED_CLIPS):
        return f"{NOT_COMPARABLE}: that takes {PUBLISHED_CLIPS:,} clips of each, not {clips[0]:,} and {clips[1]:,}"
    if sets.frames not in PUBLISHED_FRAMES:
        return f"{NOT_COMPARABLE}: that takes clips of 16 or 128 frames, not {sets.frames}"
    return f"comparable with published FVD only if {sets.network.name} is the published I3D, and the data are the same"


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
