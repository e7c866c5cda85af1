"""Controls are out of order where they must be, and real worlds nowhere."""

from pathlib import Path

import pytest

from lab.score.real_worlds import LONG, METRICS, controls, figures, wrong
from longtake.data.sprites import Shot, SpriteWorld
from longtake.metrics.of_video import State

MATRIX = {
    "real": set(),
    "frozen": {"drift: longest_freeze", "prompts: motion"},
    "looped": {"drift: loop_score", "prompts: motion"},
    "shuffled": {"prompts: motion"},
    "slide show": {"prompts: motion"},
    "drifted colours": {"drift: colour_drift", "similarity: end"},
    "copied seams": {"drift: loop_score"},
    "wrong prompt": {"prompts: object", "prompts: scene", "prompts: motion"},
    "melted": {"state: outline", "state: margin"},
}
"""Control -> figures that it must put out of order; nothing may be out of order in the real world. Written before any
sampler was scored."""
SHOT = Shot(object="fish", scene="sea", motion="circles")
WORLD = SpriteWorld(2, {0: SHOT})


def test_the_matrix_names_every_control():
    assert set(MATRIX) == {"real", "wrong prompt", "melted", *LONG}
    other = wrong(SHOT)
    assert (other.object, other.scene, other.motion) != (SHOT.object, SHOT.scene, SHOT.motion)


def test_what_is_out_of_order_is_flagged_and_nothing_else():
    clip = WORLD.frames(0, 16)
    drift = {"drift": METRICS["drift"]}
    assert figures(clip, WORLD.timeline, drift)["drift"]["flags"] == []
    assert figures(LONG["frozen"](clip, 0), WORLD.timeline, drift)["drift"]["flags"] == ["longest_freeze"]


@pytest.mark.slow
def test_every_control_is_out_of_order_where_the_matrix_says():
    for name, frames, timeline in controls(WORLD, 160):
        found = figures(frames, timeline, METRICS)
        flags = {f"{metric}: {flag}" for metric, each in found.items() for flag in each["flags"]}
        if name in ("real", "melted"):
            drawn = figures(frames[:8], timeline, {"state": State(path=Path())})["state"]
            flags |= {f"state: {flag}" for flag in drawn["flags"]}
        assert MATRIX[name] <= flags and (name != "real" or not flags), (name, flags)
