"""Where the results of tasks are kept: in memory, as files that outlive the process, or on all processes of a job."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from longtake.errors import OutputError
from longtake.finite import check_finite
from longtake.ranks.world import Group, World
from longtake.tasks.task import Store

_NAME, _DIGEST = "result", "sha256"


class MemoryStore(Store):
    """Results of this run that it still needs; they end with the process."""

    def __init__(self) -> None:
        self._results: dict[str, Tensor] = {}

    def __contains__(self, key: str) -> bool:
        """Return whether the result is here."""
        return key in self._results

    def get(self, key: str) -> Tensor:
        """Return a result that is here."""
        return self._results[key]

    def put(self, key: str, result: Tensor) -> None:
        """Keep a result."""
        self._results[key] = result

    def drop(self, key: str) -> None:
        """Forget a result."""
        del self._results[key]

    def state(self) -> Mapping[str, Tensor]:
        """Return all results."""
        return dict(self._results)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take results back."""
        self._results.update(state)


class FolderStore(Store):
    """Results as files, which any later run may use: one that was killed, or one with some other prompts.

    A file is written under another name first, so that what bears a key is complete.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sound: set[str] = set()

    def __contains__(self, key: str) -> bool:
        """Return whether the result is here, as it was kept; a file that is damaged counts as none."""
        if key not in self._sound and self._is_sound(key):
            self._sound.add(key)
        return key in self._sound

    def get(self, key: str) -> Tensor:
        """Return a result that is here."""
        return safetensors.torch.load(self._path(key).read_bytes())[_NAME]

    def put(self, key: str, result: Tensor) -> None:
        """Keep a result for good. Raises NonFiniteError for one that is infinite or no number anywhere."""
        check_finite({_NAME: result}, f"the task {key}", "try --dtype float32, or another --seed")
        self._folder.mkdir(exist_ok=True)
        temporary = self._folder / f".{key}.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(safetensors.torch.save({_NAME: result.contiguous()}, {_DIGEST: _digest(key, result)}))
            file.flush()
            os.fsync(file.fileno())
        if self._path(key).is_dir():
            raise OutputError(
                f"cannot write {self._path(key)}: it is a folder; move it away, and give the command again"
            )
        temporary.replace(self._path(key))
        self._sound.add(key)

    def drop(self, key: str) -> None:
        """Forget that the result is here; its file stays, since another run may need it."""
        self._sound.discard(key)

    def state(self) -> Mapping[str, Tensor]:
        """Return nothing: no result here would be lost."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Keep what a run in memory left."""
        for key, result in state.items():
            if key not in self:
                self.put(key, result)

    def _is_sound(self, key: str) -> bool:
        try:
            with safetensors.safe_open(self._path(key), framework="pt") as file:
                return (file.metadata() or {}).get(_DIGEST) == _digest(key, file.get_tensor(_NAME))
        except (OSError, safetensors.SafetensorError):
            return False

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"


def _digest(key: str, result: Tensor) -> str:
    """Return the checksum of a result under its key, of its form and its bytes."""
    form = f"{key} {result.dtype} {list(result.shape)} ".encode()
    content = result.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(form + content).hexdigest()


class SharedStore(Store):
    """Results that all processes of a job hold while they need them, and the first one keeps as files.

    All make the same calls in the same order.
    """

    def __init__(self, group: Group, device: torch.device, folder: FolderStore | None) -> None:
        """`device`: where messages are sent from. `folder`: of the first process; the others have none."""
        self._group, self._device, self._folder = group, device, folder
        self._memory = MemoryStore()

    def __contains__(self, key: str) -> bool:
        """Return whether the result is here; one that only the first process has is sent to the others."""
        if key in self._memory:
            return True
        found = {_NAME: self._folder.get(key)} if self._folder and key in self._folder else None
        shared = self._group.share(found, self._device)
        if shared is None:
            return False
        self._memory.put(key, shared[_NAME].cpu())
        return True

    def get(self, key: str) -> Tensor:
        """Return a result that is here."""
        return self._memory.get(key)

    def put(self, key: str, result: Tensor) -> None:
        """Keep a result, the first process for good."""
        self._memory.put(key, result)
        if self._folder:
            self._folder.put(key, result)

    def drop(self, key: str) -> None:
        """Forget a result here; its file stays."""
        self._memory.drop(key)
        if self._folder:
            self._folder.drop(key)

    def state(self) -> Mapping[str, Tensor]:
        """Return nothing: no result would be lost."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Keep what a run in memory left."""
        for key, result in state.items():
            self.put(key, result)


def kept_results(state: Path, world: World, device: torch.device) -> Store:
    """Return where the results of a run's tasks are kept: in files of its state, which the first process writes."""
    folder = FolderStore(state / "nodes")
    return folder if world.size == 1 else SharedStore(world.all, device, None if world.rank else folder)
