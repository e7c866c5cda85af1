"""Complete settings, chosen by measurement; `PRESETS` are those that the command line offers by name."""

from longtake.errors import unknown_name
from longtake.lazy import named
from longtake.sampler import Sampler

PRESETS: dict[str, str] = {"realtime": "longtake.samplers.fifo.presets:realtime"}


def preset_settings(name: str) -> Sampler:
    """Return a sampler with the settings of a preset; InputError, with the nearest name, for an unknown one."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return named(PRESETS[name])()
