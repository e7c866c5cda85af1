"""The embedded model's networks at tiny sizes: what training relies on and what the hub's pipeline loads."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import TextToVideoSDPipeline
from transformers import CLIPTokenizer

from longtake.models.hooks import GivenEmbedding, swapped
from longtake.train.sprites.assemble import assemble, assemble_sibling
from longtake.train.sprites.build import (
    SpriteSizes,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    temporal_transformers,
)
from longtake.train.sprites.text import train_tokenizer
from longtake.train.sprites.unet import without_time

SIZES = SpriteSizes(
    picture=16,
    vae_channels=(8, 8),
    latent_channels=4,
    unet_channels=(16, 24),
    head_width=8,
    text_width=16,
    text_layers=1,
)
CAPTIONS = ("a rocket flies up", "the cat rests", "a cat flies through the night sky")
EXTRAS = {"guidance": 2.0, "clean_frames": True, "vocabulary": ("rocket", "cat"), "num_frames": 4, "fps": 8}


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return train_tokenizer(CAPTIONS, max_length=12)


@pytest.fixture(scope="module")
def folder(tokenizer: CLIPTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny random parts, assembled."""
    parts, folder = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("weights") / "tiny"
    torch.manual_seed(0)
    tokenizer.save_pretrained(parts / "tokenizer")
    build_text_encoder(SIZES, len(tokenizer), 12, tokenizer.eos_token_id).save_pretrained(parts / "text_encoder")
    build_vae(SIZES).save_pretrained(parts / "vae")
    build_unet(SIZES).save_pretrained(parts / "unet")
    assemble(parts, parts / "vae", parts / "unet", EXTRAS, folder)
    assemble_sibling(parts / "unet", EXTRAS, folder, folder.parent / "sibling")
    return folder


def inputs(num_frames: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, 4, num_frames, 8, 8), torch.tensor([300, 700]), torch.randn(2, 12, 16)


def test_time_layers_start_as_the_identity() -> None:
    unet = build_unet(SIZES).eval()
    x, timestep, text = inputs()
    with torch.no_grad():
        clip = unet(x, timestep, text).sample
        with without_time(unet):
            pictures = unet(x, timestep, text).sample
        again = unet(x, timestep, text).sample
    torch.testing.assert_close(clip, pictures, atol=1e-6, rtol=0)
    assert torch.equal(clip, again), "the layers over time are back"


def test_time_layers_are_skipped_and_learn() -> None:
    unet = build_unet(SIZES).eval()
    x, timestep, text = inputs()
    with without_time(unet):
        unet(x, timestep, text).sample.square().mean().backward()
    outputs = [layer.proj_out.weight for layer in temporal_transformers(unet)]
    assert len(outputs) > 3 and all(weight.grad is None for weight in outputs)
    unet(x, timestep, text).sample.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in outputs)


def test_equal_levels_per_frame_are_the_stock_forward() -> None:
    unet = build_unet(SIZES).eval()
    x, timestep, text = inputs()
    with torch.no_grad():
        stock = unet(x, timestep, text).sample
        embedding = unet.time_embedding(unet.time_proj(timestep.repeat_interleave(4)))
        with swapped(unet, "time_embedding", GivenEmbedding(embedding)):
            per_frame = unet(x, timestep, text).sample
    torch.testing.assert_close(stock, per_frame, atol=1e-6, rtol=0)


def test_known_words_are_one_token_and_unknown_ones_survive(tokenizer: CLIPTokenizer) -> None:
    assert tokenizer.tokenize("The cat  flies UP") == ["the</w>", "cat</w>", "flies</w>", "up</w>"]
    ids = tokenizer("a zebra rests").input_ids
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a zebra rests"


def test_hub_pipeline_loads_and_samples(folder: Path) -> None:
    pipeline = TextToVideoSDPipeline.from_pretrained(folder)
    assert pipeline.text_encoder.dtype == pipeline.unet.dtype == torch.float32
    pipeline.set_progress_bar_config(disable=True)
    video = pipeline("a cat rests", num_frames=4, height=16, width=16, num_inference_steps=2, output_type="pt").frames
    assert video.shape == (1, 4, 3, 16, 16) and bool(video.isfinite().all())


def test_folder_is_half_precision_and_small(folder: Path) -> None:
    parameters = sum(p.numel() for build in (build_vae, build_unet) for p in build(SIZES).parameters())
    size = sum((folder / part / "diffusion_pytorch_model.safetensors").stat().st_size for part in ("unet", "vae"))
    assert size < 2 * parameters + 100_000
    assert (folder / "tokenizer" / "vocab.json").exists() and (folder / "tokenizer" / "merges.txt").exists()
    assert json.loads((folder / "text_encoder" / "config.json").read_text())["dtype"] == "float32"


def test_sibling_names_the_folder_it_shares(folder: Path) -> None:
    sibling = folder.parent / "sibling"
    extras = json.loads((sibling / "longtake.json").read_text())
    assert extras["shared"] == "../tiny" and extras["forward_flops"] > extras["decode_flops"] > 0
    assert {path.name for path in sibling.iterdir()} == {"unet", "longtake.json", "model_index.json"}


def test_schedule_ends_in_pure_noise() -> None:
    assert build_scheduler().alphas_cumprod[-1] == 0
