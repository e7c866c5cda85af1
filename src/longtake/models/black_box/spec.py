"""What can be known of a pipeline of diffusers that longtake has no adapter for, before its weights are loaded.

What it takes stands in the source of its class, which is read and not run: so nothing here imports torch.
"""

import ast
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from longtake.errors import CheckpointError, InputError
from longtake.machine import Part
from longtake.model import VideoSpec, WholeClips
from longtake.models.hub.configs import EXTRAS, Configs, Count
from longtake.models.hub.family import Family, Offer
from longtake.models.hub.find import INDEX
from longtake.models.image_spec import Halvings

REQUIRED = inspect.Parameter.empty
"""Stands for the default of an argument that has none."""
LENGTHS = ("num_frames", "frames")
"""What pipelines call the length of a clip."""
NEEDED = ("prompt", "num_inference_steps", "generator", "output_type")
USED = frozenset({*LENGTHS, *NEEDED, "negative_prompt", "guidance_scale", "height", "width", "image", "video"})
"""Arguments that longtake gives where a pipeline takes them."""
STEERING = ("control_video", "conditioning_frames", "mask_video", "pose_video", "face_video")
"""Arguments without which a pipeline makes nothing, whatever their defaults are."""
PREFIX = {"Cosmos2_5_PredictBasePipeline": 5, "Cosmos2VideoToWorldPipeline": 5, "CosmosVideoToWorldPipeline": 9}
"""Frames that those pipelines go on from which take a `video` as the start of theirs; others change one."""
PACKAGES = {"Cosmos": "cosmos_guardrail"}
"""Packages of what checks for safety, without which a pipeline cannot be made, by how its name begins."""
RATES = {"CogVideoX": 8.0, "EasyAnimate": 8.0, "Allegro": 15.0, "Sana": 16.0, "AnyFlow": 16.0, "Mochi": 30.0}
"""Frames per second of released models, by how the names of their pipelines begin."""
USUAL_RATE = 24.0
SIZES = {"Mochi": (480, 848)}
"""Height and width of released models, where neither a call nor a config says them."""
TARGETS = {640: (480, 848), 960: (720, 1280)}
"""Those of HunyuanVideo 1.5, by the target size of its network, for the aspect that its pipeline takes by default."""


