"""The measures of NUWA-XL's ablations where the answer is known, and that a broken-off run goes on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lab.ablation import nuwa_xl as recipe
from lab.ablation import nuwa_xl_figures as figures
from longtake.train.nuwa_xl.data import SpriteStretches
from longtake.train.nuwa_xl.unet import level_mask
from longtake.train.sprites.build import SpriteSizes, build_vae
from longtake.train.sprites.cache import Drawn

SIZES = SpriteSizes(vae_channels=(8, 8, 8, 8), latent_channels=4)
ALPHAS_CUMPROD = torch.linspace(0.999, 0.01, 1000, dtype=torch.float64)


class Knowing:
    """Predicts v of clips that it knows; remembers what it was told of the known frames."""

    def __init__(self, clean: torch.Tensor) -> None:
        self.clean, self.told = clean, []

    def __call__(self, x: torch.Tensor, timestep: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        text, known, mask, stride = others
        assert len(x) == len(text) == len(known) == len(mask) == len(stride)
        self.told.append(known)
        bar = ALPHAS_CUMPROD[timestep][:, None, None, None, None].float()
        return (bar.sqrt() * x - self.clean) / (1 - bar).sqrt()


@pytest.fixture
def clips() -> Drawn:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 4, 5, 2, 2, generator=generator)
    text = torch.zeros(3, 5, 2, 6)
    return Drawn(latents=latents, texts=text, plain=text, stride=torch.full((3,), 15))


def test_a_network_that_knows_all_has_no_loss_and_infills_exactly(clips: Drawn) -> None:
    network: Any = Knowing(clips.latents)
    assert figures.validation_loss(network, ALPHAS_CUMPROD, clips, level_mask(1, 5)) < 1e-6
    made = figures.infill(network, ALPHAS_CUMPROD, clips, clips.latents)
    assert torch.allclose(made, clips.latents, atol=1e-3)


def test_the_loss_is_the_squared_error_of_v(clips: Drawn) -> None:
    network: Any = Knowing(clips.latents)

    def off(*inputs: torch.Tensor) -> torch.Tensor:
        return network(*inputs) + 0.5

    wrong: Any = off
    assert figures.validation_loss(wrong, ALPHAS_CUMPROD, clips, level_mask(1, 5)) == pytest.approx(0.25, abs=1e-4)


def test_infill_tells_of_the_ends_it_is_given_and_of_no_other_frame(clips: Drawn) -> None:
    network, strange = Knowing(clips.latents), clips.latents.roll(1, dims=0)
    told: Any = network
    figures.infill(told, ALPHAS_CUMPROD, clips, strange)
    assert len(network.told) == figures.SAMPLE_STEPS
    for known in network.told:
        assert torch.equal(known[:, :, [0, -1]], strange[:, :, [0, -1]])
        assert not known[:, :, 1:-1].any()


def test_a_blend_keeps_the_ends_and_is_half_of_both_in_the_middle() -> None:
    clips = np.zeros((1, 5, 2, 2, 3), np.uint8)
    clips[:, -1], clips[:, 2] = 200, 77
    blend = figures.blended(clips)
    assert [int(frame.max()) for frame in blend[0]] == [0, 50, 100, 150, 200]


def test_psnr_is_of_the_frames_asked_for() -> None:
    clips = np.full((2, 5, 4, 4, 3), 100, np.uint8)
    made = clips.copy()
    made[:, 1:-1] += 51
    assert figures.mean_psnr(clips, made, [0, -1]) == 100
    assert figures.mean_psnr(clips, made, slice(1, -1)) == pytest.approx(20 * np.log10(5))


def test_flicker_counts_still_pixels_alone() -> None:
    """The left half stands still and flickers by 6 in what was made; the right half moves in both."""
    clips = np.zeros((1, 4, 2, 4, 3), np.uint8)
    clips[:, 1::2, :, 2:] = 90
    made = clips.copy()
    made[:, 1::2, :, :2] = 6
    made[:, :, :, 2:] = 0
    assert figures.still_flicker(clips, made) == pytest.approx(6)
    assert figures.still_flicker(clips, clips) == 0


def test_a_mean_stands_with_its_least_and_most() -> None:
    results = {"MI": {"0": {"loss": 1.0}, "1": {"loss": 2.0}, "2": {"loss": 6.0}}}
    assert recipe.spread(results) == {"MI": {"loss": [3.0, 1.0, 6.0]}}


def test_what_is_measured_is_kept_and_a_stopped_job_comes_again(tmp_path: Path) -> None:
    path, asked, stopped = tmp_path / "results.json", [], {("b", 0)}

    def job(name: str, seed: int) -> figures.Figures | None:
        asked.append((name, seed))
        return None if (name, seed) in stopped else {"value": float(seed)}

    def jobs() -> Any:
        return {(name, seed): lambda n=name, s=seed: job(n, s) for seed in range(2) for name in "ab"}

    assert recipe.collect(path, jobs()) == {"a": {"0": {"value": 0.0}}}
    stopped.clear()
    whole = recipe.collect(path, jobs())
    assert whole == {name: {str(seed): {"value": float(seed)} for seed in range(2)} for name in "ab"}
    assert asked == [("a", 0), ("b", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert recipe.collect(path, jobs()) == whole and len(asked) == 5


def test_the_last_file_of_worlds_is_held_out(tmp_path: Path) -> None:
    stretches = tmp_path / "stretches"
    stretches.mkdir()
    for number in range(3):
        latents, shots = torch.full((2, 6, 4, 2, 2), number), torch.full((2, 6), number)
        save_file({"latents_15": latents, "shots_15": shots}, stretches / f"stretches_{number:06d}.safetensors")
    table = torch.arange(3.0)[:, None, None, None].expand(3, 16, 2, 6).contiguous()
    save_file({"table": table, "empty": torch.zeros(2, 6)}, tmp_path / "captions.safetensors")
    for _ in range(2):
        places = recipe.split(stretches, tmp_path / "ablation")
    train, held = (SpriteStretches(place, tmp_path / "captions.safetensors", (15,)) for place in places)
    assert train.latents[0].unique().tolist() == [0, 1] and held.latents[0].unique().tolist() == [2]
    clips = figures.held_clips(held, 0, 5, count=2)
    assert clips.latents.shape == (2, 4, 5, 2, 2) and clips.texts.unique().tolist() == [2]
    assert clips.stride.tolist() == [15, 15]


def test_the_three_autoencoders_differ_in_their_layers_over_time() -> None:
    pixels = torch.rand(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = {}
    for kind in recipe.AUTOENCODERS:
        torch.manual_seed(0)
        network = recipe.autoencoder(kind, build_vae(SIZES), num_frames=3)
        over_time = list(network.over_time.parameters())
        assert all(one.requires_grad == (kind != "KLVAE") for one in over_time)
        assert all(one.requires_grad for one in network.image.parameters())
        with torch.no_grad():
            found[kind] = network.encode(pixels).mean
            if kind != "T-KLVAE-R":
                alone = network.image.encode(pixels[0].transpose(0, 1), return_dict=False)[0].mean
                assert torch.allclose(found[kind], alone, atol=1e-5)
    assert torch.equal(found["KLVAE"], found["T-KLVAE"])
    assert not torch.allclose(found["KLVAE"], found["T-KLVAE-R"], atol=1e-2)


def test_the_conditions_are_the_papers() -> None:
    told = {name: (config.multi_scale, config.symmetric) for name, config in recipe.CONDITIONS.items()}
    assert told == {"neither": (False, False), "MI": (True, False), "MI + SI": (True, True)}
