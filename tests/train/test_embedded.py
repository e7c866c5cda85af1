"""All models of the package, trained from nothing at tiny sizes: every stage, by time, interrupted and gone on with."""

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from longtake.apps.train.embedded import STAGES as NAMES
from longtake.data.footage import Footage
from longtake.data.footage_files import sprite_worlds
from longtake.errors import InputError, OutputError
from longtake.models.embedded import WEIGHTS
from longtake.models.nuwa_xl.spec import MtdConfig
from longtake.models.pvdm.config import AutoencoderConfig, Grid, UnetConfig
from longtake.train import embedded
from longtake.train.fit.levels import LevelMixture
from longtake.train.fit.limit import Limit
from longtake.train.fit.runs import Runs, Stage, run_stage, run_stages
from longtake.train.fit.settings import FitSettings
from longtake.train.nuwa_xl.data import StretchSettings
from longtake.train.nuwa_xl.settings import MtdSettings
from longtake.train.pvdm import recipe as pvdm
from longtake.train.pvdm.settings import AutoencoderLoss, DiffusionSettings
from longtake.train.sprites import cache
from longtake.train.sprites.build import SpriteSizes
from longtake.train.sprites.cache import CacheSettings
from longtake.train.sprites.text import TextSettings
from longtake.train.sprites.unet import DenoiserSettings
from longtake.train.sprites.vae import VaeSettings

FIT = FitSettings(num_steps=1, learning_rate=1e-3, sample_minutes=1e9, save_minutes=1e9)
SIZES = SpriteSizes(
    vae_channels=(8, 8, 8, 8), latent_channels=4, unet_channels=(16, 16), head_width=8, text_width=16, text_layers=1
)
PICTURES = DenoiserSettings(batch_size=1, num_frames=1, sample_steps=1)
CLIPS = replace(PICTURES, num_frames=4)
GRID = Grid(frames=4, rows=2, columns=2)
AUTOENCODER = AutoencoderConfig(
    grid=GRID, patch=32, width=16, depth=1, heads=1, pool_depth=1, pool_heads=1, pool_hidden=8, latent_channels=2
)
UNET = UnetConfig(
    grid=GRID, latent_channels=2, channels=8, multipliers=(1, 2), blocks=1, attention=(True, False), heads=2, groups=4,
    text_width=16, prediction="v_prediction",
)  # fmt: skip
MTD = MtdConfig(frames=4, strides=(9, 3, 1), condition_channels=4)


def worlds() -> Footage:
    return sprite_worlds(2, 8)


def worlds16() -> Footage:
    return sprite_worlds(1, 16)


TINY: dict[str, tuple[Any, ...]] = {
    "vae": (SIZES, VaeSettings(num_frames=8, batch_size=2), FIT),
    "text": (SIZES, TextSettings(batch_size=4, num_variants=2), FIT),
    "pictures": (CacheSettings(num_worlds=2, num_frames=2), "pictures"),
    "clips": (CacheSettings(num_worlds=2, num_frames=6), "clips"),
    "images": (SIZES, PICTURES, FIT, "images", None),
    "uniform": (SIZES, CLIPS, FIT, "uniform", "images"),
    "mixture": (SIZES, replace(CLIPS, levels=LevelMixture(independent=1.0)), FIT, "mixture", "uniform"),
    "longer": (SIZES, CLIPS, FIT, "longer", "mixture"),
    "further": (SIZES, CLIPS, FIT, "further", "longer"),
    "switches": (CacheSettings(num_worlds=2, num_frames=6, num_switches=1), "switches"),
    "fast": (SIZES, replace(CLIPS, taught=3.0), FIT, "fast", "further"),
    "decoder": (VaeSettings(num_frames=8, batch_size=2, decoder_only=True), FIT),
    "stretches": (StretchSettings(num_worlds=1, strides=MTD.strides, num_stretches=(1, 1, 1), num_frames=5),),
    "mtd": (MTD, MtdSettings(batch_size=1, continued_frames=(1,), sample_steps=1), FIT),
    "pvdm-autoencoder": (AUTOENCODER, AutoencoderLoss(batch_size=1), FIT),
    "pvdm-latents": (worlds, 4),
    "pvdm-unet": (UNET, DiffusionSettings(batch_size=1, sample_steps=1), FIT, worlds),
    "pvdm-decoder": (AutoencoderLoss(batch_size=1, decoder_only=True, latent_noise=0.1), FIT),
    "weights": (),
}


def tiny() -> dict[str, Stage]:
    return {name: replace(stage, settings=TINY[name]) for name, stage in embedded.STAGES.items()}


def test_every_stage_can_be_named() -> None:
    assert tuple(embedded.STAGES) == NAMES == tuple(TINY)


