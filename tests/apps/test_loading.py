"""Which weights a command takes, and how it holds them: options, errors before anything is loaded, and the report."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.apps.generate.job import Job, make_job
from longtake.apps.generate.settings import video_settings
from longtake.apps.plan.costs import estimate, settled_offload
from longtake.errors import InputError
from longtake.models import load_model
from longtake.video.read import read_frames
from tests.models.tiny import TINY

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHORT = ("--frames", "9", "--sampler", "chunked", "--steps", "2", "--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of ModelScope's family, its UNet in half precision, too."""
    folder = TINY["TextToVideoSDPipeline"](tmp_path_factory.mktemp("models"))
    load_model(str(folder)).pipeline.unet.half().save_pretrained(folder / "unet", variant="fp16")
    return folder


@pytest.fixture(scope="session")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of the Wan family."""
    return TINY["WanTransformer3DModel"](tmp_path_factory.mktemp("models"))


@pytest.fixture
def cached(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same in the hub's cache, as a branch that is not the main one."""
    place = tmp_path / "hub" / "models--somebody--tiny"
    shutil.copytree(tiny, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "next").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return "somebody/tiny"


def test_a_revision_and_a_variant_are_in_the_report_and_are_repeated(
    longtake: Callable[..., Any], cached: str, tiny: Path
) -> None:
    model = ("--model", cached, "--revision", "next", "--variant", "fp16")
    made = longtake("generate", "a red car", *model, *SHORT, "-o", "half.mkv")
    assert made.status == 0, made.err
    told = json.loads(Path("half.json").read_text())["model"]
    assert told == {"name": cached, "digest": told["digest"], "revision": "next", "variant": "fp16"}
    assert longtake("generate", "--from", "half.json", "-o", "again.mkv").status == 0
    assert Path("again.mkv").read_bytes() == Path("half.mkv").read_bytes()
    assert longtake("generate", "a red car", "--model", str(tiny), *SHORT, "-o", "plain.mkv").status == 0
    assert Path("plain.mkv").read_bytes() != Path("half.mkv").read_bytes()


