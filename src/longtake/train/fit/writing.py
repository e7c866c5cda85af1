"""Plain words for what training cannot write."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from longtake.errors import OutputError


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Write something into a folder. Raises OutputError, in one line, where that fails: a full disk, a folder that is
    gone, or no permission."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    # Each library has its own: Python and PIL, safetensors, torch.save.
    except (OSError, SafetensorError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        advice = "what is there stays: make room, or mend that, and give the same command"
        if not folder.is_dir():
            why, advice = "that folder is gone", "the same command begins it again"
        raise OutputError(f"cannot write {what} to {folder} ({why}); {advice}") from error


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a file of tensors that is there as a whole or not at all. Raises OutputError as `writing` does."""
    new = path.with_suffix(".new")
    with writing(path.name, path.parent):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, new)
        new.rename(path)


@contextmanager
def quiet_threads() -> Iterator[None]:
    """Have threads print no traceback of what they cannot write. TensorBoard's does, and raises it where more is given
    to it, too."""
    usual = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not isinstance(failed.exc_value, OSError):
            usual(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual
