"""Frames that are given: those that the video begins with (`Request.init`), and keyframes that it passes through, a
folder of images in natural order (1, 2, 10).

A sampler of models that go on from frames, or fill in between some, hands given frames to the model as such. In any
other, a window that holds one sees it and leaves it as it is, an experiment beyond the papers: what the network says of
it (its x0) is replaced by the frame, so that it comes out as it was given and its neighbours are made in view of it (as
RePaint does in pictures: Lugmayr et al., 2022, arXiv 2201.09865, without its resampling). A network that was trained
with finished frames among noisy ones sees it finished; any other sees it as noisy as it expects a frame there to be.

Plans ask here which frames are given, so nothing imports torch before images are encoded.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np

from longtake.errors import InputError
from longtake.model import PerFrameNoise, VideoModel, VideoSpec
from longtake.request import Request
from longtake.sampler import Plan
from longtake.samplers.planning import Stochastic
from longtake.typed import Setting
from longtake.video.files import PICTURE_ENDINGS, picture_files

if TYPE_CHECKING:
    from torch import Tensor

    from longtake.arrays import LatentFrames
    from longtake.samplers.step import Denoiser


@dataclass(frozen=True, kw_only=True)
class Anchored(Stochastic):
    """A sampler whose video can pass through given frames."""

    keyframes: Annotated[str | None, Setting(metavar="FOLDER", unset="none")] = None
    """A folder of images, named in their order, that the video passes through: its first frame, its last, and frames
    evenly spread between. Beyond the papers, an experiment."""


def keyframe_files(folder: str, spec: VideoSpec) -> list[Path]:
    """Return the images of a folder, in natural order.

    Raises InputError for fewer than two, and for those that do not have the size of the model's frames.
    """
    path = Path(folder).expanduser()
    if not folder or not path.is_dir():
        raise InputError(f"{folder!r} is no folder; give one with the keyframes as images, named in their order")
    files = picture_files(path)
    if len(files) < 2:
        raise InputError(f"{folder} holds {len(files)} images ({' '.join(sorted(PICTURE_ENDINGS))}); give at least 2")
    for file in files:
        check_picture(file, spec)
    return files


def check_picture(file: Path, spec: VideoSpec) -> None:
    """Raise InputError for a file that is no picture of the size of the model's frames."""
    # Imports Pillow.
    from longtake.video.pictures import picture_size

    size = picture_size(file)
    if size != (spec.width, spec.height):
        raise InputError(
            f"{file} has {size[0]}x{size[1]} pixels; the frames of {spec.name} have {spec.width}x{spec.height}"
        )


def init_pixels(request: Request, spec: VideoSpec, most: int) -> np.ndarray:
    """Return the frames that a video begins with, uint8 (frames, height, width, 3): the last ones of `request.init`, at
    most so many; none where nothing is given.

    They are brought to the size of the model's frames as `read_last` does. Raises InputError for what cannot be read,
    and for a video that would be over with them.
    """
    if request.init is None:
        return np.zeros((0, spec.height, spec.width, 3), np.uint8)
    # Imports av.
    from longtake.video.read import read_last

    frames = read_last(Path(request.init).expanduser(), most, (spec.height, spec.width))
    if request.frames is not None and len(frames) >= request.frames:
        raise InputError(
            f"{request.init} gives the first {len(frames)} frames, and the video is to have {request.frames}; "
            "ask for more --frames"
        )
    return frames


def init_digest(plan: Plan) -> str | None:
    """Return what tells the frames that a video begins with from others; None for one that begins with nothing."""
    if not plan.given:
        return None
    return hashlib.sha256(init_pixels(plan.request, plan.spec, plan.given).tobytes()).hexdigest()


def encoded_init(model: VideoModel, plan: Plan) -> "Tensor":
    """Return the latents of the frames that a video begins with, encoded together, on the model's device."""
    import torch

    pixels = torch.from_numpy(init_pixels(plan.request, plan.spec, plan.given)).permute(0, 3, 1, 2)
    with model.lock:
        return model.encode_frames(pixels.to(model.device, torch.float32) / 255).float()


def given_places(folder: str | None, request: Request, spec: VideoSpec) -> tuple[int, ...]:
    """Return which frames of a video are given: those that it begins with, all of a window but one at most; or the
    images of a folder, its first one, its last one, and evenly between.

    Raises InputError as `keyframe_files` and `init_pixels`; where keyframes are more than the frames of the video, or
    it has no end; and where a frame has no latent of its own.
    """
    if folder is None and request.init is None:
        return ()
    what, setting = ("keyframes need", "them") if request.init is None else ("--init needs", "it")
    if folder is not None and request.init is not None:
        raise InputError("there are both --init and keyframes, of which the first one begins the video; give one")
    if not spec.frame_by_frame:
        raise InputError(f"{what} a latent for every frame, which {spec.name} does not have; leave {setting} out")
    if folder is None:
        most = spec.num_frames - 1 if spec.call is None else spec.continues_from or 0
        return tuple(range(len(init_pixels(request, spec, most))))
    last, frames = len(keyframe_files(folder, spec)) - 1, request.frames
    if frames is None:
        raise InputError("keyframes are spread over the whole video, and an endless one has no end; set frames")
    if frames <= last:
        raise InputError(f"{last + 1} keyframes are more than {frames} frames; ask for more, or give fewer images")
    return tuple((2 * index * (frames - 1) + last) // (2 * last) for index in range(last + 1))


def keyframe_pixels(folder: str, spec: VideoSpec) -> np.ndarray:
    """Return the images of a folder as uint8 (frames, height, width, 3). Raises InputError as `keyframe_files`."""
    # Imports Pillow.
    from longtake.video.pictures import read_picture

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
    def of(cls, model: VideoModel, plan: Plan, folder: str | None, frames: Sequence[int]) -> "Keyframes":
        """Return what the video begins with, or the images of `folder`, encoded, as these frames of the video."""
        import torch

        latents = [torch.zeros(0, 0, 0, 0, device=model.device)]
        if plan.given:
            latents = [encoded_init(model, plan)]
        elif folder is not None:
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
