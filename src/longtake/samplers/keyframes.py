"""Keyframes: images that the video passes through, a folder of them in natural order (1, 2, 10).

A window that holds one sees it and leaves it as it is, an experiment beyond the papers: what the network says of it
(its x0) is replaced by the frame, so that it comes out as it was given and its neighbours are made in view of it (as
RePaint does in pictures: Lugmayr et al., 2022, arXiv 2201.09865, without its resampling). A network that was trained
with finished frames among noisy ones sees it finished; any other sees it as noisy as it expects a frame there to be.

Plans ask here which frames are given, so nothing imports torch before images are encoded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longtake.errors import InputError
from longtake.model import PerFrameNoise, VideoModel, VideoSpec
from longtake.samplers.planning import Stochastic
from longtake.video.files import PICTURE_ENDINGS, picture_files

if TYPE_CHECKING:
    from torch import Tensor

    from longtake.arrays import LatentFrames
    from longtake.samplers.step import Denoiser


@dataclass(frozen=True, kw_only=True)
class Anchored(Stochastic):
    """A sampler whose video can pass through given frames."""

    keyframes: str | None = None
    """A folder of images, named in their order, that the video passes through: its first frame, its last, and frames
    evenly spread between. Beyond the papers, an experiment."""


def keyframe_files(folder: str, spec: VideoSpec) -> list[Path]:
    """Return the images of a folder, in natural order.

    Raises InputError for fewer than two, and for those that do not have the size of the model's frames.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(f"{folder} is no folder; give one with the keyframes as images, named in their order")
    files = picture_files(path)
    if len(files) < 2:
        raise InputError(f"{folder} holds {len(files)} images ({' '.join(sorted(PICTURE_ENDINGS))}); give at least 2")
    for file in files:
        check_picture(file, spec)
    return files


def check_picture(file: Path, spec: VideoSpec) -> None:
    """Raise InputError for a file that is no picture of the size of the model's frames."""
    # Imports av.
    from longtake.video.read import picture_size

    size = picture_size(file)
    if size != (spec.width, spec.height):
        raise InputError(
            f"{file} has {size[0]}x{size[1]} pixels; the frames of {spec.name} have {spec.width}x{spec.height}"
        )


def keyframe_places(folder: str | None, spec: VideoSpec, frames: int | None) -> tuple[int, ...]:
    """Return which frames of a video the images of a folder are: the first one, the last one, and evenly between; none
    without a folder.

    Raises InputError as `keyframe_files`; where the video has no end or fewer frames than there are images; and where a
    frame has no latent of its own.
    """
    if folder is None:
        return ()
    last = len(keyframe_files(folder, spec)) - 1
    if not spec.frame_by_frame:
        raise InputError(f"keyframes need a latent for every frame, which {spec.name} does not have; leave them out")
    if frames is None:
        raise InputError("keyframes are spread over the whole video, and an endless one has no end; set frames")
    if frames <= last:
        raise InputError(f"{last + 1} keyframes are more than {frames} frames; ask for more, or give fewer images")
    return tuple((2 * index * (frames - 1) + last) // (2 * last) for index in range(last + 1))


def keyframe_pixels(folder: str, spec: VideoSpec) -> np.ndarray:
    """Return the images of a folder as uint8 (frames, height, width, 3). Raises InputError as `keyframe_files`."""
    from longtake.video.read import read_picture

    return np.stack([read_picture(file) for file in keyframe_files(folder, spec)])


@dataclass(frozen=True, kw_only=True)
class Keyframes:
    """The given frames of a video."""

    places: Mapping[int, int]
    """Number of a frame of the video -> its place in `latents`."""
    latents: "LatentFrames"
    clean: bool
    """Whether the network is shown them finished."""

    @classmethod
    def of(cls, model: VideoModel, folder: str | None, frames: Sequence[int]) -> "Keyframes":
        """Return the images of `folder`, encoded, as these frames of the video; none where there is no folder."""
        import torch

        latents = [torch.zeros(0, 0, 0, 0, device=model.device)]
        if folder is not None:
            pixels = torch.from_numpy(keyframe_pixels(folder, model.spec)).permute(0, 3, 1, 2) / 255
            # One by one: many keyframes take no more memory than one.
            with model.lock:
                latents = [model.encode_frames(pixel[None].to(model.device)).float() for pixel in pixels]
        return cls(
            places={frame: place for place, frame in enumerate(frames)},
            latents=torch.cat(latents, dim=1),
            clean=model.spec.clean_frames and isinstance(model, PerFrameNoise),
        )

    def kept(self, denoiser: "Denoiser", windows: Sequence[Sequence[int]]) -> "Denoiser":
        """Return the denoiser for windows of these frames of the video, which leaves the given ones as they are."""
        import torch

        places = torch.tensor([[self.places.get(frame, -1) for frame in window] for window in windows])
        if (places < 0).all():
            return denoiser
        places = places.to(self.latents.device)
        given, latents = places >= 0, self.latents[:, places.clamp(min=0)].transpose(0, 1)

        def in_place(x: "Tensor") -> "Tensor":
            return torch.where(given[:, None, :, None, None], latents.to(x), x)

        def keeping(x: "Tensor", levels: "Tensor") -> "Tensor":
            if self.clean:
                x, levels = in_place(x), levels.masked_fill(given, 0)
            return in_place(denoiser(x, levels))

        return keeping
