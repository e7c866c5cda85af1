"""LoRAs, added to the weights of the parts that they change, and learnt (Hu et al., 2021, arXiv 2106.09685).

    W + scale (alpha / rank) B A

Names of other trainers are turned into diffusers' own by diffusers; nothing but safetensors is read.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, conv3d, linear

from longtake.errors import InputError
from longtake.finite import check_finite
from longtake.models.hub.configs import Configs
from longtake.models.hub.family import Family
from longtake.models.hub.load import blank_network, one_line_errors
from longtake.models.hub.loading import LORA_FILE, TOLD, Lora
from longtake.reading import parse_json

NAMES = re.compile(r"(?P<module>.+)\.(?P<kind>lora_A|lora_B|lora\.down|lora\.up)\.weight")
DOWN = ("lora_A", "lora.down")
Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
_BY_CELL: Mapping[int, Callable[[Tensor, Tensor], Tensor]] = {2: linear, 3: conv1d, 4: conv2d, 5: conv3d}
"""By the axes of a weight, what multiplies the channels of every cell by a matrix."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a LoRA adds to one weight."""

    part: str
    weight: str
    """Its name in the part."""
    down: Tensor
    up: Tensor
    scale: float

    @property
    def delta(self) -> Tensor:
        """Return what is added, as a matrix."""
        return self.scale * (self.up.flatten(1).float() @ self.down.flatten(1).float())


def read_changes(loras: Sequence[Lora], configs: Configs, family: Family) -> list[Change]:
    """Return what LoRAs add to the weights of a model, of which only the shapes are read.

    Raises InputError for a LoRA of another model, CheckpointError for a damaged file.
    """
    return [change for lora in loras for change in _changes(lora, configs, family)]


def fuse(pipeline: Any, changes: Sequence[Change]) -> None:
    """Add what LoRAs say to the weights of a pipeline, in float32."""
    for change in changes:
        part: nn.Module = getattr(pipeline, change.part)
        weight = part.get_parameter(change.weight)
        delta = change.delta.to(weight.device).view(weight.shape)
        with torch.no_grad():
            weight.copy_((weight.float() + delta).to(weight.dtype))


class LoraLayers(nn.Module):
    """A LoRA that is learnt: two factors for every layer, whose product goes beside the layer's weight."""

    def __init__(self, layers: Mapping[str, Layer], rank: int) -> None:
        """Take layers by their names in the file, and leave them as they are; see `layers_in_use`.

        It changes nothing until it is trained: the second factor begins with zeros.
        """
        super().__init__()
        self.names, self.changed = list(layers), list(layers.values())
        weights = [layer.weight for layer in self.changed]
        self.down = nn.ParameterList(torch.empty(rank, *weight.shape[1:], device=weight.device) for weight in weights)
        ends = [[1] * (weight.ndim - 2) for weight in weights]
        self.up = nn.ParameterList(
            torch.zeros(len(weight), rank, *end, device=weight.device)
            for weight, end in zip(weights, ends, strict=True)
        )
        for down in self.down:
            nn.init.kaiming_uniform_(down, a=5**0.5)

    @contextmanager
    def added(self) -> Iterator[None]:
        """Let the layers answer as if it had been added to their weights, inside this context."""
        with ExitStack() as stack:
            for layer, down, up in zip(self.changed, self.down, self.up, strict=True):
                hook = layer.register_forward_hook(partial(_plus, down, up), with_kwargs=True)
                stack.callback(hook.remove)
            yield

    def save(self, folder: Path, told: Mapping[str, Any]) -> None:
        """Write it, in half precision, as diffusers names it; `told` is what the file says of itself."""
        tensors = {}
        for name, down, up in zip(self.names, self.down, self.up, strict=True):
            halves = {"lora_A": down, "lora_B": up}
            tensors |= {f"{name}.{kind}.weight": half.detach().half().cpu() for kind, half in halves.items()}
        folder.mkdir(parents=True, exist_ok=True)
        # One entry: of several, the library writes now this and now that first.
        save_file(tensors, folder / LORA_FILE, {TOLD: json.dumps(told)})


def layers_in_use(networks: Mapping[str, nn.Module], call: Callable[[], object]) -> dict[str, Layer]:
    """Return the layers of networks that `call` runs through and that a LoRA can change, by part and name."""
    used: dict[str, Layer] = {}

    def note(name: str, layer: Layer, *_: Any) -> None:
        used[name] = layer

    with ExitStack() as stack:
        for part, network in networks.items():
            for name, layer in network.named_modules():
                if isinstance(layer, Layer) and getattr(layer, "groups", 1) == 1:
                    stack.callback(layer.register_forward_hook(partial(note, f"{part}.{name}")).remove)
        call()
    return used


