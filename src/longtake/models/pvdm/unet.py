"""The diffusion model of PVDM: a UNet over three planes (Yu et al., CVPR 2023, arXiv 2302.07685, sec. 3.2).

B batch, D channels of a latent, P positions of all planes, N tokens of a text, E width of an embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from longtake.models.pvdm.config import UnetConfig
from longtake.models.pvdm.layers import run
from longtake.models.pvdm.planes import Planes, each, join, split
from longtake.models.pvdm.unet_blocks import DOUBLE, HALVE, Middle, Stage, embed_timestep, zeroed


class PvdmUnet(nn.Module):
    """What noisy latents should be, one set of 2-D weights for all planes; goes on from a previous clip if given one.

    `recompute` keeps no activations inside steps, for training in less memory.
    """

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config, self.recompute = config, False
        width = 4 * config.channels
        self.embed = nn.Sequential(nn.Linear(config.channels, width), nn.SiLU(), nn.Linear(width, width))
        self.first = nn.Conv2d(2 * config.latent_channels, config.channels, 3, padding=1)
        self.down, widths = _way_down(config)
        self.middle = Middle(widths[-1], config)
        self.up = _way_up(config, widths)
        self.last_norm = nn.GroupNorm(config.groups, config.channels)
        self.last = zeroed(nn.Conv2d(config.channels, config.latent_channels, 3, padding=1))

    def forward(
        self,
        latent_BDP: Tensor,
        timestep_B: Tensor,
        previous_BDP: Tensor | None = None,
        text_BNE: Tensor | None = None,
    ) -> Tensor:
        """Return the prediction (batch, channels, positions).

        `previous_BDP` is the clean latent of the clip before, None for a clip that follows nothing. `text_BNE` must be
        there exactly if the network reads text.
        """
        assert (text_BNE is None) == (self.config.text_width is None)
        previous_BDP = torch.zeros_like(latent_BDP) if previous_BDP is None else previous_BDP
        both = torch.cat([latent_BDP, previous_BDP], dim=1)
        embedding_BE = self.embed(embed_timestep(timestep_B, self.config.channels).to(latent_BDP))
        x = each(lambda plane, _: self.first(plane), split(both, self.config.grid.planes), embedding_BE)
        skips = [x]
        for stage in self.down:
            x = self._run(stage, x, embedding_BE, text_BNE)
            skips.append(x)
        x = self._run(self.middle, x, embedding_BE, text_BNE)
        for stage in self.up:
            s, h, w = (torch.cat([plane, skip], dim=1) for plane, skip in zip(x, skips.pop(), strict=True))
            x = self._run(stage, (s, h, w), embedding_BE, text_BNE)
        return join(each(lambda plane, _: self.last(silu(self.last_norm(plane))), x, embedding_BE))

    def _run(self, stage: nn.Module, x: Planes, embedding_BE: Tensor, text_BNE: Tensor | None) -> Planes:
        return run(stage, x, embedding_BE, text_BNE, recompute=self.recompute)


def _way_down(config: UnetConfig) -> tuple[nn.ModuleList, list[int]]:
    """Return the steps from the full planes to the smallest, and the channels after the first layer and each step."""
    stages, widths = nn.ModuleList(), [config.channels]
    for level, multiplier in enumerate(config.multipliers):
        width = config.channels * multiplier
        for _ in range(config.blocks):
            stages.append(Stage(widths[-1], width, config, config.attention[level]))
            widths.append(width)
        if level < len(config.multipliers) - 1:
            stages.append(Stage(width, width, config, attends=False, scale=HALVE))
            widths.append(width)
    return stages, widths


def _way_up(config: UnetConfig, widths: list[int]) -> nn.ModuleList:
    """Return the steps back to the full planes, each of which also takes what a step of the way down left."""
    stages, width = nn.ModuleList(), widths[-1]
    for level, multiplier in reversed(list(enumerate(config.multipliers))):
        for number in range(config.blocks + 1):
            scale = DOUBLE if level and number == config.blocks else 1.0
            entering = width + widths[len(widths) - 1 - len(stages)]
            width = config.channels * multiplier
            stages.append(Stage(entering, width, config, config.attention[level], scale))
    return stages
