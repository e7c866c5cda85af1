"""Training NUWA-XL's UNet at tiny sizes: clips at their strides, masks, a loss that falls, the stages in order."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from longtake.data.sprites import training_shots
from longtake.errors import InputError
from longtake.models.embedded import WEIGHTS
from longtake.models.nuwa_xl.load import from_video_unet, load_unet
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import MtdConfig
from longtake.train.fit.limit import Limit
from longtake.train.fit.loop import fit, step_generator
from longtake.train.fit.runs import Runs
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.data import SpriteStretches, StretchSettings, encode_stretches, stretch_world
from longtake.train.nuwa_xl.recipe import train_mtd, write_weights
from longtake.train.nuwa_xl.unet import MtdSettings, MtdTask, draw_mask, level_mask
from longtake.train.sprites.build import SpriteSizes, build_scheduler, build_unet, build_vae

SIZES = SpriteSizes(vae_channels=(8, 8, 8, 8), latent_channels=4, unet_channels=(16, 16), head_width=8, text_width=16)
STRETCHES = StretchSettings(
    num_worlds=2, strides=(16, 4, 1), num_stretches=(1, 1, 1), num_frames=6, worlds_per_file=1, shot_frames=(12, 20)
)
CONFIG = MtdConfig(frames=5, condition_channels=4, strides=STRETCHES.strides)
SETTINGS = MtdSettings(batch_size=2, continued_frames=(1, 2), sample_steps=2)
FIT = FitSettings(num_steps=3, learning_rate=5e-3, warmup_steps=1, ema_decay=0.5, ema_every=1, precision="no")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two encoded worlds, captions whose embedding is the number of the shot, and an image network."""
    folder = tmp_path_factory.mktemp("nuwa")
    torch.manual_seed(0)
    encode_stretches(build_vae(SIZES), STRETCHES, folder / "stretches")
    number = torch.arange(len(training_shots()), dtype=torch.float16)
    table = number[:, None, None, None].expand(-1, 16, 5, 16).contiguous()
    save_file({"table": table, "empty": torch.full((5, 16), -1, dtype=torch.float16)}, folder / "captions.safetensors")
    build_unet(SIZES).save_pretrained(folder / "images" / "final")
    build_vae(SIZES).save_pretrained(folder / "vae" / "final")
    return folder


def source(runs: Path) -> SpriteStretches:
    return SpriteStretches(runs / "stretches", runs / "captions.safetensors", STRETCHES.strides)


def places(runs: Path, out: Path) -> Runs:
    out.mkdir()
    for name in ("stretches", "captions.safetensors", "images", "vae"):
        (out / name).symlink_to(runs / name)
    return Runs(folder=out)


class AtStep(Limit):
    """Stops before the second step."""

    def __call__(self, step: int) -> bool:
        return step == 2


def test_frames_lie_a_stride_apart(runs: Path) -> None:
    """The shots of the frames are those of the world at these places, and change with it."""
    drawn = source(runs).draw([0, 1, 2, 0], 5, torch.Generator().manual_seed(0))
    assert drawn.latents.shape == (4, 4, 5, 8, 8) and drawn.texts.shape == (4, 5, 5, 16)
    assert drawn.stride.tolist() == [16, 4, 1, 16]
    worlds = [stretch_world(number, STRETCHES) for number in range(STRETCHES.num_worlds)]
    shots = training_shots()
    for clip, stride in zip(drawn.texts[:, :, 0, 0].long().tolist(), drawn.stride.tolist(), strict=True):
        seen = [shots[number] for number in clip]
        places = (
            [world.shot(start + stride * index) for index in range(5)] for world in worlds for start in range(3200)
        )
        assert seen in places
    coarse = drawn.texts[0, :, 0, 0]
    assert (coarse[1:] != coarse[:-1]).any()


def test_there_are_twelve_changes_in_any_span() -> None:
    settings = StretchSettings()
    for number in (0, 1, 2, 4):
        starts = sorted(stretch_world(number, settings).timeline)
        assert starts[-1] > 3000 + settings.num_frames * max(settings.strides) - settings.shot_frames[1]
        assert all(sum(place < start <= place + 3375 for start in starts) >= 12 for place in range(0, 3000, 10))
    assert len([start for start in stretch_world(3, settings).timeline if start < 3376]) <= 3


