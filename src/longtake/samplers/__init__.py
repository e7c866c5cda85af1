"""Samplers by name. To add one: its file, its row here, its page in docs/methods."""

import importlib

from longtake.errors import unknown_name
from longtake.sampler import Sampler

SAMPLERS: dict[str, str] = {
    "autoregressive": "longtake.samplers.autoregressive.plan:Autoregressive",
    "chunked": "longtake.samplers.chunked.plan:Chunked",
    "fifo": "longtake.samplers.fifo.plan:Fifo",
    "nuwa-xl": "longtake.samplers.nuwa_xl.plan:NuwaXl",
    "video-infinity": "longtake.samplers.video_infinity.plan:VideoInfinity",
}


def sampler_class(name: str) -> type[Sampler]:
    """Return the sampler of a name; InputError, with the nearest name, for an unknown one."""
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    module, attribute = SAMPLERS[name].split(":")
    return getattr(importlib.import_module(module), attribute)
