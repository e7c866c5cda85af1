"""Settings that hold for every test, and the processes that tests over several ranks share."""

import os
from collections.abc import Iterator

import pytest
import torch

from . import checked as checked
from .run_ranks import Ranks

# No test reaches the network: a model that is not in the repository is a failure, not a download.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Worker processes: `ranks.run(size, function, *args)` runs function(world, *args) on so many ranks."""
    pool = Ranks()
    yield pool
    pool.close()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the ranks do: sums in another order differ by a rounding, which AdamW's first steps,
    of the same length for a gradient of any size, make as large as a step."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
