"""The embedded model's tasks at tiny sizes."""

from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import pixel_unshuffle

from longtake.data.sprites import training_shots
from longtake.models.embedded import WEIGHTS
from longtake.models.hooks import frame_conditions, text_layers, text_table
from longtake.train.fit.levels import LevelMixture
from longtake.train.fit.loop import FitSettings, fit, step_generator
from longtake.train.fit.runs import Runs
from longtake.train.sprites import recipe
from longtake.train.sprites import vae as vae_module
from longtake.train.sprites.autoencode import decode, decoded_sheet, posterior, to_model
from longtake.train.sprites.build import (
    SpriteSizes,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    rebuilt_unet,
)
from longtake.train.sprites.cache import CacheSettings, LatentClips, encode_worlds
from longtake.train.sprites.stages import take_package
from longtake.train.sprites.text import TextSettings, TextTask, captions_of, train_tokenizer
from longtake.train.sprites.unet import DenoiserSettings, GuidedTask, UnetTask
from longtake.train.sprites.vae import VaeSettings, VaeTask

SIZES = SpriteSizes(vae_channels=(8, 8, 8, 8), latent_channels=4, unet_channels=(16, 16), head_width=8, text_width=16)
UNET = "diffusion_pytorch_model.safetensors"
MIXTURE = LevelMixture(uniform=1, independent=1, diagonal=1, past=1, ends=1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> LatentClips:
    """Two worlds of six flat frames; every caption has an embedding that names it."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("cache")
    torch.manual_seed(0)
    settings = CacheSettings(num_worlds=2, num_frames=6, worlds_per_file=1)
    encode_worlds(build_vae(SIZES), settings, folder)
    number = torch.arange(len(training_shots()), dtype=torch.float16)
    table = number[:, None, None, None].expand(-1, 16, 5, 16).contiguous()
    save_file({"table": table, "empty": torch.full((5, 16), -1, dtype=torch.float16)}, folder / "captions.safetensors")
    loaded = LatentClips(folder, folder / "captions.safetensors")
    loaded.latents = torch.randn(2, 1, 4, 1, 1).sign().expand_as(loaded.latents)
    return loaded


def denoiser(clips: LatentClips, **settings) -> UnetTask:
    torch.manual_seed(0)
    return UnetTask(
        build_unet(SIZES), build_scheduler(), build_vae(SIZES), clips, DenoiserSettings(batch_size=2, **settings)
    )


def test_clips_come_with_their_captions(clips: LatentClips) -> None:
    drawn = clips.draw(8, 4, 0.5, torch.Generator().manual_seed(0))
    assert drawn.latents.shape == (8, 4, 4, 8, 8) and drawn.texts.shape == (8, 4, 5, 16)
    seen = set(drawn.texts[:, 0, 0, 0].tolist())
    assert -1 in seen and seen - {-1} <= set(clips.shots.flatten().tolist()) and len(seen) > 1
    assert torch.equal(drawn.texts, drawn.texts[:, :1].expand_as(drawn.texts)) and set(drawn.stride.tolist()) == {1}


def test_worlds_that_switch_come_last_and_change_in_their_middle(tmp_path: Path) -> None:
    encode_worlds(build_vae(SIZES), CacheSettings(num_worlds=2, num_frames=6, num_switches=1), tmp_path)
    shots = load_file(tmp_path / "worlds_000000.safetensors")["shots"]
    first, last = shots[:, :1], shots[:, -1:]
    assert torch.equal(shots == first, torch.tensor([[True] * 6, [True] * 3 + [False] * 3]))
    assert torch.equal(shots[1, 3:], last[1].expand(3))


def test_every_frame_of_a_clip_over_a_switch_has_its_own_text(clips: LatentClips) -> None:
    switched = copy(clips)
    switched.shots = torch.tensor([[3, 3, 3, 5, 5, 5]] * 2)
    said = switched.draw(40, 4, 0.0, torch.Generator().manual_seed(0)).texts[:, :, 0, 0]
    assert said.unique(dim=0).tolist() == [[3, 3, 3, 5], [3, 3, 5, 5], [3, 5, 5, 5]]


def test_the_cache_keeps_finished_files(tmp_path: Path) -> None:
    vae = build_vae(SIZES)
    settings = CacheSettings(num_worlds=3, num_frames=1, worlds_per_file=1)
    encode_worlds(vae, settings, tmp_path, stop=lambda world: world == 2)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(before) == 2
    encode_worlds(vae, settings, tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(after) == 3 and before.items() <= after.items()


@pytest.mark.parametrize("num_frames", [1, 4])
def test_denoiser_learns(clips: LatentClips, num_frames: int, tmp_path: Path) -> None:
    levels = MIXTURE if num_frames > 1 else LevelMixture()
    task = denoiser(clips, num_frames=num_frames, levels=levels, sample_steps=2)
    with torch.no_grad():
        before = sum(float(task.loss(step_generator(9, step))[0]) for step in range(3))
    settings = FitSettings(num_steps=20, learning_rate=5e-3, warmup_steps=1, ema_decay=0.5, ema_every=1, precision="no")
    fit(task, settings, tmp_path)
    with torch.no_grad():
        after = sum(float(task.loss(step_generator(9, step))[0]) for step in range(3))
    assert after < 0.97 * before
    assert (tmp_path / "final" / "config.json").exists() and list((tmp_path / "samples").glob("*.png"))


def test_clean_frames_do_not_count(clips: LatentClips) -> None:
    """With all but one frame clean, the loss is that of the noisy frame alone: near 1 for a network that says 0."""
    task = denoiser(clips, num_frames=2, levels=LevelMixture(uniform=0, past=1))
    torch.nn.init.zeros_(task.network.conv_out.weight)
    torch.nn.init.zeros_(task.network.conv_out.bias)
    with torch.no_grad():
        losses = [float(task.loss(step_generator(0, step))[0]) for step in range(12)]
    assert 0.8 < sum(losses) / len(losses) < 1.3


def test_pictures_beside_clips_add_their_error(clips: LatentClips) -> None:
    """The clips are drawn as they are without; each picture runs through the layers over time, too."""
    alone = denoiser(clips, num_frames=4)
    both = UnetTask(alone.network, build_scheduler(), alone.vae, clips, replace(alone.settings, pictures=3), clips)
    shapes = []
    hook = alone.network.transformer_in.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape[0]))
    with torch.no_grad():
        error, (total, figures) = alone.loss(step_generator(0, 0))[0], both.loss(step_generator(0, 0))
    hook.remove()
    assert shapes == [8, 8, 3] and figures["clips"] == float(error)
    assert float(total) == pytest.approx(figures["clips"] + figures["pictures"]) and figures["pictures"] > 0


def test_every_frame_of_the_unet_sees_the_text_that_sampling_gives_it(clips: LatentClips) -> None:
    """Texts frame by frame, and rows of a table of keys and values as the model is run."""
    task = denoiser(clips, num_frames=3)
    unet, layers = task.network, text_layers(task.network)
    x, told, texts = torch.randn(2, 4, 3, 8, 8), torch.full((2, 3), 300), torch.randn(2, 2, 5, 16)
    embedding = unet.time_embedding(unet.time_proj(told.flatten()))
    rows = torch.tensor([0, 0, 1, 2, 3, 3])
    seen = texts.flatten(0, 1)[rows].unflatten(0, (2, 3))
    with torch.no_grad():
        trained, one = (task.said(unet, x, told, each) for each in (seen, seen[:, :1].repeat(1, 3, 1, 1)))
        with frame_conditions(unet, layers, embedding, text_table(layers, texts.flatten(0, 1)), rows):
            sampled = unet(x, told[:, 0], x.new_empty(2, 1, 1)).sample
    torch.testing.assert_close(trained, sampled, atol=1e-5, rtol=1e-5)
    assert (trained - one)[0, :, 2].abs().max() > 1e-4


def test_what_guidance_adds_to_plain_captions_is_learnt_beside_the_clips(clips: LatentClips) -> None:
    """The teacher reads the canonical caption, whatever the network reads; with guidance 1 it adds nothing."""
    worded = copy(clips)
    worded.table = clips.table + torch.arange(16, dtype=torch.float16)[:, None, None]
    drawn = worded.draw(40, 4, 0.5, torch.Generator().manual_seed(0))
    assert set(drawn.plain[:, 0, 0, 0].tolist()) == set(clips.shots.flatten().tolist())
    assert len(drawn.texts[:, 0, 0, 0].unique()) > 10
    plain = denoiser(worded, num_frames=4, drop_text=0.0)
    parts = (build_unet(SIZES), plain.network, build_scheduler(), plain.vae, worded)
    taught, same = (GuidedTask(*parts, replace(plain.settings, taught=scale)) for scale in (3.0, 1.0))
    x, told = torch.randn(2, 4, 4, 8, 8), torch.full((2, 4), 300)
    shown = worded.draw(2, 4, 0.0, torch.Generator().manual_seed(1))
    with torch.no_grad():
        texts = shown.plain, clips.empty.float().expand_as(shown.plain)
        adds = [plain.said(parts[0], x, told, each) for each in texts]
        torch.testing.assert_close(taught.guided(x, told, shown), 2 * (adds[0] - adds[1]), atol=1e-5, rtol=1e-4)
        losses = [float(task.loss(step_generator(0, 0))[0]) for task in (plain, same, taught)]
    assert losses[0] == losses[1] != losses[2]


def test_a_denoiser_of_squares_keeps_the_inner_layers(clips: LatentClips) -> None:
    """2 x 2 latents as one, 4 times the channels on a quarter of the places; it says 0, and x0 as its answer."""
    trained, sizes = build_unet(SIZES), replace(SIZES, vae_channels=(8, 8, 8), cell=2, predicts="sample")
    unet = rebuilt_unet(trained, sizes)
    assert unet.config.sample_size == 8 and unet.config.in_channels == unet.config.out_channels == 16
    assert torch.equal(unet.mid_block.state_dict()["resnets.0.conv1.weight"], trained.mid_block.resnets[0].conv1.weight)
    squares = copy(clips)
    own = torch.randn(2, 6, 4, 8, 8)
    squares.latents = pixel_unshuffle(own, 2)
    vae = build_vae(sizes)
    settings = DenoiserSettings(batch_size=2, num_frames=4, sample_steps=2)
    task = UnetTask(unet, build_scheduler(sizes.predicts), vae, squares, settings)
    assert task.sample().shape == (3, 6 * 64, 2 * 64)
    torch.testing.assert_close(decoded_sheet(vae, squares.latents), decoded_sheet(vae, own))
    timesteps, clean = torch.tensor([[400, 900, 999, 0]]), torch.tensor([[False, False, False, True]])
    latents, noise = squares.latents[:1, :4].transpose(1, 2), torch.randn(1, 16, 4, 4, 4)
    _, wanted, told = task.noisy(latents, noise, timesteps, clean)
    assert torch.equal(wanted, latents)


def test_an_error_of_x0_counts_as_that_of_v(clips: LatentClips) -> None:
    settings = DenoiserSettings(batch_size=2, num_frames=3)
    vae, timesteps, clean = build_vae(SIZES), torch.tensor([[300, 700, 999]]), torch.zeros(1, 3, dtype=torch.bool)
    tasks = [
        UnetTask(build_unet(SIZES), build_scheduler(kind), vae, clips, settings) for kind in ("v_prediction", "sample")
    ]
    latents, noise, guess = torch.randn(3, 1, 4, 3, 8, 8)
    bar = tasks[0].alphas_cumprod[timesteps][:, None, :, None, None]
    x = bar.sqrt() * latents + (1 - bar).sqrt() * noise
    said = (bar.sqrt() * x - guess) / (1 - bar).sqrt(), guess
    errors = []
    for task, each in zip(tasks, said, strict=True):
        _, wanted, told = task.noisy(latents, noise, timesteps, clean)
        errors.append((each - wanted).square().mean(dim=(1, 3, 4)) * task.weight(told))
    torch.testing.assert_close(*errors, atol=1e-4, rtol=1e-4)


def test_tasks_compute_where_their_networks_are(clips: LatentClips) -> None:
    """On the device without numbers, which refuses tensors of another one as a GPU does."""
    elsewhere = torch.device("meta")
    for num_frames in (1, 4):
        parts = build_unet(SIZES), build_scheduler(), build_vae(SIZES)
        for network in (parts[0], parts[2]):
            torch.nn.Module.to(network, elsewhere)
        task = UnetTask(*parts, clips, DenoiserSettings(batch_size=2, num_frames=num_frames, sample_steps=2))
        # Pictures on the way are not tried: the loop of sampling reads its levels on the CPU.
        assert task.loss(step_generator(0, 0))[0].device == elsewhere
    vae = VaeTask(parts[2], VaeSettings(num_frames=8, batch_size=2))
    assert vae.sample().device == elsewhere
    # All of the loss is there when its figures are read.
    with pytest.raises(RuntimeError, match="item"):
        vae.loss(step_generator(0, 0))


def test_decoder_only_leaves_the_encoder(tmp_path: Path) -> None:
    vae = build_vae(SIZES)
    encoder = {name: value.clone() for name, value in vae.encoder.state_dict().items()}
    decoder = {name: value.clone() for name, value in vae.decoder.state_dict().items()}
    task = VaeTask(vae, VaeSettings(num_frames=8, batch_size=2, decoder_only=True))
    fit(task, FitSettings(num_steps=2, learning_rate=1e-3), tmp_path)
    assert all(torch.equal(value, vae.encoder.state_dict()[name]) for name, value in encoder.items())
    assert not all(torch.equal(value, vae.decoder.state_dict()[name]) for name, value in decoder.items())


def test_text_encoder_learns_the_answers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    captions = [text for shot in training_shots()[::97] for text in captions_of(shot, 16)]
    tokenizer = train_tokenizer(captions, max_length=20)
    encoder = build_text_encoder(SIZES, len(tokenizer), 20, len(tokenizer) - 1)
    task = TextTask(encoder, tokenizer, TextSettings(batch_size=16, num_variants=16))
    first = task.loss(step_generator(1, 0))[0].item()
    fit(task, FitSettings(num_steps=15, learning_rate=5e-3, warmup_steps=1, precision="no"), tmp_path)
    assert task.loss(step_generator(1, 0))[0].item() < 0.97 * first
    assert (tmp_path / "final" / "tokenizer" / "tokenizer.json").exists()


def test_recipe_trains_all_levels_in_the_mixture() -> None:
    mixture, uniform = (recipe.STAGES[name].settings[1] for name in ("mixture", "uniform"))
    assert min(vars(mixture.levels)[kind] for kind in ("uniform", "independent", "diagonal", "past", "ends")) > 0
    assert replace(mixture, levels=LevelMixture()) == uniform


def test_latents_are_decoded_with_as_much_noise_as_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    task, decoded = VaeTask(build_vae(SIZES), VaeSettings(num_frames=32, batch_size=32)), list[torch.Tensor]()
    monkeypatch.setattr(vae_module, "decode", lambda vae, latents: decoded.append(latents) or decode(vae, latents))
    for latent_noise in (0.0, 3.0):
        task.settings = replace(task.settings, latent_noise=latent_noise)
        with torch.no_grad():
            task.loss(step_generator(0, 0))
    extra = decoded[1] - decoded[0]
    with torch.no_grad():
        spread = posterior(task.vae, to_model(task.frames)).std.mean()
    # Of noise of the same draw that is hypot(spread, 3) wide in place of spread.
    assert float(extra.std()) == pytest.approx(float(torch.hypot(spread, torch.tensor(3.0)) - spread), rel=0.05)


@pytest.mark.slow
def test_the_package_fills_a_folder_in_which_training_goes_on(tmp_path: Path) -> None:
    runs = Runs(folder=tmp_path)
    assert take_package(runs)
    begun, packaged = (load_file(folder / UNET) for folder in (runs.final("further"), WEIGHTS / "sprites" / "unet"))
    assert all(torch.equal(begun[name], packaged[name].float()) for name in packaged)
    assert runs.captions.exists() and (runs.final("vae") / "config.json").exists()
