"""The models of the Wan family, by what their transformers are given beside the noise (arXiv 2503.20314)."""

from contextlib import AbstractContextManager
from typing import Any

from jaxtyping import Int
from torch import Tensor

from longtake.arrays import FrameIndex, FrameLevels, Latents
from longtake.attention import FrameMixer
from longtake.model import Condition, Continuation, Infill, Known, PerFrameNoise, TemporalHooks, VideoSpec
from longtake.models.hub.configs import Configs
from longtake.models.known_frames import CleanFrames, whole_window
from longtake.models.wan.base import WanBase
from longtake.models.wan.pictures import ShownPictures
from longtake.models.wan.spec import kind_of
from longtake.schedule import Schedule


class WanModel(WanBase, CleanFrames, TemporalHooks):
    """Text to video: nothing beside the noise.

    Infill and continuation give good pictures only where the network was trained for them: see its spec.
    """

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0; a level a window or a frame, a prompt for every frame."""
        return self.experts.x0(x, level, schedule, condition.rows["text"], prompt_index)

    def mixing(self, mixer: FrameMixer) -> AbstractContextManager[None]:
        """Let `mixer` bring the tokens of all frames together in every layer, inside the context.

        Frames farther apart than those of one call of the network count as its first and last.
        """
        return self.experts.mixing(mixer, self.spec.num_frames - 1)


class WanFromPictures(WanBase, PerFrameNoise, Infill, Continuation):
    """Picture to video: known frames beside the noise, in channels of their own, with a mask that says which they are.

    Those of Wan2.1 also attend to what CLIP sees in the known pictures: one, or the first and the last.
    """

    def __init__(self, pipeline: Any, spec: VideoSpec, configs: Configs) -> None:
        super().__init__(pipeline, spec, configs)
        self.shown = ShownPictures(self)

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0 of windows of which nothing is known, which the network has never seen in training."""
        beside = self.shown.beside(None, x)
        return self.experts.x0(x, level, schedule, condition.rows["text"], prompt_index, beside)

    def denoise_between(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of windows with known pixel frames, noisy ones in x like all others."""
        beside = self.shown.beside(known, x)
        return self.experts.x0(x, level, schedule, condition.rows["text"], prompt_index, beside)

    def denoise_after(
        self,
        x: Latents,
        level: Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
        known: Known,
    ) -> Latents:
        """Return x0 of the frames x that follow known ones, which begin the window."""
        x, prompts = whole_window(x, level, schedule, prompt_index, known)
        beside = self.shown.beside(known, x)
        x0 = self.experts.x0(x, level, schedule, condition.rows["text"], prompts, beside)
        return x0[:, :, known.latents.shape[2] :]


MODELS: dict[str, type[WanModel] | type[WanFromPictures]] = {"text": WanModel, "pictures": WanFromPictures}


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> WanBase:
    """Make a pipeline a model."""
    return MODELS[kind_of(configs)](pipeline, spec, configs)
