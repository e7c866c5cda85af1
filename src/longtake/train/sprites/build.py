"""The embedded model's networks, all plain diffusers and transformers classes, built from their sizes."""

from dataclasses import dataclass
from typing import Any, Literal

from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

Predicted = Literal["v_prediction", "sample"]


@dataclass(frozen=True, kw_only=True)
class SpriteSizes:
    """Sizes of the networks; the defaults are those of the weights in the package."""

    latent_channels: int = 16
    """Channels of the latents."""
    text_width: int = 96
    """Width of the text encoder."""
    picture: int = 64
    """Pixels per side."""
    vae_channels: tuple[int, ...] = (24, 48, 96, 128)
    """Widths of the picture autoencoder; every step but the last halves the sides."""
    unet_channels: tuple[int, int] = (64, 112)
    """Widths of the denoiser at full and at half the latents' size."""
    head_width: int = 16
    """Channels of one attention head of the denoiser."""
    cell: int = 1
    """Side of the square of latents that the denoiser takes as one, channels of which are those of all its latents."""
    predicts: Predicted = "v_prediction"
    """What the denoiser says: v, or x0 itself, for which a narrow one needs not hand on all noise."""
    text_layers: int = 2
    """Layers of the text encoder."""
    norm_groups: int = 8
    """Groups of every group normalisation."""


def build_vae(sizes: SpriteSizes) -> AutoencoderKL:
    """The picture autoencoder: latents are 8 times smaller per side with four widths, 4 times with three."""
    stages = len(sizes.vae_channels)
    blocks: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * stages,
        "up_block_types": ("UpDecoderBlock2D",) * stages,
        "block_out_channels": sizes.vae_channels,
    }
    return AutoencoderKL(
        **blocks,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        latent_channels=sizes.latent_channels,
        norm_num_groups=sizes.norm_groups,
        sample_size=sizes.picture,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def build_unet(sizes: SpriteSizes) -> UNet3DConditionModel:
    """The denoiser, with temporal layers that leave every frame as it is until they are trained.

    Attention at full latent size and in the middle; the half-size blocks are convolutions only, which saves a
    third of the weights.
    """
    unet = UNet3DConditionModel(
        sample_size=sizes.picture // 2 ** (len(sizes.vae_channels) - 1) // sizes.cell,
        in_channels=sizes.latent_channels * sizes.cell**2,
        out_channels=sizes.latent_channels * sizes.cell**2,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=sizes.unet_channels,
        layers_per_block=1,
        cross_attention_dim=sizes.text_width,
        attention_head_dim=sizes.head_width,
        norm_num_groups=sizes.norm_groups,
    )
    for layer in temporal_transformers(unet):
        nn.init.zeros_(layer.proj_out.weight)
        nn.init.zeros_(layer.proj_out.bias)
    return unet


def rebuilt_unet(trained: UNet3DConditionModel, sizes: SpriteSizes) -> UNet3DConditionModel:
    """A denoiser of these sizes whose inner layers are trained ones; only the first and the last layer are new.

    It says 0 until it is trained.
    """
    unet: Any = build_unet(sizes)
    ends = ("conv_in.", "conv_out.")
    inner = {name: value for name, value in trained.state_dict().items() if not name.startswith(ends)}
    unet.load_state_dict({**unet.state_dict(), **inner})
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet


def temporal_transformers(unet: UNet3DConditionModel) -> list[TransformerTemporalModel]:
    """Every attention over time in the denoiser."""
    return [layer for layer in unet.modules() if isinstance(layer, TransformerTemporalModel)]


def build_text_encoder(sizes: SpriteSizes, num_words: int, max_length: int, end: int) -> CLIPTextModel:
    """The text encoder; `num_words` entries in the vocabulary, `end` the id of the end-of-text token."""
    config = CLIPTextConfig(
        vocab_size=num_words,
        hidden_size=sizes.text_width,
        intermediate_size=4 * sizes.text_width,
        projection_dim=sizes.text_width,
        num_hidden_layers=sizes.text_layers,
        num_attention_heads=4,
        max_position_embeddings=max_length,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPTextModel(config)


def build_scheduler(predicts: Predicted = "v_prediction") -> DDIMScheduler:
    """The noise schedule: zero signal at the last level, where epsilon says nothing (Lin et al. 2023,
    arXiv:2305.08891)."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=predicts,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )
