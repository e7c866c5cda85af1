"""Earlier states of a run, from which it can go on in another way: within a budget, dense near the end, thinner before.

Each is the file of the run's own state under a second name, so that keeping it copies nothing. They are advice: a run
never needs one, and what is lost or damaged is passed over. Free of torch.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from longtake.errors import CheckpointError, InputError
from longtake.reading import check_file, read_file
from longtake.typed import read_typed
from longtake.video import durable
from longtake.video.files import frame_file, state_folder
from longtake.video.record import Record, begun_record, other_file, read_record, write_record

MOST = 256
"""States, however small."""
_FOLDER, _INDEX = "kept", "index.json"
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A state that a run was in."""

    next_frame: int
    stored: int
    mark: dict[str, int]
    """These three as in its `Record` then."""
    sha256: str
    """Of the file with the tensors."""
    bytes: int

    @property
    def name(self) -> str:
        """Return what the file is called."""
        return f"{self.next_frame:09d}.safetensors"


class KeptStates:
    """The states that the run of an output keeps, which is open for writing. What is known of them stays on the disk:
    a run takes no more memory the longer its video is."""

    def __init__(self, path: Path, budget: int, free: int | None) -> None:
        """`budget`: bytes of them all. `free`: up to so many frames a state does not depend on where the video ends
        (None: all); the last such state is the last that is given up."""
        self._path, self._budget, self._free = path, budget, free

    def keep(self, record: Record) -> None:
        """Keep the state that the run is in now. A file system that refuses is no reason to end the run."""
        with suppress(OSError):
            file, state = _present(self._path, record)
            states = read_kept(self._path)
            before = [one for one in states if one.next_frame < state.next_frame]
            chosen = thinned([*before, state], self._budget, self._free)
            if state in chosen:
                kept_folder(self._path).mkdir(exist_ok=True)
                link(file, kept_folder(self._path) / state.name)
            self._change(states, chosen)

    def forget_after(self, frame: int) -> None:
        """Give up the states that a run had when it was further than this."""
        with suppress(OSError):
            states = read_kept(self._path)
            self._change(states, [state for state in states if state.next_frame <= frame])

    def _change(self, before: Sequence[Kept], states: Sequence[Kept]) -> None:
        if list(states) != before:
            write_kept(self._path, states)


def kept_folder(path: Path) -> Path:
    """Return where the states of an output's run are kept."""
    return state_folder(path) / _FOLDER


def read_kept(path: Path) -> list[Kept]:
    """Return the states that the run of an output has kept, in order."""
    try:
        return read_typed(list[Kept], read_file(kept_folder(path) / _INDEX), "")
    except (OSError, InputError):
        return []


def write_kept(path: Path, states: Sequence[Kept]) -> None:
    """Say which states are kept, and delete all others."""
    folder = kept_folder(path)
    if not folder.is_dir():
        return
    temporary = folder / f"{_INDEX}.new"
    temporary.write_text(json.dumps([asdict(state) for state in states]), encoding="utf-8")
    os.replace(temporary, folder / _INDEX)
    names = {_INDEX, *(state.name for state in states)}
    for file in folder.iterdir():
        if file.name not in names:
            file.unlink()


def thinned(states: Sequence[Kept], budget: int, free: int | None = None) -> list[Kept]:
    """Return which of these states, in order, fit into so many bytes: the further from the end, the fewer.

    Where one is free of where the video ends (see `KeptStates`), the last such stays longest; else the last of all.
    """
    chosen = list(states)
    while chosen and (len(chosen) > MOST or sum(state.bytes for state in chosen) > budget):
        stays = max(
            (state for state in chosen if free is None or state.next_frame <= free), key=_frame, default=chosen[-1]
        )
        gaps = zip([0, *map(_frame, chosen)], chosen, [*map(_frame, chosen[1:]), chosen[-1].next_frame], strict=False)
        weights = [
            ((after - before) / (chosen[-1].next_frame - state.next_frame + 1), state.next_frame)
            for before, state, after in gaps
            if state != stays
        ]
        last = min(weights)[1] if weights else stays.next_frame
        chosen = [state for state in chosen if state.next_frame != last]
    return chosen


