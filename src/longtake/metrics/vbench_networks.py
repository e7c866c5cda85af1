"""The networks of VBench's dimensions, from files of the user, and what VBench hands to each.

Frames are uint8 (frames, height, width, 3). Resizing is VBench's, which smooths nothing before.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, linear, normalize, pad

from longtake.data.footage import Frames
from longtake.errors import CheckpointError, InputError
from longtake.metrics.clips import planes
from longtake.metrics.video_networks import Rows, load_script, run_script
from longtake.models.hub.files import read_json, weight_files
from longtake.models.pvdm.losses import read_tensors

OF_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OF_CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Means and deviations of red, green and blue."""
SIDE = 224
"""Pixels of the short side of what DINO and ViCLIP see."""
LARGEST = 512
"""Most pixels of a side of what MUSIQ sees."""
VICLIP_TOKENS = 32
"""Most numbers of words of a text that ViCLIP reads."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A CLIPModel of transformers, with its tokenizer (Radford et al., 2021, arXiv 2103.00020)."""

    folder: Path
    model: Any
    words: Any
    device: str
    known: dict[str, Rows] = field(default_factory=dict)

    @torch.inference_mode()
    def pictures(self, frames: Frames) -> Rows:
        """Return the features of frames, (frames, numbers)."""
        side = self.model.config.vision_config.image_size
        seen = normalised(cut_square(planes(frames), side), *OF_CLIP).to(self.device)
        return self.model.visual_projection(self.model.vision_model(seen).pooler_output).cpu().numpy()

    @torch.inference_mode()
    def text(self, text: str) -> Rows:
        """Return the features of a text, (numbers,); what it does not read of a long one is left out."""
        if text not in self.known:
            most = self.model.config.text_config.max_position_embeddings
            read = self.model.text_model(torch.tensor([self.tokens(text, most)], device=self.device))
            self.known[text] = self.model.text_projection(read.pooler_output)[0].cpu().numpy()
        return self.known[text]

    def tokens(self, text: str, most: int) -> list[int]:
        """Return the numbers of the words of a text, start and end among them."""
        return self.words(text, truncation=True, max_length=most)["input_ids"]


