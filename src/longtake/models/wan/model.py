"""The models of the Wan family, by what their transformers are given beside the noise (arXiv 2503.20314)."""

from abc import abstractmethod
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
from longtake.models.wan.network import Beside
from longtake.models.wan.pictures import picture_channels, vace_control
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


class WanShown(WanBase, Infill, Continuation):
    """A network that is shown known frames beside a window that has all frames noisy, as it was in training."""

    last: tuple[Known | None, int, Beside] | None = None
    """What was shown in the last call, and of what; every step asks for the same."""

    @abstractmethod
    def show(self, known: Known | None, num_frames: int) -> Beside:
        """Return what goes beside windows of so many latent frames of which these pixel frames are known."""

    def beside(self, known: Known | None, x: Latents) -> Beside:
        """Return what goes beside windows x, that of the last call if it is the same."""
        if self.last is None or self.last[0] is not known or self.last[1] != x.shape[2]:
            self.last = known, x.shape[2], self.show(known, x.shape[2])
        return self.last[2] if known is not None else self.last[2].of([0] * len(x))

    def denoise(
        self,
        x: Latents,
        level: FrameLevels | Int[Tensor, "windows"],
        schedule: Schedule,
        condition: Condition,
        prompt_index: FrameIndex,
    ) -> Latents:
        """Return x0 of windows of which nothing is known; a level a window, or a frame where the network takes that."""
        beside = self.beside(None, x)
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
        beside = self.beside(known, x)
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
        beside = self.beside(known, x)
        x0 = self.experts.x0(x, level, schedule, condition.rows["text"], prompts, beside)
        return x0[:, :, known.latents.shape[2] :]


class WanFromPictures(WanShown, PerFrameNoise):
    """Picture to video: known frames in channels of their own, and in Wan2.1 what CLIP sees in one of them or two."""

    def show(self, known: Known | None, num_frames: int) -> Beside:
        """Return channels beside those of the noise; see `picture_channels`."""
        return picture_channels(self, known, num_frames)


class WanVace(WanShown):
    """VACE (Jiang et al., 2025, arXiv 2503.07598): known frames through blocks of their own beside the network's."""

    def show(self, known: Known | None, num_frames: int) -> Beside:
        """Return what steers the network; see `vace_control`."""
        return vace_control(self, known, num_frames)


MODELS: dict[str, type[WanModel] | type[WanFromPictures] | type[WanVace]] = {
    "text": WanModel,
    "pictures": WanFromPictures,
    "vace": WanVace,
}


def wrap(pipeline: Any, spec: VideoSpec, configs: Configs) -> WanBase:
    """Make a pipeline a model."""
    return MODELS[kind_of(configs)](pipeline, spec, configs)
