"""NUWA-XL as a model: what is known of each frame, strides, folders, and the model that parts are shared with."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake._generate import stream
from longtake.errors import CapabilityError, CheckpointError, InputError, LongtakeError, NonFiniteError
from longtake.model import Continuation, Infill, Known, Strided
from longtake.models import load_model, model_spec
from longtake.models.nuwa_xl.load import (
    count_flops,
    from_image_unet,
    from_video_unet,
    load_unet,
    save_index,
    save_temporal_autoencoder,
    save_unet,
)
from longtake.models.nuwa_xl.t_klvae import TemporalAutoencoder
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.samplers.planning import checked_plan
from longtake.train.nuwa_xl.start import read_start

from .tiny import FRAMES, awake, image_unet, mtd

SHAPE = (2, 4, FRAMES, 8, 8)


@pytest.fixture(scope="module")
def nuwa(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a UNet of its own, beside the model it shares the rest with; tests that change it copy both."""
    root = tmp_path_factory.mktemp("nuwa")
    shutil.copytree(folder, root / "tiny")
    save_unet(root / "nuwa" / "unet", awake(mtd()), torch.float32)
    save_index(root / "nuwa", {"guidance": 2.0, "shared": "../tiny"})
    return root / "nuwa"


def copied(nuwa: Path, place: Path) -> Path:
    return Path(shutil.copytree(nuwa.parent, place / "copy")) / "nuwa"


def call(model: Any, method: str, *known: Known, frames: int = FRAMES, stride: int = 1) -> torch.Tensor:
    torch.manual_seed(5)
    x, schedule = torch.randn(2, 4, frames, 8, 8), model.schedule(10)
    condition, index = model.encode(["", "abc", "xyz"]), torch.tensor([[1] * (frames - 1) + [2]] * 2)
    with model.strided(stride):
        return getattr(model, method)(x, torch.tensor([10, 4]), schedule, condition, index, *known)


def ends(first: torch.Tensor, last: torch.Tensor) -> Known:
    return Known(latents=torch.stack([first, last], dim=2), places=(0, FRAMES - 1))


def test_what_is_known_before_loading(nuwa: Path) -> None:
    spec = model_spec(str(nuwa))
    assert (spec.num_frames, spec.height, spec.width, spec.guidance) == (FRAMES, 16, 16, 2.0)
    assert spec.latent_shape == SHAPE[1:]
    assert spec.capabilities == {Infill, Continuation, Strided} and spec.strides == (225, 15, 1)


def test_each_capability_knows_its_frames(nuwa: Path) -> None:
    model = load_model(str(nuwa))
    torch.manual_seed(6)
    one, other = torch.randn(2, 2, 4, 8, 8)
    free = call(model, "denoise")
    filled = call(model, "denoise_between", ends(one, other))
    assert free.shape == filled.shape == SHAPE
    assert not torch.allclose(free, filled)
    for changed in (ends(one + 1, other), ends(one, other + 1)):
        assert not torch.allclose(filled, call(model, "denoise_between", changed))
    start = Known(latents=torch.stack([one, other], dim=2))
    after = call(model, "denoise_after", start, frames=FRAMES - 2)
    assert after.shape == (2, 4, FRAMES - 2, 8, 8)
    assert torch.equal(after, call(model, "denoise_after", start, frames=FRAMES - 2))


def test_a_known_start_is_what_continuation_shows_the_network(nuwa: Path) -> None:
    """At the cleanest level the known frames go in nearly as they are, with mask and clean values."""
    model: Any = load_model(str(nuwa))
    torch.manual_seed(7)
    seen: dict[str, torch.Tensor] = {}

    def watch(module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.update(zip(("x", "time", "text", "known", "mask", "stride"), inputs, strict=True))

    previous = torch.randn(2, 4, 2, 8, 8)
    with model.pipeline.unet.register_forward_pre_hook(watch):
        call(model, "denoise_after", Known(latents=previous), frames=FRAMES - 2, stride=9)
    assert torch.equal(seen["known"][:, :, :2], previous) and not seen["known"][:, :, 2:].any()
    assert seen["mask"].tolist() == [[1, 1, 0, 0, 0]] * 2 and seen["stride"].tolist() == [9, 9]
    assert seen["text"].shape[:2] == (2, FRAMES)
    noise = seen["x"][:, :, :2] - previous * model.schedule(10).now(torch.tensor([10, 4])).alpha.float().view(
        2, 1, 1, 1, 1
    )
    # At the highest level there is nothing but noise.
    assert 0.8 < noise[0].std() < 1.2 and noise[1].std() < noise[0].std()


def test_strides_hold_inside_their_context(nuwa: Path) -> None:
    model = load_model(str(nuwa))
    near, far = call(model, "denoise"), call(model, "denoise", stride=225)
    assert not torch.allclose(near, far)
    assert torch.equal(near, call(model, "denoise"))


def test_frames_without_time_in_the_latents(nuwa: Path) -> None:
    model = load_model(str(nuwa))
    frames = torch.rand(3, 3, 16, 16)
    latents = model.encode_frames(frames)
    assert latents.shape == (4, 3, 8, 8)
    assert model.decode(latents, None, last=True)[0].shape == frames.shape
    assert torch.allclose(model.encode_frames(frames[1:2])[:, 0], latents[:, 1], atol=1e-5)


def test_weights_there_and_back(nuwa: Path, tmp_path: Path) -> None:
    network = awake(mtd(multi_scale=False))
    save_unet(tmp_path / "unet", network, torch.float32)
    loaded = load_unet(tmp_path / "unet")
    assert loaded.config == network.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())
    assert count_flops(loaded, tokens=12) > 1_000_000


