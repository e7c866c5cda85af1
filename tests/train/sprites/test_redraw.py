"""Clips that a denoiser makes anew, beside the frames that they are of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from longtake.data.sprites import random_world, training_shots
from longtake.schedule import Level
from longtake.train.fit.loop import step_generator
from longtake.train.sprites import redraw as redraw_module
from longtake.train.sprites.autoencode import encode_scaled
from longtake.train.sprites.build import SpriteSizes, build_scheduler, build_unet, build_vae
from longtake.train.sprites.redraw import Redraw, RedrawSettings, redraw_worlds
from longtake.train.sprites.vae import Redrawn, VaeSettings, VaeTask

SIZES = SpriteSizes(vae_channels=(8, 8, 8, 8), latent_channels=4, unet_channels=(16, 16), head_width=8, text_width=16)
SETTINGS = RedrawSettings(num_worlds=3, num_frames=4, worlds_per_file=2)


@pytest.fixture
def redraw(tmp_path: Path) -> Redraw:
    """Every caption's state is the number of its shot."""
    torch.manual_seed(0)
    number = torch.arange(len(training_shots()), dtype=torch.float16)
    path = tmp_path / "captions.safetensors"
    save_file({"table": number[:, None, None, None].expand(-1, 2, 5, 16).contiguous()}, path)
    return Redraw(build_unet(SIZES), build_scheduler(), path, SETTINGS)


def test_a_network_that_knows_the_clip_makes_it_again(redraw: Redraw, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the noise; each of its frames is told its own level, of which none is above the one it began at."""
    clip, world, told_of = torch.randn(4, 4, 8, 8), random_world(1), []

    def knows(unet: object, x: torch.Tensor, told: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        assert texts.shape[:2] == (1, 4) and float(texts.unique()) == training_shots().index(world.shot(0))
        at = build_scheduler().alphas_cumprod[told[0]]
        level = Level(alpha=at.sqrt()[:, None, None], sigma=(1 - at).sqrt()[:, None, None])
        told_of.append(told[0])
        eps = (x[0] - level.alpha * clip) / level.sigma.clamp(min=1e-6)
        return (level.alpha * eps - level.sigma * clip)[None]

    monkeypatch.setattr(redraw_module, "predicted", knows)
    for seed in range(8):
        told_of.clear()
        torch.testing.assert_close(redraw.clip(clip, seed, world), clip, atol=1e-4, rtol=0)
        assert all(bool((later <= earlier).all()) for earlier, later in zip(told_of, told_of[1:], strict=False))


def test_half_of_the_clips_begin_at_one_level_and_half_rise_as_a_queue(redraw: Redraw) -> None:
    drawn = [redraw.levels(np.random.default_rng(seed)).tolist() for seed in range(200)]
    even = [levels[0] for levels in drawn if len(set(levels)) == 1]
    rising = [levels for levels in drawn if len(set(levels)) > 1]
    assert (min(even), max(even)) == SETTINGS.even and 70 < len(even) < 130
    assert {levels[0] for levels in rising} == {1} and all(levels == sorted(levels) for levels in rising)
    assert {levels[-1] for levels in rising} == set(range(SETTINGS.rising[0], SETTINGS.rising[1] + 1))


def test_files_hold_the_frames_whose_latents_are_redrawn(
    redraw: Redraw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that leaves clips as they are shows that both belong together; a decoder draws batches of them."""
    monkeypatch.setattr(Redraw, "clip", lambda self, latents, seed, world: latents)
    vae = build_vae(SIZES)
    assert not redraw_worlds(redraw, vae, tmp_path / "redraw", stop=lambda number: number > 0)
    assert redraw_worlds(redraw, vae, tmp_path / "redraw")
    redrawn = Redrawn.read(tmp_path / "redraw")
    assert len(redrawn.pixels) == len(redrawn.latents) == 3 * 4
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(encode_scaled(vae, redrawn.pixels), redrawn.latents.float(), atol=0.02, rtol=0.02)
    first = random_world(SETTINGS.first_seed)
    at = int(np.random.default_rng([SETTINGS.first_seed, 2]).integers(0, 2000))
    assert np.array_equal(redrawn.pixels[0].permute(1, 2, 0).numpy(), first.frames(at, at + 1)[0])
    settings = VaeSettings(num_frames=4, batch_size=2, decoder_only=True, redrawn=2)
    loss, told = VaeTask(vae, settings, redrawn=redrawn).loss(step_generator(0, 0))
    assert float(loss.detach()) > float(VaeTask(vae, settings).loss(step_generator(0, 0))[0].detach())
    latents, pixels = redrawn.draw(2, vae, step_generator(0, 0))
    assert latents.shape == (2, 4, 8, 8) and torch.equal(pixels, pixels.clamp(-1, 1)) and told["psnr_redrawn"] > 0