def test_the_cache_keeps_finished_files(runs: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in (runs / "stretches").iterdir()}
    assert len(files) == 2
    encode_stretches(build_vae(SIZES), STRETCHES, runs / "stretches")
    assert {path: path.stat().st_mtime_ns for path in (runs / "stretches").iterdir()} == files


def test_masks() -> None:
    """Structure test S4: global 0...0, local 1 0...0 1; and 1 0...0 for going on from a frame."""
    assert level_mask(0, 5).tolist() == [0] * 5
    assert level_mask(1, 5).tolist() == level_mask(2, 5).tolist() == [1, 0, 0, 0, 1]
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(draw_mask(1, 5, SETTINGS, generator).int().tolist()) for _ in range(400)]
    assert set(drawn) == {(0,) * 5, (1, 0, 0, 0, 1), (1, 0, 0, 0, 0), (1, 1, 0, 0, 0)}
    assert 0.65 < drawn.count((1, 0, 0, 0, 1)) / len(drawn) < 0.85
    assert (1, 0, 0, 0, 1) not in {tuple(draw_mask(0, 5, SETTINGS, generator).int().tolist()) for _ in range(50)}


def test_what_the_network_is_given(runs: Path) -> None:
    """Noisy frames, all of them; of the clean ones only those that are known; their captions, or none."""
    seen: list[tuple[Any, ...]] = []
    network = _network(runs)
    settings = replace(SETTINGS, drop_text=0.4)
    made = MtdTask(network, build_scheduler().alphas_cumprod.double(), build_vae(SIZES), source(runs), settings)
    with torch.no_grad(), network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs)):
        for step in range(10):
            made.loss(step_generator(0, step))
    for x, _, text, known, mask, _ in seen:
        assert x.shape == known.shape == (2, 4, 5, 8, 8) and text.shape == (2, 5, 5, 16)
        told = known.abs().amax(dim=(1, 3, 4)) > 0
        assert torch.equal(told, mask.bool())
    empty = [(clip == -1).all(dim=(1, 2)) for _, _, text, *_ in seen for clip in text]
    assert all(frames.all() or not frames.any() for frames in empty)
    assert 3 < sum(bool(frames.all()) for frames in empty) < 14


def test_the_loss_falls(runs: Path, tmp_path: Path) -> None:
    made = MtdTask(_network(runs), build_scheduler().alphas_cumprod.double(), build_vae(SIZES), source(runs), SETTINGS)
    with torch.no_grad():
        before = sum(float(made.loss(step_generator(9, step))[0]) for step in range(3))
    fit(made, replace(FIT, num_steps=15), tmp_path)
    with torch.no_grad():
        after = sum(float(made.loss(step_generator(9, step))[0]) for step in range(3))
    assert after < 0.95 * before
    assert list((tmp_path / "samples").glob("*.png"))
    over_time = {name: value for name, value in made.network.named_parameters() if not name.startswith("image.")}
    fresh = dict(_network(runs).named_parameters())
    assert all(not torch.equal(value, fresh[name]) for name, value in over_time.items() if "film" not in name)


def test_the_same_training_interrupted(runs: Path, tmp_path: Path) -> None:
    whole, parts = places(runs, tmp_path / "whole"), places(runs, tmp_path / "parts")
    assert train_mtd(CONFIG, SETTINGS, FIT, whole)
    assert not train_mtd(CONFIG, SETTINGS, FIT, replace(parts, limit=AtStep()))
    assert train_mtd(CONFIG, SETTINGS, FIT, parts)
    one, other = (load_unet(place.final("mtd")).state_dict() for place in (whole, parts))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    (tmp_path / "sprites").symlink_to(WEIGHTS / "sprites")
    write_weights(whole, tmp_path)
    written = tmp_path / "nuwa-sprites"
    half = load_unet(written / "unet").state_dict()
    assert all(torch.equal(value.half(), half[name].half()) for name, value in one.items())
    assert json.loads((written / "longtake.json").read_text())["shared"] == "../sprites"


def test_stages_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no latents"):
        SpriteStretches(tmp_path, tmp_path / "captions.safetensors", (1,))


def _network(runs: Path) -> MaskTemporalUnet:
    torch.manual_seed(0)
    return from_video_unet(runs / "images" / "final", CONFIG)
