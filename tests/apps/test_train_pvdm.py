"""`longtake train pvdm-autoencoder` and `longtake train pvdm`, from videos to a model that makes one."""

import json
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from longtake.data.footage_settings import FootageSettings
from longtake.video.durable import Lock

EXCERPT = Path(__file__).parents[1] / "data" / "assets" / "big_buck_bunny.mp4"
TINY_AUTOENCODER = ["--frames=8", "--size=16", "--width=8", "--depth=1", "--heads=1", "--pool-depth=1"]
TINY_AUTOENCODER += ["--pool-heads=1", "--pool-hidden=4", "--batch-size=1", "--perceptual=none"]
TINY_UNET = ["--channels=4", "--multipliers", "1", "2", "--attention", "True", "False", "--blocks=1"]
TINY_UNET += ["--unet-heads=1", "--groups=2", "--batch-size=2"]
STAGE_1 = ["train", "pvdm-autoencoder", "videos", "-o", "first", *TINY_AUTOENCODER]
STAGE_2 = ["train", "pvdm", "videos", "--autoencoder", "first", "-o", "second", *TINY_UNET, "--every=8"]

PIXELS = ("--perceptual", "none")
MISTAKES = [
    (("pvdm-autoencoder", *PIXELS), "what to train on is missing"),
    (("pvdm-autoencoder", "nowhere", *PIXELS), "there is no folder nowhere"),
    (("pvdm-autoencoder", ".", "--size", "60"), "use a --size that 8 divides"),
    (("pvdm-autoencoder", ".", "--batch-size", "0"), "a batch of 0 clips"),
    (("pvdm-autoencoder", ".", "--steps", "0"), "num_steps cannot be 0"),
    (("pvdm-autoencoder", ".", "--width", "12"), "use a multiple of 8"),
    (("pvdm-autoencoder", ".", *PIXELS, "--minutes", "0"), "no time to train"),
    (("pvdm-autoencoder", "."), "LPIPS over VGG-16, whose weights are in no package; give them by --vgg"),
    (("pvdm-autoencoder", ".", *PIXELS, "--vgg", "notes.txt"), "no effect with --perceptual none"),
    (("pvdm-autoencoder", ".", "--vgg", "nowhere.pth", "--perceptual", "vgg"), "there is no file nowhere.pth"),
    (("pvdm-autoencoder", ".", *PIXELS, "--perceptual-weight", "2"), "has no effect with --perceptual none"),
    (("pvdm-autoencoder", ".", "--adversarial-channels", "8"), "without --adversarial-steps"),
    (("pvdm-autoencoder", ".", "--pixels", "0"), "both pixels and squares are 0"),
    (("pvdm-autoencoder", ".", *PIXELS, "--split", "test"), "split has no effect on the layout videos"),
    (("pvdm-autoencoder", "sprites", *PIXELS, "--layout", "sky"), "--layout sky has no effect"),
    (("pvdm-autoencoder", ".", *PIXELS, "--worlds", "3"), "worlds has no effect"),
    (("pvdm-autoencoder", ".", *PIXELS, "-o", "notes.txt"), "a folder is meant"),
    (("pvdm-autoencoder", ".", "--stesp", "3"), "did you mean '--steps'?"),
    (("pvdm", "."), "--autoencoder is missing"),
    (("pvdm", ".", "--autoencoder", "."), "holds no finished autoencoder"),
]


