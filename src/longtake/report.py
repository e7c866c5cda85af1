"""The report of a run, out.json beside out.mp4: what it holds, how it is read, and how a run is rebuilt from it."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from longtake.errors import CheckpointError, InputError, LongtakeError, OutputError, unknown_name
from longtake.model import VideoModel
from longtake.models import MODELS, configs_of
from longtake.models.hub.loading import Loading
from longtake.models.hub.precision import is_device
from longtake.reading import is_name, parse_json, read_file
from longtake.request import PromptTimeline, Request
from longtake.sampler import Plan, Sampler
from longtake.samplers import SAMPLERS, pieces_of, sampler_class
from longtake.samplers.keyframes import init_digest
from longtake.typed import read_typed, to_json
from longtake.video.durable import replace_durable
from longtake.video.files import report_path, subtitle_path
from longtake.video.output import Output, Target, make_target
from longtake.video.record import read_record
from longtake.words import plain

LAYOUT = 1
_RUN = ("longtake", "complete", "frames", "run", "plan", "environment", "quality", "warnings")


@dataclass(frozen=True, kw_only=True)
class Order:
    """A video as it is asked for, before it is checked against the model and the sampler."""

    model: str
    """Name, or path of a folder."""
    digest: str | None = None
    """The weights that it must be made with; None takes those that are there."""
    loading: Loading = Loading()
    request: Request
    init: str | None = None
    """The digest of the frames that it must begin with; None takes those that are there."""
    sampler: Sampler
    device: str = "auto"
    dtype: str = "auto"
    output: Output = Output()
    audio: str | None = None
    """The digest of the sound that it must have; None takes what is there."""

    @classmethod
    def of(cls, model: VideoModel, plan: Plan, output: Output) -> "Order":
        """Return the order of this model's video."""
        return cls(
            model=model.origin or model.spec.name,
            digest=model.digest,
            loading=Loading(**model.loading),
            request=plan.request,
            init=init_digest(plan),
            sampler=plan.settings,
            device=model.device.type,
            dtype=str(model.dtype).removeprefix("torch."),
            output=output,
        )

    def check_weights(self, digest: str | None) -> None:
        """Raise CheckpointError for a model of other weights than the video must be made with; of unknown ones not."""
        if None not in (self.digest, digest) and self.digest != digest:
            raise CheckpointError(
                f"the video was made with other weights of {self.model}: {self.digest}, here {digest}; get those "
                "weights back, or make the video anew: another -o, and its settings in place of its report"
            )

    def check_files(self) -> None:
        """Raise as `check_weights` does, for the files of its model, before it is loaded."""
        if self.digest is not None:
            self.check_weights(self.digest_here())

    def digest_here(self) -> str | None:
        """Return what tells the weights that are here from others, by their files; None for a model made by code."""
        if self.model in MODELS and not MODELS[self.model].folder:
            return None
        return self.loading.digest(configs_of(self.model, self.loading)[0].digest())

    @property
    def frames(self) -> int | None:
        """Return how many frames come out; None for an endless run."""
        part = self.output.part
        return part[1] - part[0] if part else self.request.frames

    @property
    def prompts(self) -> PromptTimeline:
        """Return the prompts by the numbers of the frames that come out."""
        prompts, part = self.request.prompts, self.output.part
        return prompts.after(part[0]) if part else prompts


@dataclass(frozen=True, kw_only=True)
class _Model(Loading):
    name: str
    digest: str | None


@dataclass(frozen=True, kw_only=True)
class _Given:
    file: str | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class _File:
    file: str
    fps: float | None
    crf: int
    scale: int
    segment: int = Output.segment
    keep_states: int = Output.keep_states
    range: tuple[int, int] | None = None
    audio: _Given | None = None


@dataclass(frozen=True, kw_only=True)
class _Report:
    """The part of a report from which the run can be repeated, as JSON has it."""

    request: dict[str, Any]
    sampler: dict[str, Any]
    model: _Model
    device: str
    dtype: Literal["float32", "bfloat16", "float16"]
    output: _File

    def __post_init__(self) -> None:
        if not is_device(self.device):
            raise InputError(f"device is {self.device!r}, which is none that longtake knows")


def check_sidecars(output: Path, *, overwrite: bool) -> None:
    """Raise OutputError where the report or the subtitles would replace a file that is not this output's.

    Of a run that is under way, what lies there is its own unless it says otherwise: a report may be lost or damaged.
    """
    owner = _owner(output)
    for path in (report_path(output), subtitle_path(output)):
        if path.is_dir():
            raise OutputError(f"cannot write {path}: it is a folder; choose another -o")
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
    """Return the name of the output whose report lies there; None for no report or a damaged one, "" for other JSON,
    and for one that names no file beside it."""
    try:
        content = parse_json(read_file(report_path(output)))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("longtake") != LAYOUT:
        return ""
    written = content.get("output")
    name = str(written.get("file", "")) if isinstance(written, dict) else ""
    return name if is_name(name) else ""


def run_settings(order: Order, plan: Plan) -> dict[str, object]:
    """Return everything that decides the frames, by the names that a user would know, as JSON values."""
    content = order_content(order)
    part, init = content["output"].get("range"), init_digest(plan)
    return {
        **content["request"],
        **({"init": init} if init else {}),
        "guidance": plan.guidance,
        # Only where frames are others than an earlier version made: what it began otherwise goes on.
        **({"clip": plan.clip} if plan.clip == "x0_and_eps" else {}),
        "model": plan.spec.name,
        "model digest": order.digest,
        "sampler": order.sampler.name,
        **{f"sampler.{name}": value for name, value in asdict(order.sampler).items()},  # pyright: ignore
        **({"part": part} if part else {}),
        "device": order.device,
        "dtype": order.dtype,
    }