def test_all_models_come_from_the_folder_of_runs_alone(tmp_path: Path) -> None:
    """Interrupted after four stages, then gone on with; nothing of the installed weights is read."""
    from longtake.models import load_model

    asked = []

    class Interrupted(Limit):
        def __call__(self, step: int) -> bool:
            return len(asked) > 3

    def counted(stage: Stage) -> Stage:
        def run(*settings: Any) -> bool:
            asked.append(stage)
            return stage.run(*settings)

        return replace(stage, run=run)

    stages = {name: counted(stage) for name, stage in tiny().items()}
    assert not run_stages(stages, Runs(folder=tmp_path, limit=Interrupted()), None)
    assert json.loads((tmp_path / "stages.json").read_text())["done"] == list(NAMES[:3])
    assert run_stages(stages, Runs(folder=tmp_path), None)
    assert len(asked) == len(NAMES) + 1
    names = ["nuwa-sprites", "pvdm-sprites", "sprites", "sprites-fast", "sprites-uniform"]
    assert [folder.name for folder in embedded.exported(tmp_path)] == names
    for name in names:
        model = load_model(str(tmp_path / "weights" / name))
        assert model.spec.guidance > 0 and model.encode(["a cat"])
    assert run_stages(stages, Runs(folder=tmp_path), None) and len(asked) == len(NAMES) + 1


def test_a_folder_that_begins_with_the_package_goes_on_with_its_weights(tmp_path: Path) -> None:
    """A step too small to change anything leaves the UNet that is shipped."""
    from safetensors.torch import load_file

    runs = Runs(folder=tmp_path)
    assert embedded.begin(runs)
    stages, still = embedded.STAGES, replace(FIT, learning_rate=1e-12, weight_decay=0.0, ema_decay=0.0)
    assert replace(stages["pvdm-latents"], settings=(worlds16, 8))(runs)
    assert replace(stages["pvdm-unet"], settings=(pvdm.UNET, DiffusionSettings(batch_size=1), still, worlds16))(runs)
    name = "unet/diffusion_pytorch_model.safetensors"
    ours, shipped = load_file(runs.final("pvdm-unet") / name), load_file(WEIGHTS / "pvdm-sprites" / name)
    assert ours.keys() == shipped.keys()
    for key, tensor in shipped.items():
        torch.testing.assert_close(ours[key], tensor.float(), rtol=0, atol=1e-6)
    with pytest.raises(OutputError, match="has a stage"):
        embedded.begin(runs)