OFFERS = (
    Offer(
        models="any other pipeline of diffusers that makes videos of a text (CogVideoX 1.5, I2V, HunyuanVideo, Mochi)",
        page="models/any-pipeline.md",
        capabilities=frozenset({WholeClips}),
        without=("context-windows",),
        prompts="window",
        sound="not kept",
        trained="a clip, by the call of its pipeline",
        extrapolated="that clips follow each other",
    ),
)
"""Rows of the table of what runs on what."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is read of the config of the network that denoises, where a call leaves the size of a clip to it."""

    sample_height: Count | None = None
    sample_width: Count | None = None
    sample_size: Count | tuple[Count, Count] | None = None
    sample_frames: Count | None = None
    target_size: Count | None = None
    patch_size_t: Count | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Return height and width of the latents, where they are said."""
        if self.sample_height and self.sample_width:
            return self.sample_height, self.sample_width
        return (self.sample_size, self.sample_size) if isinstance(self.sample_size, int) else self.sample_size


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Halvings):
    """What is read of the config of the autoencoder."""

    block_out_channels: tuple[Count, ...] = (1,) * 4


def family(name: str, parts: Mapping[str, str], what: str) -> Family | None:
    """Return how the pipeline of this class is loaded, and run as a whole; None for one that is not of diffusers.

    `parts` has the class of each of its parts, `what` names it. Raises InputError, with the reason, for one that cannot
    make a long video, CheckpointError for one without a network.
    """
    call = arguments(name)
    if call is None:
        return None
    if reason := _refused(name, call, parts):
        raise InputError(f"{what}, which {reason}")
    if not {"transformer", "unet"} & set(parts):
        raise CheckpointError(f"{what}, and its index names neither a transformer nor a unet; fetch the model again")
    others = [part for part, kind in parts.items() if _is_plain(part, kind)]
    return Family(
        room=__name__.rpartition(".")[0],
        models=name,
        pipeline=name,
        networks={part: kind for part, kind in parts.items() if part not in others},
        others=tuple(others),
        whole=True,
    )


def spec(configs: Configs) -> VideoSpec:
    """Return the spec of a model.

    Raises InputError for a size that the pipeline refuses, CheckpointError for broken configs and where none says how
    large its videos are.
    """
    name = str(configs.index["_class_name"])
    call = arguments(name) or {}
    known = {key: value for key, value in call.items() if key in USED}
    if "true_cfg_scale" in call:
        # Its guidance is told to the network; a negative prompt would need the other kind.
        known.pop("negative_prompt", None)
    if "guider" in configs.parts:
        known["guidance_scale"] = configs.parts["guider"].config.get("guidance_scale")
    extras = configs.told(("num_frames", "size"), **_told(name, {**call, **known}, configs))
    height, width = configs.picture_size(extras, _unit(name))
    count = PREFIX.get(name, 1 if "image" in call else 0)
    parts = {part: configs.parts[part].parameters for part in configs.parts}
    return VideoSpec(
        name=configs.name,
        num_frames=extras.num_frames,
        height=height,
        width=width,
        fps=extras.fps,
        latent_shape=(3, extras.num_frames, height, width),
        guidance=extras.guidance,
        capabilities=frozenset({WholeClips}),
        call=known,
        no_levels=_no_levels(configs),
        continues_from=count,
        needs_pictures=call.get("image") is REQUIRED or "VideoToWorld" in name,
        prompts="window",
        parameters=sum(parts.values()),
        text_encoder=Part(parameters=sum(n for part, n in parts.items() if part.startswith("text_encoder"))),
        network=Part(working=0),
        decoder=Part(parameters=parts.get("vae", 0), working=0),
        released="bfloat16",
    )


@cache
def arguments(name: str) -> Mapping[str, Any] | None:
    """Return what a pipeline of diffusers takes when it is called, with the defaults; None where it has none such."""
    found = _class(name)
    calls = (
        [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__call__"] if found else []
    )
    if not calls:
        return None
    given = [argument.arg for argument in calls[0].args.args[1:]]
    defaults = [_value(node) for node in calls[0].args.defaults]
    return dict(zip(given, [REQUIRED] * (len(given) - len(defaults)) + defaults, strict=True))


@cache
def _class(name: str) -> ast.ClassDef | None:
    """Return the source of a class of diffusers that is a pipeline."""
    library = importlib.util.find_spec("diffusers")
    if library is None or library.origin is None or not name.isidentifier():
        return None
    for file in sorted((Path(library.origin).parent / "pipelines").rglob("pipeline_*.py")):
        source = file.read_text(encoding="utf-8")
        if f"class {name}(" in source:
            return next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    return None


def _value(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _refused(name: str, call: Mapping[str, Any], parts: Mapping[str, str]) -> str | None:
    """Return why a pipeline cannot be run as a whole."""
    wanted = [
        argument for argument, default in call.items() if default is REQUIRED and argument not in ("prompt", "image")
    ]
    if steered := [argument for argument in (*STEERING, *wanted) if argument in call]:
        return f"is steered by {steered[0]}, which longtake does not have"
    if not any(length in call for length in LENGTHS):
        return "makes no videos, or as long ones as it is given: it takes no num_frames"
    if lacking := [argument for argument in NEEDED if argument not in call]:
        return f"takes no {lacking[0]}, by which longtake would run it as a whole"
    for start, package in PACKAGES.items():
        if name.startswith(start) and "safety_checker" not in parts and importlib.util.find_spec(package) is None:
            return f"diffusers makes with the package {package} only, which is not installed; pip install {package}"
    return None


def _is_plain(part: str, kind: str) -> bool:
    """Return whether a part holds no weights."""
    return part == "guider" or kind.endswith(("Scheduler", "Processor", "Extractor")) or "Tokenizer" in kind


def _network(configs: Configs) -> Network:
    part = next((configs.parts[part] for part in ("transformer", "unet") if part in configs.parts), None)
    return Network() if part is None else part.read(Network)


def _no_levels(configs: Configs) -> str:
    """Return why frames cannot have noise levels of their own, where the config says it."""
    shared = _network(configs).patch_size_t or 1
    return f"{shared} latents are one token of its network, with one noise level" if shared > 1 else ""


def _told(name: str, call: Mapping[str, Any], configs: Configs) -> dict[str, Any]:
    """Return what longtake.json would say of a clip, from the defaults of the call, else from the configs."""
    read = _network(configs)
    frames = next((call[length] for length in LENGTHS if isinstance(call.get(length), int)), read.sample_frames)
    rate = next((value for start, value in RATES.items() if name.startswith(start)), USUAL_RATE)
    rate = next((float(call[word]) for word in ("fps", "frame_rate") if isinstance(call.get(word), int | float)), rate)
    said: dict[str, Any] = {"fps": rate, "guidance": float(call.get("guidance_scale") or 1.0)}
    where = f"{configs.where}/{EXTRAS}"
    for field, value in (("num_frames", frames), ("size", _size(name, call, read, configs))):
        if value is None and field not in configs.extras:
            raise CheckpointError(f"{INDEX} names a {name}, and no config says its {field}; write it in {where}")
        said |= {} if value is None else {field: value}
    return said


def _size(name: str, call: Mapping[str, Any], read: Network, configs: Configs) -> list[int] | None:
    if isinstance(call.get("height"), int) and isinstance(call.get("width"), int):
        return [call["height"], call["width"]]
    known = next((size for start, size in SIZES.items() if name.startswith(start)), None)
    known = known or TARGETS.get(read.target_size or 0)
    if known or not read.size or "vae" not in configs.parts:
        return None if known is None else list(known)
    stride = configs.parts["vae"].read(Autoencoder).stride
    return [side * stride for side in read.size]


def _unit(name: str) -> int:
    """Return what must divide height and width, where the source of a pipeline compares them with a number."""
    found = _class(name)
    assert found is not None
    return max(
        (
            node.right.value
            for node in ast.walk(found)
            if isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Mod)
            and isinstance(node.left, ast.Name)
            and node.left.id in ("height", "width")
            and isinstance(node.right, ast.Constant)
            and isinstance(node.right.value, int)
        ),
        default=8,
    )
