"""Clips that follow each other, on the toy model, on a tiny PVDM and against a recording of the authors' code."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.apps.cli import main
from longtake.errors import InputError
from longtake.model import Known, Timing
from longtake.models import load_model
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.model import PvdmModel
from longtake.models.toy import Toy, colour
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.autoregressive.loop import prepare, sample
from longtake.samplers.autoregressive.plan import Autoregressive, AutoregressivePlan

from ...models.pvdm.goldens import arrays, each_golden, golden_unet, largest, meta
from ...models.pvdm.test_model import AUTOENCODER, GRID, UNET, write
from ..decoders import Repeating

PLANES = replace(TOY, latent_shape=(4, 64), bounded=True)


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a tiny PVDM: clips of 4 frames of 16 x 32, no text."""
    return write(tmp_path_factory.mktemp("pvdm") / "plain", None, replace(UNET, text_width=None))


def planned(frames: int | None = 40, spec=TOY, guidance=1.0, steps=None, prompts=None, init=None, **settings: Any):
    prompts = prompts or PromptTimeline.constant("a")
    request = Request(prompts=prompts, frames=frames, seed=3, guidance=guidance, steps=steps, init=init)
    return Autoregressive(**settings).plan(request, spec)


def chunks(model: Any, plan: AutoregressivePlan, resume=None):
    return run_plan(model, plan, seeded_noise(3), ALONE, resume)


def video(model: Any, plan: AutoregressivePlan, resume=None):
    return np.concatenate([chunk.frames for chunk in chunks(model, plan, resume)])


