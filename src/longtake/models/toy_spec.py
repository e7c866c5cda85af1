"""What is known of the toy model before it is made (see toy.py)."""

from longtake.model import Continuation, Infill, PerFrameNoise, TemporalHooks, VideoSpec

TOY = VideoSpec(
    name="toy",
    num_frames=8,
    height=8,
    width=8,
    fps=8.0,
    latent_shape=(3, 8, 8, 8),
    guidance=1.0,
    capabilities=frozenset({PerFrameNoise, TemporalHooks, Infill, Continuation}),
    blends=True,
    num_levels=1000,
    clean_frames=True,
    forward_flops=2 * 8**2 * 3 * 8 * 8,
    decode_flops=3 * 8 * 8,
)


def toy_spec() -> VideoSpec:
    """Return the toy's spec."""
    return TOY
