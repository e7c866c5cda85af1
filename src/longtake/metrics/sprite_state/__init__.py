"""The state of every frame of a sprite world, read by drawing it again: objects, scenery, and figures of a video."""

from longtake.metrics import Bound

_REAL = "what real sprite worlds keep to behind the picture autoencoder"
BOUNDS = {
    "outline": Bound(0.7, None, _REAL),
    "margin": Bound(0.65, None, _REAL),
    "object": Bound(0.9, None, _REAL),
    "scene": Bound(0.9, None, _REAL),
    "identity": Bound(0.9, None, _REAL),
    "steps": Bound(0.4, 2.5, _REAL),
    "steady": Bound(0.7, None, _REAL),
    "kept": Bound(0.9, None, _REAL),
    "speed": Bound(0.6, 1.5, _REAL),
    "phase": Bound(0.7, None, _REAL),
    "returned": Bound(0.9, None, _REAL),
}
"""Figure -> between which numbers it is in order; of those that have several, each of them."""
