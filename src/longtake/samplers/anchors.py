"""Keyframes as anchors: frames of the video that are given, which every window that holds one sees and leaves as it is.

An experiment beyond the papers. What a window's network says of a given frame (its x0) is replaced by the frame, so
that the frame comes out as it was given and its neighbours are made in view of it (as RePaint does in pictures:
Lugmayr et al., 2022, arXiv 2201.09865, without its resampling). A network that was trained with finished frames among
noisy ones sees it finished; any other sees it as noisy as it expects a frame there to be.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from longtake.arrays import LatentFrames, Latents
from longtake.model import PerFrameNoise, VideoModel
from longtake.samplers.storyboard import storyboard, storyboard_files


@dataclass(frozen=True, kw_only=True)
class Known:
    """The given frames of a batch of windows."""

    given: Bool[Tensor, "windows frames"]
    latents: Latents
    """Clean where they are given, anything elsewhere."""
    clean: bool
    """Whether the network is shown them finished."""

    def shown(
        self, x: Latents, level: Int[Tensor, "windows *frames"]
    ) -> tuple[Latents, Int[Tensor, "windows *frames"]]:
        """Return the windows and their levels as the network is to see them."""
        return (self.kept(x), level.masked_fill(self.given, 0)) if self.clean else (x, level)

    def kept(self, x: Latents) -> Latents:
        """Return windows with the given frames in their places."""
        return torch.where(self.given[:, None, :, None, None], self.latents.to(x), x)


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The given frames of a video."""

    places: Mapping[int, int]
    """Number of a frame of the video -> its place in `latents`."""
    latents: LatentFrames
    clean: bool
    """Whether the network is shown them finished."""

    @classmethod
    def of(cls, model: VideoModel, folder: str | None, frames: Sequence[int]) -> "Anchors":
        """Return the images of `folder`, encoded, as these frames of the video; none where there is no folder."""
        latents = [torch.zeros(0, 0, 0, 0, device=model.device)]
        if folder is not None:
            pixels = torch.from_numpy(storyboard(storyboard_files(folder, model.spec))).permute(0, 3, 1, 2) / 255
            # One by one: many keyframes take no more memory than one.
            latents = [model.encode_frames(pixel[None].to(model.device)).float() for pixel in pixels]
        return cls(
            places={frame: place for place, frame in enumerate(frames)},
            latents=torch.cat(latents, dim=1),
            clean=model.spec.clean_frames and isinstance(model, PerFrameNoise),
        )

    def within(self, windows: Sequence[Sequence[int]]) -> Known | None:
        """Return those among the frames of these windows; None where there is none."""
        places = torch.tensor([[self.places.get(frame, -1) for frame in window] for window in windows])
        if (places < 0).all():
            return None
        places = places.to(self.latents.device)
        latents = self.latents[:, places.clamp(min=0)].transpose(0, 1)
        return Known(given=places >= 0, latents=latents, clean=self.clean)