def test_starts_from_folders_of_image_and_video_unets(folder: Path, tmp_path: Path) -> None:
    image_unet().save_pretrained(tmp_path)
    config = mtd().config
    for network in (from_image_unet(tmp_path, config), from_video_unet(folder / "unet", config)):
        assert all(weights.requires_grad for weights in network.parameters())


def test_bfloat16(nuwa: Path) -> None:
    exact, rough = (call(load_model(str(nuwa), dtype=dtype), "denoise") for dtype in (torch.float32, torch.bfloat16))
    assert rough.dtype == torch.float32
    assert (exact - rough).norm() <= 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("unet/config.json", {"frames": "5"}, "unet/config.json: frames is"),
        ("unet/config.json", {"frames": 2}, "nothing between its ends"),
        ("unet/config.json", {"strides": [1, "2"]}, "strides.1 is"),
        ("unet/config.json", {"strides": []}, "strides cannot be"),
        ("unet/config.json", {"surprise": 1}, "no field 'surprise'"),
        ("unet/config.json", {"image": None}, "no config of a MaskTemporalUnet"),
        ("unet/config.json", {"image": {}}, "sample_size is missing"),
        ("unet/config.json", {"_class_name": "Other"}, "is an Other"),
        ("unet/config.json", {"image": {"sample_size": 8, "in_channels": 3}}, "made for other latents"),
        ("longtake.json", {"clean_frames": True}, "clean_frames has no effect"),
        ("longtake.json", {"shared": "../../tiny"}, "leads out of the folder"),
        ("longtake.json", {"shared": None}, "vae is missing"),
    ],
)
def test_folders_that_cannot_be(file: str, changes: dict[str, Any], reason: str, nuwa: Path, tmp_path: Path) -> None:
    broken = copied(nuwa, tmp_path) / file
    broken.write_text(json.dumps(json.loads(broken.read_text()) | changes))
    with pytest.raises(LongtakeError, match=reason) as raised:
        model_spec(str(broken.parent if file == "longtake.json" else broken.parents[1]))
    assert "\n" not in str(raised.value)


def test_weights_of_another_network(nuwa: Path, tmp_path: Path) -> None:
    broken = copied(nuwa, tmp_path)
    save_file({"first.weight": torch.zeros(1)}, broken / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(CheckpointError, match="unet holds first.weight, which its network does not have"):
        load_model(str(broken))


def test_weights_that_are_not_finite_are_refused(nuwa: Path, tmp_path: Path) -> None:
    broken = copied(nuwa, tmp_path)
    file = broken / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[0] = float("inf")
    save_file(tensors, file)
    with pytest.raises(NonFiniteError, match=rf"unet: {name} is not finite"):
        load_model(str(broken))


def with_over_time(nuwa: Path, place: Path, network: TemporalAutoencoder | None = None) -> Path:
    """A copy of the model with a T-KLVAE, whose image part is the model's own."""
    model = copied(nuwa, place)
    vae = load_model(str(nuwa)).pipeline.vae  # pyright: ignore[reportAttributeAccessIssue]
    save_temporal_autoencoder(model, awake(network or TemporalAutoencoder(vae, FRAMES)))
    save_index(model, json.loads((model / "longtake.json").read_text()))
    return model


def test_t_klvae_decodes_and_encodes(nuwa: Path, tmp_path: Path) -> None:
    plain, joint = load_model(str(nuwa)), load_model(str(with_over_time(nuwa, tmp_path)))
    assert joint.spec.clip_decoder and not joint.spec.decodes_apart and joint.digest != plain.digest
    torch.manual_seed(7)
    latents, changed = torch.randn(2, 4, FRAMES, 8, 8)
    changed[:, 1:] = latents[:, 1:]
    frames, other = (joint.decode(one, None, last=True)[0] for one in (latents, changed))
    assert frames.shape == plain.decode(latents, None, last=True)[0].shape
    assert ((frames - other).abs().amax(dim=(1, 2, 3)) > 0).all()
    assert (joint.encode_frames(frames) - plain.encode_frames(frames)).abs().max() > 1e-3


def test_a_video_is_another_one_with_t_klvae_and_its_part_is_the_slice(nuwa: Path, tmp_path: Path) -> None:
    request = Request(prompts=PromptTimeline.constant("abc"), frames=17, steps=2, seed=1)
    joint = load_model(str(with_over_time(nuwa, tmp_path)))
    plain, made = (np.concatenate([*stream(one, request, NuwaXl())]) for one in (load_model(str(nuwa)), joint))
    assert made.shape == plain.shape and not np.array_equal(made, plain)
    small = checked_plan(joint.spec, request, NuwaXl(), (3, 9))
    part = [chunk.frames for chunk in run_plan(joint, small, seeded_noise(1), ALONE)]
    assert np.array_equal(np.concatenate(part), made[3:9])
    with pytest.raises(CapabilityError, match="decodes whole calls"):
        checked_plan(joint.spec, request, Chunked())


def test_a_t_klvae_without_effect_is_refused(nuwa: Path, tmp_path: Path) -> None:
    model = with_over_time(nuwa, tmp_path)
    with pytest.raises(InputError, match="without T-KLVAE"):
        read_start(str(model))
    config = model / "vae_over_time" / "config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps(told | {"frames": FRAMES - 1}))
    with pytest.raises(CheckpointError, match=f"frames cannot be {FRAMES - 1}"):
        model_spec(str(model))
    config.write_text(json.dumps(told | {"image": told["image"] | {"latent_channels": 9}}))
    with pytest.raises(CheckpointError, match="another image autoencoder"):
        model_spec(str(model))
    config.write_text(json.dumps(told))
    index = json.loads((model / "model_index.json").read_text())
    del index["vae_over_time"]
    (model / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="vae_over_time has no effect"):
        model_spec(str(model))
