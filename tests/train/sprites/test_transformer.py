"""Training the transformer at tiny sizes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.data.sprites import training_shots
from longtake.errors import InputError
from longtake.models.hooks import swapped
from longtake.models.schedules import flow_schedule
from longtake.models.wan.attention import frame_texts
from longtake.train.fit.levels import LevelMixture
from longtake.train.fit.loop import fit, step_generator
from longtake.train.fit.runs import Runs
from longtake.train.fit.settings import FitSettings
from longtake.train.sprites import next_recipe as recipe
from longtake.train.sprites.build import (
    SpriteSizes,
    TransformerSizes,
    build_transformer,
    build_vae,
)
from longtake.train.sprites.cache import LatentClips
from longtake.train.sprites.stages import BASE, take_base, train_transformer, trained_vae, write_base
from longtake.train.sprites.transformer import TransformerSettings, TransformerTask, noise_share, texts_seen

SIZES = TransformerSizes(latent_channels=4, patch=2, heads=2, head_width=12, layers=1, text_width=16)
SHIPPED_TEXT = replace(SIZES, text_width=96)
MIXTURE = LevelMixture(uniform=1, independent=1, diagonal=1, past=1, ends=1, known=1)


@pytest.fixture
def clips() -> LatentClips:
    """Two worlds of six flat frames of 4x4 cells, and three captions."""
    made = object.__new__(LatentClips)
    torch.manual_seed(0)
    made.latents = torch.randn(2, 1, 4, 1, 1).sign().expand(-1, 6, -1, 4, 4)
    made.shots = torch.tensor([[0] * 6, [1] * 3 + [2] * 3])
    made.table, made.empty = torch.randn(3, 16, 5, 16), torch.zeros(5, 16)
    return made


def made_task(clips: LatentClips, **settings) -> TransformerTask:
    torch.manual_seed(0)
    vae = build_vae(SpriteSizes(picture=16, vae_channels=(8, 8, 8), latent_channels=4))
    return TransformerTask(build_transformer(SIZES), vae, clips, TransformerSettings(batch_size=2, **settings))


@pytest.mark.parametrize("num_frames", [1, 4])
def test_transformer_learns(clips: LatentClips, num_frames: int, tmp_path: Path) -> None:
    levels = MIXTURE if num_frames > 1 else LevelMixture()
    task = made_task(clips, num_frames=num_frames, levels=levels, sample_steps=2)

    def loss() -> float:
        with torch.no_grad():
            return sum(float(task.loss(step_generator(9, step))[0]) for step in range(8))

    before = loss()
    settings = FitSettings(num_steps=40, learning_rate=1e-2, warmup_steps=1, ema_decay=0.5, ema_every=1, precision="no")
    fit(task, settings, tmp_path)
    assert loss() < 0.9 * before
    assert (tmp_path / "final" / "config.json").exists() and list((tmp_path / "samples").glob("*.png"))


def test_clean_frames_do_not_count(clips: LatentClips) -> None:
    """An untrained network says 0, so that the loss is the mean square of noise - x0 (1 + 1) in the noisy frames."""
    task = made_task(clips, num_frames=2, levels=LevelMixture(uniform=0, past=1))
    with torch.no_grad():
        losses = [float(task.loss(step_generator(0, step))[0]) for step in range(12)]
    assert 1.7 < sum(losses) / len(losses) < 2.3


def test_noise_share_is_one_at_the_last_timestep_and_none_in_clean_frames() -> None:
    timesteps, clean = torch.tensor([[0, 499, 999, 0]]), torch.tensor([[False, False, False, True]])
    assert noise_share(timesteps, clean)[0].tolist() == pytest.approx([0.001, 0.5, 1.0, 0.0])


def test_noise_shares_are_levels_of_a_schedule_with_the_same_shift() -> None:
    """Timestep 1000 l / N - 1 is level l of N."""
    levels, clean = torch.tensor([[249, 499, 999]]), torch.zeros(1, 3, dtype=torch.bool)
    expected = flow_schedule(4, 3.0).timestep[[1, 2, 4]] / 1000
    assert noise_share(levels, clean, 3.0)[0].tolist() == pytest.approx(expected.tolist())


def test_every_frame_sees_the_text_that_sampling_gives_it(clips: LatentClips) -> None:
    """Both texts side by side with a mask, and one row of texts a frame as the model is run, are the same."""
    task = made_task(clips, num_frames=3)
    network = task.module()
    torch.nn.init.normal_(network.proj_out.weight)
    x, texts, level = torch.randn(2, 4, 3, 4, 4), torch.randn(2, 2, 5, 16), torch.full((2, 12), 300.0)
    later = torch.tensor([[False, False, True], [False, True, True]])
    with torch.no_grad():
        with swapped(task.text_of_frame, "seen", texts_seen(later, 4, 5)):
            trained = network(x, level, texts.flatten(1, 2)).sample
        with frame_texts(network, torch.tensor([0, 0, 1, 2, 3, 3])):
            sampled = network(x, level, texts.flatten(0, 1)).sample
        one = network(x, level, texts[:, 0]).sample
    torch.testing.assert_close(trained, sampled, atol=1e-5, rtol=1e-5)
    assert (trained - one).abs().max() > 1e-3


def test_every_frame_sees_every_other_and_its_own_level(clips: LatentClips) -> None:
    """A change of one frame, or of its level alone, changes what the network says of the others."""
    network = build_transformer(SIZES)
    torch.nn.init.normal_(network.proj_out.weight)
    x, text = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 5, 16)
    level = torch.full((1, 12), 300.0)
    with torch.no_grad():
        before = network(x, level, text).sample
        moved = network(torch.cat([x[:, :, :2], x[:, :, 2:] + 1], dim=2), level, text).sample
        level[:, 8:] = 0
        cleaner = network(x, level, text).sample
    assert all((after - before)[:, :, 0].abs().max() > 1e-5 for after in (moved, cleaner))


def test_stages_say_what_is_missing(tmp_path: Path) -> None:
    for name in ("clips", "images", "mixture", "sharp", "decoder", "weights", "sharp-weights"):
        with pytest.raises(InputError, match="must come first"):
            recipe.STAGES[name](Runs(folder=tmp_path))


def test_recipe_trains_all_levels_and_fits_its_latents() -> None:
    assert min(vars(recipe.mixture()[0].levels).values()) > 0
    assert recipe.SIZES.latent_channels == recipe.TRANSFORMER.latent_channels


def _cache(runs: Runs, name: str) -> Path:
    folder = runs.folder / name
    folder.mkdir()
    return folder / "worlds_000000.safetensors"


def test_a_base_begins_a_new_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage left comes back in 8 bits, the texts of all captions with it, for the next stage to take."""
    first, second = Runs(folder=tmp_path / "first"), Runs(folder=tmp_path / "second")
    torch.manual_seed(0)
    sizes = SpriteSizes(picture=16, vae_channels=(8, 8, 8), latent_channels=4)
    build_vae(sizes).save_pretrained(first.folder / "vae" / "final")
    network = build_transformer(SHIPPED_TEXT)
    network.save_pretrained(first.folder / "mixture" / "final")
    assert write_base("mixture", first)
    monkeypatch.setattr("longtake.train.sprites.cache.training_shots", lambda: training_shots()[:2])
    take_base(first.folder / "base", "images", second)
    assert {file.name for file in second.final("images").iterdir()} == {f.name for f in second.final(BASE).iterdir()}
    again = type(network).from_pretrained(second.final(BASE))
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=6e-3, rtol=6e-3)
    shots = torch.tensor([[0] * 4, [1] * 4])
    save_file({"latents": torch.randn(2, 1, 4, 4, 4), "shots": shots}, _cache(second, "pictures"))
    settings = TransformerSettings(batch_size=1, num_frames=1, sample_steps=1)
    loop = FitSettings(num_steps=1, learning_rate=1e-9, ema_decay=0.0, ema_every=1, precision="no", weight_decay=0.0)
    train_transformer(TransformerSizes(), settings, loop, "images", None, second)
    begun = type(network).from_pretrained(second.final("images"))
    torch.testing.assert_close(begun.state_dict(), again.state_dict(), atol=1e-6, rtol=0)
    assert again.dtype == torch.float32 and trained_vae(second).dtype == torch.float32
    assert load_file(second.captions)["table"].shape == (2, 64, 20, 96)


def test_a_base_fills_only_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(recipe, "take_base", lambda base, stage, runs: taken.append((base, stage)))
    arguments = ["decoder", "--runs", str(tmp_path / "runs"), "--base", "model"]
    for _ in range(2):
        with pytest.raises(InputError, match="vae must come first"):
            recipe.main(arguments)
        (tmp_path / "runs" / "text").mkdir(parents=True, exist_ok=True)
    assert taken == [(Path("model"), "images")]
