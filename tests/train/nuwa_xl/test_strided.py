"""The video UNet at the strides of a tree: what it is told, what is drawn, and what comes back from its folder."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.errors import CheckpointError, InputError
from longtake.model import Strided
from longtake.models import load_model, model_spec
from longtake.models.modelscope.model import UNetModel
from longtake.train.fit.levels import LevelMixture
from longtake.train.nuwa_xl.data import SpriteStretches
from longtake.train.nuwa_xl.strided import StridedClips, StridedSettings, StridedTask
from longtake.train.sprites.assemble import assemble, assemble_sibling
from longtake.train.sprites.build import (
    SpriteSizes,
    UNet3DConditionModel,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    told_fps,
)
from longtake.train.sprites.cache import LatentClips
from longtake.train.sprites.text import train_tokenizer

SIZES = SpriteSizes(
    vae_channels=(8, 8, 8, 8), latent_channels=4, unet_channels=(16, 16), head_width=8, text_width=16, text_layers=1
)
SETTINGS = StridedSettings(
    batch_size=3,
    num_frames=4,
    drop_text=0.0,
    taught=3.0,
    sample_steps=1,
    stride_shares=(1.0, 1.0, 1.0),
    levels=LevelMixture(uniform=0, past=1),
    far_levels=LevelMixture(uniform=0, ends=1),
)
EXTRAS = {"guidance": 2.0, "clean_frames": True, "num_frames": 4, "fps": 8}
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> StridedClips:
    """Latents that are their stride; every caption's states are its shot, and after the comma its wording."""
    folder = tmp_path_factory.mktemp("cache")
    shots = torch.tensor([[0, 0, 1, 1, 2, 2], [3] * 6])
    table = torch.arange(4.0)[:, None, None, None] + torch.tensor([0, 0.25])[:, None, None] + torch.zeros(5, 16)
    save_file({"table": table, "empty": torch.full((5, 16), -1.0)}, folder / "captions.safetensors")
    latents = torch.ones(2, 6, 4, 8, 8)
    save_file({"latents": latents, "shots": shots}, folder / "worlds_0.safetensors")
    far = {f"latents_{stride}": stride * latents for stride in (9, 3)} | {"shots_9": shots, "shots_3": shots.clone()}
    save_file(far, folder / "stretches_0.safetensors")
    near = LatentClips(folder, folder / "captions.safetensors")
    return StridedClips(near, SpriteStretches(folder, folder / "captions.safetensors", (9, 3)), (1.0, 1.0, 1.0))


@pytest.fixture
def task(clips: StridedClips) -> StridedTask:
    torch.manual_seed(0)
    return StridedTask(
        build_unet(SIZES), told_fps(build_unet(SIZES)), build_scheduler(), build_vae(SIZES), clips, SETTINGS
    )


def test_clips_of_all_strides_come_with_the_text_of_every_frame(clips: StridedClips) -> None:
    drawn = clips.draw(60, 4, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.stride.float(), drawn.latents[:, 0, 0, 0, 0])
    assert torch.bincount(drawn.stride)[[1, 3, 9]].min() > 10
    assert torch.equal(drawn.stride[drawn.stride > 1].sort(descending=True).values, drawn.stride[drawn.stride > 1])
    assert torch.equal(drawn.texts[..., 0, 0].floor(), drawn.plain[..., 0, 0])
    alone = replace(SETTINGS, stride_shares=(0.0, 0.0, 1.0)).stride_shares
    assert set(StridedClips(clips.near, clips.far, alone).draw(9, 4, 0.0, torch.Generator()).stride.tolist()) == {1}


def test_levels_go_by_stride_and_known_ends_are_not_guided_at_stride_1(task: StridedTask) -> None:
    drawn = task.clips.draw(30, 4, 0.0, torch.Generator().manual_seed(0))
    _, clean = task.draw_levels(SETTINGS.levels, drawn, torch.Generator().manual_seed(0))
    far = drawn.stride > 1
    assert clean[far][:, [0, 3]].all() and not clean[far][:, 1:3].any()
    assert clean[~far][:, 0].all() and not clean[~far][:, 3].any()
    x, told = torch.randn(30, 4, 4, 8, 8), torch.full((30, 4), 300)
    ends = torch.tensor([True, False, False, True]).expand(30, 4)
    adds = task.guided(x, told, ends, drawn).abs().amax(dim=(1, 2, 3, 4))
    assert (adds[far] > 0).all() and not adds[~far].any() and task.guided(x, told, clean, drawn)[~far].abs().max() > 0


