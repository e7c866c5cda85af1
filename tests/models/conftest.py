"""Tiny models, each made once for all tests; those that change one copy it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers.models.embeddings import TimestepEmbedding
from safetensors.torch import load_file, save_file

from .tiny import TINY


def _made(factory: pytest.TempPathFactory, family: str) -> Path:
    return TINY[family](factory.mktemp("models"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ModelScope's layout."""
    return _made(tmp_path_factory, "TextToVideoSDPipeline")


@pytest.fixture(scope="session")
def latte_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latte."""
    return _made(tmp_path_factory, "LattePipeline")


@pytest.fixture(scope="session")
def sparsectrl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AnimateDiff with SparseCtrl."""
    return _made(tmp_path_factory, "AnimateDiffSparseControlNetPipeline")


@pytest.fixture(scope="session")
def animatediff_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AnimateDiff, as diffusers saves it."""
    return _made(tmp_path_factory, "UNetMotionModel")


@pytest.fixture(scope="session")
def adapter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an image model and a motion adapter."""
    return _made(tmp_path_factory, "UNet2DConditionModel")


@pytest.fixture(scope="session")
def wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wan."""
    return _made(tmp_path_factory, "WanTransformer3DModel")


@pytest.fixture(scope="session")
def ltx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LTX-Video."""
    return _made(tmp_path_factory, "LTXVideoTransformer3DModel")


@pytest.fixture(scope="session")
def zeroscope(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as ZeroScope lies on the hub: it predicts epsilon, and there is no longtake.json."""
    parts = Path(shutil.copytree(folder, tmp_path_factory.mktemp("models") / "zeroscope"))
    (parts / "longtake.json").unlink()
    config = parts / "scheduler" / "scheduler_config.json"
    epsilon = {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}
    config.write_text(json.dumps(json.loads(config.read_text()) | epsilon))
    return parts


@pytest.fixture(scope="session")
def videocrafter2_unet(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The UNet of the tiny model with an embedding of frames per second, as VideoCrafter2's lies on the hub."""
    torch.manual_seed(2)
    unet = Path(shutil.copytree(folder / "unet", tmp_path_factory.mktemp("models") / "unet"))
    tensors = load_file(unet / "diffusion_pytorch_model.safetensors")
    embedding = TimestepEmbedding(16, 64).state_dict()
    tensors |= {f"fps_embedding.{name}": tensor for name, tensor in embedding.items()}
    save_file(tensors, unet / "diffusion_pytorch_model.safetensors")
    return unet


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))
