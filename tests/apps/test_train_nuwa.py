"""`longtake train nuwa-xl`, from episodes to a model that makes a video wherever its folder lies."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from longtake.video.read import read_frames

MISTAKES = [
    ((), "what to train on is missing"),
    (("nowhere",), "there is no folder nowhere"),
    (("empty",), "holds no EPISODE/captions.jsonl"),
    (("episodes", "--base", "sprite"), "did you mean 'sprites'?"),
    (("episodes", "--base", "pvdm-sprites"), "is a PvdmPipeline; training can start from"),
    (("episodes", "--size", "60"), "use a --size that 16 divides"),
    (("episodes", "--frames", "2"), "has nothing between its ends"),
    (("episodes", "--levels", "0"), "a tree of 0 levels"),
    (("episodes", "--frames", "8"), "continued_frames 8 leave nothing to make"),
    (("episodes", "--level-shares", "1", "2"), "2 level_shares for 3 levels"),
    (("episodes", "--drop-text", "2"), "is a share"),
    (("episodes", "--batch-size", "0"), "use 1 or more"),
    (("episodes", "--minutes", "0"), "no time to train"),
    (("episodes", "-o", "notes.txt"), "a folder is meant"),
    (("episodes", "--stesp", "3"), "did you mean '--steps'?"),
]
TINY = ["--base=start", "--frames=4", "--levels=2", "--continued-frames=1", "--batch-size=1", "--sample-steps=1"]
TRAIN = ["train", "nuwa-xl", "episodes", "-o", "run", *TINY, "--steps=2", "--log-every=1", "--ema-every=1"]


def episodes(num_frames: int = 12) -> None:
    """An episode of pictures that change, with two captions, beside one that is too short."""
    for name, count in (("long", num_frames), ("short", 4)):
        folder = Path("episodes", name)
        folder.mkdir(parents=True)
        for number in range(count):
            shade = np.full((20, 24, 3), 8 * number, np.uint8)
            Image.fromarray(shade).save(folder / f"{number:03d}.png")
        lines = [{"frame": 0, "text": "a dark wall"}, {"frame": count // 2, "text": "a bright wall"}]
        (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def start(prediction: str = "epsilon") -> None:
    """A tiny Stable Diffusion: 16x16 pixels, latents of 8x8."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    from longtake.train.sprites.build import SpriteSizes, build_text_encoder
    from longtake.train.sprites.text import end_of_text, train_tokenizer

    torch.manual_seed(0)
    folder, blocks, groups = Path("start"), ("DownBlock2D", "CrossAttnDownBlock2D"), {"norm_num_groups": 4}
    tokenizer = train_tokenizer(["a dark wall", "a bright wall"], 8)
    tokenizer.save_pretrained(folder / "tokenizer")
    sizes = SpriteSizes(text_width=16, text_layers=1)
    build_text_encoder(sizes, len(tokenizer), 8, end_of_text(tokenizer)).save_pretrained(folder / "text_encoder")
    shape: dict[str, Any] = {"in_channels": 4, "out_channels": 4, "sample_size": 8, "cross_attention_dim": 16}
    shape |= {"down_block_types": blocks, "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "layers_per_block": 1}
    UNet2DConditionModel(block_out_channels=(8, 8), attention_head_dim=2, **shape, **groups).save_pretrained(
        folder / "unet"
    )
    halves: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * 2}
    halves |= {"up_block_types": ("UpDecoderBlock2D",) * 2, "block_out_channels": (8, 8)}
    AutoencoderKL(**halves, latent_channels=4, **groups, mid_block_add_attention=False).save_pretrained(folder / "vae")
    DDIMScheduler(beta_schedule="scaled_linear", prediction_type=prediction).save_pretrained(folder / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))


def weights(folder: str) -> bytes:
    return Path(folder, "final/unet/diffusion_pytorch_model.safetensors").read_bytes()


def mistaken() -> None:
    Path("notes.txt").write_text("mine")
    Path("empty").mkdir()
    Path("episodes/one").mkdir(parents=True)
    Path("episodes/one/captions.jsonl").touch()


@pytest.mark.parametrize(("arguments", "problem"), MISTAKES, ids=[" ".join(row[0]) for row in MISTAKES])
def test_a_mistake_is_one_line(longtake: Callable, arguments: tuple[str, ...], problem: str) -> None:
    mistaken()
    ran = longtake("train", "nuwa-xl", *arguments)
    assert (ran.status, ran.out) == (2, "")
    assert problem in ran.err and ran.err.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["empty", "episodes", "notes.txt"]