@pytest.mark.parametrize(("arguments", "problem"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_a_mistake_is_one_line(longtake: Callable, arguments: tuple[str, ...], problem: str) -> None:
    Path("notes.txt").write_text("mine")
    ran = longtake("train", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert problem in ran.err and ran.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["notes.txt"]


def test_neither_mistakes_nor_help_load_torch(tmp_path: Path, light: Callable) -> None:
    lines = [["train", *arguments] for arguments, _ in MISTAKES]
    lines += [["train", "pvdm", "--help"], ["train", "pvdm-autoencoder", "--help"]]
    (tmp_path / "notes.txt").write_text("mine")
    light(lines, tmp_path, {"torch", "diffusers", "accelerate", "av"})


def test_layouts_and_splits_reach_the_data(tmp_path: Path) -> None:
    assert FootageSettings(layout="ucf101", split="test", fps=5.0).of(str(tmp_path)) == FootageSettings(
        layout="ucf101", folder=tmp_path, split="test", fps=5.0
    )
    assert FootageSettings(layout="sky", hold_out=3).of(str(tmp_path)).layout == "sky"
    assert FootageSettings(worlds=7).of("sprites") == FootageSettings(layout="sprites", worlds=7)


def videos() -> None:
    """A folder with a good video, a damaged one and a text."""
    Path("videos").mkdir()
    Path("videos/bunny.mp4").write_bytes(EXCERPT.read_bytes())
    Path("videos/cut.mp4").write_bytes(EXCERPT.read_bytes()[:5000])
    Path("videos/notes.txt").write_text("no video")


@pytest.mark.skipif(not EXCERPT.is_file(), reason="needs the excerpt of the film")
def test_from_videos_to_a_video(longtake: Callable) -> None:
    videos()
    first = longtake(*STAGE_1, "--steps=2", "--parts=1", "--precision=no", "--json")
    assert first.status == 0, first.err
    assert json.loads(first.out)["finished"] is True
    assert "data: 1 recording, 144 frames; 1 skipped: cut.mp4 (it is damaged or cut off" in first.err
    assert "plan: autoencoder of " in first.err and "137 clips of 8x16x16, perceptual none; 2 steps of 1" in first.err
    record = json.loads(Path("first/run.json").read_text())
    assert record["perceptual"] == "none" and record["skipped"][0]["name"] == "cut.mp4"
    assert record["settings"]["run"]["fit"]["betas"] == [0.5, 0.9]

    again = longtake(*STAGE_1, "--steps=2", "--parts=1", "--precision=no", "--depth=2")
    assert again.status == 2 and "begun with depth 1, not 2" in again.err
    more = ["--steps=2", "--parts=1", "--precision=no", "--adversarial-steps=2", "--adversarial-channels=2"]
    assert longtake(*STAGE_1, *more).status == 0
    assert "finished at step 4" in Path("first/log.txt").read_text()

    with closing(Lock(Path("first/lock"), Path("first"))):
        busy = longtake(*STAGE_1, *more)
    assert busy.status == 2 and "is writing first" in busy.err.splitlines()[-1]

    stopped = longtake(*STAGE_2, "--steps=2", "--precision=no", "--minutes=0.0000001")
    assert stopped.status == 0 and "the same command continues the run in second" in stopped.err
    second = longtake(*STAGE_2, "--steps=2", "--precision=no")
    assert second.status == 0, second.err
    assert "latents of 18 of them, from every 8 frames" in second.err
    made = longtake(
        *("generate", "x", "--model", "second/final", "--sampler", "autoregressive", "--frames", "12"),
        *("--dtype", "float32", "-o", "out.mkv"),
    )
    assert made.status == 0, made.err
    report = json.loads(Path("out.json").read_text())
    assert report["complete"] is True and report["frames"] == 12


def test_the_sprite_worlds_are_data_too(longtake: Callable) -> None:
    arguments = ["--worlds=2", "--world-frames=8", "--steps=1", "--parts=1", "--hold-out=2", "--in-memory"]
    ran = longtake("train", "pvdm-autoencoder", "sprites", "-o", "run", *TINY_AUTOENCODER, *arguments)
    assert ran.status == 0, ran.err
    assert "data: 1 recording, 8 frames\n" in ran.err
    assert re.search(r"step 1 on what is held out: psnr \d", Path("run/log.txt").read_text())
    short = longtake("train", "pvdm", "sprites", "--autoencoder", "run", "-o", "on", *TINY_UNET, *arguments[:3])
    assert short.status == 2 and "no recording has two clips of 8 frames" in short.err
    assert not Path("on/latents").exists()


def test_a_run_begins_with_the_weights_of_another(longtake: Callable) -> None:
    import torch

    worlds = ["sprites", "--worlds=4", "--world-frames=16", "--hold-out=2", "--parts=1", "--precision=no", "--steps=1"]
    first, still = ["train", "pvdm-autoencoder", *worlds, *TINY_AUTOENCODER], "--learning-rate=1e-12"
    second = ["train", "pvdm", *worlds, *TINY_UNET, "--autoencoder=one"]
    for command, stage, name in ((first, "autoencoder", "one"), (second, "unet", "two")):
        runs = [[f"-o={name}"], [f"-o={name}-on", f"--base={name}", still], [f"-o={name}-anew", "--seed=7", still]]
        for run in runs:
            ran = longtake(*command, *run)
            assert ran.status == 0, ran.err
        of, on, anew = (weights(f"{run[0][3:]}/final/{stage}") for run in runs)
        assert all(torch.allclose(on[key], of[key], atol=1e-9) for key in of)
        assert not all(torch.allclose(anew[key], of[key], atol=1e-3) for key in of)
    assert re.search(r"step 1 on what is held out: loss \d", Path("two/log.txt").read_text())
    for wrong, why in (
        (["--base=one", "--depth=2"], "has depth 1, not 2"),
        (["--base=videos"], "holds no autoencoder"),
    ):
        ran = longtake(*first, "-o=other", *wrong)
        assert (ran.status, why in ran.err, Path("other").exists()) == (2, True, False), ran.err


def weights(folder: str) -> dict[str, Any]:
    (file,) = Path(folder).glob("*.safetensors")
    return load_file(file)


def test_running_out_of_memory_says_what_to_lower(longtake: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from longtake.train.pvdm import stages as pvdm_stages

    def full(*_: object) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(pvdm_stages, "autoencoder_stage", full)
    ran = longtake("train", "pvdm-autoencoder", "sprites", "--worlds=1", *TINY_AUTOENCODER)
    assert ran.status == 2
    assert "out of memory (2.00 GiB more were needed" in ran.err
    assert "lower --batch-size (1), give --recompute, or make clips smaller" in ran.err
    assert "--size (16), --frames (8)" in ran.err
