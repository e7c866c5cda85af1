"""What is compared: samplers with their settings, what each takes by its plan, and one budget for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from longtake.errors import InputError, unknown_name
from longtake.model import VideoSpec
from longtake.rates import work
from longtake.request import Request
from longtake.sampler import Sampler
from longtake.samplers import sampler_class
from longtake.samplers.planning import checked_plan
from longtake.typed import read_typed, read_word

EQUAL = 0.05
"""How far a budget may be from the one that all are brought to."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A sampler, with settings of its own."""

    label: str
    """As it was asked for."""
    sampler: Sampler
    steps: int | None
    """Denoising steps, where it has its own."""

    @property
    def name(self) -> str:
        """Return what its files are called."""
        return "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in self.label)

    def request(self, base: Request) -> Request:
        """Return the request as this one makes it."""
        return replace(base, steps=self.steps or base.steps)


def read_contenders(text: str) -> list[Contender]:
    """Return the samplers of a list with commas; each may have settings behind colons, steps among them:
    "fifo, fifo:partitions=2, chunked:steps=50:overlap=4".

    Raises InputError for unknown names and settings, and for what is there twice.
    """
    found = [_contender(label.strip()) for label in text.split(",") if label.strip()]
    if not found:
        raise InputError("there is no sampler to compare; give --samplers, such as fifo,chunked")
    names = [one.name for one in found]
    for one in (one for one in found if names.count(one.name) > 1):
        raise InputError(f"{one.label} is there twice; name every sampler once, or with other settings")
    return found


def _contender(label: str) -> Contender:
    name, *given = label.split(":")
    kind, settings = sampler_class(name), dict[str, Any]()
    for setting in given:
        key, found, value = setting.partition("=")
        if not found:
            raise InputError(f"{setting!r} of {label} is no setting; write NAME:FIELD=VALUE, such as fifo:partitions=2")
        settings[key] = read_word(value)
    steps = settings.pop("steps", None)
    if steps is not None and not isinstance(steps, int):
        raise InputError(f"steps of {label} is no whole number; write {name}:steps=30")
    known = [field.name for field in fields(kind)]  # pyright: ignore[reportArgumentType]
    for key in (key for key in settings if key not in known):
        raise unknown_name(f"setting of {name}", key, [*known, "steps"])
    return Contender(label=label, sampler=read_typed(kind, settings, f"--samplers {label}"), steps=steps)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a video of a contender takes."""

    forwards: float
    """Those of its plan, per frame of the video."""
    operations: float | None
    """Floating-point operations per frame of the video, decoding among them; None for models that do not say."""

    @property
    def cost(self) -> float:
        """Return what is compared."""
        return self.forwards if self.operations is None else self.operations


def budget(contender: Contender, request: Request, spec: VideoSpec) -> Budget:
    """Count what a video takes. Raises as `checked_plan` does."""
    plan = checked_plan(spec, contender.request(request), contender.sampler)
    assert request.frames is not None and plan.forwards is not None
    operations = work(plan)
    return Budget(
        forwards=plan.forwards / request.frames, operations=None if operations is None else operations / request.frames
    )


def equalised(contenders: Sequence[Contender], request: Request, spec: VideoSpec) -> list[Contender]:
    """Return the contenders with the steps by which all take the same: as much as those whose steps are fixed, or as
    the one that takes most.

    Raises InputError where that cannot be within 5 %.
    """
    costs = [budget(one, request, spec).cost for one in contenders]
    adjustable = [_adjustable(one, request, spec) for one in contenders]
    fixed = [cost for cost, free in zip(costs, adjustable, strict=True) if not free]
    target = max(fixed or costs)
    return [
        _brought(one, target, request, spec) if free else _checked(one, cost, target)
        for one, cost, free in zip(contenders, costs, adjustable, strict=True)
    ]


def _adjustable(contender: Contender, request: Request, spec: VideoSpec) -> bool:
    try:
        budget(replace(contender, steps=1), request, spec)
    except InputError:
        return False
    return contender.steps is None


def _brought(contender: Contender, target: float, request: Request, spec: VideoSpec) -> Contender:
    one, two = (budget(replace(contender, steps=steps), request, spec).cost for steps in (1, 2))
    steps = max(1, min(1 + round((target - one) / (two - one)), spec.num_levels or 1000))
    found = replace(contender, steps=steps)
    return _checked(found, budget(found, request, spec).cost, target)


def _checked(contender: Contender, cost: float, target: float) -> Contender:
    if abs(cost / target - 1) > EQUAL:
        raise InputError(
            f"{contender.label} cannot have the budget of the others: it takes {cost / target:.2f} times as much; give "
            "it other settings, or leave --equal-budget out"
        )
    return contender
