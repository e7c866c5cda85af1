"""`longtake models`, `longtake samplers` and `longtake data`: what there is, and what runs with what."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from longtake.apps.arguments import Answer, OneFile, parse_arguments
from longtake.apps.shown import print_folded, print_table
from longtake.errors import InputError, LongtakeError, OutputError
from longtake.model import VideoModel
from longtake.models import DEFAULT_MODEL, MODELS, model_spec, offers
from longtake.models.embedded import phrases
from longtake.models.hub.family import Offer
from longtake.samplers import DEFAULT_SAMPLER, SAMPLERS, sampler_class, samplers_of
from longtake.typed import Flag, Setting
from longtake.words import plain

NEEDS = (
    "What a sampler needs a model to do, beside making clips: PerFrameNoise, to take a noise level for every frame; "
    "Continuation, to go on from frames that are given; Infill, to fill in between frames that are given; "
    "TemporalHooks, to let its layers over time see other clips."
)
COLUMNS = ("family", "samplers", "a prompt for", "sound", "trained", "extrapolated")


@dataclass(frozen=True, kw_only=True)
class ModelsSettings(Answer):
    """List the models, and the samplers that run on them."""


@dataclass(frozen=True, kw_only=True)
class SamplersSettings(Answer):
    """List the samplers, what they need, and the models that have it."""


def models_command(arguments: Sequence[str]) -> int:
    """List the models."""
    settings = parse_arguments(ModelsSettings, "models", arguments)
    models = {name: _model(name) for name in MODELS}
    if settings.json:
        families = [asdict(offer) | {"capabilities": _names(offer.capabilities)} for offer in offers()]
        print(json.dumps({"models": models, "families": families}, indent=2))
        return 0
    rows = [
        (
            _marked(name, DEFAULT_MODEL),
            f"{model['width']}x{model['height']}, {model['num_frames']} frames a window, {model['fps']:g} frames/s"
            if model["ready"]
            else "not here",
            f"{model['parameters'] / 1e6:.1f} M" if model["ready"] else "-",
            ", ".join(model["samplers"]) or "-",
            model["summary"],
        )
        for name, model in models.items()
    ]
    print_table(("model", "video", "weights", "samplers", "what it is"), rows)
    for name, model in models.items():
        if not model["ready"]:
            print_folded(f"{name} cannot be used: {model['problem']}")
    print()
    print_folded("Folders, hub ids and pipelines of these are run, too:")
    for offer in offers():
        models, samplers, prompts, sound, trained, extrapolated = _row(offer)
        print_folded(f"{models}: {samplers}; a prompt for {prompts}; sound {sound}".replace("`", ""))
        print_folded(f"trained: {trained}".replace("`", ""), indent=4)
        print_folded(f"extrapolated: {extrapolated}".replace("`", ""), indent=4)
    return 0


def _marked(name: str, default: str) -> str:
    return f"{name} (default)" if name == default else name


def _row(offer: Offer) -> tuple[str, ...]:
    names = ", ".join(offered_samplers(offer))
    return offer.models, names, f"a {offer.prompts}", offer.sound, offer.trained, offer.extrapolated


def offered_samplers(offer: Offer) -> list[str]:
    """Return the samplers that run the models of a row."""
    return [name for name in _runs(offer.capabilities) if name not in offer.without]


def what_runs() -> str:
    """Return the table of what runs on what, as the README has it."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    for offer in offers():
        models, samplers, *others = _row(offer)
        shown = ", ".join(f"`{name}`" for name in samplers.split(", "))
        lines.append((f"[{models}](docs/{offer.page})", shown, *others))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _runs(capabilities: frozenset[type[VideoModel]]) -> list[str]:
    return [name for name in SAMPLERS if set(sampler_class(name).requires) <= capabilities]


def samplers_command(arguments: Sequence[str]) -> int:
    """List the samplers."""
    settings = parse_arguments(SamplersSettings, "samplers", arguments)
    models = {name: _model(name) for name in MODELS}
    samplers = {name: _sampler(name, models) for name in SAMPLERS}
    if settings.json:
        print(json.dumps({"samplers": samplers}, indent=2))
        return 0
    rows = [
        (
            _marked(name, DEFAULT_SAMPLER),
            ", ".join(sampler["requires"]) or "nothing",
            ", ".join(sampler["models"]) or "-",
            sampler["summary"],
        )
        for name, sampler in samplers.items()
    ]
    print_table(("sampler", "needs of a model", "runs on", "what it is"), rows)
    print()
    print_folded(NEEDS)
    return 0


def _model(name: str) -> dict[str, Any]:
    summary = MODELS[name].summary
    try:
        spec = model_spec(name)
    except LongtakeError as error:
        return {
            "ready": False,
            "default": name == DEFAULT_MODEL,
            "problem": str(error),
            "samplers": [],
            "summary": summary,
        }
    return {
        "ready": True,
        "default": name == DEFAULT_MODEL,
        "problem": None,
        "width": spec.width,
        "height": spec.height,
        "num_frames": spec.num_frames,
        "fps": spec.fps,
        "guidance": spec.guidance,
        "parameters": spec.parameters,
        "capabilities": _names(spec.capabilities),
        "vocabulary": sorted(spec.vocabulary) if spec.vocabulary else None,
        "phrases": phrases(name),
        "samplers": samplers_of(spec),
        "summary": summary,
    }


def _sampler(name: str, models: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    sampler = sampler_class(name)
    settings = {
        field.name: field.default
        for field in fields(sampler)  # pyright: ignore[reportArgumentType]
        if field.default is not MISSING
    }
    return {
        "requires": _names(sampler.requires),
        "models": [key for key, model in models.items() if name in model["samplers"]],
        "settings": settings,
        "summary": (sampler.__doc__ or "").strip().splitlines()[0],
    }


def _names(capabilities: Sequence[type[VideoModel]] | frozenset[type[VideoModel]]) -> list[str]:
    return sorted(capability.__name__ for capability in capabilities)


@dataclass(frozen=True, kw_only=True)
class SpritesSettings(OneFile):
    """Look at the endless sprite worlds, from which the embedded model learned."""

    preview: Flag = False
    """Write a contact sheet of objects, scenes and motions."""
    output: Annotated[Path, Setting(short="-o", metavar="PATH")] = Path("sprites.png")
    """Where to, a .png."""


def sprites_command(arguments: Sequence[str]) -> int:
    """Write the contact sheet."""
    settings = parse_arguments(SpritesSettings, "data sprites", arguments)
    if not settings.preview:
        raise InputError("there is nothing to do; --preview writes a contact sheet")
    path = settings.output
    if path.suffix.lower() != ".png":
        raise OutputError(f"cannot write {path}: the contact sheet is a picture; use a name that ends in .png")
    settings.check_output()
    from longtake.data.sprites import preview

    sheet = preview()
    sheet.save(path)
    if settings.json:
        print(json.dumps({"file": str(path), "width": sheet.width, "height": sheet.height}))
    else:
        print(plain(f"written to {path} (-o chooses another): {sheet.width}x{sheet.height}"))
    return 0
