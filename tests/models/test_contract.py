"""What every model promises, row by row of the tables, and folder by folder of LONGTAKE_HUB=DIR.

Tiny folders stand for the families of which no model is embedded; a row without a builder in tiny.py fails, and so does
a network of diffusers without a plain call in stock.py.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.measure.resume import small
from longtake.apps.catalog import offered_samplers
from longtake.attention import FrameMixer
from longtake.decoding import Decoder, decode_clip, decode_pixels, pack_decoder, unpack_decoder
from longtake.errors import LongtakeError
from longtake.lazy import named
from longtake.model import Infill, Known, PerFrameNoise, TemporalHooks, ToldFps, WholeClips
from longtake.models import FAMILIES, MODELS, family_of, load_model, model_spec, stock_class
from longtake.models.hub.find import find
from longtake.models.hub.parity import NotComparedError, parity, stream_difference
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import samplers_of
from longtake.samplers.freenoise.loop import WindowMixer
from longtake.samplers.joint import Neighbours
from longtake.samplers.run import Prompts
from longtake.samplers.video_infinity.dual_scope import Scope
from longtake.samplers.video_infinity.loop import ClipMixer

from .stock import network_of, stock_x0
from .tiny import OTHERS, TINY

PROMPTS = ["", "a red car", "a blue boat"]
HUB = sorted(path.parent for path in Path(os.environ.get("LONGTAKE_HUB", os.devnull)).glob("*/model_index.json"))
EMBEDDED = [entry.folder for entry in MODELS.values() if entry.folder]


@pytest.fixture(
    scope="module", params=[*MODELS, *FAMILIES, *OTHERS, *(pytest.param(path, id=path.name) for path in HUB)]
)
def model(request, tmp_path_factory):
    """An embedded model; a tiny one of a family of which none is embedded; one that somebody has put there."""
    if builder := (TINY | OTHERS).get(request.param):
        folder = builder(tmp_path_factory.mktemp("models"))
        if folder in EMBEDDED:
            pytest.skip("is embedded")
        return load_model(str(folder))
    try:
        return load_model(str(request.param), **small(str(request.param)))
    except LongtakeError as refusal:
        assert request.param in HUB and "\n" not in str(refusal)
        pytest.skip(f"not run: {refusal}")


@pytest.fixture
def network(model):
    """Leaves out models of which samplers do not see the network; tests of their own tell of those."""
    if WholeClips in model.spec.capabilities:
        pytest.skip("only its pipeline's own call is known")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_of_the_table_runs_its_tiny_folder(name, tmp_path):
    assert family_of(find(str(TINY[name](tmp_path)))) is FAMILIES[name]


def windows(model, count):
    shape = (count, *model.spec.latent_shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def called(model, x, levels, rows, num_levels=10):
    """x0; `levels` and `rows` are (windows, frames), of which the first level is a window's where it has but one."""
    schedule, condition = model.schedule(num_levels), model.encode(PROMPTS)
    if not isinstance(model, PerFrameNoise):
        levels = levels[:, 0]
    return model.denoise(x, levels, schedule, condition, rows)


def even(model, count, value):
    return torch.full((count, model.spec.num_frames), value)


@pytest.mark.usefixtures("network")
def test_x0_is_a_tensor_like_x(model):
    x = windows(model, 2)
    x0 = called(model, x, even(model, 2, 6), even(model, 2, 1))
    assert x0.shape == x.shape and x0.dtype == x.dtype and x0.isfinite().all() and x0.std() > 0


@pytest.mark.usefixtures("network")
def test_prompts_embedded_alone_are_as_all_together(model):
    negative, *texts = PROMPTS
    story = Request(prompts=PromptTimeline((0, 5), tuple(texts)), frames=9, negative_prompt=negative)
    condition, places = Prompts(model, story).used([2, 1])
    assert model.spec.prompt_numbers in (0, sum(rows[0].numel() for rows in condition.rows.values()))
    together = model.encode(PROMPTS).rows
    assert condition.rows.keys() == together.keys() and places == {0: 0, 1: 1, 2: 2}
    assert all(torch.equal(rows, together[name]) for name, rows in condition.rows.items())


