"""What to do when training does not fit into memory."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from longtake.errors import InputError
from longtake.machine import peak_memory

_CPU = "can't allocate memory"


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turn running out of memory, of a GPU or of the machine, into one line with the numbers and what to change.

    `advice` ends the line; InputError is raised.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and _CPU not in str(error):
            raise
        raise InputError(f"out of memory{_numbers(str(error))}; {advice}") from error


def _numbers(message: str) -> str:
    """Return what is known of sizes, in brackets."""
    wanted = re.search(r"(?:[Tt]ried|Unable) to allocate ([\d.]+) (\w+)", message)
    total = re.search(r"total capacity of ([\d.]+ \w+)", message)
    said = [f"{_readable(*wanted.groups())} more were needed"] if wanted else []
    said.append(f"the GPU has {total[1]}" if total else f"this process has had {peak_memory() / 1e9:.1f} GB")
    return f" ({', '.join(said)})"


def _readable(count: str, unit: str) -> str:
    return f"{float(count) / 1e9:.2g} GB" if unit == "bytes" else f"{count} {unit}"