def test_what_differs_from_the_run_of_an_output_is_named(
    longtake: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    def made(*more: str, model: Path = tiny) -> Any:
        return longtake("generate", "a red car", "--model", str(model), *SHORT, *more, "-o", "out.mkv")

    assert made("--window", "4").status == 0
    other = shutil.copytree(tiny, tmp_path / "other" / tiny.name)
    assert "nothing to do" in made("--window", "4", model=other).err
    (other / "unet" / "config.json").write_text((other / "unet" / "config.json").read_text() + " ")
    eight_bits = 'window was 4 and is now 3, quantize was not set and is now "fp8"; use'
    said = {
        made("--wrap").err: "window was 4 and is now not set, wrap was not set and is now true; use",
        made("--window", "3", "--quantize", "fp8").err: eight_bits,
        made("--window", "4", model=other).err: f'/{tiny.parent.name}/{tiny.name}" and is now ',
    }
    for error, words in said.items():
        assert words in error and "digest" not in error and "Traceback" not in error


def test_auto_takes_the_first_offload_that_the_plan_says_fits(wan: Path, tiny: Path) -> None:
    def taken(folder: Path, free: int) -> Any:
        settings = video_settings(["a", "--model", str(folder), "--offload", "auto", "--dtype", "float32"])
        return settled_offload(make_job(settings, ["--model"]), "cuda", free).order.loading.offload

    needs = [estimate(made_job(wan, offload)).peak_memory_bytes for offload in ("none", "text", "model")]
    assert [taken(wan, need) for need in needs] == ["none", "text", "model"]
    assert taken(tiny, 10**12) == "none"
    with pytest.raises(InputError, match="100 bytes are free on cuda, and the plan needs more with every --offload"):
        taken(wan, 100)


def made_job(folder: Path, offload: str) -> Job:
    settings = video_settings(
        ["a", "--model", str(folder), "--offload", offload, "--dtype", "float32", "--device", "cuda"]
    )
    return make_job(settings, ["--model"])


@pytest.mark.parametrize(
    ("offload", "beside"),
    [("text", {"network", "decoder"}), ("model", set()), ("group", {"decoder"})],
)
def test_a_text_encoder_that_is_larger_than_all_else_comes_in_beside_what_stays(
    wan: Path, offload: str, beside: set[str]
) -> None:
    """What is on the device while a part computes is counted in tests/models/hub/test_offload.py."""
    job = made_job(wan, offload)
    more, known = 10**9, job.spec.text_encoder
    encoder = replace(known, parameters=known.parameters + more)
    heavy = replace(job, spec=replace(job.spec, text_encoder=encoder, parameters=job.spec.parameters + more))
    held = estimate(made_job(wan, "none")).memory_by_part
    assert estimate(heavy).peak_memory_bytes == 4 * encoder.parameters + sum(held[part] for part in beside)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--revision", "other"), f"not its revision 'other'; there: {COMMIT}"),
        (("--revision", "next", "--variant", "bf16"), "holds no weights of the variant 'bf16'"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_loaded(
    longtake: Callable[..., Any], cached: str, options: tuple[str, ...], message: str
) -> None:
    for command in ("plan", "generate"):
        said = longtake(command, "a red car", "--model", cached, *options)
        assert said.status == 2 and message in said.err and said.err.count("\n") == 1


def test_a_model_made_by_code_has_no_revision(longtake: Callable[..., Any]) -> None:
    said = longtake("plan", "a red car", "--model", "toy", "--revision", "main")
    assert said.status == 2 and "--revision has no effect on the model toy" in said.err


def test_a_plan_says_what_offloading_saves(longtake: Callable[..., Any], wan: Path) -> None:
    def planned(*more: str) -> dict[str, Any]:
        return json.loads(longtake("plan", "a", "--model", str(wan), "--json", "--dtype", "float32", *more).out)

    held, text = planned("--device", "cuda", "--offload", "none"), planned("--device", "cuda")
    model, group, cpu = planned("--offload", "model"), planned("--offload", "group"), planned()
    assert (
        text["offload_traffic_bytes"] == 2 * 2 * text["host_by_part"]["text encoder"] < model["offload_traffic_bytes"]
    )
    assert held["offload_traffic_bytes"] == cpu["offload_traffic_bytes"] == 0
    # Both blocks of this network are in at once.
    assert group["memory_by_part"]["network"] == held["memory_by_part"]["network"] == group["host_by_part"]["network"]
    calls = group["forwards"] // group["window_batch"]
    network = group["host_by_part"]["network"]
    assert group["offload_traffic_bytes"] == text["offload_traffic_bytes"] + calls * network
    assert (held["offload"], text["offload"], model["offload"], cpu["offload"]) == ("none", "text", "model", "none")
    assert held["peak_memory_bytes"] == text["peak_without_offload_bytes"] == model["peak_without_offload_bytes"]
    assert held["peak_memory_bytes"] > text["peak_memory_bytes"] > model["peak_memory_bytes"]
    encoder = held["memory_by_part"]["text encoder"]
    assert text["host_by_part"]["text encoder"] == encoder == held["peak_memory_bytes"] - text["peak_memory_bytes"]
    for plan in (held, text, model, cpu):
        assert sum(plan["memory_by_part"].values()) == plan["peak_memory_bytes"]
    lines = longtake("plan", "a", "--model", str(wan), "--device", "cuda").out
    assert "offload  the text encoder comes in when it is called, " in lines
    assert " at most come and go; with --offload none " in lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--compile", "--sampler", "video-infinity"), "--compile does not fit video-infinity"),
        (("--attention-backend", "flex", "--sampler", "video-infinity"), "--attention-backend does not fit"),
        (("--offload", "auto", "--device", "cpu"), "--offload auto has no effect on a CPU"),
        (("--offload", "group", "--sampler", "video-infinity"), "--offload group does not fit video-infinity"),
        (("--offload", "group", "--quantize", "int8"), "does not fit --quantize int8"),
        (("--compile", "--offload", "group"), "--compile does not fit --offload group"),
        (("--compile", "--offload", "model"), "--compile does not fit --offload model"),
        (("--offload", "text", "--device", "cpu"), "--offload text has no effect on a CPU"),
        (("--offload", "model", "--sampler", "video-infinity"), "--offload model does not fit video-infinity"),
    ],
)
def test_what_does_not_go_together_is_refused(
    longtake: Callable[..., Any], wan: Path, options: tuple[str, ...], message: str
) -> None:
    for command in ("plan", "generate"):
        said = longtake(command, "a", "--model", str(wan), *options)
        assert said.status == 2 and message in said.err and said.err.count("\n") == 1


