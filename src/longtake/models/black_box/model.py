"""A pipeline of diffusers that longtake has no adapter for, run by its own call.

It makes whole clips of pixels of a text; where it takes a picture, or the start of a video, a clip goes on from frames
that it is given. Nothing is seen of its noise levels and its x0.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from longtake.arrays import Frames, LatentFrames
from longtake.decoding import to_uint8
from longtake.errors import CapabilityError, InputError, LongtakeError
from longtake.model import Condition, VideoSpec, WholeClips
from longtake.models.black_box.spec import LENGTHS
from longtake.models.hub.configs import Configs
from longtake.models.hub.load import quiet_libraries, where_run
from longtake.schedule import Schedule, Spacing


class BlackBox(WholeClips):
    """Whole clips by a pipeline's own call; its latents are the pixels."""

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        """Take a pipeline as it is."""
        self.pipeline, self.spec, self.digest = pipeline, spec, configs.digest()
        network = next(part for name, part in pipeline.components.items() if name in ("transformer", "unet"))
        self.device, self.dtype = where_run(pipeline, network)

    def clip(self, told: Mapping[str, Any], seed: int, known: LatentFrames | None) -> LatentFrames:
        """Return a clip, (3, frames, height, width) in [0, 1].

        Raises InputError, with the pipeline's own words, for what it refuses, and for a clip of another size than the
        spec says.
        """
        spec, takes = self.spec, self.spec.call or {}
        given = dict(told) | {name: spec.num_frames for name in LENGTHS if name in takes}
        given |= {name: getattr(spec, name) for name in ("height", "width") if name in takes}
        if known is not None:
            pictures = [Image.fromarray(frame) for frame in to_uint8(known.transpose(0, 1))]
            given |= {"image": pictures[-1]} if len(pictures) == 1 and "image" in takes else {"video": pictures}
        if (guider := self.pipeline.components.get("guider")) is not None:
            guider.guidance_scale = given.pop("guidance_scale")
        self.pipeline.set_progress_bar_config(disable=True)
        try:
            # Clips are many, and each would say the same.
            with torch.no_grad(), quiet_libraries(), warnings.catch_warnings(action="ignore"):
                made = self.pipeline(**given, generator=torch.Generator().manual_seed(seed), output_type="np")
        except (LongtakeError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise InputError(f"{spec.name}: its pipeline refuses this ({_first_line(error)}); see its page") from error
        frames = torch.from_numpy(np.ascontiguousarray(made.frames[0], np.float32)).to(self.device)
        wanted = (spec.num_frames, spec.height, spec.width, 3)
        if frames.shape != wanted:
            num, height, width, _ = frames.shape
            raise InputError(
                f"{spec.name} was asked for {wanted[0]} frames of {wanted[2]}x{wanted[1]}, and made {num} of "
                f"{width}x{height}; write that as num_frames and size in its longtake.json"
            )
        return frames.permute(3, 0, 1, 2)

    def decode(self, latents: LatentFrames, state: Any, last: bool) -> tuple[Frames, Any]:
        """Return the pixels that these are."""
        return latents.transpose(0, 1), None

    def encode_frames(self, frames: Frames) -> LatentFrames:
        """Return the pixels as they are kept."""
        return frames.transpose(0, 1)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """Raise CapabilityError: its pipeline embeds prompts itself."""
        self._hidden()

    def schedule(self, num_levels: int, spacing: Spacing = "trailing") -> Schedule:
        """Raise CapabilityError: its pipeline has its noise levels to itself."""
        self._hidden()

    def denoise(
        self, x: Tensor, level: Tensor, schedule: Schedule, condition: Condition, prompt_index: Tensor
    ) -> Tensor:
        """Raise CapabilityError: its pipeline shows no x0."""
        self._hidden()

    def _hidden(self) -> NoReturn:
        raise CapabilityError(f"{self.spec.name} is run by its pipeline's own call, which shows no x0; use chunked")


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> BlackBox:
    """Return the model around a pipeline."""
    return BlackBox(pipeline, spec, configs)


def tile_whole(pipeline: Any) -> None:
    """Let the autoencoder of a pipeline work in tiles, as diffusers does. Raises InputError where it cannot."""
    try:
        pipeline.vae.enable_tiling()
    except (AttributeError, NotImplementedError):
        raise InputError(
            f"--vae-tiling does not fit a {type(pipeline).__name__}, whose autoencoder knows no tiles; leave it out"
        ) from None


def _first_line(error: Exception) -> str:
    return " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:200]
