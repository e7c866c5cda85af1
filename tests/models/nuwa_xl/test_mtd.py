"""Mask temporal diffusion: the image UNet at the start, and what each of its inputs reaches once it is trained."""

import pytest
import torch
from diffusers import UNet3DConditionModel

from longtake.errors import InputError
from longtake.models.nuwa_xl.image_unet import images_of
from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import MtdConfig
from longtake.train.sprites.unet import without_time

from .tiny import FRAMES, awake, change_per_frame, image_unet, inputs, mtd


@torch.no_grad()
def test_a_new_network_is_the_image_unet_frame_by_frame() -> None:
    """Structure test S3."""
    given, network = inputs(), mtd()
    image = network.image
    frames = [
        [image(given["x"][i : i + 1, :, j], given["timestep"][i], given["text"][i, j][None])[0] for j in range(FRAMES)]
        for i in range(2)
    ]
    alone = torch.stack([torch.stack(clip, dim=2)[0] for clip in frames])
    assert (network(**given) - alone).abs().max() <= 1e-4


@torch.no_grad()
@pytest.mark.parametrize("what", ["known", "mask", "stride"])
def test_a_new_network_is_told_nothing(what: str) -> None:
    given, network = inputs(), mtd()
    changed = given | {what: given[what] * 3 + 1}
    assert torch.equal(network(**changed), network(**given))


@torch.no_grad()
@pytest.mark.parametrize("what", ["x", "text"])
def test_frames_of_a_new_network_see_nothing_of_each_other(what: str) -> None:
    """Structure test S4: a caption, like noise, reaches its own frame only."""
    given, network = inputs(), mtd()
    changed = given | {what: given[what].clone()}
    frame = (slice(None), slice(None), 2) if what == "x" else (slice(None), 2)
    changed[what][frame] += 1
    change = change_per_frame(network(**given), network(**changed))
    assert (change[:, 2] > 0).all()
    change[:, 2] = 0
    assert (change == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("what", ["x", "text", "known", "mask", "stride", "timestep"])
def test_a_trained_network_is_told_everything_in_every_frame(what: str) -> None:
    given, network = inputs(), awake(mtd())
    changed = given | {what: given[what].clone()}
    if what in ("stride", "timestep"):
        changed[what] += 3
    else:
        changed[what][(slice(None), 2) if what in ("text", "mask") else (slice(None), slice(None), 2)] += 1
    assert (change_per_frame(network(**given), network(**changed)) > 0).all()


def test_where_the_known_frames_enter() -> None:
    """MI is every scale, SI is both ways: one block down and two up at each of 3 scales, two in the middle."""
    films = {
        (multi, both): [layers.film is not None for layers in mtd(multi_scale=multi, symmetric=both).over_time]
        for multi in (False, True)
        for both in (False, True)
    }
    assert films[True, True] == [True] * 11
    assert films[True, False] == [False] * 5 + [True] * 6
    assert films[False, True] == [True] + [False] * 8 + [True] * 2
    assert films[False, False] == [False] * 9 + [True] * 2


@torch.no_grad()
def test_fewer_frames_and_odd_sizes() -> None:
    network, given = awake(mtd()), inputs(3)
    odd = {name: given[name][..., :5] for name in ("x", "known")}
    assert network(**(given | odd)).shape == (2, 4, 3, 8, 5)


def test_every_parameter_is_trained() -> None:
    network = awake(mtd())
    network(**inputs()).square().mean().backward()
    assert [name for name, weights in network.named_parameters() if weights.grad is None] == []


@torch.no_grad()
def test_the_images_of_a_video_unet() -> None:
    torch.manual_seed(0)
    video = UNet3DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=16,
        attention_head_dim=8,
    ).eval()
    image = images_of(video)
    x, text, time = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 16), torch.tensor([5, 700])
    with without_time(video):
        theirs = video(x[:, :, None], time, text)[0][:, :, 0]
    assert (image(x, time, text)[0] - theirs).abs().max() <= 1e-6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"class_embed_type": "timestep"}, "whose class_embed_type is 'timestep'"),
        ({"down_block_types": ("CrossAttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D")}, "with an AttnDownBlock2D"),
    ],
)
def test_unets_of_another_kind(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        MaskTemporalUnet(image_unet(**changes), MtdConfig())


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(InputError, match="nothing between its ends"):
        MtdConfig(frames=2)