@dataclass(frozen=True, kw_only=True)
class Viclip:
    """ViCLIP (Wang et al., ICLR 2024, arXiv 2307.06942), the words of which CLIP's tokenizer reads."""

    path: Path
    script: Any
    clip: Clip

    def reduced(self, frames: Frames) -> Frames:
        """Return the middle squares of frames, uint8 (frames, 224, 224, 3)."""
        # Of these frames alone VBench resizes bytes.
        return cut_square(planes(frames), SIDE).clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()

    def cosine(self, frames: Frames, text: str) -> float:
        """Return that of the features of eight such frames and of a text. Raises CheckpointError for a script that
        returns something else."""
        found = self.clip.tokens(text, VICLIP_TOKENS)
        words = torch.tensor([found + [0] * (VICLIP_TOKENS - len(found))], dtype=torch.int32)
        seen = normalised(planes(frames), *OF_CLIP)[None]
        both = run_script(self.script, self.path, seen.to(self.clip.device), words.to(self.clip.device))
        if not isinstance(both, tuple) or len(both) != 2:
            raise CheckpointError(f"{self.path} does not return features of the video and of the text, two tensors")
        video, said = (_tensor(self.path, each, (1, -1))[0] for each in both)
        if len(video) != len(said):
            raise CheckpointError(f"{self.path} returns {len(video)} numbers of a video and {len(said)} of a text")
        return float(video @ said / max(np.linalg.norm(video) * np.linalg.norm(said), 1e-12))


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Those that are given; None for others."""

    told: dict[str, str]
    """By option, the file and its SHA-256."""
    dino: Callable[[Frames], Rows] | None
    """Frames to features."""
    clip: Clip | None
    aesthetic: Callable[[Frames], Rows] | None
    """Frames to scores of 0 to 10, (frames, 1)."""
    musiq: Callable[[Frames], Rows] | None
    """Frames to scores of 0 to 100, (frames, 1)."""
    amt: Callable[[Frames, Frames], Frames] | None
    """Two frames, (1, height, width, 3) each, to the one between them."""
    raft: Callable[[Frames, Frames], Rows] | None
    """Two such frames to the flow from the first to the second in pixels, (2, height, width), padded to multiples of
    eight."""
    viclip: Viclip | None


def open_networks(files: dict[str, Path], device: str) -> Networks:
    """Return the networks in these files and folders, by option. Raises CheckpointError for what cannot be loaded, and
    InputError for a head that does not fit its CLIP."""
    clip = _clip(files["clip"], device) if "clip" in files else None
    aesthetic = None
    if "aesthetic_clip" in files:
        aesthetic = _aesthetic(_clip(files["aesthetic_clip"], device), files["aesthetic_head"])
    viclip = None
    if clip is not None and "viclip" in files:
        viclip = Viclip(path=files["viclip"], script=load_script(files["viclip"], device), clip=clip)
    return Networks(
        told={option: f"{path.name}, SHA-256 {_digest(path)}" for option, path in files.items()},
        dino=_rows(files["dino"], device, _of_dino) if "dino" in files else None,
        clip=clip,
        aesthetic=aesthetic,
        musiq=_rows(files["musiq"], device, _of_musiq, width=1, at_once=1) if "musiq" in files else None,
        amt=_amt(files["amt"], device) if "amt" in files else None,
        raft=_raft(files["raft"], device) if "raft" in files else None,
        viclip=viclip,
    )


def short_side(pictures: Tensor, side: int, mode: str = "bilinear") -> Tensor:
    """Return float pictures (n, 3, height, width) whose short side has so many pixels."""
    height, width = pictures.shape[-2:]
    size = (int(side * height / width), side) if width <= height else (side, int(side * width / height))
    return interpolate(pictures, size=size, mode=mode, align_corners=False)


def cut_square(pictures: Tensor, side: int) -> Tensor:
    """Return the middle square of pictures, resized by cubics, as CLIP sees them."""
    resized = short_side(pictures, side, "bicubic")
    top, left = (round((length - side) / 2) for length in resized.shape[-2:])
    return resized[..., top : top + side, left : left + side]


def normalised(pictures: Tensor, means: Sequence[float], deviations: Sequence[float]) -> Tensor:
    """Return pictures in 0 to 255 as networks of pictures are trained on them."""
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (means, deviations))
    return (pictures / 255 - mean) / deviation


def padded(pictures: Tensor, multiple: int) -> tuple[Tensor, tuple[slice, slice]]:
    """Return pictures that are repeated at their edges until their sides are multiples, and where they are in that."""
    height, width = pictures.shape[-2:]
    rows, columns = -height % multiple, -width % multiple
    edges = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    inside = slice(rows // 2, rows // 2 + height), slice(columns // 2, columns // 2 + width)
    return pad(pictures, edges, mode="replicate"), inside


def warping_error(first: Frames, second: Frames, flow: Rows) -> float | None:
    """Return the mean squared difference, of pixels in 0 to 1, of a frame and of the next one brought back to it along
    the flow, (2, height, width); None where the flow leads out of the picture everywhere."""
    height, width = first.shape[1:3]
    _, (rows, columns) = padded(planes(first), 8)
    motion = torch.from_numpy(flow)[:, rows, columns]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([(x + motion[0]) * 2 + 1, (y + motion[1]) * 2 + 1], -1) / torch.tensor([width, height]) - 1
    back = grid_sample(planes(second) / 255, places[None], align_corners=False, padding_mode="border")
    is_inside = (places.abs() <= 1).all(-1)
    return float(((back - planes(first) / 255) ** 2)[..., is_inside].mean()) if is_inside.any() else None


def _of_dino(frames: Frames) -> Tensor:
    return normalised(short_side(planes(frames), SIDE), *OF_IMAGENET)


def _of_musiq(frames: Frames) -> Tensor:
    pictures = planes(frames)
    share = LARGEST / max(pictures.shape[-2:])
    if share < 1:
        size = tuple(int(share * length) for length in pictures.shape[-2:])
        pictures = interpolate(pictures, size=size, mode="bilinear", align_corners=False)
    return pictures / 255


def _rows(
    path: Path, device: str, prepare: Callable[[Frames], Tensor], width: int = -1, at_once: int = 16
) -> Callable[[Frames], Rows]:
    """Return a script that returns (frames, width) for what VBench hands it, some frames at once."""
    script = load_script(path, device)

    def read(frames: Frames) -> Rows:
        parts = [prepare(frames[start : start + at_once]) for start in range(0, len(frames), at_once)]
        found = [_tensor(path, run_script(script, path, part.to(device)), (len(part), width)) for part in parts]
        return np.concatenate(found)

    return read


def _clip(folder: Path, device: str) -> Clip:
    kind = read_json(folder / "config.json").get("model_type")
    if kind != "clip":
        raise CheckpointError(f"{folder} is no CLIPModel but {kind!r} by its config.json; give a folder of both halves")
    # Imports diffusers and transformers, which TorchScript does without.
    from transformers import CLIPModel

    from longtake.models.hub.load import text_encoder, tokenizer

    model = text_encoder(CLIPModel, folder, torch.float32).to(device)
    return Clip(folder=folder, model=model, words=tokenizer(folder), device=device)


def _aesthetic(clip: Clip, path: Path) -> Callable[[Frames], Rows]:
    """Return LAION's linear head over the directions of CLIP's features."""
    head = read_tensors(path, "give LAION's linear head, such as sa_0_4_vit_l_14_linear.pth")
    shapes = {name: tuple(tensor.shape) for name, tensor in head.items()}
    width = clip.model.config.projection_dim
    if shapes != {"weight": (1, width), "bias": (1,)}:
        raise InputError(f"{path} is no linear head over the {width} features of {clip.folder}; it holds {shapes}")
    weight, bias = head["weight"].float(), head["bias"].float()
    return lambda frames: linear(normalize(torch.from_numpy(clip.pictures(frames)), dim=-1), weight, bias).numpy()


def _amt(path: Path, device: str) -> Callable[[Frames, Frames], Frames]:
    script = load_script(path, device)

    def between(first: Frames, second: Frames) -> Frames:
        (one, inside), (two, _) = (padded(planes(frame) / 255, 16) for frame in (first, second))
        made = _tensor(path, run_script(script, path, one.to(device), two.to(device)), tuple(one.shape))
        # VBench cuts decimals off.
        return (made[(..., *inside)] * 255).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)

    return between


def _raft(path: Path, device: str) -> Callable[[Frames, Frames], Rows]:
    script = load_script(path, device)

    def flow(first: Frames, second: Frames) -> Rows:
        one, two = (padded(planes(frame), 8)[0].to(device) for frame in (first, second))
        return _tensor(path, run_script(script, path, one, two), (1, 2, *one.shape[-2:]))[0]

    return flow


def _tensor(path: Path, found: object, shape: tuple[int, ...]) -> Rows:
    """Return what a script gave. Raises CheckpointError for another shape (-1 is any number) and for no numbers."""
    got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    is_alike = len(got) == len(shape) and all(one in (-1, each) for one, each in zip(shape, got, strict=True))
    if not isinstance(found, Tensor) or not is_alike:
        wanted = ", ".join("any" if length == -1 else str(length) for length in shape)
        raise CheckpointError(f"{path} returns {got} in place of ({wanted}); docs/metrics.md says what it should")
    if not found.isfinite().all():
        raise CheckpointError(f"{path} returns numbers that are not finite, so nothing can be measured with it")
    return found.float().cpu().numpy()


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    for file in weight_files(path, "model") if path.is_dir() else [path]:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                found.update(block)
    return found.hexdigest()
