"""What all loops share."""

import torch

from longtake.decoding import Decoder
from longtake.models.toy import Toy
from longtake.samplers.run import Progress


def test_progress_survives_a_round_trip():
    """But for what the decoder remembers, which may be gigabytes."""
    decoder = Decoder(memory="gigabytes", latents=torch.ones(3, 2, 4, 4), frames=16)
    progress = Progress(window=3, shown=torch.randn(3, 2, 4, 4), decoder=decoder)
    restored = Progress.restored(progress.state(), Toy())
    assert restored.window == 3 and restored.shown is not None and progress.shown is not None
    assert torch.equal(restored.shown, progress.shown)
    assert restored.decoder.memory is None and restored.decoder.frames == 16
