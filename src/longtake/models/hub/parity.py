"""A loaded model against what it was released as: its network against the pipeline of diffusers, its stream of frames
against all frames at once.

That pipeline runs as it is, with its own preparation of text and pictures, up to the call of its network; the noisy
latents and the timestep of that call are replaced by ours, and its answer by the network ends the pipeline.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import Tensor, nn

from longtake.decoding import Decoder, decode_clip, decode_pixels
from longtake.errors import LongtakeError
from longtake.model import Condition, Continuation, Infill, Known, PerFrameNoise, ToldFps, VideoModel
from longtake.models.hub.load import quiet_libraries
from longtake.schedule import Schedule, to_x0

PROMPT = "a red car"
NUM_LEVELS, LEVEL = 10, 6
EXPERTS = {"transformer": NUM_LEVELS, "transformer_2": 2}
"""Levels at which networks that share the noise are asked."""
STEPS = 8
"""Of the stock pipeline: enough to come to the expert for little noise."""
BARE: dict[str, Any] = {"guidance_scale": 1.0, "num_inference_steps": STEPS, "output_type": "latent"}


class NotComparedError(LongtakeError):
    """There is nothing to compare a model with, for a reason that is no fault of it."""


class _AnsweredError(Exception):
    """Ends a pipeline."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How far a model's call is from the stock pipeline's."""

    pipeline: str
    difference: float
    """The largest of x0, over its standard deviation."""


def parity(model: VideoModel, class_name: str) -> Parity:
    """Compare every network of a model that denoises with the stock pipeline `class_name`, where diffusers has that,
    else with that which the model holds. Raises NotComparedError where that cannot be."""
    if model.spec.call is not None:
        raise NotComparedError("nothing but the call of its pipeline of diffusers is run")
    pipeline = _stock(model, class_name)
    names = [name for name in EXPERTS if pipeline.components.get(name) is not None] or ["unet"]
    levels = EXPERTS if len(names) == 2 else dict.fromkeys(names, LEVEL)
    schedule, x = model.schedule(NUM_LEVELS), _noise(model)
    condition, known = model.encode([PROMPT]), _pictures(model)
    most = 0.0
    for name in names:
        ours = _ours(model, x, levels[name], schedule, condition, known)
        call = partial(_stock_x0, model, pipeline, name, x, levels[name], schedule, known)
        try:
            theirs = call({"prompt": PROMPT})
        except NameError:
            # Some pipelines clean prompts by a package that they do not ask for.
            theirs = call({"prompt": None, "prompt_embeds": condition.rows["text"]})
        most = max(most, float((ours - theirs).abs().max() / theirs.std()))
    return Parity(pipeline=type(pipeline).__name__, difference=most)


def stream_difference(model: VideoModel) -> int:
    """Return how far frames that are decoded in pieces are at most from all at once, of 255. Raises NotComparedError
    for a model that decodes whole clips alone."""
    if len(model.spec.latent_shape) != 4 or model.spec.clip_decoder:
        raise NotComparedError("it decodes whole clips, never in pieces")
    latents = _noise(model)[0]
    whole, decoder, most = decode_clip(model, latents), Decoder(), 0
    for start, stop in ((0, 1), (1, 2), (2, latents.shape[1])):
        begin = decoder.frames
        pixels, decoder = decode_pixels(model, latents[:, start:stop], decoder, last=stop == latents.shape[1])
        difference = np.abs(pixels.astype(int) - whole[begin : decoder.frames])
        most = max(most, int(difference.max(initial=0)))
    return most if decoder.frames == len(whole) else 255


def _stock(model: VideoModel, class_name: str) -> Any:
    """Return a pipeline of this class with the parts of the model's own."""
    own = vars(model).get("pipeline")
    if not isinstance(own, DiffusionPipeline):
        raise NotComparedError("diffusers has no pipeline for this model")
    if ToldFps in model.spec.capabilities:
        raise NotComparedError("the pipeline of diffusers tells its network no frames per second")
    if model.spec.drops_sound:
        raise NotComparedError("the pipeline of diffusers makes a picture that hears its sound, which is not made here")
    kind = getattr(diffusers, class_name, None) or type(own)
    needs = inspect.signature(kind.__call__).parameters
    lacks_picture = "image" in needs and needs["image"].default is inspect.Parameter.empty
    if isinstance(own, kind) or (lacks_picture and not model.spec.needs_pictures):
        return own
    wanted = inspect.signature(kind.__init__).parameters
    said = {name: value for name, value in own.config.items() if isinstance(value, bool | float)}
    return kind(**{name: value for name, value in {**said, **own.components}.items() if name in wanted})


def _noise(model: VideoModel) -> Tensor:
    return torch.randn((1, *model.spec.latent_shape), generator=torch.Generator().manual_seed(0)).to(model.device)


def _pictures(model: VideoModel) -> Known | None:
    """Return the pictures that a network is shown which was always shown some."""
    spec = model.spec
    if not spec.needs_pictures:
        return None
    last = spec.timing.pixel_frames(spec.num_frames) - 1
    places = (0,) if Continuation in spec.capabilities else (0, last)
    shape = (len(places), 3, spec.height, spec.width)
    pixels = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1)) / 255
    latents = torch.cat([model.encode_frames(picture[None]) for picture in pixels], dim=1)
    return Known(latents=latents[None], pixels=pixels[None], places=places)


