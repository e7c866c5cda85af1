"""The report of a run, out.json beside out.mp4: what it holds, how it is read, and how a run is rebuilt from it."""

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from longtake.errors import InputError, OutputError, unknown_name
from longtake.request import PromptTimeline, Request
from longtake.sampler import Sampler
from longtake.samplers import sampler_class
from longtake.video.record import read_record

LAYOUT = 1
_ORDER = ("request", "sampler", "model", "device", "dtype", "output")
_OUTPUT = ("file", "fps", "crf", "scale")
_RUN = ("longtake", "complete", "frames", "run", "plan", "environment", "quality", "warnings")


@dataclass(frozen=True, kw_only=True)
class Order:
    """A video as it is asked for, before it is checked against the model and the sampler."""

    model: str
    """Name, or path of a folder."""
    digest: str | None
    """The weights that it must be made with; None takes those that are there."""
    request: Request
    sampler: Sampler
    device: str
    dtype: str
    fps: float | None
    crf: int
    scale: int
    part: tuple[int, int] | None = None
    """The frames of the video that are made, from the first up to the second; None is all."""


def report_path(output: Path) -> Path:
    """Return where the report of an output lies: out.json for out.mp4, frames.json beside the folder frames/."""
    return output.with_suffix(".json")


def subtitle_path(output: Path) -> Path:
    """Return where the subtitles lie that say which prompt was meant when."""
    return output.with_suffix(".vtt")


def check_sidecars(output: Path, *, overwrite: bool, prompts_file: str | None) -> None:
    """Raise OutputError where the report or the subtitles would replace a file that is not this output's.

    Of a run that is under way, what lies there is its own unless it says otherwise: a report may be lost or damaged.
    """
    owner = _owner(output)
    for path in (report_path(output), subtitle_path(output)):
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; choose another -o")
        if prompts_file is not None and path.exists() and Path(prompts_file).resolve() == path.resolve():
            raise OutputError(f"{path} holds the prompts; the report of {output} would replace it; choose another -o")
        if path.exists() and owner not in (None, "", output.name) and output.with_name(owner).exists():
            raise OutputError(
                f"{path} is of {output.with_name(owner)}, and would be of {output} as well; choose another name for -o"
            )
        is_ours = owner == output.name or (owner is None and read_record(output) is not None)
        if path.exists() and not overwrite and not is_ours:
            raise OutputError(
                f"{path} exists and is not of {output}, which would replace it; choose another -o, or --overwrite it"
            )


def belongs(output: Path) -> bool:
    """Return whether the report that lies beside an output is the report of that output."""
    return _owner(output) == output.name


