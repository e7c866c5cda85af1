"""Frames that are decoded in tiles: nothing shows where tiles meet, and a stream can be cut and taken up again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.decoding import Decoder, decode_clip, decode_pixels, pack_decoder, unpack_decoder
from longtake.errors import InputError
from longtake.models import from_pipe, load_model, model_spec, tiling
from longtake.models.tiling import in_tiles, tiled, tiles_of
from longtake.models.toy_spec import TOY

from .tiny import TINY

FAMILIES = [
    ("WanTransformer3DModel", 32),
    pytest.param("LTXVideoTransformer3DModel", 64, marks=pytest.mark.slow),
    pytest.param("CogVideoXPipeline", 32, marks=pytest.mark.slow),
    pytest.param("UNetMotionModel", 8, marks=pytest.mark.slow),
]
"""And pixels of a side of a tile that is smaller than a frame."""


@pytest.mark.parametrize(("height", "width", "number"), [(480, 832, 2), (704, 1280, 6), (512, 512, 1), (544, 960, 4)])
def test_tiles_of_one_size_cover_a_frame_and_overlap(height: int, width: int, number: int) -> None:
    spec = replace(TOY, height=height, width=width, latent_shape=(16, 21, height // 8, width // 8))
    rows, columns = tiles_of(spec)
    assert len(rows) * len(columns) == number == tiled(spec).decoder.tiles
    for spans, cells in ((rows, height // 8), (columns, width // 8)):
        assert spans[0].start == 0 and spans[-1].stop == cells and len({len(span) for span in spans}) == 1
        assert all(before.stop - after.start >= 8 for before, after in zip(spans, spans[1:], strict=False))
        assert len(spans[0]) <= 64


@pytest.mark.parametrize("side", [(60, 104), (16, 70), (160, 90)])
def test_a_decoder_that_looks_at_its_own_cell_alone_makes_the_same(side: tuple[int, int]) -> None:
    spec = replace(TOY, height=8 * side[0], width=8 * side[1], latent_shape=(3, 5, *side))
    latents = torch.rand((3, 2, *side), generator=torch.Generator().manual_seed(0))
    calls = []

    def decode(part: Tensor, state: int | None, last: bool) -> tuple[Tensor, int]:
        calls.append((state, last))
        enlarged = part.transpose(0, 1).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
        return enlarged, len(calls)

    made, kept = in_tiles(decode, spec, latents, None, False)
    torch.testing.assert_close(made, decode(latents, None, False)[0], atol=1e-6, rtol=0)
    calls.clear()
    in_tiles(decode, spec, latents, kept, True)
    assert calls == [(state, True) for state in kept]


@pytest.mark.parametrize(("family", "side"), FAMILIES)
def test_a_stream_of_tiles_can_be_cut_and_taken_up_again(
    family: str, side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling, "SIDE", side)
    monkeypatch.setattr(tiling, "SHARED", 4)
    folder = str(TINY[family](tmp_path))
    whole, model = load_model(folder), load_model(folder, vae_tiling=True)
    assert model.spec.decoder.tiles > 1 and model.spec == model_spec(folder, vae_tiling=True)
    assert model.digest != whole.digest
    latents = torch.randn((model.spec.latent_shape[0], 6, *model.spec.latent_shape[2:]))
    together = decode_clip(model, latents)
    assert together.shape == decode_clip(whole, latents).shape
    before, decoder = decode_pixels(model, latents[:, :4], Decoder(), last=False)
    after, _ = decode_pixels(model, latents[:, 4:], unpack_decoder(model, pack_decoder(decoder)), last=True)
    assert (together[: len(before)] == before).all() and (together[len(before) :] == after).all()


def test_a_pipeline_that_was_told_to_decode_in_tiles_does(tmp_path: Path) -> None:
    pipe = vars(load_model(str(TINY["WanTransformer3DModel"](tmp_path))))["pipeline"]
    size = {"num_frames": 5, "size": [32, 48]}
    whole = from_pipe(pipe, **size)
    pipe.vae.enable_tiling()
    model = from_pipe(pipe, **size)
    assert whole.spec.decoder.tiles == 0 < model.spec.decoder.tiles and model.digest != whole.digest


def test_a_decoder_of_whole_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--vae-tiling does not fit Stable Video Diffusion"):
        model_spec(str(TINY["UNetSpatioTemporalConditionModel"](tmp_path)), vae_tiling=True)