@pytest.mark.usefixtures("network")
def test_a_batch_of_windows_is_as_each_by_itself(model):
    x, levels = windows(model, 2), torch.cat([even(model, 1, 3), even(model, 1, 8)])
    rows = torch.cat([even(model, 1, 1), even(model, 1, 2)])
    together = called(model, x, levels, rows)
    for place in range(2):
        alone = called(model, x[place : place + 1], levels[place : place + 1], rows[place : place + 1])
        torch.testing.assert_close(together[place], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("network")
def test_equal_levels_are_what_the_stock_network_says(model, request):
    pipeline = vars(model).get("pipeline")
    if pipeline is None or not type(network_of(pipeline)).__module__.startswith("diffusers"):
        pytest.skip("no network of diffusers")
    if ToldFps in model.spec.capabilities:
        pytest.skip("diffusers tells its network no rate")
    if request.node.callspec.params["model"] in [*OTHERS, *HUB]:
        pytest.skip("what it has of its own is compared by its family's tests, and with its pipeline by the next")
    x, schedule = windows(model, 1), model.schedule(10)
    expected = stock_x0(pipeline, x, 6, schedule, PROMPTS[1])
    x0 = called(model, x, even(model, 1, 6), even(model, 1, 1))
    torch.testing.assert_close(x0, expected, atol=1e-5, rtol=1e-5)


def is_added(family):
    """Whether a family is none of the package's own: it is in no table, and its pipeline may make no video."""
    return family is not None and not family.room.startswith("longtake.")


@pytest.mark.usefixtures("network")
def test_check_finds_a_call_of_the_network_and_a_stream_as_they_should_be(model, request):
    if len(model.spec.latent_shape) == 4:
        assert stream_difference(model) <= 1
    is_own = not type(vars(model).get("pipeline")).__module__.startswith("diffusers")
    is_grainy = model.spec.needs_pictures and not isinstance(model, Infill)
    if is_own or is_grainy or ToldFps in model.spec.capabilities or model.spec.drops_sound:
        with pytest.raises(NotComparedError, match="diffusers"):
            parity(model, stock_class(model.origin))
        return
    try:
        found = parity(model, stock_class(model.origin))
    except NotComparedError as reason:
        name = request.node.callspec.params["model"]
        assert name in HUB or is_added(FAMILIES.get(name))
        pytest.skip(str(reason))
    else:
        assert found.difference < 1e-5 and found.pipeline.endswith("Pipeline")


def test_a_level_that_is_moved_changes_its_frame_and_no_other_window(model):
    if not isinstance(model, PerFrameNoise):
        pytest.skip("one level a window")
    x, levels, rows = windows(model, 2), even(model, 2, 6), even(model, 2, 1)
    before = called(model, x, levels, rows)
    levels[0, 2] = 1
    after = called(model, x, levels, rows)
    assert (after[0, :, 2] - before[0, :, 2]).abs().max() > 1e-2
    torch.testing.assert_close(after[1], before[1], atol=1e-5, rtol=1e-5)


class Refusing(FrameMixer):
    """Stops the network at its first layer over time."""

    def refuse(self, *args, **settings):
        raise RuntimeError("stopped")

    attend = convolve = normalise = block = placed = refuse

    def places(self):
        return [(0, 1)]


def test_a_mixer_leaves_no_trace_even_after_an_error(model):
    if not isinstance(model, TemporalHooks):
        pytest.skip("no hooks")
    x, levels, rows = windows(model, 1), even(model, 1, 6), even(model, 1, 1)
    before = called(model, x, levels, rows)
    with pytest.raises(RuntimeError, match="stopped"), model.mixing(Refusing()):
        called(model, x, levels, rows)
    assert torch.equal(called(model, x, levels, rows), before)


def test_attention_in_one_window_is_attention_to_all_frames(model):
    """Whatever positions the network has, and wherever it puts them: against a scope that covers the window."""
    if not isinstance(model, TemporalHooks):
        pytest.skip("no hooks")
    x, levels, rows = windows(model, 1), even(model, 1, 6), even(model, 1, 1)
    frames = range(x.shape[2])
    scope = Scope(total=len(frames), padding=len(frames), global_frames=(), zeros=False, repeats=False)
    whole = ClipMixer([frames], ALONE.clip, scope, joint_norms=True, windowed_blocks=False)
    found = []
    for mixer in (whole, WindowMixer([frames], [[1.0] * len(frames)], Neighbours([frames], ALONE.clip))):
        with model.mixing(mixer):
            found.append(called(model, x, levels, rows))
    torch.testing.assert_close(*found, atol=1e-4, rtol=1e-4)


def ends_of(model, x, first, last):
    """The known ends of a window: latents, or pictures that differ as these do."""
    latents = torch.stack([first, last], dim=2)
    if model.spec.known == "latent":
        return Known(latents=latents, places=(0, x.shape[2] - 1))
    seeds = [torch.Generator().manual_seed(int(1e4 * end.abs().sum())) for end in (first, last)]
    pixels = torch.stack([torch.rand((3, model.spec.height, model.spec.width), generator=seed) for seed in seeds])
    places = (0, model.spec.timing.pixel_frames(x.shape[2]) - 1)
    return Known(latents=latents, pixels=pixels[None], places=places)


def test_known_ends_show(model):
    if Infill not in model.spec.capabilities:
        pytest.skip("no infill")
    x, schedule, condition, rows = windows(model, 1), model.schedule(10), model.encode(PROMPTS), even(model, 1, 1)
    ends = torch.randn((3, 1, *x.shape[1:2], *x.shape[3:]), generator=torch.Generator().manual_seed(1))
    one, other = (
        model.denoise_between(x, torch.tensor([9]), schedule, condition, rows, ends_of(model, x, ends[0], last))
        for last in ends[1:]
    )
    # Networks that nobody woke hardly heed what they are shown; the same frames change nothing at all.
    least = 1e-6 if Path(model.origin) in HUB else 1e-4
    assert one.shape == x.shape and (one - other)[:, :, 1:-1].abs().max() > least


def test_a_stream_decodes_in_pieces_as_at_once(model):
    spec = model.spec
    if len(spec.latent_shape) != 4:
        pytest.skip("decodes whole clips")
    latents = windows(model, 1)[0]
    whole = decode_clip(model, latents)
    assert whole.shape == (spec.timing.pixel_frames(latents.shape[1]), spec.height, spec.width, 3)
    decoder, parts = Decoder(), []
    for start, stop in ((0, 2), (2, 3), (3, latents.shape[1])):
        pixels, decoder = decode_pixels(model, latents[:, start:stop], decoder, last=stop == latents.shape[1])
        parts.append(pixels)
        assert decoder.frames == sum(map(len, parts))
        if start == 2:
            decoder = unpack_decoder(model, pack_decoder(decoder))
    assert np.abs(np.concatenate(parts).astype(int) - whole).max() <= 1


def test_the_spec_is_the_one_that_is_known_without_weights(model):
    if model.spec.name in MODELS:
        assert model_spec(model.spec.name) == model.spec
    for capability in model.spec.capabilities:
        assert isinstance(model, capability)


def test_the_table_of_what_runs_on_what_says_so(model):
    place = MODELS[model.origin].folder if model.origin in MODELS else Path(model.origin)
    family = family_of(find(str(place))) if place else None
    if family is None or is_added(family):
        pytest.skip("not in the table")
    run = set(samplers_of(model.spec))
    said = named(f"{family.room}.spec:OFFERS")
    assert any((set(offered_samplers(offer)), offer.prompts) == (run, model.spec.prompts) for offer in said)
