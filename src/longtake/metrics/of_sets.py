"""Metrics of a set of videos against real ones."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from longtake.data.footage_settings import FootageSettings, open_footage
from longtake.errors import InputError
from longtake.metrics.metric import Metric
from longtake.models.hub.precision import DeviceChoice, choose_hardware
from longtake.reading import check_is_file
from longtake.typed import Setting

if TYPE_CHECKING:
    from longtake.data.footage import Footage, Frames
    from longtake.metrics.blocks import BlockRows, BlockScores
    from longtake.metrics.clips import DrawnSet
    from longtake.metrics.fvd import SetScores
    from longtake.metrics.video_networks import VideoNetwork

PUBLISHED_CLIPS = 2048
PUBLISHED_FRAMES = (16, 128)
PUBLISHED_SIZES = (128, 256)
NOT_COMPARABLE = "not comparable with published FVD"
STAND_IN = "a stand-in network, good for ranking videos of one kind"


@dataclass(frozen=True, kw_only=True)
class _OfSets(Metric):
    """A metric of a set of videos against another: which are compared, and in which form."""

    real: Annotated[str, Setting(metavar="DIR|sprites")]
    """Real videos: a folder that lies as --layout says, one video, or the word sprites for worlds drawn on the spot."""
    footage: Annotated[FootageSettings, Setting(boxed=True)] = FootageSettings()
    """How the real videos lie, and which of them count."""
    frames: int = 16
    """Frames of a clip, or block; published numbers use 16 or 128."""
    size: Annotated[int | None, Setting(metavar="INT", unset="as they are")] = None
    """Cut the middle square out of every frame and resize it to this side."""
    network: Annotated[Path | None, Setting(metavar="FILE", unset="a small stand-in")] = None
    """A network of features of clips: weights of I3D, or TorchScript. Loading the latter runs code inside: give only
    files that you trust. Nothing is ever downloaded."""
    device: DeviceChoice = "auto"
    """Where networks from files run; auto takes a GPU if there is one."""

    def check(self, counts: Mapping[str, tuple[int | None, int]], second: Mapping[str, Path | None]) -> None:
        """Raise InputError for what cannot be: `counts` are further numbers by option, each with the least that it may
        be, `second` is the option of a network beside `network`."""
        self.footage.of(self.real)
        for option, (value, least) in {"--frames": (self.frames, 1), "--size": (self.size, 8), **counts}.items():
            if value is not None and value < least:
                raise InputError(f"{option} {value} is too small; use {least} or more")
        networks = {"--network": self.network, **second}
        for option, path in networks.items():
            if path is not None:
                check_is_file(path, option)
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

    def originals(self) -> "Footage":
        """Return the real videos. Raises InputError where there are none that are long enough."""
        return self._opened(self.footage.of(self.real))

    def others(self, folder: Path) -> "Footage":
        """Return the videos beside them. Raises InputError where there are none that are long enough."""
        return self._opened(FootageSettings().of(str(folder)))

    def _opened(self, settings: FootageSettings) -> "Footage":
        from longtake.video.read import open_video

        kept, back = open_footage(settings, size=self.size, min_frames=self.frames, open_video=open_video)
        return back or kept


@dataclass(frozen=True, kw_only=True)
class _OfGenerated(_OfSets):
    """A metric of videos that were made from nothing."""

    fake: Annotated[Path, Setting(metavar="DIR")]
    """The videos to score: files, or folders of numbered PNG files, in any depth; or a manifest of 'longtake batch'."""


@dataclass(frozen=True, kw_only=True)
class _OfDrawn(_OfSets):
    """A metric of clips that are drawn from all."""

    seed: int = 0
    """What decides the clips."""


@dataclass(frozen=True, kw_only=True)
class Fvd(_OfDrawn, _OfGenerated):
    """Score a set of videos against real ones: Frechet and kernel video distance, and inception score."""

    clips: int = PUBLISHED_CLIPS
    """Most clips of each set; published numbers use 2,048. The distance falls as they grow."""
    classifier: Annotated[Path | None, Setting(metavar="FILE", unset="the stand-in's own")] = None
    """A network of class probabilities for the inception score: weights of C3D, or TorchScript with the same
    warning."""

    def measure(self) -> dict[str, Any]:
        """Return the distances, and what they were measured with."""
        self.check({"--clips": (self.clips, 2), "--seed": (self.seed, 0)}, {"--classifier": self.classifier})
        from longtake.metrics.clips import draw
        from longtake.metrics.fvd import score_sets

        network, classifier = self._networks()
        footage = self.originals(), self.others(self.fake)
        real, fake = (draw(each, self.frames, self.clips, self.seed) for each in footage)
        scores = score_sets(real, fake, network, classifier, self.seed)
        distances, classes = _fvd_label(self, real, fake, scores), _score_label(self, scores)
        return {
            **asdict(scores),
            "frames": self.frames,
            "seed": self.seed,
            "network": network.name,
            "network_sha256": network.digest,
            "classifier": classifier.name if classifier else None,
            "classifier_sha256": classifier.digest if classifier else None,
            "labels": {"fvd": distances, "kvd": distances, "inception_score": classes},
            "warnings": [*_skipped(*footage), *_few(real, fake, scores)],
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
class Blocks(_OfGenerated):
    """Score long videos against real ones of the same length: Block-FVD and Avg-FID, and their curves over time."""

    parts: Annotated[int | None, Setting(metavar="INT", unset="every block")] = None
    """Parts of the length, of each of which the blocks are pooled; with few videos use few."""
    picture_network: Annotated[Path | None, Setting(metavar="FILE", unset="a small stand-in")] = None
    """A TorchScript network of features of pictures, such as Inception. The same warning holds."""

    def measure(self) -> dict[str, Any]:
        """Return the distances, their curves from the first part to the last, and what they were measured with."""
        self.check({"--parts": (self.parts, 1)}, {"--picture-network": self.picture_network})
        from longtake.metrics.blocks import score_blocks

        of_clips, of_frames = self._networks()
        real, fake = self.originals(), self.others(self.fake)
        (rows_real, lost_real), (rows_fake, lost_fake) = (
            _read_all(footage, self.frames, of_clips, of_frames) for footage in (real, fake)
        )
        scores = score_blocks(rows_real, rows_fake, self.parts)
        label = "not comparable with published numbers: networks, data, numbers of videos and blocks must be theirs"
        return {
            **asdict(scores),
            "videos_real": len(rows_real),
            "videos_fake": len(rows_fake),
            "warnings": [*_skipped(real, fake), *lost_real, *lost_fake, *_few_blocks(scores)],
            "frames": self.frames,
            "size": self.size,
            "network": of_clips.name,
            "network_sha256": of_clips.digest,
            "picture_network": of_frames.name,
            "picture_network_sha256": of_frames.digest,
            "labels": {"block_fvd": label, "avg_fid": label},
        }

    def _networks(self) -> tuple["VideoNetwork", "VideoNetwork"]:
        from longtake.metrics.video_networks import script_features, script_frames, stand_in_features, stand_in_looks

        clips, frames, device = self.network, self.picture_network, self.device
        device = choose_hardware(device, "float32").device
        of_clips = script_features(clips, device) if clips else stand_in_features()
        self.check_length(of_clips)
        return of_clips, script_frames(frames, device) if frames else stand_in_looks()


@dataclass(frozen=True, kw_only=True)
class Reconstruction(_OfDrawn):
    """Score an autoencoder by what it makes of real videos: PSNR, SSIM, LPIPS and R-FVD."""

    autoencoder: Annotated[str | None, Setting(metavar="NAME|FOLDER", unset="none")] = None
    """A model whose autoencoder it is, or the folder of one alone: PVDM's first stage, or an AutoencoderKL."""
    fake: Annotated[Path | None, Setting(metavar="DIR", unset="what the autoencoder makes")] = None
    """Reconstructions that are made already, under the names of the originals, whatever their endings."""
    clips: int = PUBLISHED_CLIPS
    """Most clips; published numbers use 2,048."""
    lpips: Annotated[Path | None, Setting(metavar="FILE", unset="no LPIPS")] = None
    """Weights of LPIPS over VGG-16, such as PVDM's loss_last.pth."""

    def measure(self) -> dict[str, Any]:
        """Return the scores, and what they were measured with."""
        if (self.autoencoder is None) == (self.fake is None):
            raise InputError("give either --autoencoder, or the reconstructions that it has made with --fake")
        self.check({"--clips": (self.clips, 2), "--seed": (self.seed, 0)}, {"--lpips": self.lpips})
        device = choose_hardware(self.device, "float32").device
        from longtake.metrics.clips import draw, draw_alike
        from longtake.metrics.reconstruction import open_codec, score_pairs
        from longtake.metrics.video_networks import script_features, stand_in_features
        from longtake.models.pvdm.losses import load_lpips

        network = script_features(self.network, device) if self.network else stand_in_features()
        lpips = load_lpips([self.lpips]).eval().to(device) if self.lpips else None
        codec = open_codec(self.autoencoder, device) if self.autoencoder else None
        if codec and codec.num_frames and self.frames % codec.num_frames:
            raise InputError(f"{self.autoencoder} takes {codec.num_frames} frames at once; give as many --frames")
        sized = replace(self, size=self.size or (codec.size if codec else None))
        sized.check_length(network)
        footage = sized.originals()
        real = draw(footage, self.frames, self.clips, self.seed)
        if codec:
            step = codec.num_frames or self.frames
            pairs = ((clip, _in_steps(codec.bring_back, clip, step)) for _, clip in real.clips())
        else:
            assert self.fake is not None
            copies = draw_alike(real, sized.others(self.fake))
            pairs = ((clip, again) for (_, clip), (_, again) in zip(real.clips(), copies.clips(), strict=True))
        scores = score_pairs(pairs, network, lpips, device)
        return {
            **asdict(scores),
            "frames": self.frames,
            "seed": self.seed,
            "network": network.name,
            "network_sha256": network.digest,
            "labels": {} if self.network else {"r_fvd": f"{NOT_COMPARABLE}: {STAND_IN}"},
            "warnings": _skipped(footage),
        }


