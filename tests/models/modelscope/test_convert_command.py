"""`longtake convert videocrafter2`: what it takes, what it makes of it, and what it refuses."""

import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.apps.cli import main
from longtake.apps.generate.settings import video_settings
from longtake.errors import LongtakeError, OutputError
from longtake.models import model_spec
from longtake.models.modelscope.convert import Assembly, assemble
from longtake.samplers.fifo.plan import Fifo

WEIGHTS = "diffusion_pytorch_model.safetensors"
SETTINGS = Assembly(told_fps=24.0, fps=10.0, guidance=12.0, height=16, width=16)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_hub_folder_is_taken_as_it_is(videocrafter2_unet, zeroscope, tmp_path) -> None:
    above = tmp_path / "above"
    shutil.copytree(videocrafter2_unet, above / "unet")
    for source, output in ((videocrafter2_unet, "flat"), (above, "nested")):
        assemble(source, zeroscope, tmp_path / output, SETTINGS)
        written = tmp_path / output
        assert os.path.samefile(written / "vae" / WEIGHTS, zeroscope / "vae" / WEIGHTS)
        assert model_spec(str(written)).num_frames == 16
        assert {path.name for path in written.iterdir()} == {
            *("model_index.json", "longtake.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler")
        }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["above", "flat", "nested"]


def test_a_pickled_unet_becomes_safetensors(videocrafter2_unet, zeroscope, tmp_path) -> None:
    source = Path(shutil.copytree(videocrafter2_unet, tmp_path / "pickled"))
    tensors = load_file(source / WEIGHTS)
    (source / WEIGHTS).unlink()
    torch.save(tensors, source / "diffusion_pytorch_model.bin")
    assemble(source, zeroscope, tmp_path / "model", SETTINGS)
    written = load_file(tmp_path / "model" / "unet" / WEIGHTS)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())


def test_the_size_is_written(videocrafter2_unet, zeroscope, tmp_path) -> None:
    assemble(videocrafter2_unet, zeroscope, tmp_path / "model", replace(SETTINGS, height=8, width=12))
    spec = model_spec(str(tmp_path / "model"))
    assert (spec.height, spec.width, spec.latent_shape) == (8, 12, (4, 16, 4, 6))


def rename(file: Path, old: str, new: str | None) -> None:
    tensors = load_file(file)
    tensor = tensors.pop(old)
    save_file(tensors | ({new: tensor} if new else {}), file)


def cut(file: Path) -> None:
    tensors = load_file(file)
    tensors["conv_in.bias"] = tensors["conv_in.bias"][1:].clone()
    save_file(tensors, file)


