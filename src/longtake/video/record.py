"""The record of a run: one small JSON file that says what the output belongs to and how far it is. Free of torch."""

import hashlib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from longtake.errors import CheckpointError, InputError, OutputError
from longtake.reading import parse_json, read_file
from longtake.typed import read_typed
from longtake.video import durable, files

_SHOWN = 60
LAYOUT = 2
"""Of the tensors that a record refers to. The record itself has been the same since 1."""

_TOLD = {
    "model digest": ("model.", "the weights of the model are others"),
    "init": ("init.", "the frames of --init are others"),
    "audio": ("audio.", "the sound of --audio is another"),
    "clip": ("clip.", "an earlier version bounds what guidance makes otherwise"),
}
"""Settings that say nothing to a reader, as digests do: how those begin that say what they are of, and words for where
these do not differ. What is said so decides nothing itself, since the same weights may lie elsewhere."""

_FOLLOWS = {"clip": ("guidance", "model", "sampler", "sampler.solver")}
"""Settings that follow from others; where one of these differs, it alone is said."""

TENSOR_FILES = ("state-a.safetensors", "state-b.safetensors")
"""Two names in turn for the tensors: the one that the record refers to is never written to."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """How far a run is. The file is renamed into place only after everything it speaks of is on the disk."""

    settings: dict[str, object]
    """Everything that determines the frames and the file, flat: nested names are joined by dots."""
    environment: dict[str, str]
    """Versions, threads and machine that made the frames; another one may round differently."""
    next_frame: int
    """The frame that the sampler makes next."""
    stored: int
    """Frames in the output that never change again; the others below `next_frame` lie in the tensors."""
    mark: dict[str, int]
    """How far the output is valid, in the terms of its writer."""
    tensors: str | None
    """Name of the file that holds the sampler's tensors; None before the first."""
    tensors_sha256: str | None
    """Checksum of that file."""
    finished: bool
    """Whether the output is complete."""


def begun_record(settings: Mapping[str, object], environment: Mapping[str, str]) -> Record:
    """Return the record of a run that has made nothing yet."""
    return Record(
        settings=dict(settings),
        environment=dict(environment),
        next_frame=0,
        stored=0,
        mark={},
        tensors=None,
        tensors_sha256=None,
        finished=False,
    )


def other_file(current: str | None) -> str:
    """Return the name under which tensors may be written while the record refers to `current`."""
    return TENSOR_FILES[1] if current == TENSOR_FILES[0] else TENSOR_FILES[0]


def flat_settings(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return settings as JSON would read them back, nested mappings flattened to names with dots."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flat_settings(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.loads(json.dumps(value))
    return flat


def read_record(path: str | Path) -> Record | None:
    """Read how far the run that writes `path` is; None when there is none.

    Raises CheckpointError when the record is damaged, or of a run that an earlier version has not finished; the output
    itself is never touched.
    """
    file = files.state_folder(path) / files.RECORD_FILE
    try:
        content = parse_json(read_file(file))
        if content["layout"] not in (1, LAYOUT) or content["sha256"] != _digest(content["record"]):
            raise ValueError("checksum")
        record = read_typed(Record, content["record"], "")
    except FileNotFoundError:
        return None
    except OSError as error:
        advice = "move what lies there away, or give another -o"
        raise CheckpointError(f"cannot read {file}: {error.strerror}; {advice}") from None
    except (ValueError, KeyError, TypeError, RecursionError, InputError):
        raise damaged(path, file) from None
    if content["layout"] != LAYOUT and record.tensors is not None:
        raise CheckpointError(
            f"{path} was begun by an earlier version of longtake, from whose saved state this one cannot go on; "
            "nothing was touched: finish it with that version, give another -o, or start again with --overwrite"
        )
    return record


def write_record(path: str | Path, record: Record) -> None:
    """Replace the record of the run that writes `path`, in one step that survives a kill."""
    content = asdict(record)
    text = json.dumps({"layout": LAYOUT, "sha256": _digest(content), "record": content}, indent=1)
    durable.replace_durable(files.state_folder(path) / files.RECORD_FILE, text.encode())


def differing(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return the names of the settings (flat) that make two runs of one output different ones."""
    said = tuple(start for start, _ in _TOLD.values())
    return [name for name in _apart(before, now) if not name.startswith(said)]


def check_settings(path: str | Path, record: Record, settings: Mapping[str, object]) -> None:
    """Raise OutputError that names every setting in which `settings` (flat) differs from the run that made `path`."""
    if names := differing(record.settings, settings):
        changes = ", ".join(changed(record.settings, settings))
        advice = "use the old ones, another -o, or --overwrite to start again"
        if any(name == "frames" or name.startswith("prompts") for name in names):
            advice += f"; --init {path} with another -o goes on from its last frames"
        raise OutputError(f"{path} was begun with other settings: {changes}; {advice}")


def changed(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return in words how the settings of two runs differ; of a digest, what it is of."""
    changes: dict[str, str] = {}
    names = differing(before, now)
    for name in names:
        if set(_FOLLOWS.get(name, ())) & set(names):
            continue
        told = {name: name}
        if name in _TOLD:
            start, words = _TOLD[name]
            # An earlier version has left the digest alone.
            is_told = name not in before or any(key.startswith(start) for key in before)
            said = [key for key in _apart(before, now) if is_told and key.startswith(start)]
            told = {name if key == f"{name}.file" else key.removeprefix(start): key for key in said}
            if not told:
                changes.setdefault(start.removesuffix("."), words)
        for shown, key in told.items():
            was, is_now = _short(_text(before, key), _text(now, key))
            changes.setdefault(shown, f"{shown} was {was} and is now {is_now}")
    return list(changes.values())


def _apart(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def check_length(path: Path, record: Record) -> None:
    """Raise CheckpointError when the file at `path` cannot hold what its run stored; a folder must exist."""
    if record.mark and not path.exists():
        raise unlike(path, "is gone")
    expected = record.mark.get("bytes", 0)
    if expected and (path.stat().st_size < expected or (record.finished and path.stat().st_size != expected)):
        raise unlike(path, f"has {path.stat().st_size} bytes where its run wrote {expected}")


def unlike(path: Path, how: str, first: str = "") -> CheckpointError:
    """Return the error for an output that is not what its run left there; `first` is what to do before all else."""
    record, again = read_record(path), ""
    # It goes on from what the run has stored, by what its report says.
    if record is not None and record.next_frame and files.report_path(path).exists():
        again = f"let 'longtake redo {shlex.quote(str(path))} --from {record.next_frame - 1}' make it again as it was, "
    return CheckpointError(
        f"{path} {how}, so its run cannot go on from there; nothing was touched: {first}bring it back, {again}"
        "give another -o, or start with --overwrite"
    )


def damaged(path: str | Path, file: Path) -> CheckpointError:
    """Return the error for a state file that cannot be trusted."""
    return CheckpointError(
        f"the saved state {file} is damaged, so the run cannot continue; {path} itself is untouched: "
        "copy it if you want to keep it, then start again with --overwrite"
    )


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _text(settings: Mapping[str, object], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "not set"


def _short(*texts: str) -> list[str]:
    """Return texts of at most 60 characters each, from a little before where they differ."""
    alike = len(os.path.commonprefix(texts)) if max(map(len, texts)) > _SHOWN else 0
    start = max(0, alike - _SHOWN // 2)
    shown = [f"...{text[start:]}" if start else text for text in texts]
    return [text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..." for text in shown]
