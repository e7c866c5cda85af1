"""Stores the frames of a run as they are made, so that after any kill the same command ends in the same bytes."""

import hashlib
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import safetensors
import safetensors.torch
import torch

from longtake.errors import OutputError
from longtake.finite import check_finite
from longtake.lazy import named
from longtake.reading import read_file
from longtake.sampler import Chunk
from longtake.video import durable
from longtake.video.durable import Lock
from longtake.video.files import RECORD_FILE, state_folder
from longtake.video.kept import KeptStates
from longtake.video.output import Target, earlier_run
from longtake.video.record import TENSOR_FILES, Record, begun_record, damaged, other_file, write_record
from longtake.video.writer import Mark, Writer

_SAMPLER = "sampler."
_PENDING = "pending"


@dataclass(frozen=True, kw_only=True)
class Restart:
    """From where the sampler continues."""

    next_frame: int
    """The first frame that it has to make."""
    state: dict[str, torch.Tensor]
    """What `Chunk.state` returned when the frames before were stored."""


@dataclass(frozen=True, kw_only=True)
class _Position:
    """Where the output stands. Replaced as a whole, so that an interrupt sees the old one or the new one."""

    mark: Mark
    stored: int
    pending: np.ndarray

    @property
    def next_frame(self) -> int:
        return self.stored + len(self.pending)


