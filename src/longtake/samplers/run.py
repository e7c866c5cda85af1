"""What the loops of all samplers share: prompts, noise, progress and pixels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from longtake.arrays import LatentFrames
from longtake.decoding import Decoder, pack_decoder, unpack_decoder
from longtake.model import Condition, LongNegative, VideoModel
from longtake.noise import Noise
from longtake.ranks.world import World
from longtake.request import Request
from longtake.sampler import Plan, State
from longtake.samplers.step import Windows
from longtake.schedule import Schedule

Pixels = NDArray[np.uint8]


class Prompts:
    """The prompt table of a request: the negative prompt, then the prompts of its timeline.

    A prompt is embedded when a frame first needs it, by itself: its numbers depend on no other prompt, and a story of
    thousands takes the memory of one. What comes of it stays on the host; the device holds what is in use.
    """

    def __init__(self, model: VideoModel, request: Request) -> None:
        self.model, self.texts = model, (request.negative_prompt, *request.prompts.texts)
        self._embedded: dict[int, Mapping[str, Tensor]] = {}
        self._in_use: tuple[tuple[int, ...], Condition] | None = None

    def used(self, rows: Iterable[int]) -> tuple[Condition, Mapping[int, int]]:
        """Return a table of these rows alone, after that of the negative prompt, and the place of each in it."""
        wanted = tuple(sorted({0, *rows}))
        if self._in_use is None or self._in_use[0] != wanted:
            parts = [self._row(row) for row in wanted]
            joined = {name: torch.cat([part[name] for part in parts]).to(self.model.device) for name in parts[0]}
            self._in_use = wanted, Condition(joined)
        return self._in_use[1], {row: place for place, row in enumerate(wanted)}

    def _row(self, row: int) -> Mapping[str, Tensor]:
        if row not in self._embedded:
            with self.model.lock:
                encoded = self._encoded(row).rows
                self._embedded[row] = {name: tensor.cpu() for name, tensor in encoded.items()}
        return self._embedded[row]

    def _encoded(self, row: int) -> Condition:
        if row == 0 and isinstance(self.model, LongNegative):
            return self.model.encode_negative(self.texts[0], self.texts[1:])
        return self.model.encode([self.texts[row]])


@dataclass(frozen=True, kw_only=True)
class Run:
    """What stays the same during a run; a loop adds its own."""

    model: VideoModel
    plan: Plan
    noise: Noise
    world: World

    @cached_property
    def prompts(self) -> Prompts:
        """Return the prompt table of the request."""
        return Prompts(self.model, self.plan.request)

    @property
    def dtype(self) -> torch.dtype:
        """Return the type in which latents are kept: float32, or the model's where that is wider."""
        return torch.promote_types(self.model.dtype, torch.float32)

    def windows(self, schedule: Schedule, rows: Sequence[Sequence[int]]) -> Windows:
        """Return windows whose frames have these rows of the prompt table; where the model takes one prompt a window,
        the whole window has that of its middle frame."""
        if self.plan.spec.prompts == "window":
            rows = [[row[len(row) // 2]] * len(row) for row in rows]
        condition, places = self.prompts.used(chain.from_iterable(rows))
        index = torch.tensor([[places[row] for row in window] for window in rows], device=self.model.device)
        return Windows(schedule=schedule, condition=condition, prompt_index=index)

    def draw_frame(self, stream: str, frame: int, *key: int) -> Float[Tensor, "channels height width"]:
        """Return the noise of one latent frame."""
        channels, _, height, width = self.plan.spec.latent_shape
        return self.noise((channels, height, width), stream, frame, *key).to(self.model.device)

    def draw_frames(self, frames: Sequence[int], stream: str, *key: int) -> LatentFrames:
        """Return the noise of these frames of the video, each drawn by its number, whatever window it is in."""
        return torch.stack([self.draw_frame(stream, frame, *key) for frame in frames], dim=1)

    def draw_window(self, window: int, frames: Sequence[int], stream: str, *key: int) -> Tensor:
        """Return the noise of a window: by frame where its latents have frames, so that it does not show in them."""
        if len(self.plan.spec.latent_shape) == 4:
            return self.draw_frames(frames, stream, *key)
        return self.noise(self.plan.spec.latent_shape, stream, window, *key).to(self.model.device)

    def at_rank_0(self, part: Tensor, held: Sequence[Sequence[int]], axis: int, frames: range) -> Tensor:
        """Return these of the frames that the processes hold, of which `part` has those held here along `axis`, on the
        first process; none on the others."""
        group = self.world.clip
        return group.fetch([part], axis, held, [frames, *[()] * (group.size - 1)])()[0]

    def no_pixels(self) -> Pixels:
        """Return the frames of a process that has none."""
        return np.zeros((0, self.plan.spec.height, self.plan.spec.width, 3), np.uint8)

    def cut(self, start: int, pixels: Pixels) -> Pixels:
        """Return frames that begin with the video's frame `start`, without those after its end."""
        return pixels if self.plan.request.frames is None else pixels[: self.plan.request.frames - start]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a video is that is made window after window: enough to go on from."""

    window: int = 0
    """The next one to make."""
    shown: Tensor | None = None
    """Clean latents of those before that it is shown; None where it is shown none."""
    decoder: Decoder = Decoder()

    def state(self) -> dict[str, Tensor]:
        """Return this as named tensors."""
        shown = {} if self.shown is None else {"shown": self.shown}
        return {"window": torch.tensor(self.window), **shown, **pack_decoder(self.decoder)}

    @classmethod
    def restored(cls, state: State, model: VideoModel) -> "Progress":
        """Return the progress that `state` was made from, on the model's device."""
        return cls(
            window=int(state["window"]),
            shown=state["shown"].to(model.device) if "shown" in state else None,
            decoder=unpack_decoder(model, state),
        )