def test_what_is_new_says_nothing_until_it_is_trained(task: StridedTask) -> None:
    drawn = task.clips.draw(2, 4, 0.0, torch.Generator().manual_seed(0))
    x, told = torch.randn(2, 4, 4, 8, 8), torch.full((2, 4), 300)

    def said(stride: int) -> torch.Tensor:
        with torch.no_grad():
            return task.predict(x, told, drawn.texts, torch.full((2,), stride))

    assert torch.equal(said(1), said(9))
    torch.nn.init.normal_(task.network.fps_embedding.linear_2.weight)
    assert (said(1) - said(9)).abs().max() > 1e-3
    assert task.sample().shape == (3, 6 * 2 * 64, 2 * 2 * 64)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights as the stage leaves them, and the folder in which the package would hold them."""
    folder = tmp_path_factory.mktemp("strided")
    torch.manual_seed(0)
    tokenizer = train_tokenizer(("a cat rests", "a rocket flies"), max_length=5)
    tokenizer.save_pretrained(folder / "tokenizer")
    build_text_encoder(SIZES, len(tokenizer), 5, tokenizer.eos_token_id).save_pretrained(folder / "text_encoder")
    build_vae(SIZES).save_pretrained(folder / "vae")
    network = told_fps(build_unet(SIZES))
    torch.nn.init.normal_(network.fps_embedding.linear_2.weight, std=0.3)
    network.save_pretrained(folder / "unet")
    assemble(folder, folder / "vae", folder / "unet", EXTRAS, folder / "whole")
    assemble_sibling(folder / "unet", {**EXTRAS, "strides": (9, 3, 1)}, folder / "whole", folder / "told")
    return folder


def test_the_model_tells_its_network_what_training_did(trained: Path, clips: StridedClips) -> None:
    """At every stride the same as the network with its layers in training; at 1 also what the library makes of it."""
    model = load_model(str(trained / "told"), dtype=torch.float32)
    assert isinstance(model, UNetModel) and Strided in model.spec.capabilities and model.spec.strides == (9, 3, 1)
    network = told_fps(UNet3DConditionModel.from_pretrained(trained / "unet"), trained / "unet")
    task = StridedTask(network, network, build_scheduler(), build_vae(SIZES), clips, SETTINGS)
    schedule, condition = model.schedule(4), model.encode(["a cat rests"])
    x, level, index = torch.randn(1, 4, 4, 8, 8), torch.tensor([3]), torch.zeros(1, 4, dtype=torch.long)
    texts, told = model.text_states(["a cat rests"])[:, None].expand(1, 4, 5, 16), schedule.timestep[level][:, None]
    found = {}
    for stride in (9, 3, 1):
        with model.strided(stride):
            found[stride] = model.denoise(x, level, schedule, condition, index)
        with torch.no_grad():
            said = task.predict(x, told.expand(1, 4), texts, torch.tensor([stride]))
        expected = model.x0(said, x, level[:, None].expand(1, 4), schedule)
        torch.testing.assert_close(found[stride], expected, atol=2e-2, rtol=2e-2)
    assert torch.equal(found[1], model.denoise(x, level, schedule, condition, index))
    assert (found[9] - found[3]).abs().max() > 0.05 < (found[3] - found[1]).abs().max()
    plain = UNet3DConditionModel.from_pretrained(trained / "told" / "unet", torch_dtype=torch.float32)
    with torch.no_grad():
        said = plain(x, told[0, 0], texts[:, 0]).sample
    torch.testing.assert_close(model.x0(said, x, level[:, None].expand(1, 4), schedule), found[1], atol=1e-4, rtol=1e-4)


def test_strides_are_said_where_the_network_can_be_told(trained: Path, tmp_path: Path) -> None:
    def refused(extras: dict[str, object], unet: str, kind: type[Exception], words: str) -> None:
        folder = trained / f"bad-{len(list(trained.iterdir()))}"
        assemble_sibling(trained / "unet", EXTRAS, trained / "whole", folder)
        (folder / UNET).write_bytes((trained / unet / UNET).read_bytes())
        content = json.loads((folder / "longtake.json").read_text())
        (folder / "longtake.json").write_text(json.dumps({**content, **extras}))
        with pytest.raises(kind, match=words):
            model_spec(str(folder))

    refused({"strides": [3, 1]}, "whole", InputError, "strides of longtake.json has no effect")
    refused({"strides": [3, 1], "clean_frames": False}, "told", CheckpointError, "no effect without clean_frames")
    refused({}, "told", InputError, "must be told")
    for strides in ([], [15], [1, 15], [15, 15, 1]):
        refused({"strides": strides}, "told", CheckpointError, "strides must fall to 1")
    assert "fps_embedding.linear_1.weight" in load_file(trained / "told" / UNET)