class Sink:
    """An open output. Use it in `with`: leaving it early stores the frames that wait for their segment to fill.

    Frames are encoded in segments that start at multiples of `segment` and depend on nothing else. After the segments
    that a chunk fills, the state is saved: first the bytes reach the disk, then the tensors, then the record that
    refers to both. What a kill leaves behind after that is cut off by the next run. Once the run is finished, the
    state folder holds the record (settings, length and checksum of the output), the lock, and the states that are kept.
    """

    def __init__(self, target: Target) -> None:
        """Open an output for a new run, or continue the one that these settings began.

        Raises OutputError naming the settings in which the run there differs, or the process that is writing it;
        CheckpointError where the saved state or the output are damaged.
        """
        self._target = target
        self._path = target.path
        self._writer: Writer = named(target.format.writer)(target.path, target.video)
        self._cut_done = False
        self._received = False
        self.warnings: list[str] = [*target.notes]
        """What the user should know: differences from the machine that began the run, what the file system does not
        offer, a tail that was lost."""
        self.restart: Restart | None = None
        """From where the sampler continues; None when it starts from nothing."""
        with self._explained(safe_frames=0):
            state_folder(self._path).mkdir(exist_ok=True)
            self._lock = Lock(state_folder(self._path) / "lock", self._path)
            self.warnings += [self._lock.warning] if self._lock.warning else []
            if not durable.sync_folder(state_folder(self._path)):
                self.warnings.append(
                    f"the file system of {self._path} cannot make names durable: a power cut may cost the last frames"
                )
        try:
            with self._explained(safe_frames=0):
                self._kept = KeptStates(target.path, target.keep_states, target.free)
                self._open(earlier_run(target))
        except BaseException:
            self._writer.close()
            self._lock.close()
            raise

    @property
    def finished(self) -> bool:
        """Whether the output is complete, so that there is nothing to do."""
        return self._record.finished

    @property
    def next_frame(self) -> int:
        """The frame that the next chunk starts with."""
        return self._position.next_frame

    def append(self, chunk: Chunk) -> None:
        """Take the next frames; saves the state when they fill a segment, and for every chunk without frames.

        Raises OutputError when the disk is full or refuses, and when the output is not there any more; what was stored
        before stays valid and playable.
        """
        assert not self.finished and chunk.start == self.next_frame
        assert chunk.frames.dtype == np.uint8
        assert chunk.frames.shape[1:] == (self._target.video.height, self._target.video.width, 3)
        with self._explained(safe_frames=self._record.next_frame):
            position = self._position
            self._position = replace(position, pending=np.concatenate([position.pending, chunk.frames]))
            self._received |= len(chunk.frames) > 0
            full = self.next_frame // self._target.video.segment * self._target.video.segment
            if full == self._record.stored and len(chunk.frames):
                return
            self._check_in_place()
            if full > self._record.stored:
                self._store(full)
            self._commit(chunk.state())
            if len(chunk.frames):
                self._kept.keep(self._record)

    def finish(self) -> None:
        """Store the last frames and close the output for good; only states that are kept stay."""
        assert not self.finished and self.next_frame == (self._target.total or self.next_frame)
        with self._explained(safe_frames=self._record.next_frame):
            self._check_in_place()
            self._store(self.next_frame)
            durable.reach("finalise-start")
            self._writer.close_at(self.next_frame)
            self._writer.sync()
            durable.reach("finalise-synced")
            self._check_readable()
            self._write_record(finished=True)
            durable.reach("finalise-recorded")
            remove_tensors(self._path)
            durable.reach("finalise-end")

    def __enter__(self) -> Self:
        """Return the sink; it is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave a playable output with all frames so far, and let go of it."""
        try:
            if self._received and not self.finished:
                self._store_tail()
        finally:
            self._writer.close()
            self._lock.close()

    def _open(self, record: Record | None) -> None:
        here = environment(self._writer.encoder())
        # A record without a mark was left by a kill before the output existed.
        if record is None or not record.mark:
            self._begin(here)
            return
        self._record = record
        if not record.finished:
            self.warnings += [
                f"{self._path} was begun with {name} {was}, here it is {here.get(name)}: later frames may "
                "differ from those of an uninterrupted run"
                for name, was in record.environment.items()
                if was != here.get(name)
            ]
        self._writer.verify(record.mark, record.next_frame, complete=record.finished)
        remove_tensors(self._path, keep=record.tensors)
        video = self._target.video
        pending = np.empty((0, video.height, video.width, 3), np.uint8)
        if record.tensors is not None:
            state, pending = load_tensors(self._path, record)
            self.restart = Restart(next_frame=record.next_frame, state=state)
        self._position = _Position(mark=record.mark, stored=record.stored, pending=pending)
        assert self.next_frame == record.next_frame

    def _begin(self, here: dict[str, str]) -> None:
        # The record comes first: from then on, whatever lies at the path is ours.
        video = self._target.video
        self._record = begun_record(self._target.settings, here)
        write_record(self._path, self._record)
        durable.reach("run-claimed")
        remove_tensors(self._path)
        self._kept.forget_after(0)
        self._position = _Position(
            mark=self._writer.start(), stored=0, pending=np.empty((0, video.height, video.width, 3), np.uint8)
        )
        self._write_record()
        durable.reach("run-begun")

    def _check_in_place(self) -> None:
        """Raise OutputError where the output or its state is not there any more."""
        state = state_folder(self._path)
        for what, is_there in ((self._path, self._writer.is_in_place()), (state, (state / RECORD_FILE).is_file())):
            if not is_there:
                raise OutputError(
                    f"{what} was moved or deleted while its run was writing; bring it back, and the same command goes "
                    f"on after {self._record.next_frame} frames, or start again with --overwrite"
                )

    def _store(self, stop: int) -> None:
        """Store the pending frames before `stop`, segment by segment."""
        segment = self._target.video.segment
        if not self._cut_done:
            # What an earlier run left after its last saved state; it stays watchable until now.
            self._writer.cut(self._position.mark)
            self._cut_done = True
        while self._position.stored < stop:
            position = self._position
            count = min(segment, stop - position.stored)
            mark = self._writer.append(position.mark, position.stored, position.pending[:count])
            self._position = _Position(mark=mark, stored=position.stored + count, pending=position.pending[count:])

    def _commit(self, state: Mapping[str, torch.Tensor]) -> None:
        self._writer.sync()
        durable.reach("bytes-synced")
        name, digest = save_tensors(self._path, self._record.tensors, state, self._position.pending)
        self._write_record(tensors=name, digest=digest)
        durable.reach("state-committed")
        remove_tensors(self._path, keep=name)

    def _write_record(self, *, tensors: str | None = None, digest: str | None = None, finished: bool = False) -> None:
        position = self._position
        record = replace(
            self._record,
            next_frame=position.next_frame,
            stored=position.stored,
            mark=position.mark,
            tensors=tensors,
            tensors_sha256=digest,
            finished=finished,
        )
        write_record(self._path, record)
        self._record = record

    def _check_readable(self) -> None:
        """Raise OutputError where the output, opened as players do, holds other than the frames that were stored."""
        found, made = self._writer.count(), self.next_frame
        if found != made:
            raise OutputError(
                f"{self._path} was written to its end, but {found} of its {made} frames can be read back; "
                f"try {self._path.with_suffix('')}/ (PNG files) and tell the authors of longtake"
            )

    def _store_tail(self) -> None:
        """Store the pending frames as a short segment, which the next run cuts off again."""
        position = self._position
        try:
            self._writer.cut(position.mark)
            if len(position.pending):
                self._writer.append(position.mark, position.stored, position.pending)
            self._writer.close_at(position.next_frame)
            self._writer.sync()
        except OSError as error:
            self.warnings.append(
                f"the last {len(position.pending)} frames could not be stored ({error.strerror}); "
                "the next run makes them again"
            )
            with suppress(OSError):
                self._writer.cut(position.mark)

    @contextmanager
    def _explained(self, safe_frames: int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise durable.failed_write(error, self._path, safe_frames) from error


def save_tensors(
    path: Path, current: str | None, state: Mapping[str, torch.Tensor], pending: np.ndarray
) -> tuple[str, str]:
    """Write tensors for the run that writes `path`; return the file's name and sha256 for the record.

    `current` is the file that the present record refers to, which stays as it is. `pending`: uint8 (frames, height,
    width, 3), may hold 0 frames. Raises NonFiniteError for a state that no run can go on from.
    """
    check_finite(
        state,
        f"the state that {path} would go on from",
        "the last one that was saved is kept; try another --dtype or --seed",
    )
    name = other_file(current)
    tensors = {_SAMPLER + key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    tensors[_PENDING] = torch.from_numpy(np.ascontiguousarray(pending))
    data = safetensors.torch.save(tensors)
    durable.write_durable(state_folder(path) / name, data)
    durable.reach("state-written")
    return name, hashlib.sha256(data).hexdigest()


def load_tensors(path: Path, record: Record) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """Read what `save_tensors` wrote: the sampler's tensors and the pending frames.

    Raises CheckpointError when the file is missing or its checksum is wrong.
    """
    assert record.tensors is not None
    file = state_folder(path) / record.tensors
    try:
        data = read_file(file)
        if hashlib.sha256(data).hexdigest() != record.tensors_sha256:
            raise damaged(path, file)
        tensors = safetensors.torch.load(data)
        pending = tensors.pop(_PENDING).numpy()
    except (OSError, KeyError, safetensors.SafetensorError):
        raise damaged(path, file) from None
    return {key.removeprefix(_SAMPLER): value for key, value in tensors.items()}, pending


def remove_tensors(path: Path, keep: str | None = None) -> None:
    """Delete the tensor files of a run, except `keep`."""
    for name in TENSOR_FILES:
        if name != keep:
            (state_folder(path) / name).unlink(missing_ok=True)


def environment(encoder: str) -> dict[str, str]:
    """Return what may change the bytes of a video beside its settings: versions, threads, machine.

    `encoder`: name and version of the video encoder.
    """

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    names = ("longtake", "torch", "numpy", "av", "diffusers", "transformers")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "encoder": encoder,
        "threads": str(torch.get_num_threads()),
        "gpu": gpu,
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    }
