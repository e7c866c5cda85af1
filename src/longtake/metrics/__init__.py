"""All metrics by name. Imports nothing heavy, so that options are read before anything loads.

To add one: a dataclass whose fields are its options, and its row here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A metric of the table."""

    kind: str
    """module:class of a `Metric`."""
    summary: str
    """What it says, in a few words."""
    slow: bool = False
    """Whether it takes longer than a video plays; left out of a page where nobody asks for it."""


METRICS: dict[str, Row] = {
    "prompts": Row("longtake.metrics.of_video:Prompts", "score a video: does it show the prompts?"),
    "drift": Row("longtake.metrics.of_video:Drift", "score a video: does it change as it goes on?"),
    "similarity": Row("longtake.metrics.of_video:Similarity", "score a video: does it stay like its start?"),
    "switches": Row("longtake.metrics.of_video:Switches", "score a video: how soon does it follow its prompts?"),
    "vbench": Row("longtake.metrics.vbench:VBench", "score a video: VBench's dimensions, most by given networks"),
    "state": Row("longtake.metrics.of_video:State", "score sprite worlds: shapes, identity, steps", slow=True),
    "fvd": Row("longtake.metrics.of_sets:Fvd", "score a folder of videos against real ones"),
    "reconstruction": Row("longtake.metrics.of_sets:Reconstruction", "score an autoencoder: PSNR, SSIM, LPIPS, R-FVD"),
    "blocks": Row("longtake.metrics.of_sets:Blocks", "the same, part by part of long videos"),
}
