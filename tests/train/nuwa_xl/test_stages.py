"""Training NUWA-XL on one's own episodes: what is predicted, what captions are cut to, what is copied."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.models.nuwa_xl.image_unet import images_of
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import MtdConfig
from longtake.train.nuwa_xl.data import SpanSource
from longtake.train.nuwa_xl.settings import MtdSettings
from longtake.train.nuwa_xl.stages import Words, copy_part
from longtake.train.nuwa_xl.start import Start
from longtake.train.nuwa_xl.unet import MtdTask
from longtake.train.sprites.build import SpriteSizes, build_scheduler, build_text_encoder, build_unet, build_vae
from longtake.train.sprites.cache import Drawn
from longtake.train.sprites.text import end_of_text, train_tokenizer

SIZES = SpriteSizes(vae_channels=(8, 8, 8, 8), latent_channels=4, unet_channels=(16, 16), head_width=8, text_width=16)
CONFIG = MtdConfig(frames=3, condition_channels=4, strides=(2, 1))


class LargeLatents(SpanSource):
    """Clips that are all far from zero."""

    strides = CONFIG.strides
    empty = torch.zeros(5, 16)

    def draw(self, levels, num_frames: int, generator: torch.Generator) -> Drawn:
        latents = torch.full((len(levels), 4, num_frames, 8, 8), 10.0)
        text = torch.zeros(len(levels), num_frames, 5, 16)
        return Drawn(
            latents=latents, texts=text, plain=text, stride=torch.tensor([self.strides[level] for level in levels])
        )


def task(prediction) -> MtdTask:
    torch.manual_seed(0)
    network = MaskTemporalUnet(images_of(build_unet(SIZES)), CONFIG)
    settings = MtdSettings(batch_size=2, continued_frames=(1,), sample_steps=3)
    # Some signal is left at the last level, as a network that predicts noise needs it.
    levels = torch.linspace(0.999, 0.01, 20).double()
    return MtdTask(network, levels, build_vae(SIZES), LargeLatents(), settings, prediction)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_network_finds_the_clips(prediction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = task(prediction)

    def perfect(x: Tensor, timestep: Tensor, *_: Tensor) -> Tensor:
        alpha, sigma = made._coefficients(timestep)
        noise = (x - alpha * 10) / sigma
        return noise if prediction == "epsilon" else alpha * noise - sigma * 10

    monkeypatch.setattr(made, "_predict", perfect)
    loss, _ = made.loss(torch.Generator().manual_seed(0))
    assert float(loss) < 1e-6
    clips = LargeLatents().draw([0, 1], 3, torch.Generator())
    assert torch.allclose(made._denoised(clips, torch.zeros(2, 3)), clips.latents, atol=1e-3)


def text_parts(folder: Path) -> Start:
    tokenizer = train_tokenizer(["a red car", "a blue car"], 5)
    tokenizer.save_pretrained(folder / "tokenizer")
    build_text_encoder(SIZES, len(tokenizer), 5, end_of_text(tokenizer)).save_pretrained(folder / "text_encoder")
    parts = {name: folder / name for name in ("tokenizer", "text_encoder")}
    return Start(pipeline="", folder=folder, parts=parts, size=64, cell=16, reduction=8, config=None)


def test_captions_that_are_cut_to_the_same_are_reported(tmp_path: Path) -> None:
    words = Words(text_parts(tmp_path), torch.device("cpu"))
    assert words.notes(["a red car", "a blue car"]) == ["captions: 2 different ones"]
    told = "3 different ones; 2 are longer than the 5 tokens that the text encoder reads, after which only 2 differ"
    assert told in words.notes(["a car", "a red car car", "a red car a car"])[0]
    states = words.embed(["a red car", "a blue car", "a red car a car", "a red car car"])
    assert states.shape == (4, 5, 16) and not torch.allclose(states[0], states[1])
    assert torch.equal(states[2], states[3])


def test_only_what_is_loaded_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "vae"
    build_vae(SIZES).save_pretrained(source)
    for name in ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors", "photo.png"):
        (source / name).touch()
    copy_part(source, tmp_path / "copy" / "vae")
    build_scheduler().save_pretrained(tmp_path / "scheduler")
    copy_part(tmp_path / "scheduler", tmp_path / "copy" / "scheduler")
    copied = sorted(str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*.*"))
    assert copied == ["scheduler/scheduler_config.json", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