def watched(model: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Note what the model is asked for: x of `denoise`, x and known frames of `denoise_after`, latents of `decode`."""
    seen: dict[str, list[Any]] = {"denoise": [], "denoise_after": [], "decode": []}
    for name, calls in seen.items():
        plain = getattr(model, name)
        monkeypatch.setattr(model, name, lambda *args, plain=plain, calls=calls: calls.append(args) or plain(*args))
    return seen


@pytest.mark.parametrize("context", [1, 3, 4, 7])
@pytest.mark.parametrize("frames", [1, 8, 9, 40, 41])
def test_new_frames_tile_the_video(frames, context):
    plan = planned(frames, context=context)
    assert plan.clips is not None
    new = [frame for clip in range(plan.clips) for frame in plan.frames(clip)]
    assert new == list(range(len(new)))
    assert frames <= len(new) < frames + 8
    assert plan.decoded == len(new)


def test_counts():
    assert planned(40).forwards == 30 * 9
    assert planned(40, guidance=2.0, steps=4, context=2).forwards == 2 * 4 * (1 + 6)
    assert planned(40, spec=PLANES, steps=20, first_steps=100).forwards == 100 + 4 * 20
    assert planned(None, steps=4).forwards is None
    assert planned(None, steps=4).forwards_per_frame == 1.0
    assert planned(None, spec=PLANES, steps=4).forwards_per_frame == 0.5


def test_clips_of_a_causal_autoencoder():
    """Its first latent is one pixel frame, the others four each; the stream goes on over the clips."""
    plan = planned(60, replace(TOY, timing=Timing(stride=4)), prompts=PromptTimeline((0, 30), ("a", "b")))
    assert plan.clips == 3 and plan.frames(1) == range(8, 12)
    assert plan.prompts_of(plan.frames(0)) == [1] * 8 and plan.prompts_of(plan.frames(1)) == [1, 2, 2, 2]


@pytest.mark.parametrize(("context", "stride"), [(None, 1), (1, 1), (7, 1), (3, 4)])
def test_seams_are_where_a_new_clip_comes_out(context, stride):
    model = Repeating(stride)
    plan = planned(70, model.spec, steps=1, context=context)
    assert list(plan.seams(70)) == [chunk.start for chunk in chunks(model, plan)][1:]
    assert not plan.seams(8)


def test_seams_of_planes_are_between_the_clips(planes):
    model: Any = load_model(str(planes))
    plan = planned(18, model.spec, steps=1)
    assert list(plan.seams(18)) == [chunk.start for chunk in chunks(model, plan)][1:] == [4, 8, 12, 16]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"context": 8}, "one of them has to be new"),
        ({"context": 0}, "must be 1 to 7"),
        ({"eta": 1.5}, "eta is 1.5"),
        ({"eta": 0.5, "solver": "dpmpp"}, "no effect on the solver dpmpp"),
        ({"eta": 1.0, "solver": "ddpm"}, "no effect on the solver ddpm"),
        ({"first_steps": 0}, "first steps"),
        ({"context": 4, "spec": PLANES}, "context has no effect"),
        ({"init": "nowhere.png"}, "nowhere.png does not exist"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, reason):
    with pytest.raises(InputError, match=reason):
        planned(**settings)


def test_ranks_cannot_share_clips():
    plan = planned()
    plan.settings.check_ranks(plan, 1)
    with pytest.raises(InputError, match="each waits"):
        plan.settings.check_ranks(plan, 2)


@pytest.mark.parametrize("context", [2, 6])
def test_a_clip_is_shown_the_end_of_the_video(context, monkeypatch):
    model = Toy()
    seen, plan = watched(model, monkeypatch), planned(20, steps=2, context=context)
    video(model, plan)
    made = torch.cat([latents for latents, *_ in seen["decode"]], dim=1)
    shown = [call[-1].latents[0] for call in seen["denoise_after"][::2]]
    assert plan.clips == 1 + len(shown)
    for clip, known in enumerate(shown, start=1):
        start = plan.frames(clip).start
        assert torch.equal(known, made[:, start - context : start])


def test_a_first_picture_is_the_first_frame_and_what_the_others_follow(tmp_path):
    """In a stream of latents it is the first of them: all frames come once, the picture as it decodes."""
    file = str(tmp_path / "first.png")
    Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(file)
    plan, model = planned(20, steps=2, init=file), Toy()
    made = [(chunk, chunk.state()) for chunk in chunks(model, plan)]
    assert [len(chunk.frames) for chunk, _ in made] == [8, 4, 4, 4] and plan.frames(0) == range(1, 8)
    whole = np.concatenate([chunk.frames for chunk, _ in made])
    assert np.abs(whole[0].astype(int) - 200).max() <= 1 < np.abs(video(model, planned(8, steps=2))[0] - 200.0).max()
    assert np.array_equal(video(model, plan, made[0][1]), whole[8:])


def test_a_clip_of_planes_is_shown_the_whole_clip_before(planes, monkeypatch):
    model: Any = load_model(str(planes))
    seen, plan = watched(model, monkeypatch), planned(12, model.spec, steps=2)
    video(model, plan)
    made = [latents for latents, *_ in seen["decode"]]
    assert len(made) == 3 and made[0].shape == (4, GRID.positions)
    for call, previous in zip(seen["denoise_after"][::2], made, strict=False):
        assert torch.equal(call[-1].latents[0], previous)


@pytest.mark.parametrize(("guidance", "branches"), [(0.0, 1), (1.0, 1), (2.0, 2)])
@pytest.mark.parametrize("kind", ["toy", "planes"])
def test_evaluations_are_steps_times_clips(kind, guidance, branches, planes, monkeypatch):
    model: Any = Toy() if kind == "toy" else load_model(str(planes))
    calls: list[int] = []
    network = (model, "denoise") if kind == "toy" else (model.pipeline.unet, "forward")
    plain = getattr(*network)
    monkeypatch.setattr(*network, lambda x, *rest: calls.append(len(x)) or plain(x, *rest))
    plan = planned(20, model.spec, guidance, steps=3, first_steps=5)
    video(model, plan)
    assert plan.clips is not None
    assert sum(calls) == len(calls) == plan.forwards == branches * (5 + 3 * (plan.clips - 1))


def test_no_seam_shows_in_the_toy():
    """Its x0 given what is known is exact, so frames change over a seam about as they do elsewhere: 1.16 times as much,
    since few steps leave too little change within a clip. Clips that know nothing of each other: 3.9 times."""
    plan = planned(100, steps=30)
    change = np.abs(np.diff(video(Toy(), plan).astype(float), axis=0)).mean((1, 2, 3))
    assert plan.clips is not None
    seams = [plan.frames(clip).start - 1 for clip in range(1, plan.clips)]
    assert 0.9 < change[seams].mean() / np.delete(change, seams).mean() < 1.3


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpmpp"])
def test_a_long_video_of_planes(solver, planes):
    """Frames come once and in order, and going on from any clip gives the same; latents keep their bounds."""
    model: Any = load_model(str(planes))
    plan = planned(18, model.spec, steps=4, solver=solver)
    made = [(chunk, chunk.state()) for chunk in chunks(model, plan)]
    assert [chunk.start for chunk, _ in made] == [0, 4, 8, 12, 16]
    assert [len(chunk.frames) for chunk, _ in made] == [4, 4, 4, 4, 2]
    for index, (_, state) in enumerate(made[:-1]):
        assert state["shown"].abs().max() <= 1
        rest = np.concatenate([chunk.frames for chunk, _ in made[index + 1 :]])
        assert np.array_equal(video(model, plan, state), rest)
    assert len({sum(tensor.numel() for tensor in state.values()) for _, state in made}) == 1


def test_ddpm_is_ddim_with_eta_1_but_for_bounds(planes):
    bounded: Any = load_model(str(planes))
    for model, equal in ((Toy(), True), (bounded, False)):
        plans = planned(8, model.spec, steps=6, solver="ddpm"), planned(8, model.spec, steps=6, eta=1.0)
        first, second = (sample(prepare(model, plan, seeded_noise(3)), 0, None) for plan in plans)
        assert torch.equal(first, second) == equal


@pytest.mark.parametrize(("guidance", "clip"), [(0.0, "x0"), (1.0, "x0"), (2.0, "x0_and_eps")])
def test_guidance_decides_how_x0_is_bounded(guidance, clip):
    assert planned(spec=PLANES, guidance=guidance).clip == clip
    assert planned(guidance=guidance).clip is None
    for solver in ("ddpm", "dpmpp"):
        assert planned(spec=PLANES, guidance=guidance, solver=solver).clip is None, "they bound it by themselves"


@pytest.mark.parametrize("steps", [20, 400])
def test_strong_guidance_leads_to_the_bounds_with_any_number_of_steps(steps):
    """Towards the prompt's colour and beyond it, in each channel. With eps kept where x0 is cut off, what is cut adds
    up from step to step: 400 end at the colours opposite to it, -1, 1 and 0.58."""
    plan = planned(spec=replace(TOY, bounded=True), guidance=4.0, steps=steps)
    reached = sample(prepare(Toy(), plan, seeded_noise(3)), 0, None).mean((1, 2, 3)) * colour("a").sign()
    assert (reached > 0.85).all() and (reached > colour("a").abs()).all()


@each_golden
def test_two_clips_of_the_authors(golden):
    """The second clip as their sampler makes it after the first, from the same noise."""
    data, num_steps = arrays(golden, "unet"), meta(golden)["chain_n_noise"] // 2
    spec = replace(TOY, latent_shape=tuple(data["chain_a"].shape[1:]), bounded=True)
    parts = SimpleNamespace(autoencoder=PvdmAutoencoder(AUTOENCODER), unet=golden_unet(golden))
    model = PvdmModel(parts, spec, "golden")

    def noise(shape, stream, clip, level=num_steps + 1):
        # The last step needs no noise; the authors draw none there.
        draw = clip * num_steps + num_steps + 1 - level
        return torch.zeros(shape) if level == 1 else data["noise_tape"][draw].reshape(shape)

    setting = prepare(model, planned(spec=spec, steps=num_steps, eta=1.0), noise)
    first = sample(setting, 0, None)
    second = sample(setting, 1, Known(latents=first[None]))
    assert largest(first - data["chain_a"][0]) <= 1e-3
    assert largest(second - data["chain_b"][0]) <= 1e-3


@pytest.mark.parametrize("sampler", ["autoregressive", "chunked"])
def test_planes_from_the_command_line(sampler, planes, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = tmp_path / "made.mkv"
    order = ["generate", "a car", "--model", str(planes), "--sampler", sampler, "--frames", "10", "--steps", "2"]
    monkeypatch.setattr("sys.argv", ["longtake", *order, "-o", str(made)])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 0 and made.stat().st_size
