"""The tensors that a killed run continues from: the sampler's, and frames that wait for their segment to fill."""

import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch

from longtake.arrays import check_finite
from longtake.video import durable
from longtake.video.paths import state_folder
from longtake.video.record import Record, damaged

_SAMPLER = "sampler."
_PENDING = "pending"
# Two names in turn: the one that the record refers to is never written to.
_FILES = ("state-a.safetensors", "state-b.safetensors")


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
    name = _FILES[1] if current == _FILES[0] else _FILES[0]
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
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != record.tensors_sha256:
            raise damaged(path, file)
        tensors = safetensors.torch.load(data)
        pending = tensors.pop(_PENDING).numpy()
    except (OSError, KeyError, safetensors.SafetensorError):
        raise damaged(path, file) from None
    return {key.removeprefix(_SAMPLER): value for key, value in tensors.items()}, pending


def remove_tensors(path: Path, keep: str | None = None) -> None:
    """Delete the tensor files of a run, except `keep`."""
    for name in _FILES:
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