BAD: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "nothing there": (lambda unet, parts: shutil.rmtree(unet), "no folder of a UNet.*no checkpoint"),
    "no such network": (
        lambda unet, parts: edit(unet / "config.json", _class_name="UNetMotionModel"),
        "UNetMotionModel.*UNet3DConditionModel",
    ),
    "an embedding by another name": (
        lambda unet, parts: rename(unet / WEIGHTS, "fps_embedding.linear_1.bias", "fps_proj.0.bias"),
        "has the tensor fps_proj.0.bias, which VideoCrafter2 does not have",
    ),
    "no embedding": (
        lambda unet, parts: rename(unet / WEIGHTS, "fps_embedding.linear_1.bias", None),
        "lacks the tensor fps_embedding.linear_1.bias",
    ),
    "another shape": (lambda unet, parts: cut(unet / WEIGHTS), r"conv_in.bias has the shape \[15\], not \[16\]"),
    "other parts": (
        lambda unet, parts: edit(parts / "model_index.json", _class_name="LattePipeline"),
        "LattePipeline.*TextToVideoSDPipeline",
    ),
    "part missing": (lambda unet, parts: shutil.rmtree(parts / "vae"), "vae is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_in_one_line(videocrafter2_unet, zeroscope, tmp_path, case) -> None:
    spoil, message = BAD[case]
    unet, parts = (Path(shutil.copytree(each, tmp_path / each.name)) for each in (videocrafter2_unet, zeroscope))
    spoil(unet, parts)
    with pytest.raises(LongtakeError, match=message) as caught:
        assemble(unet, parts, tmp_path / "model", SETTINGS)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists() and not list(tmp_path.glob(".*"))


def test_nothing_is_written_over(videocrafter2_unet, zeroscope, tmp_path) -> None:
    with pytest.raises(OutputError, match="exists"):
        assemble(videocrafter2_unet, zeroscope, tmp_path, SETTINGS)
    with pytest.raises(OutputError, match="does not exist"):
        assemble(videocrafter2_unet, zeroscope, tmp_path / "no" / "where", SETTINGS)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Any, str, str]]:
    """Run the command in this process: exit status, output, errors."""

    def command(*arguments: str) -> tuple[Any, str, str]:
        monkeypatch.setattr("sys.argv", ["longtake", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        return leaving.value.code, *capsys.readouterr()

    return command


def test_the_command_makes_a_model(run, videocrafter2_unet, zeroscope, tmp_path) -> None:
    output = str(tmp_path / "model")
    size = ("--height", "16", "--width", "16", "--told-fps", "24")
    source = ("convert", "videocrafter2", str(videocrafter2_unet))
    status, out, err = run(*source, "--parts", str(zeroscope), "-o", output, *size, "--json")
    assert status == 0 and err == ""
    assert json.loads(out) == {"folder": output, "parameters": model_spec(output).parameters}
    assert json.loads((tmp_path / "model" / "longtake.json").read_text())["told_fps"] == 24


def test_a_report_says_what_a_run_told_the_network(run, videocrafter2_unet, zeroscope, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assemble(videocrafter2_unet, zeroscope, tmp_path / "model", SETTINGS)
    asked = ("generate", "a car", "--model", "model", "--frames", "4", "--sampler", "chunked", "--steps", "2")
    assert run(*asked, "--told-fps", "8", "-o", "a.mkv")[0] == 0
    assert json.loads((tmp_path / "a.json").read_text())["request"]["told_fps"] == 8
    assert run("generate", "--from", "a.json", "-o", "b.mkv")[0] == 0
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    status, _, err = run(*asked, "--told-fps", "9", "-o", "a.mkv")
    assert status == 2 and "told_fps" in err


@pytest.mark.parametrize("page", ["models/videocrafter2.md", "methods/fifo.md"])
def test_the_authors_default_run_is_one_command(
    run, videocrafter2_unet, zeroscope, tmp_path, monkeypatch, page
) -> None:
    """On a model of 16 frames it has their 64 levels, and their 2,368 + 128 evaluations but 56 that reach no frame."""
    assemble(videocrafter2_unet, zeroscope, tmp_path / "videocrafter2", SETTINGS)
    text = (Path(__file__).parents[3] / "docs" / page).read_text().replace("\\\n", " ")
    (command,) = (line for line in text.splitlines() if line.startswith("longtake generate") and "compat" in line)
    monkeypatch.chdir(tmp_path)
    program, _, *arguments = shlex.split(command)
    assert program == "longtake"
    status, out, err = run("plan", *arguments, "--json")
    assert status == 0 and json.loads(out)["forwards"] == 2440
    # The tiny tokenizer makes a token of every letter, and the tiny text encoder reads ten.
    told = f"the prompt {arguments[0]!r} is too long for videocrafter2, which reads its first 10 tokens"
    assert err.startswith(f"warning: {told}") and err.endswith(
        " of 16; say it in fewer words, since its end is not read, from 'bridge' on\n"
    )
    settings = video_settings(arguments)
    assert settings.method == Fifo(partitions=4, eta=1.0, compat="videocrafter2")
    assert (settings.request.frames, settings.request.guidance, settings.request.told_fps) == (100, 12, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "what to convert is missing"),
        (("unet",), "--parts is missing"),
        (("unet", "--parts", "p", "--fps", "0"), "must be above 0"),
        (("unet", "--parts", "p"), "p/model_index.json cannot be read"),
    ],
)
def test_bad_arguments_are_refused(run, arguments, message) -> None:
    status, out, err = run("convert", "videocrafter2", *arguments)
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1
