"""A model and a sampler behind the words of a diffusers pipeline."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from longtake._generate import stream
from longtake.errors import InputError
from longtake.model import VideoModel
from longtake.models import load_model
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers import DEFAULT_SAMPLER, sampler_class
from longtake.typed import fitting

if TYPE_CHECKING:
    import torch

OutputType = Literal["np", "pil", "pt"]
Callback = Callable[["LongVideoPipeline", int, int, Mapping[str, Any]], object]


@dataclass(frozen=True)
class LongVideoOutput:
    """What a call returns."""

    frames: Any
    """A batch of one video, as diffusers has it: an array (1, frames, height, width, 3) or tensor (1, frames, 3,
    height, width) of numbers in [0, 1], or a list of one list of PIL images."""


class LongVideoPipeline:
    """Makes long video when it is called as a text-to-video pipeline of diffusers is; `generate` and `stream` do the
    work."""

    def __init__(self, model: VideoModel, sampler: Sampler | str = DEFAULT_SAMPLER) -> None:
        """Take a model, also one of `from_pipe`, and a sampler: its settings, or its name for the defaults.

        Raises InputError for an unknown name, and for what is neither.
        """
        self.model = fitting(model, VideoModel, "model", takes="a model, as load_model and from_pipe return one")
        fitting(sampler, Sampler | str, "sampler", takes="the name of a sampler, or one with its settings: Fifo()")
        self.sampler = sampler_class(sampler)() if isinstance(sampler, str) else sampler
        self._interrupt = False

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        *,
        dtype: "torch.dtype | None" = None,
        device: str = "cpu",
        sampler: Sampler | str = DEFAULT_SAMPLER,
        **loading: Any,
    ) -> "LongVideoPipeline":
        """Load a model, as `load_model` does: a folder, a hub id, or the name of an embedded one; `loading` are its
        keywords, such as revision, variant, lora, offload or quantize. It is on `device` from the start. Raises
        InputError for a `device_map`, which `from_pipe` takes of a pipeline that has one."""
        if "device_map" in loading:
            raise InputError(
                "device_map spreads a model over cards as diffusers loads it, and longtake loads one to one device: "
                "give the pipeline that diffusers has loaded so to longtake.from_pipe"
            )
        return cls(load_model(name, device, dtype, **loading), sampler)

    @property
    def fps(self) -> float:
        """Return the frames per second that the model makes, for `export_to_video`."""
        return self.model.spec.fps

    def __call__(
        self,
        prompt: str | PromptTimeline,
        *,
        num_frames: int = 128,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        generator: "torch.Generator | int | None" = None,
        output_type: OutputType = "np",
        callback_on_step_end: Callback | None = None,
    ) -> LongVideoOutput:
        """Return a video, which is in memory as a whole; `stream` and `longtake.generate` hold a few frames at a time.

        What is None is the sampler's or the model's own. Of a `generator` the seed that it was made with counts, and
        how far it was drawn from does not: noise is a function of seed and name. `callback_on_step_end` is called with
        this, the number of the chunk, 0 and {"frames": the chunk, uint8} as soon as frames are finished; where it sets
        `_interrupt`, the video ends there. Raises InputError and CapabilityError before any work is done.
        """
        if output_type not in ("np", "pil", "pt"):
            raise InputError(f"output_type cannot be {output_type!r}; use 'np', 'pil' or 'pt'")
        if num_frames is None:
            raise InputError(
                "num_frames None never ends, and a call returns it as a whole; use stream, or say how many"
            )
        function = "a function that is called with the pipeline, the number of the chunk, 0 and its frames, or None"
        fitting(callback_on_step_end, Callable | None, "callback_on_step_end", takes=function)
        self._interrupt, chunks = False, []
        asked = {
            "num_frames": num_frames,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "negative_prompt": negative_prompt,
            "generator": generator,
        }
        for number, frames in enumerate(self.stream(prompt, **asked)):
            chunks.append(frames)
            if callback_on_step_end is not None:
                callback_on_step_end(self, number, 0, {"frames": frames})
            if self._interrupt:
                break
        return LongVideoOutput(frames=_as_type(np.concatenate(chunks), output_type))

    def stream(
        self,
        prompt: str | PromptTimeline,
        *,
        num_frames: int | None = 128,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        generator: "torch.Generator | int | None" = None,
    ) -> Iterator[np.ndarray]:
        """Return the same as it is made: uint8 arrays (frames, height, width, 3), in order; num_frames None never ends.

        Raises InputError and CapabilityError at once.
        """
        for name, value in (("prompt", prompt), ("negative_prompt", negative_prompt), ("generator", generator)):
            if isinstance(value, list | tuple):
                raise InputError(
                    f"a list as {name} would be a batch; call once for every video, and give prompts that change over "
                    "time as a PromptTimeline"
                )
        fitting(prompt, str | PromptTimeline, "prompt")
        fitting(num_frames, int | None, "num_frames")
        fitting(num_inference_steps, int | None, "num_inference_steps")
        fitting(guidance_scale, float | None, "guidance_scale")
        fitting(negative_prompt, str | None, "negative_prompt")
        request = Request(
            prompts=prompt if isinstance(prompt, PromptTimeline) else PromptTimeline.constant(prompt),
            frames=num_frames,
            seed=_seed(generator),
            guidance=guidance_scale,
            negative_prompt=negative_prompt or "",
            steps=num_inference_steps,
        )
        return stream(self.model, request, self.sampler)


def _seed(generator: "torch.Generator | int | None") -> int:
    if generator is None:
        return 0
    import torch

    if isinstance(generator, torch.Generator):
        return generator.initial_seed()
    return fitting(generator, int, "generator", takes="a torch.Generator, or a seed")


def _as_type(frames: np.ndarray, output_type: OutputType) -> Any:
    if output_type == "pil":
        from PIL import Image

        return [[Image.fromarray(frame) for frame in frames]]
    numbers = frames[None].astype(np.float32) / 255
    if output_type == "np":
        return numbers
    import torch

    return torch.from_numpy(numbers).permute(0, 1, 4, 2, 3)