def _in_steps(bring_back: "Callable[[Frames], Frames]", clip: "Frames", step: int) -> "Frames":
    import numpy as np

    return np.concatenate([bring_back(clip[at : at + step]) for at in range(0, len(clip), step)])


def _read_all(
    footage: "Footage", num_frames: int, of_clips: "VideoNetwork", of_frames: "VideoNetwork"
) -> tuple[list["BlockRows"], list[str]]:
    """Return what the networks see in every video that can be read, and why others cannot."""
    from longtake.metrics.blocks import read_blocks

    rows, skipped = [], []
    for number in range(len(footage.recordings)):
        try:
            rows.append(read_blocks(footage.clips(number, num_frames), of_clips, of_frames))
        except InputError as reason:
            skipped.append(f"skipped: {reason}")
    if not rows:
        raise InputError(f"of {_videos(len(footage.recordings))} none can be scored: {skipped[-1]}")
    return rows, skipped


def _fvd_label(sets: Fvd, real: "DrawnSet", fake: "DrawnSet", scores: "SetScores") -> str:
    """Return whether the distances can be compared with published ones, and why not."""
    why = None
    if sets.network is None:
        why = STAND_IN
    elif (scores.clips_real, scores.clips_fake) != (PUBLISHED_CLIPS, PUBLISHED_CLIPS):
        why = f"that takes {PUBLISHED_CLIPS:,} clips of each, not {scores.clips_real:,} and {scores.clips_fake:,}"
    elif any(drawn.num_clips > drawn.num_videos for drawn in (real, fake)):
        why = (
            f"that takes one clip of a video; here {_videos(real.num_videos)} and {_videos(fake.num_videos)} give them"
        )
    elif sets.frames not in PUBLISHED_FRAMES:
        why = f"that takes clips of 16 or 128 frames, not {sets.frames}"
    elif scores.width != scores.height or scores.width not in PUBLISHED_SIZES:
        why = f"that takes frames of 128x128 or 256x256 pixels, not {scores.width}x{scores.height}; see --size"
    if why:
        return f"{NOT_COMPARABLE}: {why}"
    assert sets.network is not None
    return f"comparable with published FVD only if {sets.network.name} is the published I3D, and the data are the same"


