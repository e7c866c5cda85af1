"""What a family of models is, and what it offers: rows of tables. Imports no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from longtake.model import VideoModel

CONVOLUTIONAL = ("UNet3DConditionModel", "UNetMotionModel", "UNet2DConditionModel")
"""Networks that mix the cells of a picture by convolutions, and by attention that knows no places."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models that the same code runs: what their folders consist of, and where that code is."""

    room: str
    """The package: spec.py has `spec(configs)`, and imports no torch; model.py has `wrap(pipeline, spec, configs)`."""
    models: str
    """What people know them as."""
    pipeline: str
    """Class of diffusers that is built of the parts; where it has none of the name, the parts go without."""
    pipeline_with: Mapping[str, str] = field(default_factory=dict)
    """Another class, for models that have this part."""
    networks: Mapping[str, str]
    """Parts that hold weights, with their class: of diffusers, of transformers, else of the room, whose load.py has
    `load_network(part)`."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Another class of such a part, which later models have in its place and which is called alike."""
    others: tuple[str, ...] = ("tokenizer", "scheduler")
    """Parts that hold none."""
    optional: frozenset[str] = frozenset()
    """Parts of both kinds that a model may lack."""
    takes_turns: bool = False
    """Whether its network computes by calls of the whole alone, so that it can lie elsewhere between them."""
    compiles: bool = False
    """Whether its network runs as diffusers wrote it, so that it can be compiled, and attend by another backend."""
    tiles: bool = False
    """Whether its frames can be decoded in tiles."""
    single_file: bool = False
    """Whether diffusers reads its transformer of a file by itself."""
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Settings, by part, with which that is another network, which this code does not run."""
    whole: bool = False
    """Whether nothing but the call of its whole pipeline is run, which moves its parts itself."""

    @property
    def wraps(self) -> bool:
        """Whether convolutions alone tell its network and its decoder where in a picture they are, and it has no other
        decoder."""
        return self.networks.get("unet") in CONVOLUTIONAL and self.networks.get("vae") == "AutoencoderKL"

    def is_another(self, config: Callable[[str], Mapping[str, Any]]) -> bool:
        """Return whether a model with these classes is of another kind; `config` says what is set of a part."""
        return any(config(part).get(setting) for part, settings in self.unless.items() for setting in settings)


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model that is part of the package."""

    summary: str
    """A line for people who choose."""
    folder: Path | None = None
    """Where it lies; without one it is made by code."""
    phrases: str = ""
    """module:function that returns what its prompts can be made of, part by part, where that is known."""
    takes_guidance: str = ""
    """The model to name to whoever wants a guidance that this one, which has learnt one, does not take."""
    spec: str = ""
    """module:function that returns its spec then; neither it nor its module may import torch."""
    load: str = ""
    """module:function that returns it then, given keywords device and dtype."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What models of a family can do: a row of the table of what runs on what. A room's spec.py has `OFFERS`."""

    models: str
    """Which of them."""
    page: str
    """Below docs/."""
    capabilities: frozenset[type[VideoModel]]
    """Those that samplers ask for."""
    without: tuple[str, ...] = ()
    """Samplers that refuse them for another reason than a capability."""
    prompts: Literal["frame", "window"] = "frame"
    """What has a prompt of its own."""
    sound: str = "none"
    trained: str
    """What training showed the network."""
    extrapolated: str
    """What samplers ask of it beyond that."""
