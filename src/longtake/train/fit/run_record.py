"""What a training run was told and found, in run.json beside its checkpoints. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.errors import CheckpointError, InputError
from longtake.typed import read_typed, to_json
from longtake.video.durable import replace_durable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

NAME = "run.json"
_FREE = (
    "sample_minutes",
    "save_minutes",
    "keep",
    "log_every",
    "recompute",
    "in_memory",
    "vgg",
    "autoencoder",
    "folder",
)
"""Settings that change no weight, and places of files."""
_LESS_MEMORY = ("batch_size", "parts")
"""Settings that may have to change when memory runs out."""
_GO_ON = ("run.fit.num_steps", "run.judges.")
"""Settings with which a finished run goes on, until a second phase has begun."""


def settings_of(**parts: "DataclassInstance") -> dict[str, Any]:
    """Return settings as JSON holds them."""
    return to_json(parts)


def begin_record(folder: Path, stage: str, settings: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Write run.json to the folder of a run, and return what differs from an earlier call, in words.

    `facts` are what else is worth knowing; under "data", a digest of the recordings. Once there is a checkpoint,
    `settings` must be the same but for steps, the size of a batch, and what changes no weight. Raises InputError for
    other differences, and for the folder of another stage.
    """
    earlier = _read(folder / NAME)
    changes: list[str] = []
    if earlier and earlier.get("stage") != stage:
        raise InputError(f"{folder} is a run of {earlier.get('stage')}; choose another folder for {stage}")
    if earlier and list(folder.glob("checkpoint*")):
        changes = _changes(folder, _flat(earlier.get("settings", {})), _flat(settings))
        if earlier.get("data") != facts.get("data"):
            changes.append("there are other recordings than when the run began")
    content = {"stage": stage, "settings": settings, **facts}
    folder.mkdir(parents=True, exist_ok=True)
    replace_durable(folder / NAME, (json.dumps(content, indent=2) + "\n").encode())
    return changes


def _changes(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    second_phase = list(folder.glob("checkpoint*/rival.safetensors"))
    goes_on = ("run.judges.steps",) if second_phase else _GO_ON
    found = []
    for name, value in now.items():
        last = name.split(".")[-1]
        if before.get(name) == value or name.startswith(goes_on) or last in _FREE:
            continue
        what = last.removeprefix("num_").replace("_", " ")
        if last not in _LESS_MEMORY:
            raise InputError(
                f"the run in {folder} was begun with {what} {before.get(name)}, not {value}; "
                "give the same settings, or another folder"
            )
        found.append(f"{what} {value} in place of {before.get(name)}")
    return found


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings under names joined by dots; lists count as values."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    return {
        name: value
        for key, inner in settings.items()
        for name, value in _flat(inner, f"{prefix}.{key}" if prefix else key).items()
    }


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_typed(dict[str, Any], path.read_bytes(), str(path), error=CheckpointError)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete it to let the run go on") from None