def test_neither_mistakes_nor_help_load_torch(tmp_path: Path, light: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mistaken()
    lines = [["train", "nuwa-xl", *arguments] for arguments, _ in MISTAKES] + [["train", "nuwa-xl", "--help"]]
    light(lines, tmp_path, {"torch", "diffusers", "accelerate", "av"})


def test_from_episodes_to_a_video(longtake: Callable) -> None:
    episodes()
    start()
    ran = longtake(*TRAIN, "--json")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["finished"] is True
    assert "data: 1 recording, 12 frames; 1 skipped: short (4 of the 10 frames needed)" in ran.err
    assert "clips of 4x16x16, frames 3, 1 apart, in 3 spans of 10 frames" in ran.err
    assert "captions: 2 different ones\n" in ran.err
    assert Path("run/samples").is_dir() and Path("run/tensorboard").is_dir()

    again = longtake(*TRAIN, "--drop-text=0")
    assert again.status == 2 and "was begun with drop text 0.1, not 0" in again.err
    Path("episodes/long/captions.jsonl").write_text('{"frame": 0, "text": "another wall"}\n')
    other = longtake(*TRAIN)
    assert other.status == 2 and "was begun with captions" in other.err

    for folder in ("start", "episodes"):
        shutil.rmtree(folder)
    Path("run/final").rename("elsewhere")
    made = longtake(
        *("generate", "a dark wall", "--model", "elsewhere", "--sampler", "nuwa-xl", "--frames", "10", "--steps", "2"),
        *("--dtype", "float32", "-o", "out.mkv"),
    )
    assert made.status == 0, made.err
    report = json.loads(Path("out.json").read_text())
    assert report["complete"] is True and report["frames"] == 10


def test_t_klvae_is_trained_and_decodes(longtake: Callable) -> None:
    episodes()
    start()
    train = [*TRAIN, "--t-klvae-steps=2"]
    assert longtake(*train, "-o", "other", "--minutes=0.0000001").status == 0
    for folder in ("run", "other"):
        ran = longtake(*train, "-o", folder)
        assert ran.status == 0, ran.err
    parts = [Path(folder, "final/vae_over_time/diffusion_pytorch_model.safetensors") for folder in ("run", "other")]
    assert parts[0].read_bytes() == parts[1].read_bytes()
    trained = load_file(parts[0])
    assert {name for name, value in trained.items() if "kernel.bias" in name and value.any()} == {
        name for name in trained if "kernel.bias" in name and name.startswith("convolutions.decoder")
    }
    again = longtake(*TRAIN)
    assert again.status == 2 and "t klvae steps 2, not 0" in again.err
    line = ["a dark wall", "--sampler", "nuwa-xl", "--frames", "10", "--steps", "2", "--dtype", "float32"]
    assert longtake("generate", *line, "--model", "run/final", "-o", "out.mkv").status == 0
    shutil.copytree("run/final", "without")
    shutil.rmtree("without/vae_over_time")
    index = json.loads(Path("without/model_index.json").read_text())
    assert index.pop("vae_over_time") == ["longtake", "TemporalAutoencoder"]
    Path("without/model_index.json").write_text(json.dumps(index))
    assert longtake("generate", *line, "--model", "without", "-o", "without.mkv").status == 0
    one, other = (np.concatenate(list(read_frames(Path(name)))) for name in ("out.mkv", "without.mkv"))
    assert one.shape == other.shape and not np.array_equal(one, other)


def test_a_stopped_run_ends_with_the_same_weights(longtake: Callable) -> None:
    episodes()
    start("v_prediction")
    assert longtake(*TRAIN).status == 0
    whole = weights("run")
    stopped = longtake(*TRAIN, "-o", "other", "--minutes=0.0000001")
    assert stopped.status == 0 and "the same command continues the run in other" in stopped.err
    assert not Path("other/checkpoint").exists() and not Path("other/final").exists()
    assert longtake(*TRAIN, "-o", "other", "--steps=1").status == 0
    assert weights("other") != whole
    assert longtake(*TRAIN, "-o", "other").status == 0
    assert "continues at step 1" in Path("other/log.txt").read_text()
    assert weights("other") == whole


def test_networks_that_predict_something_else_are_refused(longtake: Callable) -> None:
    mistaken()
    start("sample")
    ran = longtake("train", "nuwa-xl", "episodes", "--base", "start")
    assert ran.status == 2 and "predicts 'sample', which cannot be trained" in ran.err


def test_latents_of_another_size_are_not_mixed(longtake: Callable) -> None:
    episodes()
    start()
    longtake(*TRAIN, "--minutes=0.0000001")
    other = longtake(*TRAIN, "--size=32")
    assert other.status == 2 and "were made with other size" in other.err


def test_training_goes_on_from_a_nuwa_xl_model(longtake: Callable) -> None:
    episodes(32)
    start()
    assert longtake(*TRAIN, "--upward-only").status == 0
    first = Path("run/final").rename("first")
    on = ["train", "nuwa-xl", "episodes", "--base=first", *TINY[3:], "--steps=1"]
    refused = longtake(*on, "-o", "more", "--frames=5")
    assert refused.status == 2 and "frames and parts are those of first" in refused.err
    assert longtake(*on, "-o", "more", "--levels=3", "--size=32", "--learning-rate=1e-20").status == 0
    told = json.loads(Path("more/final/unet/config.json").read_text())
    assert told["strides"] == [9, 3, 1] and told["frames"] == 4 and told["symmetric"] is False
    assert told["image"]["sample_size"] == 16
    assert weights("more") == (first / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
