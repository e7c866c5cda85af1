"""What can be asked for: models, samplers and their settings, as the dataclasses say them that are the command line."""

import types
import typing
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from longtake.errors import LongtakeError
from longtake.models import MODELS, model_spec
from longtake.models.embedded import phrases
from longtake.request import Request
from longtake.samplers import PRESETS, SAMPLERS, preset_settings, sampler_class, samplers_of
from longtake.serve.job import FILES, VideoJob
from longtake.serve.schema import SETTING
from longtake.serve.settings import Computing, Quota
from longtake.typed import declared, field_docs, to_json
from longtake.video.output import Output

ASKED = {
    "num_frames": (Request, "frames"),
    "seed": (Request, "seed"),
    "guidance_scale": (Request, "guidance"),
    "negative_prompt": (Request, "negative_prompt"),
    "num_inference_steps": (Request, "steps"),
    "fps": (Output, "fps"),
    "crf": (Output, "crf"),
    "keep_states": (Output, "keep_states"),
}
"""Fields of a request that are settings of every video, and where they are declared."""


def options(computing: Computing, quota: Quota) -> dict[str, Any]:
    """Return what a request may say, for a form."""
    offered = {name: _model(name, where, computing) for name, where in computing.offered.items()}
    return {
        "models": offered,
        "samplers": {
            name: {
                "summary": (sampler_class(name).__doc__ or "").strip().splitlines()[0],
                "models": [model for model, content in offered.items() if name in content["samplers"]],
                "settings": _settings(sampler_class(name), SETTING),
            }
            for name in SAMPLERS
        },
        "presets": {name: _preset(name) for name in PRESETS},
        "settings": [{**setting(kind, field), "name": name} for name, (kind, field) in ASKED.items()],
        "defaults": {"model": VideoJob.model, "sampler": VideoJob.sampler},
        "limits": {"max_frames": quota.max_frames, "max_queue": quota.max_queue},
    }


def _model(name: str, where: str, computing: Computing) -> dict[str, Any]:
    about = {"summary": MODELS[name].summary if name in MODELS else ""}
    try:
        spec = model_spec(where, **computing.loading.told)
    except LongtakeError as error:
        return {**about, "ready": False, "problem": str(error), "samplers": []}
    return {
        **about,
        "ready": True,
        "problem": None,
        "width": spec.width,
        "height": spec.height,
        "fps": spec.fps,
        "num_frames": spec.num_frames,
        "guidance": to_json(spec.guidance),
        "words": None if spec.vocabulary is None else sorted(spec.vocabulary),
        "phrases": phrases(name),
        "samplers": samplers_of(spec),
    }


def _preset(name: str) -> dict[str, Any]:
    """Return the settings of a preset that are others than the sampler's own."""
    sampler = preset_settings(name)
    own = type(sampler)()
    names = [field.name for field in fields(sampler)]  # pyright: ignore[reportArgumentType]
    changed = {f"{SETTING}{key}": getattr(sampler, key) for key in names if getattr(sampler, key) != getattr(own, key)}
    return {"sampler": sampler.name, **to_json(changed)}


def _settings(kind: type, prefix: str) -> list[dict[str, Any]]:
    names = [field.name for field in fields(kind) if field.name not in FILES]
    return [{**setting(kind, name), "name": f"{prefix}{name}"} for name in names]


def setting(kind: type, name: str) -> dict[str, Any]:
    """Return what a form has to know of a field of a dataclass: its type (integer, number, boolean, text, choice or
    list), its unit (bytes, or none), whether it may be left out, its default, its choices, what holds where it is left
    out, and its help."""
    hint, told = declared(get_type_hints(kind, include_extras=True)[name])
    kinds = get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    inner = next(one for one in kinds if one is not types.NoneType)
    default = next(field.default for field in fields(kind) if field.name == name)
    return {
        "name": name,
        "type": _type(inner),
        "unit": "bytes" if told.metavar == "BYTES" else None,
        "optional": types.NoneType in kinds,
        "default": None if default is MISSING else to_json(default),
        "choices": list(get_args(inner)) if get_origin(inner) is Literal else None,
        "unset": told.unset,
        "help": field_docs(kind).get(name, ""),
    }


def _type(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "choice"
    return {bool: "boolean", int: "integer", float: "number", str: "text"}.get(hint, "list")
