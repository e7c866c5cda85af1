"""How fast this machine makes videos: the rate of the last run of a model, from which the next one is foreseen."""

import contextlib
import json
import os
from pathlib import Path

from longtake._generate import Result
from longtake.machine import processor
from longtake.models.hub.precision import Hardware
from longtake.reading import parse_json
from longtake.sampler import Plan

# Over fewer frames than this, overhead drowns the rate.
FEWEST_FRAMES = 32


def work(plan: Plan) -> int | None:
    """Return the floating-point operations of a plan; None for endless runs and models that do not say."""
    spec = plan.spec
    if plan.forwards is None or plan.decoded is None or spec.forward_flops is None:
        return None
    return round(plan.forwards * spec.forward_flops) + plan.decoded * (spec.decode_flops or 0)


def work_per_frame(plan: Plan) -> float | None:
    """Return the floating-point operations for a frame once a run is under way; None for models that do not say."""
    spec = plan.spec
    if spec.forward_flops is None:
        return None
    decoding = (spec.decode_flops or 0) / spec.timing.stride
    return plan.forwards_per_frame * spec.forward_flops + decoding


def remembered_rate(model: str, device: str, dtype: str) -> float | None:
    """Return floating-point operations per second of the last run like this on this machine; None without one."""
    rate = _rates().get(_key(model, device, dtype))
    return rate if isinstance(rate, int | float) and rate > 0 else None


def remember_run(result: Result, model: str, hardware: Hardware) -> None:
    """Keep the rate of a run of one process. One that is too short to tell, or whose model does not say what its calls
    take, is not kept."""
    plan, made = result.plan, result.frames - result.resumed_from
    total, steady = work(plan), work_per_frame(plan)
    if made < FEWEST_FRAMES or steady is None:
        return
    # A whole run counts its warm-up; what continues one has none.
    operations = total if total is not None and not result.resumed_from else made * steady
    remember_rate(model, hardware.device, hardware.dtype_name, operations / result.seconds)


def remember_rate(model: str, device: str, dtype: str, rate: float) -> None:
    """Keep a rate in the user's cache; a cache that cannot be written is no reason to fail a finished run."""
    path, rates = _path(), _rates()
    rates[_key(model, device, dtype)] = rate
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"rates.{os.getpid()}.json")
        temporary.write_text(json.dumps(rates, indent=1), encoding="utf-8")
        os.replace(temporary, path)


def _path() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "longtake" / "rates.json"


def _key(model: str, device: str, dtype: str) -> str:
    # Small models are bound by overhead and large ones by arithmetic, so that a rate holds for its own model only.
    return f"{processor()} | {device} | {dtype} | {model}"


def _rates() -> dict[str, object]:
    try:
        rates = parse_json(_path().read_bytes())
    except (OSError, ValueError):
        return {}
    return rates if isinstance(rates, dict) else {}
