"""On what a bench ran, and how long a call took."""

import os
import statistics
import time
from collections.abc import Callable

import torch

from longtake.machine import processor


def machine() -> dict[str, object]:
    """Return processor, cores, threads and versions, for the head of every report."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median wall time of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
