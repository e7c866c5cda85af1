"""Parts of a pipeline that lie on the host between their calls, so that the device holds less; no number changes.

Hooks of diffusers do the same for whole pipelines, around calls of whole parts. Here a stream is decoded by calls of
the decoder inside the autoencoder, while another thread may denoise: so the moves are our own, and one at a time.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from threading import RLock
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading
from torch import Tensor, nn

from longtake.models.hub.loading import DENOISERS, Offload

HOST = torch.device("cpu")
FIRST = ("transformer", "unet")
"""Parts that are on the device from the start: what denoises, where the noise is high."""


class Turns:
    """Lets modules onto a device for their calls: one that comes in puts out the one before."""

    def __init__(self, device: torch.device, host: torch.device = HOST) -> None:
        self.device, self.host = device, host
        self.inside: nn.Module | None = None
        # Held while a module computes: another thread's call waits rather than moving it away.
        self._lock = RLock()

    def join(self, module: nn.Module, *, leaves: bool = False) -> None:
        """Let a module take its turns from now on; with `leaves` it goes as soon as its call is over."""
        module.register_forward_pre_hook(self._enter, with_kwargs=True)
        module.register_forward_hook(partial(self._leave, leaves), always_call=True)

    def _enter(self, module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, Any]:
        self._lock.acquire()
        if self.inside is not module:
            if self.inside is not None:
                self.inside.to(self.host)
            self.inside = module.to(self.device)
        return tuple(map(self._here, given)), {name: self._here(value) for name, value in named.items()}

    def _leave(self, leaves: bool, module: nn.Module, given: Any, answer: Any) -> None:
        try:
            if leaves and self.inside is module:
                self.inside = None
                module.to(self.host)
        finally:
            self._lock.release()

    def _here(self, value: Any) -> Any:
        return value.to(self.device) if isinstance(value, Tensor) else value


def rests_on_host(part: str, offload: Offload) -> bool:
    """Return whether a part of a pipeline is loaded onto the host, to come in when it is called."""
    if part.startswith("text_encoder"):
        return offload != "none"
    return part in DENOISERS if offload == "group" else offload == "model" and part not in FIRST


def come_in_blocks(network: nn.Module, device: torch.device) -> None:
    """Let the blocks of a network of diffusers that lies on the host in one after the other, by its group offloading;
    on a GPU the next one comes while one computes."""
    apply_group_offloading(
        network,
        onload_device=device,
        offload_device=HOST,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )


def take_turns(pipeline: Any, parts: Iterable[str], offload: Offload, turns: Turns) -> None:
    """Let those of the `parts` of a pipeline take turns that `rests_on_host` names, and with "model" the network, which
    is on the device already. Of an autoencoder its two halves do; the rest is small, and stays."""
    for part in (name for name in parts if rests_on_host(name, offload) or offload == "model"):
        module = getattr(pipeline, part)
        if offload == "group" and part in DENOISERS:
            continue
        if part in FIRST:
            turns.inside = module
        if part == "vae":
            _halves_take_turns(module, turns)
        else:
            turns.join(module, leaves=part.startswith("text_encoder"))


def mend_offload(pipeline: Any, device: torch.device) -> bool:
    """Return whether diffusers offloads a prepared pipeline, and let its decoder in for the calls that its hook on the
    whole autoencoder does not see."""
    modules = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    hooks = {id(part): type(vars(part).get("_hf_hook")).__name__ for part in modules}
    vae = vars(pipeline).get("vae")
    if hooks.get(id(vae)) == "CpuOffload":
        _halves_take_turns(vae, Turns(device))
    return any(name != "NoneType" for name in hooks.values())


def _halves_take_turns(autoencoder: nn.Module, turns: Turns) -> None:
    for name, child in autoencoder.named_children():
        if name in ("encoder", "decoder"):
            turns.join(child)
        else:
            child.to(turns.device)