def _frame(state: Kept) -> int:
    return state.next_frame


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system knows none."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def go_on_from(source: Path, target: Path, state: Kept | None, settings: Mapping[str, object]) -> None:
    """Let the output `target` be that of a run with these settings (flat) that has come as far as a state of the run of
    `source`, which may be the same output; from nothing, where there is no state. The caller holds its lock.

    A kill leaves the run of `target` as it was, or on its way, when the same call does the rest. Raises CheckpointError
    for a state that is damaged.
    """
    record = read_record(source)
    assert record is not None
    begun = begun_record(settings, record.environment)
    if source != target or state is None:
        # From here on, whatever lies at the path is ours.
        write_record(target, begun)
        durable.reach("branch-claimed")
    if state is None:
        return
    name = other_file(record.tensors if source == target else None)
    link(_intact(source, record, state), state_folder(target) / name)
    if source != target:
        _copy_head(source, target, state.mark)
        _share(source, target, state)
    durable.sync_folder(state_folder(target))
    durable.reach("branch-copied")
    moved = replace(begun, next_frame=state.next_frame, stored=state.stored, mark=state.mark)
    write_record(target, replace(moved, tensors=name, tensors_sha256=state.sha256))
    durable.reach("branch-begun")
    if source == target:
        write_kept(target, [one for one in read_kept(target) if one.next_frame <= state.next_frame])


def check_state(path: Path, record: Record, state: Kept) -> None:
    """Raise CheckpointError for a state of an output's run that is damaged."""
    _intact(path, record, state)


def usable_states(path: Path, record: Record) -> list[Kept]:
    """Return the states from which the run of an output can go on, in order: those that are kept, and the present
    one."""
    states = {state.next_frame: state for state in read_kept(path) if (kept_folder(path) / state.name).is_file()}
    if record.tensors is not None and record.tensors_sha256 is not None and record.next_frame:
        states[record.next_frame] = _present(path, record)[1]
    return [states[frame] for frame in sorted(states)]


def _present(path: Path, record: Record) -> tuple[Path, Kept]:
    """Return the state that the run of an output is in now, and its file."""
    assert record.tensors is not None and record.tensors_sha256 is not None
    file = state_folder(path) / record.tensors
    state = Kept(
        next_frame=record.next_frame,
        stored=record.stored,
        mark=record.mark,
        sha256=record.tensors_sha256,
        bytes=file.stat().st_size,
    )
    return file, state


def _intact(path: Path, record: Record, state: Kept) -> Path:
    """Return the file of a state. Raises CheckpointError for one that is damaged."""
    file = kept_folder(path) / state.name
    if state.sha256 == record.tensors_sha256 and record.tensors is not None:
        file = state_folder(path) / record.tensors
    try:
        check_file(file)
        with file.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() == state.sha256:
                return file
    except FileNotFoundError:
        pass
    raise CheckpointError(f"the kept state {file} is damaged; delete it, and the same command goes on from one before")


def _copy_head(source: Path, target: Path, mark: Mapping[str, int]) -> None:
    """Copy an output up to a mark, as it is stored."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for frame in range(mark["frames"]):
            durable.write_durable(frame_file(target, frame), read_file(frame_file(source, frame)))
        return
    with source.open("rb") as whole, target.open("wb") as head:
        for start in range(0, mark["bytes"], _BLOCK):
            head.write(whole.read(min(_BLOCK, mark["bytes"] - start)))
        head.flush()
        os.fsync(head.fileno())
    durable.sync_folder(target.absolute().parent)


def _share(source: Path, target: Path, last: Kept) -> None:
    """Keep the states of one run for another that has come as far as one of them."""
    states = [state for state in read_kept(source) if state.next_frame <= last.next_frame]
    kept_folder(target).mkdir(exist_ok=True)
    for state in states:
        link(kept_folder(source) / state.name, kept_folder(target) / state.name)
    write_kept(target, states)