def _ours(
    model: VideoModel, x: Tensor, level: int, schedule: Schedule, condition: Condition, known: Known | None
) -> Tensor:
    frames = (1, model.spec.num_frames)
    rows = torch.zeros(frames, dtype=torch.long, device=model.device)
    if known is None:
        # A level for every frame, where the model takes that: equal ones are the plain call.
        levels = torch.full(frames if isinstance(model, PerFrameNoise) else (1,), level, device=model.device)
        return model.denoise(x, levels, schedule, condition, rows)
    if not isinstance(model, Infill):
        raise NotComparedError("the pipeline of diffusers draws noise of its own into the picture that it is shown")
    return model.denoise_between(x, torch.tensor([level], device=model.device), schedule, condition, rows, known)


def _stock_x0(
    model: VideoModel,
    pipeline: Any,
    name: str,
    x: Tensor,
    level: int,
    schedule: Schedule,
    known: Known | None,
    prompt: Mapping[str, Any],
) -> Tensor:
    spec = model.spec
    length = spec.timing.pixel_frames(spec.num_frames)
    given = BARE | {
        "num_frames": length,
        "video_length": length,
        "frame_rate": spec.fps,
        "generator": torch.Generator(),
    }
    given |= {"height": spec.height, "width": spec.width, **_shown(known, spec.height, spec.width)}
    wanted = inspect.signature(pipeline.__call__).parameters
    timestep = float(schedule.timestep[level])
    pipeline.set_progress_bar_config(disable=True)
    with _answering(getattr(pipeline, name), x.to(model.dtype), timestep), quiet_libraries():
        try:
            pipeline(**{key: value for key, value in {**given, **prompt}.items() if key in wanted})
        except _AnsweredError as ended:
            predicted = _as_ours(ended.answer, x)
        except NameError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise NotComparedError(f"{type(pipeline).__name__} cannot run here ({reason})") from error
        else:
            raise NotComparedError(f"{type(pipeline).__name__} never called its {name}")
    kind = _predicts(pipeline.scheduler)
    return to_x0(predicted.float(), x, schedule.now(torch.tensor(level, device=x.device)), kind)


def _shown(known: Known | None, height: int, width: int) -> dict[str, Any]:
    """Return pictures as pipelines take them. Where there are none, a control network is given a black one that does
    not count."""
    if known is None:
        blank = Image.new("RGB", (width, height))
        return {"conditioning_frames": [blank], "controlnet_conditioning_scale": 0.0}
    assert known.pixels is not None
    arrays = (known.pixels[0] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    images = [Image.fromarray(array) for array in arrays]
    return dict(zip(("image", "last_image"), images, strict=False))


@contextmanager
def _answering(network: nn.Module, x: Tensor, timestep: float) -> Iterator[None]:
    """Give the next call of a network these latents at this timestep, and end it with what it says."""
    signature = inspect.signature(network.forward)

    def before(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        call = signature.bind(*given, **named)
        sample = next(iter(signature.parameters))
        theirs, at = call.arguments[sample], torch.as_tensor(call.arguments["timestep"])
        # Pipelines hand on the format of their text encoder, which may be another than the network's.
        call.arguments |= {name: value.to(x.dtype) for name, value in call.arguments.items() if _is_float(value)}
        call.arguments[sample] = _as_theirs(x, theirs)
        # Schedulers may keep whole numbers, and ours need be none.
        kind = at.dtype if timestep.is_integer() else torch.promote_types(at.dtype, torch.float32)
        call.arguments["timestep"] = torch.full_like(at, timestep, device=theirs.device, dtype=kind)
        return call.args, call.kwargs

    def after(module: nn.Module, given: Any, answer: Any) -> None:
        raise _AnsweredError(answer[0])

    hooks = [network.register_forward_pre_hook(before, with_kwargs=True), network.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _as_theirs(x: Tensor, theirs: Tensor) -> Tensor:
    """Return latents as a network has them: as tokens, frames before channels, or with more channels beside them."""
    if theirs.ndim == 3:
        return x.flatten(2).transpose(1, 2)
    if theirs.shape == x.transpose(1, 2).shape and theirs.shape != x.shape:
        return x.transpose(1, 2)
    return torch.cat([x, theirs[:, x.shape[1] :].to(x)], dim=1)


def _as_ours(answer: Tensor, x: Tensor) -> Tensor:
    if answer.ndim == 3:
        return answer.transpose(1, 2).unflatten(2, x.shape[2:])
    if answer.shape == x.transpose(1, 2).shape and answer.shape != x.shape:
        return answer.transpose(1, 2)
    # Further channels are a variance that the network has learned.
    return answer[:, : x.shape[1]]


def _predicts(scheduler: Any) -> Any:
    is_flow = "Flow" in type(scheduler).__name__
    said = scheduler.config.get("prediction_type", "flow" if is_flow else "epsilon")
    return "flow" if said.startswith("flow") else said
