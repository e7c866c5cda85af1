"""The state of every frame of a sprite world, read by drawing it again: objects, scenery, and figures of a video."""

from longtake.metrics.metric import Bound

_REAL = "what real sprite worlds keep to behind the picture autoencoder"
_TRUE = "what the true states of sprite worlds keep to, with the reading's error drawn on them"
BOUNDS = {
    "outline": Bound(0.7, None, _REAL),
    "margin": Bound(0.65, None, _REAL),
    "object": Bound(0.9, None, _REAL),
    "scene": Bound(0.9, None, _REAL),
    "identity": Bound(0.9, None, _REAL),
    "steps": Bound(0.4, 2.5, _REAL),
    "steady": Bound(0.7, None, _REAL),
    "kept": Bound(0.9, None, _TRUE),
    "speed": Bound(0.6, 1.5, _TRUE),
    "phase": Bound(0.7, None, _TRUE),
    "returned": Bound(0.9, None, "what the true states of sprite worlds keep to"),
}
"""Figure -> between which numbers it is in order; of those that have several, each of them."""