def _score_label(sets: Fvd, scores: "SetScores") -> str:
    """Return the same of the inception score."""
    if sets.classifier is None:
        return "not comparable with published scores: a stand-in classifier, which knows the sprite worlds alone"
    if scores.clips_fake < PUBLISHED_CLIPS:
        return f"not comparable with published scores: that takes {PUBLISHED_CLIPS:,} clips, not {scores.clips_fake:,}"
    return f"comparable with published scores only if {sets.classifier.name} is the published C3D, its mean taken off"


def _skipped(*sets: "Footage") -> list[str]:
    return [f"skipped: {name}: {reason}" for footage in sets for name, reason in footage.skipped]


def _videos(number: int) -> str:
    return f"{number:,} video{'s' * (number != 1)}"


def _few(real: "DrawnSet", fake: "DrawnSet", scores: "SetScores") -> list[str]:
    found = []
    for name, drawn in (("real", real), ("scored", fake)):
        if drawn.num_clips > drawn.num_videos:
            found.append(
                f"the {drawn.num_clips} {name} clips are of {_videos(drawn.num_videos)}, and clips of one video are "
                "alike: fvd and kvd come out too large; give more videos, or fewer --clips"
            )
        if drawn.num_clips <= scores.features:
            found.append(
                f"{drawn.num_clips} {name} clips are too few for {scores.features} features: fvd comes out too large "
                "and differs from draw to draw; fvd_shrunk less so, and kvd does not depend on their number"
            )
    return found


def _few_blocks(scores: "BlockScores") -> list[str]:
    if scores.block_fvd_shrunk is None:
        return []
    return [
        f"{scores.clips_per_part} blocks of a part are too few for the features: fvd and fid come out too large and "
        "differ from draw to draw; block_fvd_shrunk less so, and kvd does not; give more videos, or fewer --parts"
    ]
