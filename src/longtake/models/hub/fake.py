"""A model of any size on fake tensors, which have a shape and no numbers: what it takes of the memory is counted, and
nothing is loaded.

Counted are all tensors that operations return, as long as they live. Not counted: what a kernel takes for itself, what
an allocator loses to gaps, the context of a GPU.
"""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from longtake.errors import InputError
from longtake.lazy import named
from longtake.model import Known, PerFrameNoise, VideoModel, VideoSpec
from longtake.models.hub.blank import class_named, made_of_config
from longtake.models.hub.configs import WHOLE_STREAM, Configs
from longtake.models.hub.family import Family
from longtake.models.hub.load import assembled, kept_dtype, load_part
from longtake.models.hub.offload import HOST
from longtake.models.known_frames import KnownFrames
from longtake.sampler import Plan


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


class FakeModel:
    """A model whose weights and latents are fake, and what its parts take."""

    def __init__(
        self, configs: Configs, family: Family, spec: VideoSpec, dtype: torch.dtype, others: Mapping[str, Any]
    ) -> None:
        """`others`: the parts that hold no weights. Raises InputError for networks that no library makes of a
        config."""
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.dtype, self.spec = dtype, spec
        self.networks = {
            name: self._network(configs, family, name) for name in family.networks if name in configs.parts
        }
        # Without folders its digest costs nothing, and says nothing.
        bare = replace(configs, parts={name: replace(part, folder=None) for name, part in configs.parts.items()})
        pipeline = assembled(bare, family, {**others, **self.networks})
        self.model: VideoModel = named(f"{family.room}.model:wrap")(pipeline, spec, bare)

    def _network(self, configs: Configs, family: Family, name: str) -> nn.Module:
        class_name, part = family.networks[name], configs.parts[name]
        config = {key: value for key, value in part.config.items() if not key.startswith("_")}
        kind = class_named(class_name)
        if kind is None:
            raise InputError(
                f"{part.where}: a {class_name} is no network of diffusers or transformers; leave --verify out"
            )
        before = torch.get_default_dtype()
        torch.set_default_dtype(kept_dtype(class_name, self.dtype))
        try:
            with self.mode:
                return made_of_config(kind, config).eval().requires_grad_(False)
        finally:
            torch.set_default_dtype(before)

    def counted(self, plan: Plan, shown: bool = False) -> dict[str, int]:
        """Return the bytes of every part: weights, what the decoder remembers, what one batch of the plan's windows
        takes in the network, and one latent in the decoder. `shown`: whether windows have frames that are known."""
        parts = {name: sum(map(_size, network.parameters())) for name, network in self.networks.items()}
        said = {"text encoder": "text_encoder", "image encoder": "image_encoder", "decoder": "vae"}
        sizes = {name: parts.pop(part, 0) for name, part in said.items()}
        decoding, remembered = self.decoding()
        denoising = self.denoising(plan.window_batch, plan.window_frames, shown)
        work = {"decoder's memory": remembered, "denoising": denoising, "decoding": decoding}
        return {**sizes, "network": sum(parts.values()), **work}

    def denoising(self, windows: int, frames: int, shown: bool = False) -> int:
        """Return the bytes that one call of the network takes, which has so many windows of so many latent frames, of
        which some are known to a model that has a network of its own for those.

        Raises InputError for a model that looks at its numbers to know what to compute.
        """
        channels, _, *cells = self.spec.latent_shape
        with self.mode:
            x = torch.empty(windows, channels, frames, *cells)
        schedule, condition = self.model.schedule(10), self.model.encode(["", "a"])
        levels = torch.full((windows, frames), 5)
        level = levels if isinstance(self.model, PerFrameNoise) else levels[:, 0]
        given = x, level, schedule, condition, torch.ones_like(levels)
        try:
            with LiveBytes() as live, torch.inference_mode():
                if shown and isinstance(self.model, KnownFrames):
                    self.model.denoise_between(*given, Known(latents=x[:, :, :1], places=(0,)))
                else:
                    self.model.denoise(*given)
        except DataDependentOutputException:
            raise InputError(
                f"{self.spec.name} looks at its numbers to know what to compute, and fake tensors have none; "
                "leave --verify out"
            ) from None
        return live.peak

    def decoding(self) -> tuple[int, int]:
        """Return the bytes that it takes to decode a latent once the decoder remembers all that it can, beside these;
        and what it remembers. Of one that keeps all latents, or none, those of a window, decoded together."""
        channels, window, *cells = self.spec.latent_shape
        is_whole = not 0 < self.spec.decoder_history < WHOLE_STREAM
        with self.mode:
            latent = torch.empty(channels, window if is_whole else 1, *cells)
        if is_whole:
            with LiveBytes() as live, torch.inference_mode():
                self.model.decode(latent, None, last=True)
            return live.peak, 0
        state, remembered, working = None, -1, 0
        # One count of all calls, since what a call takes the place of is freed in it.
        with LiveBytes() as live, torch.inference_mode():
            while (held := _bytes(state)) > remembered:
                remembered, live.peak = held, live.now
                state = self.model.decode(latent, state, last=False)[1]
                working = live.peak - held
        return working, remembered


def _bytes(state: Any) -> int:
    return sum(_size(leaf) for leaf in tree_leaves(state) if isinstance(leaf, Tensor))


def _size(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def fake_model(configs: Configs, family: Family, spec: VideoSpec, dtype: torch.dtype) -> FakeModel:
    """Return the model of a folder, of which the parts without weights are loaded."""
    others = [(name, part) for name, part in configs.parts.items() if name not in family.networks]
    loaded = {name: load_part(part, name, family, HOST, dtype) for name, part in others}
    return FakeModel(configs, family, spec, dtype, loaded)
