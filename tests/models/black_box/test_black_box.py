"""Pipelines of diffusers that longtake has no adapter for, run as a whole: what they make is what they make alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.transformers import transformer_cosmos
from PIL import Image
from torch.nn.functional import interpolate

from longtake import from_pipe
from longtake._generate import generate
from longtake.errors import CapabilityError, InputError, LongtakeError
from longtake.model import VideoModel, WholeClips
from longtake.models import load_model, model_spec
from longtake.models.black_box.model import BlackBox
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import SAMPLERS, run_plan, sampler_class
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.planning import checked_plan, plan_warnings
from longtake.video.output import Output

from ...forked import in_child
from .fixture import tiny_cogvideox15, tiny_cosmos, tiny_hunyuan, tiny_hunyuan15, tiny_mochi

TINY: dict[str, Callable[[Path], Path]] = {
    "cogvideox": tiny_cogvideox15,
    "cogvideox-i2v": partial(tiny_cogvideox15, from_picture=True),
    "hunyuan": tiny_hunyuan,
    "mochi": tiny_mochi,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: builder(tmp_path_factory.mktemp(name)) for name, builder in TINY.items()}


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "first.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)).save(path)
    return path


@pytest.fixture(params=TINY)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def asked(name: str, picture: Path, frames: int = 21, **more: Any) -> Request:
    """Two prompts, of which the second holds from the second clip on."""
    init = str(picture) if name == "cogvideox-i2v" else None
    return Request(prompts=PromptTimeline((0, 5), ("a car", "a boat")), frames=frames, steps=2, init=init, **more)


def chunks(model: VideoModel, request: Request, resume: Any = None) -> list[Any]:
    plan = checked_plan(model.spec, request, Chunked())
    return list(run_plan(model, plan, seeded_noise(0), ALONE, resume))


class Recording(BlackBox):
    """Keeps what its pipeline was given."""

    def __init__(self, model: VideoModel) -> None:
        assert isinstance(model, BlackBox)
        vars(self).update(vars(model))
        self.pipeline, self.calls, self.within = self, [], model.pipeline
        self.components = model.pipeline.components

    def set_progress_bar_config(self, **settings: Any) -> None:
        self.within.set_progress_bar_config(**settings)

    def __call__(self, **given: Any) -> Any:
        self.calls.append(given | {"seed": given["generator"].initial_seed()})
        return self.within(**given)


def test_every_clip_is_what_the_pipeline_makes_alone(name: str, folders: dict[str, Path], picture: Path) -> None:
    model = Recording(load_model(str(folders[name])))
    made, length = chunks(model, asked(name, picture)), model.spec.num_frames
    overlap = 1 if name == "cogvideox-i2v" else 0
    later = length - overlap
    assert [chunk.start for chunk in made] == [0, *range(length, 21, later)]
    assert sum(len(chunk.frames) for chunk in made) == 21
    pipeline = getattr(diffusers, str(type(model.within).__name__)).from_pretrained(folders[name])
    pipeline.set_progress_bar_config(disable=True)
    for number, (chunk, call) in enumerate(zip(made, model.calls, strict=True)):
        given = {key: value for key, value in call.items() if key not in ("seed", "generator")}
        alone = pipeline(**given, generator=torch.Generator().manual_seed(call["seed"])).frames[0]
        alone = np.rint(alone * 255).astype(np.uint8)[overlap if number else 0 :][: len(chunk.frames)]
        skipped = 0 if number else overlap
        assert np.abs(alone[skipped:].astype(int) - chunk.frames[skipped:]).max() <= 1
    assert len({call["seed"] for call in model.calls}) == len(made)
    assert [call["prompt"] for call in model.calls][:2] == ["a car", "a boat"]


def test_a_clip_goes_on_from_the_last_frame_of_the_one_before(folders: dict[str, Path], picture: Path) -> None:
    model = Recording(load_model(str(folders["cogvideox-i2v"])))
    made = chunks(model, asked("cogvideox-i2v", picture))
    first, *others = (np.asarray(call["image"]) for call in model.calls)
    assert np.array_equal(first, np.asarray(Image.open(picture))) and np.array_equal(made[0].frames[0], first)
    for before, shown in zip(made, others, strict=False):
        assert np.array_equal(before.frames[-1], shown)


def test_the_plan_counts_the_evaluations_of_the_network(name: str, folders: dict[str, Path], picture: Path) -> None:
    model = load_model(str(folders[name]))
    assert isinstance(model, BlackBox)
    seen: list[int] = []
    network = model.pipeline.transformer
    handle = network.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    chunks(model, request := asked(name, picture))
    handle.remove()
    assert checked_plan(model.spec, request, Chunked()).forwards == sum(seen)


def test_a_pipeline_of_a_video_is_given_as_many_frames_as_it_knows(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What it has torchvision for.
    resize = SimpleNamespace(resize=lambda mask, size, interpolation: interpolate(mask, size))
    given = SimpleNamespace(functional=resize, InterpolationMode=SimpleNamespace(NEAREST=None))
    monkeypatch.setattr(transformer_cosmos, "transforms", given, raising=False)
    model = Recording(from_pipe(tiny_cosmos(), num_frames=9, size=[16, 32]))
    request = Request(prompts=PromptTimeline.constant("a car"), frames=15, steps=2)
    with pytest.raises(InputError, match="needs a picture"):
        checked_plan(model.spec, request, Chunked())
    made = chunks(model, replace(request, init=str(picture)))
    assert [len(chunk.frames) for chunk in made] == [9, 4, 2]
    first, second, third = model.calls
    assert "video" not in first and len(second["video"]) == len(third["video"]) == 5
    assert np.array_equal(np.stack(second["video"]), made[0].frames[-5:])
    assert np.array_equal(np.stack(third["video"][1:]), made[1].frames)


def test_guidance_that_is_a_part_is_set_and_counted(tmp_path: Path) -> None:
    folder = tiny_hunyuan15(tmp_path)
    spec = model_spec(str(folder))
    assert (spec.num_frames, spec.height, spec.width, spec.guidance) == (121, 480, 848, 6.0)
    (folder / "longtake.json").write_text('{"num_frames": 5, "size": [32, 64]}')
    model, seen = Recording(load_model(str(folder))), []
    handle = model.within.transformer.register_forward_pre_hook(lambda module, args: seen.append(1))
    request = Request(prompts=PromptTimeline.constant("a car"), frames=5, steps=2, guidance=3.0)
    (made,) = chunks(model, request)
    handle.remove()
    assert checked_plan(model.spec, request, Chunked()).forwards == len(seen) == 4
    assert model.within.guider.guidance_scale == 3.0 and "guidance_scale" not in model.calls[0]
    assert not np.array_equal(made.frames, chunks(model, replace(request, guidance=6.0))[0].frames)
    pipeline, (call, _) = diffusers.HunyuanVideo15Pipeline.from_pretrained(folder), model.calls
    pipeline.set_progress_bar_config(disable=True)
    pipeline.guider = pipeline.guider.new(guidance_scale=3.0)
    given = {key: value for key, value in call.items() if key not in ("seed", "generator")}
    alone = pipeline(**given, generator=torch.Generator().manual_seed(call["seed"])).frames[0]
    assert np.abs(np.rint(alone * 255) - made.frames).max() <= 1


def test_killed_in_the_middle_the_same_call_ends_in_the_same_bytes(
    name: str, folders: dict[str, Path], picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    model, request, clip = load_model(str(folders[name])), asked(name, picture, 70), BlackBox.clip
    begun: list[int] = []

    def counting(*given: Any) -> Any:
        begun.append(1)
        return clip(*given)

    def make(path: Path) -> None:
        generate(model, request, Chunked(), Output(path=path), progress=lambda *told: None)

    def dying(*given: Any) -> Any:
        begun.append(1)
        # By then a segment of 32 frames is in the file, and with it what the next clip goes on from.
        if sum(begun) * model.spec.num_frames > 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return clip(*given)

    monkeypatch.setattr(BlackBox, "clip", counting)
    make(tmp_path / "whole.mkv")
    of_all = len(begun)
    begun.clear()
    with monkeypatch.context() as patch:
        patch.setattr(BlackBox, "clip", dying)
        assert in_child(lambda: make(tmp_path / "killed.mkv")) == signal.SIGKILL
    before = len(list((tmp_path / "killed.mkv.state").iterdir()))
    make(tmp_path / "killed.mkv")
    assert before and 0 < len(begun) < of_all
    assert (tmp_path / "killed.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()


@pytest.mark.slow
def test_killed_the_same_command_ends_in_the_same_bytes(
    name: str, folders: dict[str, Path], picture: Path, tmp_path: Path
) -> None:
    def command(path: Path) -> subprocess.Popen[str]:
        words = ["a car", "--model", str(folders[name]), "--sampler", "chunked", "--frames", "200", "--steps", "2"]
        words += ["--init", str(picture)] if name == "cogvideox-i2v" else []
        told = [sys.executable, "-m", "longtake", "generate", *words, "-o", str(path)]
        return subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    whole, path = tmp_path / "whole.mkv", tmp_path / "killed.mkv"
    assert command(whole).wait() == 0
    first = command(path)
    while not path.exists() or path.stat().st_size < whole.stat().st_size // 4:
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert path.read_bytes() != whole.read_bytes()
    assert command(path).wait() == 0
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"chunked"}))
def test_other_samplers_are_refused_with_the_reason(sampler: str, name: str, folders: dict[str, Path]) -> None:
    spec = model_spec(str(folders[name]))
    with pytest.raises(CapabilityError, match="no adapter for .* whole pipeline, which shows no x0") as caught:
        checked_plan(spec, Request(prompts=PromptTimeline.constant("a car")), sampler_class(sampler)())
    assert "--sampler chunked" in str(caught.value) and "\n" not in str(caught.value)


UNUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "overlap": ("mochi", {"overlap": 1}, {}),
    "eta": ("mochi", {"eta": 0.5}, {}),
    "keyframes": ("mochi", {"keyframes": "folder"}, {}),
    "negative-prompt": ("hunyuan", {}, {"negative_prompt": "a tree"}),
    "init": ("cogvideox", {}, {"init": "first.png"}),
}


@pytest.mark.parametrize("setting", UNUSED)
def test_a_setting_without_effect_is_refused(setting: str, folders: dict[str, Path]) -> None:
    model, method, request = UNUSED[setting]
    with pytest.raises(InputError, match=rf"{setting} has no effect on {model}"):
        checked_plan(
            model_spec(str(folders[model])),
            Request(prompts=PromptTimeline.constant("a car"), **request),
            Chunked(**method),
        )


def test_a_pipeline_of_pictures_asks_for_the_first(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="needs a picture to begin with; give one with --init"):
        checked_plan(
            model_spec(str(folders["cogvideox-i2v"])), Request(prompts=PromptTimeline.constant("a car")), Chunked()
        )


def test_the_limits_are_said(name: str, folders: dict[str, Path], picture: Path) -> None:
    spec = model_spec(str(folders[name]))
    said = " ".join(plan_warnings(checked_plan(spec, asked(name, picture), Chunked())))
    assert "one prompt for all frames of a window" in said and "is not counted" in said
    assert ("goes on from the last 1" if name == "cogvideox-i2v" else "knows nothing of the one before") in said


def test_the_spec_is_that_of_the_loaded_model_and_of_its_pipeline(name: str, folders: dict[str, Path]) -> None:
    model, spec = load_model(str(folders[name])), model_spec(str(folders[name]))
    assert isinstance(model, WholeClips) and model.spec == spec
    extras = json.loads((folders[name] / "longtake.json").read_text())
    live = from_pipe(diffusers.DiffusionPipeline.from_pretrained(folders[name]), **extras)
    assert (live.spec.latent_shape, live.spec.guidance, live.spec.call) == (
        spec.latent_shape,
        spec.guidance,
        spec.call,
    )
    with pytest.raises(CapabilityError, match="shows no x0"):
        model.schedule(4)


def test_a_clip_of_another_size_is_one_line(folders: dict[str, Path], picture: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["cogvideox"], tmp_path / "odd"))
    (folder / "longtake.json").write_text('{"num_frames": 5}')
    with pytest.raises(InputError, match="asked for 5 frames of 32x16, and made 8 .*write that as num_frames"):
        chunks(load_model(str(folder)), asked("cogvideox", picture))


def test_what_a_pipeline_refuses_is_one_line(
    folders: dict[str, Path], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise ValueError("no\nsuch thing")

    monkeypatch.setattr(diffusers.CogVideoXPipeline, "check_inputs", refuse)
    with pytest.raises(InputError, match=r"cogvideox: its pipeline refuses this \(no\)"):
        chunks(load_model(str(folders["cogvideox"])), asked("cogvideox", picture))


def test_a_size_that_the_pipeline_refuses_is_known_from_its_source(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["hunyuan"], tmp_path / "size"))
    (folder / "longtake.json").write_text('{"size": [16, 40]}')
    with pytest.raises(InputError, match="16 x 40 does not fit; both must be multiples of 16"):
        model_spec(str(folder))


REFUSED = {
    "StableDiffusionPipeline": "takes no num_frames",
    "LucyEditPipeline": "steered by video",
    "EasyAnimateControlPipeline": "steered by control_video",
    "Cosmos2_5_PredictBasePipeline": "pip install cosmos_guardrail",
    "MochiPipeline": "names neither a transformer nor a unet",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_run_as_a_whole_says_why(kind: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    for ask in (model_spec, load_model):
        with pytest.raises(LongtakeError, match=REFUSED[kind]) as caught:
            ask(str(tmp_path))
        assert kind in str(caught.value) and "\n" not in str(caught.value)
