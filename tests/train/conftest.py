"""Settings for the tests of training."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the ranks do: sums in another order differ by a rounding, which AdamW's first steps,
    of the same length for a gradient of any size, make as large as a step."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
