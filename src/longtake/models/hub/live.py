"""What the parts of a pipeline say of themselves, in memory: the same as a folder of it would."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from transformers import PretrainedConfig

from longtake.errors import InputError
from longtake.models.hub.configs import Configs, Part
from longtake.models.hub.family import Family
from longtake.typed import refused
from longtake.words import an

SAMPLED = 1024
"""Numbers of a tensor that count for a digest."""


@dataclass(frozen=True, kw_only=True)
class LiveConfigs(Configs):
    """Configs of a pipeline in memory."""

    networks: Mapping[str, nn.Module]

    @property
    def said_in(self) -> str:
        """Return where fields of `Extras` are said."""
        return f"from_pipe of {self.where}"

    def digest(self) -> str:
        """Return a hash of the configs and of a sample of every tensor; see `from_pipe`."""
        said = [self.deciding, {name: dict(part.config) for name, part in self.parts.items()}, dict(self.extras)]
        whole = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode())
        for part, network in self.networks.items():
            for name, tensor in network.state_dict().items():
                whole.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
                whole.update(_sample(tensor))
        return whole.hexdigest()


def part_classes(pipe: Any) -> dict[str, str]:
    """Return the class of every part of a pipeline. Raises InputError for what is none."""
    if not isinstance(pipe, DiffusionPipeline):
        raise refused(pipe, "pipe", "a prepared DiffusionPipeline of diffusers", "from_pipe")
    return {name: type(part).__name__ for name, part in pipe.components.items() if part is not None}


def part_devices(pipe: Any) -> dict[str, list[str]]:
    """Return the devices on which the weights of every part of a pipeline lie, the first one first."""
    networks = {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}
    return {name: list({str(each.device): None for each in part.parameters()}) for name, part in networks.items()}


def check_places(devices: Mapping[str, Sequence[str]], denoisers: Iterable[str]) -> None:
    """Raise InputError for a pipeline whose parts lie on several devices, but where it is the network that denoises
    alone whose blocks do; `devices` has those of every part, the first one first."""
    used = {part: [place for place in places if place not in ("cpu", "meta")] for part, places in devices.items()}
    first = next((used[part][0] for part in denoisers if used.get(part)), None)
    if strays := [part for part, places in used.items() if part not in denoisers and {*places} - {first}]:
        where = ", ".join(f"{part} on {' and '.join(places)}" for part, places in used.items() if places)
        raise InputError(
            f"the parts of this pipeline lie on several devices ({where}), and longtake hands latents from one to the "
            f"next on one: bring {strays[0]} to that of the network, whose own blocks may be spread (device_map of its "
            "from_pretrained)"
        )


def live_configs(pipe: Any, family: Family, extras: Mapping[str, Any]) -> Configs:
    """Return the configs of a pipeline. Raises InputError for parts that are missing or of another class."""
    parts, networks = {}, {}
    for name in (*family.networks, *family.others):
        component = getattr(pipe, name, None)
        if component is None and name in family.optional:
            continue
        supported, found = family.networks.get(name), type(component).__name__
        if component is None or (supported is not None and found != supported):
            has = "no" if component is None else f"{an(found)} as"
            raise InputError(
                f"this pipeline has {has} {name}; longtake runs {an(type(pipe).__name__)} with "
                f"{an(supported) if supported else 'one'} there"
            )
        parts[name] = _part(name, component)
        if supported is not None:
            networks[name] = component
    index = json.loads(json.dumps(dict(pipe.config), default=str)) | {"_class_name": type(pipe).__name__}
    where = f"{an(type(pipe).__name__)} in memory"
    return LiveConfigs(name=_name(pipe), where=where, index=index, parts=parts, extras=extras, networks=networks)


def _part(name: str, component: Any) -> Part:
    given: Any = getattr(component, "config", {})
    content = given.to_dict() if isinstance(given, PretrainedConfig) else dict(given)
    # What is a tuple in memory is a list in a file.
    config = json.loads(json.dumps(content, default=str)) | {"_class_name": type(component).__name__}
    is_network = isinstance(component, nn.Module)

    def shapes() -> dict[str, tuple[int, ...]]:
        if not is_network:
            return {}
        # What goes by two names is one tensor.
        named = {id(tensor): (name, tensor) for name, tensor in component.state_dict(keep_vars=True).items()}
        return {name: tuple(tensor.shape) for name, tensor in named.values()}

    return Part(where=f"pipe.{name}.config", config=config, shapes=shapes)


def _name(pipe: Any) -> str:
    """Return where the pipeline came from, by its last two names, else its class."""
    origin = str(dict(pipe.config).get("_name_or_path") or "").rstrip("/")
    return origin.rsplit("/", 1)[-1] or type(pipe).__name__


def _sample(tensor: Tensor) -> bytes:
    """Return numbers spread over a tensor, as bytes; none of one that lies on no device."""
    if tensor.device.type == "meta" or not tensor.numel():
        return b""
    flat = tensor.detach().flatten()
    places = torch.linspace(0, len(flat) - 1, min(SAMPLED, len(flat)), dtype=torch.float64).long()
    return flat[places.to(flat.device)].cpu().contiguous().view(torch.uint8).numpy().tobytes()
