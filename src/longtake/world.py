"""The processes that share a run. So far a run is always alone."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class World:
    """Who takes part: `rank` of `size` processes; only rank 0 writes."""

    rank: int = 0
    size: int = 1


ALONE = World()
