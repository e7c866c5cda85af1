"""Streams of latents that are left and taken up again."""

import numpy as np
import pytest
import torch

from longtake.decoding import Decoder, decode_clip, decode_pixels, pack_decoder, unpack_decoder

from .samplers.decoders import REACH, HeldBack


@pytest.fixture
def latents():
    return torch.randn((3, 30, 2, 2), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 4, 7])
@pytest.mark.parametrize("stop", [5, 12, 29])
def test_a_stream_that_is_taken_up_again_gives_the_same_frames(latents, size, stop):
    model, decoder, parts = HeldBack(), Decoder(), []
    pieces = [*latents[:, :stop].split(size, dim=1), *latents[:, stop:].split(size, dim=1)]
    for number, piece in enumerate(pieces):
        saved = pack_decoder(decoder)
        if number % 3 == 2:
            decoder = unpack_decoder(model, saved)
        assert saved.get("decoder.latents", latents[:, :0]).shape[1] <= model.spec.decoder_history
        pixels, decoder = decode_pixels(model, piece, decoder, last=number == len(pieces) - 1)
        parts.append(pixels)
    assert len(parts[0]) == max(0, len(pieces[0][0]) - REACH)
    assert np.array_equal(np.concatenate(parts), decode_clip(model, latents)) and decoder.frames == 30


def test_what_is_stored_does_not_hold_on_to_other_latents(latents):
    _, decoder = decode_pixels(HeldBack(), latents, Decoder(), last=False)
    assert decoder.latents is not None
    assert decoder.latents.untyped_storage().nbytes() == 2 * REACH * 3 * 2 * 2 * 4
