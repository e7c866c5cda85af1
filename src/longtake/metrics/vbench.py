"""VBench's dimensions of a video (Huang et al., CVPR 2024, arXiv 2311.17982) and VBench-Long's of its clips (Huang et
al., 2024, arXiv 2411.13503), CLIP's scores and the warping error: their networks, and what they can be compared with.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from longtake.errors import InputError
from longtake.metrics.of_video import Frames, OfVideo, peeked
from longtake.models.hub.precision import DeviceChoice, choose_hardware
from longtake.reading import check_is_file
from longtake.report import Order
from longtake.typed import Setting

if TYPE_CHECKING:
    from longtake.metrics.vbench_networks import Networks

PUBLISHED = {
    "subject_consistency": ("dino", "DINO ViT-B/16"),
    "background_consistency": ("clip", "CLIP ViT-B/32"),
    "motion_smoothness": ("amt", "AMT-S"),
    "dynamic_degree": ("raft", "RAFT trained on FlyingThings"),
    "aesthetic_quality": ("aesthetic_clip", "CLIP ViT-L/14, its head LAION's"),
    "imaging_quality": ("musiq", "MUSIQ trained on SPAQ"),
    "overall_consistency": ("viclip", "ViCLIP trained on InternVid-10M-FLT"),
}
"""Dimension -> the option of its network, and the network by which VBench's numbers are made."""
SELF_MADE = ("temporal_flickering", "clip_frame_consistency", "warping_error")
"""Figures beside them that compare frames, too."""
_OURS = "VBench's arithmetic"


