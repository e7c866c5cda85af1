"""Counts the bytes of tensors; on fake tensors, which have sizes and no contents, for networks of any size."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB, MIB = 2**30, 2**20


class LiveBytes(TorchDispatchMode):
    """Counts, inside its context, the bytes of all storages that operations have returned and that still live.

    What an operation needs while it runs and does not return is not seen; nor is anything outside torch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        """The most so far; may be set back to `now`."""
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and look at what it returns."""
        returned = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(returned):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        return returned

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return

        def free(_: object) -> None:
            del self._seen[key]
            self.now -= size

        self._seen[key] = weakref.ref(storage, free)
        self.now += size
        self.peak = max(self.peak, self.now)


def kept_bytes(build: Callable[[], Callable[[], object]]) -> int:
    """Return the bytes that a forward keeps for the gradient, its result included and weights left out.

    `build` makes the network and returns the forward.
    """
    with LiveBytes() as live:
        forward = build()
        before = live.now
        result = forward()
        kept = live.now - before
        del result
    return kept