def _plus(
    down: Tensor, up: Tensor, layer: Layer, given: tuple[Tensor, ...], named: Mapping[str, Tensor], made: Tensor
) -> Tensor:
    (x,) = (one.to(down.dtype) for one in (*given, *named.values()))
    inner = linear(x, down) if isinstance(layer, nn.Linear) else layer._conv_forward(x, down, None)
    return made + _BY_CELL[up.ndim](inner, up).to(made.dtype)


def _changes(lora: Lora, configs: Configs, family: Family) -> list[Change]:
    tensors, alphas = _read(lora.file, family)
    halves: dict[str, dict[bool, Tensor]] = {}
    for name, tensor in tensors.items():
        found = NAMES.fullmatch(name)
        if found is None:
            raise InputError(f"{lora.file} holds {name}, which is no part of a plain LoRA; fuse it by its own tools")
        halves.setdefault(found["module"], {})[found["kind"] in DOWN] = tensor
    if not halves:
        raise InputError(f"{lora.file} holds no LoRA that diffusers knows; check the file")
    shapes: dict[str, Mapping[str, tuple[int, ...]]] = {}
    changes = []
    for module, pair in halves.items():
        part, _, inner = module.partition(".")
        if part not in shapes:
            shapes[part] = _shapes(configs, part) if part in family.networks else {}
        wanted = shapes[part].get(f"{inner}.weight")
        if len(pair) != 2 or wanted is None or not _fits(pair, wanted):
            raise InputError(
                f"{lora.file} is a LoRA of another model than {configs.name}, which has no {module} of its shape"
            )
        rank = len(pair[True])
        scale = lora.scale * alphas.get(module, alphas.get("", rank)) / rank
        changes.append(Change(part=part, weight=f"{inner}.weight", down=pair[True], up=pair[False], scale=scale))
    return changes


def _shapes(configs: Configs, part: str) -> Mapping[str, tuple[int, ...]]:
    if part not in configs.parts:
        return {}
    if configs.parts[part].is_quantised:
        raise InputError(f"{configs.parts[part].where} is quantised, so that no LoRA can be added; leave --lora out")
    if configs.parts[part].file is None:
        return configs.parts[part].shapes()
    # By diffusers' names, which those of a single file are not.
    return {name: tuple(tensor.shape) for name, tensor in blank_network(configs.parts[part]).state_dict().items()}


def _fits(pair: Mapping[bool, Tensor], wanted: tuple[int, ...]) -> bool:
    down, up = pair[True].flatten(1), pair[False].flatten(1)
    return len(down) == up.shape[1] and (len(up), down.shape[1]) == (wanted[0], torch.Size(wanted[1:]).numel())


def lora_reader(family: Family) -> Callable[[dict[str, Tensor]], Any]:
    """Return what turns the names in a LoRA into diffusers' own. Raises InputError where it knows none of a family."""
    kind: Any = getattr(diffusers, family.pipeline, None)
    if read := getattr(kind, "lora_state_dict", None):
        return read
    raise InputError(f"diffusers knows no LoRA of {family.models}; use another model, or leave --lora out")


def _read(file: Path, family: Family) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the tensors of a LoRA by diffusers' names, and the alpha of modules; that of "" is all others'."""
    convert = lora_reader(family)
    with one_line_errors(file):
        with safe_open(file, framework="pt") as opened:
            said = parse_json((opened.metadata() or {}).get("lora_adapter_metadata", "{}"))
            if not isinstance(said, dict):
                raise ValueError("what it says of its adapter is no JSON object")
        tensors = load_file(file)
    check_finite(tensors, str(file), "no video can come of it: fetch the LoRA again")
    try:
        converted = convert(tensors)
    except Exception:
        raise InputError(f"{file} is no LoRA that diffusers knows for {family.models}; check the file") from None
    named, alphas = converted if isinstance(converted, tuple) else (converted, None)
    alphas = {name.removesuffix(".alpha"): float(value) for name, value in (alphas or {}).items()}
    whole = [value for name, value in said.items() if name.rpartition(".")[2] == "lora_alpha"]
    if any(said.get(name) for name in said if name.rpartition(".")[2] in ("alpha_pattern", "use_rslora", "use_dora")):
        raise InputError(f"{file} is a LoRA with a scale of its own for some layers, which longtake does not fuse")
    if whole and not isinstance(whole[0], int | float):
        raise InputError(f"{file} says that its alpha is {whole[0]!r}, which is no number; fetch the LoRA again")
    return named, ({"": float(whole[0])} if whole else {}) | alphas
