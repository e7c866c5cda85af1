"""Tiny networks with random weights."""

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from longtake.models.nuwa_xl.mtd import MaskTemporalUnet
from longtake.models.nuwa_xl.spec import MtdConfig

FRAMES = 5


def image_unet(**changes: Any) -> UNet2DConditionModel:
    """A UNet as Stable Diffusion's, small; 3 scales, so that there is one between the finest and the coarsest."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (8, 16, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 16,
        "attention_head_dim": 2,
    }
    return UNet2DConditionModel(**(settings | changes)).eval()


def mtd(**changes: Any) -> MaskTemporalUnet:
    """A new network over `image_unet`."""
    config = MtdConfig(**({"frames": FRAMES, "condition_channels": 4} | changes))
    return MaskTemporalUnet(image_unet(), config).eval()


def awake(network: Any) -> Any:
    """Return the network, in which what starts without effect has one."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if not name.startswith("image."):
                weights += 0.2 * torch.randn(weights.shape)
    return network


def inputs(num_frames: int = FRAMES) -> dict[str, Tensor]:
    """Two clips: of one nothing is known, of the other both ends."""
    generator = torch.Generator().manual_seed(2)
    x, known = torch.randn(2, 2, 4, num_frames, 8, 8, generator=generator)
    mask = torch.zeros(2, num_frames)
    mask[1, 0] = mask[1, -1] = 1
    return {
        "x": x,
        "timestep": torch.tensor([900, 40]),
        "text": torch.randn(2, num_frames, 3, 16, generator=generator),
        "known": known * mask[:, None, :, None, None],
        "mask": mask,
        "stride": torch.tensor([16, 1]),
    }


def image_vae() -> AutoencoderKL:
    """An autoencoder with attention in the middle, as Stable Diffusion's."""
    torch.manual_seed(3)
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (8, 16),
    }
    return AutoencoderKL(**blocks, latent_channels=4, norm_num_groups=4, sample_size=16).eval()


def change_per_frame(before: Tensor, after: Tensor) -> Tensor:
    """Return the largest change of every frame, (clips, frames)."""
    return (after - before).abs().amax(dim=(1, 3, 4))


def has_parameters(network: nn.Module, part: str) -> list[str]:
    """Return the names of parameters with `part` in them."""
    return [name for name, _ in network.named_parameters() if part in name]