@dataclass(frozen=True, kw_only=True)
class VBench(OfVideo):
    """Score a video by the dimensions of VBench whose networks are given; temporal flickering needs none. Loading
    TorchScript runs code inside: give only files that you trust. Nothing is ever downloaded."""

    spoken: ClassVar[Mapping[str, str]] = {
        "slow": "{} within clips",
        "fast": "{} from clip to clip",
        "networks": "network {}",
    }

    dino: Annotated[Path | None, Setting(metavar="FILE", unset="no subject consistency")] = None
    """TorchScript of DINO ViT-B/16: pictures whose short side is 224, normalised, to (frames, features)."""
    clip: Annotated[Path | None, Setting(metavar="FOLDER", unset="no background consistency, no CLIP scores")] = None
    """A CLIPModel in the hub's layout, tokenizer included; VBench's is ViT-B/32."""
    amt: Annotated[Path | None, Setting(metavar="FILE", unset="no motion smoothness")] = None
    """TorchScript of AMT: two pictures in 0 to 1, (1, 3, height, width) each, to the one between them."""
    raft: Annotated[Path | None, Setting(metavar="FILE", unset="no dynamic degree")] = None
    """TorchScript of RAFT: two pictures in 0 to 255 to (1, 2, height, width), the flow in pixels."""
    aesthetic_clip: Annotated[Path | None, Setting(metavar="FOLDER", unset="no aesthetic quality")] = None
    """A CLIPModel as --clip takes it; VBench's is ViT-L/14."""
    aesthetic_head: Annotated[Path | None, Setting(metavar="FILE", unset="no aesthetic quality")] = None
    """Weights of LAION's linear head over that, such as sa_0_4_vit_l_14_linear.pth."""
    musiq: Annotated[Path | None, Setting(metavar="FILE", unset="no imaging quality")] = None
    """TorchScript of MUSIQ: a picture in 0 to 1 of at most 512 pixels a side to (1, 1), 0 to 100."""
    viclip: Annotated[Path | None, Setting(metavar="FILE", unset="no overall consistency")] = None
    """TorchScript of ViCLIP: frames (1, 8, 3, 224, 224), normalised, and (1, 32) numbers of words, which the tokenizer
    of --clip gives, to the features of both."""
    prompts: Annotated[str | None, Setting(metavar="FILE|TEXT", unset="from the report beside it, if any")] = None
    """What was asked for, as in 'longtake generate --prompts'; without it there are no scores of text."""
    device: DeviceChoice = "auto"
    """Where the networks run; auto takes a GPU if there is one."""

    def check(self) -> None:
        """Open the networks. Raises as `opened` does."""
        self.opened()

    def opened(self) -> "Networks":
        """Return the networks. Raises InputError for files that are not there and for options without effect,
        CheckpointError for files of another kind."""
        options = ("dino", "clip", "amt", "raft", "aesthetic_clip", "aesthetic_head", "musiq", "viclip")
        files: dict[str, Path] = {name: path for name in options if (path := getattr(self, name)) is not None}
        for name, path in files.items():
            if name not in ("clip", "aesthetic_clip"):
                check_is_file(path, _said(name))
            elif not path.is_dir():
                raise InputError(f"{path} is no folder; {_said(name)} takes one, or leave it out")
        for name, other in (("aesthetic_clip", "aesthetic_head"), ("aesthetic_head", "aesthetic_clip"),
                            ("viclip", "clip")):  # fmt: skip
            if name in files and other not in files:
                why = "whose tokenizer it needs" if name == "viclip" else "the other half of aesthetic quality"
                raise InputError(f"{_said(name)} has no effect without {_said(other)}, {why}; give both or neither")
        if self.prompts is not None and self.clip is None:
            raise InputError("--prompts has no effect without --clip: nothing else here reads them")
        if self.device != "auto" and not files:
            raise InputError("--device has no effect without a network; temporal flickering needs none")
        # Imports torch.
        from longtake.metrics.vbench_networks import open_networks

        return open_networks(files, choose_hardware(self.device, "float32").device)

    def figures(self, frames: Iterator[Frames], order: Order | None) -> dict[str, Any]:
        """Return the dimensions, those of VBench-Long, and by which networks."""
        is_told = self.prompts is not None or order is not None
        told = self.timeline(order, self.prompts) if self.viclip or (self.clip and is_told) else None
        networks = self.opened()
        first, frames = peeked(frames)
        if first is None:
            raise InputError(f"{self.path} has no frames, so nothing can be measured")
        # Imports torch.
        from longtake.metrics.vbench_pass import Pass, try_out

        try_out(networks, first[:1], told)
        seen = Pass(networks, told, self.fps(order))
        for batch in frames:
            seen.add(batch)
        figures = seen.figures()
        lacking = [name.replace("_", " ") for name in (*PUBLISHED, *SELF_MADE) if figures.get(name, 0) is None]
        warnings = [f"{self.path} has too few frames for {', '.join(lacking)}"] if lacking else []
        if self.clip and told is None:
            warnings.append("there are no prompts, so that there is no CLIP score; give --prompts")
        return {
            **figures,
            "networks": networks.told,
            "labels": self._labels([name for name, value in figures.items() if value is not None]),
            "warnings": warnings,
        }

    def _labels(self, names: Sequence[str]) -> dict[str, str]:
        """Return with what the figures can be compared, and with what not."""
        labels = {
            "temporal_flickering": f"{_OURS}: comparable only for videos of its own prompts that stand still; 1 is a "
            "still picture, and any motion lowers it",
            "slow": f"{_OURS}: VBench-Long's clips by themselves, its slow branch, are comparable under the same "
            "conditions; cuts within a video are not looked for; more counts as better, though what stands still "
            "flickers least",
            "fast": "not comparable with VBench-Long: its fast branch takes DINOv2 and DreamSim, and maps these scores "
            "by a table of its own before it adds them to those within clips",
            "warping_error": "not comparable with published warping errors: what comes to be hidden counts, too",
        }
        for name, (option, published) in PUBLISHED.items():
            if (path := getattr(self, option)) is not None:
                condition = f"if {path.name} is {published}, and the videos are of its prompts"
                labels[name] = f"{_OURS}: comparable only {condition}"
        return {name: labels[name] for name in names if name in labels}


def _said(option: str) -> str:
    return f"--{option.replace('_', '-')}"