def test_loras_are_in_the_report_and_are_repeated_from_another_folder(
    longtake: Callable[..., Any], wan: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("one", "other"):
        halves = {"lora_A": torch.randn(2, 48), "lora_B": torch.randn(48, 2)}
        tensors = {f"transformer.blocks.0.attn1.to_q.{half}.weight": value for half, value in halves.items()}
        save_file(tensors, f"{name}.safetensors")
    model = ("--model", str(wan), *SHORT)
    loras = ("--lora", "one.safetensors", "--lora", "other.safetensors:0.5")
    assert longtake("generate", "a", *model, *loras, "-o", "changed.mkv").status == 0
    assert longtake("generate", "a", *model, "-o", "plain.mkv").status == 0
    told = json.loads(Path("changed.json").read_text())["model"]["lora"]
    assert told == [f"{Path('one.safetensors').resolve()}:1.0", f"{Path('other.safetensors').resolve()}:0.5"]
    changed = Path("changed.mkv").read_bytes()
    assert changed != Path("plain.mkv").read_bytes()
    report = Path("changed.json").resolve()
    monkeypatch.chdir(tmp_path)
    assert longtake("generate", "--from", str(report), "-o", "again.mkv").status == 0
    assert Path("again.mkv").read_bytes() == changed
    said = longtake("generate", "a", *model, "--lora", "none.safetensors", "-o", "no.mkv")
    assert said.status == 2 and "there is no file none.safetensors" in said.err and said.err.count("\n") == 1


def test_a_quantised_run_is_planned_smaller_and_repeated(longtake: Callable[..., Any], wan: Path) -> None:
    model = ("--model", str(wan), *SHORT)
    plans = [json.loads(longtake("plan", "a", *model, "--json", *more).out) for more in ((), ("--quantize", "fp8"))]
    assert plans[1]["memory_by_part"]["network"] * 4 == plans[0]["memory_by_part"]["network"]
    assert longtake("generate", "a", *model, "--quantize", "fp8", "-o", "small.mkv").status == 0
    assert json.loads(Path("small.json").read_text())["model"]["quantize"] == "fp8"
    assert longtake("generate", "--from", "small.json", "-o", "again.mkv").status == 0
    assert Path("again.mkv").read_bytes() == Path("small.mkv").read_bytes()


@pytest.mark.parametrize("family", ["tiny", "wan"])
def test_a_size_and_a_window_are_those_of_the_run_and_are_repeated(
    longtake: Callable[..., Any], family: str, request: pytest.FixtureRequest
) -> None:
    folder = str(request.getfixturevalue(family))
    model = ("--model", folder, *SHORT, "--size", "80x48", "--window", "3")
    plan = json.loads(longtake("plan", "a", *model, "--json", "--sampler", "chunked").out)
    assert plan["held_frames"] >= 3
    assert longtake("generate", "a", *model, "-o", "wide.mkv").status == 0
    assert {frames.shape[-3:] for frames in read_frames(Path("wide.mkv"))} == {(48, 80, 3)}
    told = json.loads(Path("wide.json").read_text())["model"]
    assert (told["size"], told["window"]) == ("80x48", 3)
    assert longtake("generate", "--from", "wide.json", "-o", "again.mkv").status == 0
    assert Path("again.mkv").read_bytes() == Path("wide.mkv").read_bytes()
    wide, plain = load_model(folder, size="80x48", window=3), load_model(folder)
    assert wide.spec.latent_shape[1] == 3 and wide.digest == told["digest"] != plain.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--size", "50x32"), "--size 50x32 does not fit; the nearest that does is 48x32"),
        (("--size", "48"), "--size '48' is no width and height; write them as 832x480"),
        (("--window", "65"), "--window 65 is no window of this network, which takes 1 to 64 latent frames"),
        (("--window", "0"), "--window 0 holds no frame"),
        (("--model", "pvdm-sprites", "--size", "64x64"), "--size has no effect on this model"),
        (("--model", "nuwa-sprites", "--window", "8"), "--window has no effect on this model"),
        (("--model", "toy", "--window", "8"), "--window has no effect on the model toy"),
    ],
)
def test_a_size_or_a_window_that_does_not_fit_is_refused_before_anything_is_loaded(
    longtake: Callable[..., Any], wan: Path, options: tuple[str, ...], message: str
) -> None:
    for command in ("plan", "generate"):
        said = longtake(command, "a", "--model", str(wan), *options)
        assert said.status == 2 and message in said.err and said.err.count("\n") == 1