def order_target(order: Order, plan: Plan) -> Target:
    """Return what a run is going to write, checked; raises as `make_target` does."""
    pieces, turns = pieces_of(plan), order.request.turns
    # The header stays as it is when a video turns: it names the prompts that the video was begun with.
    begun = turns[0].prompts if turns else order.request.prompts
    return make_target(
        order.output if pieces else replace(order.output, keep_states=0),
        settings=run_settings(order, plan) | _told(order),
        fps=plan.spec.fps,
        total=order.frames,
        size=(plan.spec.height, plan.spec.width),
        comment=plain(" | ".join(begun.texts)),
        free=pieces.free if pieces else None,
    )


def _told(order: Order) -> dict[str, object]:
    """Return what the digests in the settings of a run are of."""
    init = {} if order.request.init is None else {"init.file": order.request.init}
    return {
        "model.model": order.model,
        **{f"model.{name}": value for name, value in order.loading.decides.items()},
        **init,
    }


def order_content(order: Order) -> dict[str, Any]:
    """Return the part of the report from which the run can be repeated."""
    request, output = asdict(order.request), order.output
    stored: dict[str, Any] = {"fps": output.fps, "crf": output.crf, "scale": output.scale, "segment": output.segment}
    stored["keep_states"] = output.keep_states
    part = {} if output.part is None else {"range": output.part}
    if output.audio is not None:
        # Imports av.
        from longtake.video.sound import sound_digest

        stored["audio"] = {"file": output.audio, "sha256": sound_digest(output.audio)}
    request["prompts"] = told_by_frame(order.request.prompts)
    turns = [{**asdict(turn), "prompts": told_by_frame(turn.prompts)} for turn in order.request.turns]
    if request.pop("turns"):
        request["turns"] = turns
    if request.pop("init") is not None:
        request["init"] = {"file": order.request.init, "sha256": order.init}
    content = {
        "request": request,
        "sampler": {"name": order.sampler.name, **asdict(order.sampler)},  # pyright: ignore[reportArgumentType]
        "model": {"name": order.model, "digest": order.digest, **order.loading.told},
        "device": order.device,
        "dtype": order.dtype,
        "output": {"file": output.path.name, **stored, **part},
    }
    return to_json(content)


def write_order(order: Order, path: Path) -> None:
    """Write what a run is asked for as a report that has no more to tell yet."""
    content = {"longtake": LAYOUT, "complete": False, **order_content(order)}
    replace_durable(path, json.dumps(content, indent=2).encode())


def told_by_frame(prompts: PromptTimeline) -> dict[str, str]:
    """Return prompts as JSON has them: by the number of the frame from which they hold."""
    return {str(start): text for start, text in zip(prompts.starts, prompts.texts, strict=True)}


def read_order(path: str) -> Order:
    """Rebuild what a run was asked for from its report; its output is named as it was, without a folder.

    Raises InputError where the file holds anything unexpected.
    """
    try:
        content = parse_json(read_file(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path} is no report of a run: it is not JSON; give the .json beside a video") from None
    if not isinstance(content, dict) or content.get("longtake") != LAYOUT:
        raise InputError(f"{path} is no report of a longtake run that this version can read")
    return _order(content, f"{path} cannot be repeated")


def _order(content: dict[str, Any], where: str) -> Order:
    made = read_typed(_Report, {name: value for name, value in content.items() if name not in _RUN}, where)
    name = made.sampler.pop("name", None)
    if not isinstance(name, str) or name not in SAMPLERS:
        raise InputError(f"{where}: {unknown_name('sampler', str(name), SAMPLERS)}")
    init = read_typed(_Given, made.request.pop("init", {"file": None, "sha256": None}), f"{where}: init")
    made.request["init"] = init.file
    return Order(
        model=made.model.name,
        digest=made.model.digest,
        loading=Loading(**{entry.name: getattr(made.model, entry.name) for entry in fields(Loading)}),
        init=init.sha256,
        request=_request(made.request, f"{where}: request"),
        sampler=read_typed(sampler_class(name), made.sampler, f"{where}: sampler {name}", complete=True),
        device=made.device,
        dtype=made.dtype,
        audio=made.output.audio and made.output.audio.sha256,
        output=_output(made.output, where),
    )


def _output(made: _File, where: str) -> Output:
    try:
        return Output(
            path=Path(made.file),
            fps=made.fps,
            crf=made.crf,
            scale=made.scale,
            segment=made.segment,
            keep_states=made.keep_states,
            part=made.range,
            audio=made.audio and made.audio.file,
        )
    except LongtakeError as error:
        raise InputError(f"{where}: output: {error}") from None


def _request(content: dict[str, Any], where: str) -> Request:
    turns = content.get("turns", [])
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise InputError(f"{where}: turns is no list of objects")
    told = [turn | {"prompts": _timeline(turn.get("prompts"), f"{where}: turns")} for turn in turns]
    prompts = _timeline(content.get("prompts"), where)
    return read_typed(Request, content | {"prompts": prompts, "turns": told}, where, complete=True)


def _timeline(prompts: object, where: str) -> dict[str, Any]:
    if not isinstance(prompts, dict) or not all(start.isdecimal() for start in prompts):
        raise InputError(f"{where}: prompts is missing, or its names are no numbers of frames")
    return {"starts": [int(start) for start in prompts], "texts": list(prompts.values())}