def _owner(output: Path) -> str | None:
    """Return the name of the output whose report lies there; None for no report or a damaged one, "" for other JSON."""
    try:
        content = json.loads(report_path(output).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or content.get("longtake") != LAYOUT:
        return ""
    written = content.get("output")
    return str(written.get("file", "")) if isinstance(written, dict) else ""


def order_content(order: Order, output: Path) -> dict[str, Any]:
    """Return the part of the report from which the run can be repeated."""
    request = asdict(order.request)
    prompts = order.request.prompts
    part = {} if order.part is None else {"range": list(order.part)}
    request["prompts"] = {str(start): text for start, text in zip(prompts.starts, prompts.texts, strict=True)}
    return {
        "request": request,
        "sampler": {"name": order.sampler.name, **asdict(order.sampler)},  # pyright: ignore[reportArgumentType]
        "model": {"name": order.model, "digest": order.digest},
        "device": order.device,
        "dtype": order.dtype,
        "output": {"file": output.name, "fps": order.fps, "crf": order.crf, "scale": order.scale, **part},
    }


def read_order(path: str) -> Order:
    """Rebuild what a run was asked for from its report. Raises InputError where the file holds anything unexpected."""
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is no report of a run: it is not JSON; give the .json beside a video") from None
    if not isinstance(content, dict) or content.get("longtake") != LAYOUT:
        raise InputError(f"{path} is no report of a longtake run that this version can read")
    try:
        return _order(content)
    except InputError as error:
        raise InputError(f"{path} cannot be repeated: {error}") from None


def _order(content: dict[str, Any]) -> Order:
    _only(content, "report", _ORDER, (*_ORDER, *_RUN))
    request, model = _object(content, "request"), _object(content, "model")
    output, settings = _object(content, "output"), _object(content, "sampler")
    _only(model, "model", ("name", "digest"))
    _only(output, "output", _OUTPUT, (*_OUTPUT, "range"))
    sampler = sampler_class(_typed(settings, "name", str))
    prompts = _object(request, "prompts")
    if not all(start.isdecimal() for start in prompts):
        raise InputError("request.prompts must have numbers of frames as names")
    timeline = PromptTimeline(tuple(map(int, prompts)), tuple(_typed(prompts, start, str) for start in prompts))
    return Order(
        model=_typed(model, "name", str),
        digest=_typed(model, "digest", str | None),
        request=Request(**{**_fields(request, Request, "request", but="prompts"), "prompts": timeline}),
        sampler=sampler(**_fields(settings, sampler, "sampler", but="name")),
        device=_typed(content, "device", Literal["cpu", "cuda"]),
        dtype=_typed(content, "dtype", Literal["float32", "bfloat16", "float16"]),
        fps=_typed(output, "fps", float | None),
        crf=_typed(output, "crf", int),
        scale=_typed(output, "scale", int),
        part=_part(output),
    )


def _part(output: Mapping[str, Any]) -> tuple[int, int] | None:
    part = output.get("range")
    if part is None:
        return None
    if not isinstance(part, list) or len(part) != 2 or not all(_fits(frame, int) for frame in part):
        raise InputError(f"range is {json.dumps(part)[:60]}, which it cannot be")
    return part[0], part[1]


def _fields(content: Mapping[str, Any], target: type, where: str, *, but: str) -> dict[str, Any]:
    """Return the values for a dataclass, every field of it and nothing else."""
    kinds = get_type_hints(target)
    known = [field.name for field in fields(target) if field.name != but]  # pyright: ignore[reportArgumentType]
    _only(content, where, (*known, but))
    return {name: _typed(content, name, kinds[name]) for name in known}


def _only(content: Mapping[str, Any], where: str, needed: Iterable[str], known: Iterable[str] = ()) -> None:
    known = tuple(known) or tuple(needed)
    for name in content:
        if name not in known:
            raise unknown_name(f"field in {where}:", name, known)
    for name in needed:
        if name not in content:
            raise InputError(f"{where}.{name} is missing")


def _object(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(content.get(name), dict):
        raise InputError(f"{name} is missing, or no object")
    return content[name]


def _typed(content: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = content.get(name)
    if not _fits(value, kind):
        raise InputError(f"{name} is {json.dumps(value)[:60]}, which it cannot be")
    return _as_kind(value, kind)


def _as_kind(value: Any, kind: Any) -> Any:
    """Return a value that fits a kind as Python has it: JSON knows no tuples, and writes whole floats as it likes."""
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_as_kind(one, of) for one, of in zip(value, _kinds_within(kind, value), strict=True))
    if get_origin(kind) in (Union, types.UnionType):
        return _as_kind(value, next(option for option in get_args(kind) if _fits(value, option)))
    return float(value) if kind is float else value


def _kinds_within(kind: Any, value: list[Any]) -> list[Any]:
    """Return the kinds of the elements of a tuple: as many as are named, or one for all."""
    kinds = list(get_args(kind))
    return kinds[:1] * len(value) if kinds[1:] == [...] else kinds


def _fits(value: object, kind: Any) -> bool:
    if get_origin(kind) in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            return False
        kinds = _kinds_within(kind, value)
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if kind is type(None) else isinstance(value, kind)