def test_a_text_encoder_goes_on_with_the_tokenizer_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learnt again, even of the same captions, its tokens have other numbers."""
    from longtake.train.sprites import stages

    stage = replace(tiny()["text"], settings=(SIZES, TextSettings(batch_size=4, num_variants=1), FIT))
    learn = stages.train_tokenizer
    monkeypatch.setattr(stages, "embed_captions", lambda *_: True)
    assert not stage(Runs(folder=tmp_path, limit=Limit(1e-9)))
    began = (tmp_path / "text" / "final" / "tokenizer" / "tokenizer.json").read_bytes()
    monkeypatch.setattr(stages, "train_tokenizer", lambda captions, length: learn(["another corpus"], length))
    stage(Runs(folder=tmp_path))
    assert json.loads((tmp_path / "text" / "final" / "training.json").read_text())["step"] == 1
    assert (tmp_path / "text" / "final" / "tokenizer" / "tokenizer.json").read_bytes() == began


def test_what_is_interrupted_while_a_folder_begins_with_the_package_leaves_no_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(runs: Runs) -> bool:
        raise KeyboardInterrupt

    def take(runs: Runs) -> None:
        (runs.folder / "further" / "final").mkdir(parents=True)

    monkeypatch.setattr(pvdm, "take_package", take)
    monkeypatch.setattr(embedded, "take_package", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded.begin(Runs(folder=tmp_path))
    assert not (tmp_path / "further").exists()
    monkeypatch.setattr(embedded, "take_package", lambda runs: True)
    assert embedded.begin(Runs(folder=tmp_path))
    assert (tmp_path / "further" / "final").is_dir() and not list((tmp_path / "package").iterdir())


def test_a_disk_that_is_full_while_a_folder_begins_with_the_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(runs: Runs) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(pvdm, "take_package", full)
    with pytest.raises(OutputError, match=r"^cannot write the models to [^\n]*No space left[^\n]* make room[^\n]*$"):
        embedded.begin(Runs(folder=tmp_path))
    assert not list((tmp_path / "package").iterdir())


def test_a_signal_ends_what_a_folder_begins_with_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limit, asked = Limit(minutes=1e-9), []

    def captions(shot: object, num_variants: int) -> list[str]:
        asked.append(shot)
        limit.signal = signal.SIGTERM if len(asked) == 2 else None
        return ["a cat"]

    monkeypatch.setattr(cache, "captions_of", captions)
    assert not embedded.begin(Runs(folder=tmp_path, limit=limit))
    assert len(asked) == 2 and [path.name for path in tmp_path.iterdir()] == ["package"]
    assert not list((tmp_path / "package").iterdir())
    said = capsys.readouterr().out
    assert f"package: its weights are copied to {tmp_path}" in said and "captions: 92,160, of 1,440 shots" in said
    limit.signal = None
    monkeypatch.setattr(cache, "training_shots", lambda: asked[:1])
    assert embedded.begin(Runs(folder=tmp_path, limit=limit)) and (tmp_path / "captions.safetensors").exists()


def test_a_stage_without_latents_says_which_command_makes_them(tmp_path: Path) -> None:
    settings = (pvdm.UNET, DiffusionSettings(batch_size=1), FIT, worlds)
    said = (
        r"pvdm-latents holds no latents; pvdm-latents must come first: longtake train embedded pvdm-latents --runs \S+$"
    )
    with pytest.raises(InputError, match=said):
        replace(embedded.STAGES["pvdm-unet"], settings=settings)(Runs(folder=tmp_path))


class Clock:
    """Time that passes when a stage runs, or whenever somebody looks."""

    def __init__(self) -> None:
        self.now, self.tick = 0.0, 0.0

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("longtake.train.fit.limit.time", made)
    return made


def test_stages_share_the_time_and_leave_what_they_do_not_need(tmp_path: Path, clock: Clock) -> None:
    given = {}

    def stage(name: str, needs: float) -> Stage:
        def run(runs: Runs) -> bool:
            began = clock.now
            while not runs.limit(0):
                clock.now += 0.5
                if clock.now - began >= needs:
                    break
            given[name] = clock.now - began
            return clock.now - began >= needs

        return Stage(run=run, settings=(), share=1.0)

    stages = {"long": stage("long", 1e9), "short": stage("short", 10), "last": stage("last", 1e9)}
    assert run_stages(stages, Runs(folder=tmp_path), 3.0)
    assert given == {"long": pytest.approx(60, abs=1), "short": 10, "last": pytest.approx(110, abs=2)}


def test_stages_without_any_time_left_end_with_models_too(tmp_path: Path, clock: Clock) -> None:
    def slow(runs: Runs) -> bool:
        clock.now += 1000
        return True

    clock.tick = 1e-6
    assert run_stages({"slow": Stage(run=slow, settings=(), share=1.0), **tiny()}, Runs(folder=tmp_path), 3.0)
    assert len(embedded.exported(tmp_path)) == 5
    assert json.loads((tmp_path / "mtd" / "final" / "training.json").read_text())["step"] == 0


def test_a_stage_alone_says_what_is_missing(tmp_path: Path) -> None:
    for name in ("decoder", "clips", "uniform", "stretches", "mtd", "pvdm-latents", "weights"):
        with pytest.raises(InputError, match=r"must come first: longtake train embedded [\w-]+ --runs \S+$"):
            run_stage(name, tiny()[name], Runs(folder=tmp_path))


@pytest.mark.parametrize(("device", "times"), [("cpu", 1), ("cuda", 8)])
def test_a_gpu_gets_larger_batches(tmp_path: Path, device: str, times: int) -> None:
    def run(loss: DenoiserSettings, fit: FitSettings, runs: Runs) -> bool:
        return (loss, fit) == (replace(CLIPS, batch_size=times * CLIPS.batch_size), FIT)

    stage = Stage(run=run, settings=(CLIPS, FIT), share=1.0)
    assert stage(Runs(folder=tmp_path, device=torch.device(device)))


def test_two_processes_do_not_train_one_stage(tmp_path: Path) -> None:
    def inner(runs: Runs) -> bool:
        return run_stage("one", stage, runs)

    stage = Stage(run=inner, settings=(), share=1.0)
    with pytest.raises(OutputError, match=r"another longtake \(process \d+\) is writing [^\n]*one;"):
        run_stage("one", stage, Runs(folder=tmp_path))


def test_with_a_time_a_stage_trains_beyond_its_steps_and_ends_with_a_model(tmp_path: Path, clock: Clock) -> None:
    clock.tick = 1.0
    assert run_stages({"vae": tiny()["vae"]}, Runs(folder=tmp_path), 0.2)
    told = json.loads((tmp_path / "vae" / "final" / "training.json").read_text())
    assert 1 < told["step"] <= 12 and told["steps"] == 1000
