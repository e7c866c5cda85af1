"""The autoencoder of PVDM: a clip as three planes (Yu et al., CVPR 2023, arXiv 2302.07685, sec. 3.1).

B batch, T frames, R rows and K columns of patches, P = R K, C channels of a token, D channels of a latent.
"""

from torch import Tensor, nn

from longtake.models.pvdm.config import AutoencoderConfig
from longtake.models.pvdm.layers import HEAD_WIDTH, Pool, SpaceTimeLayer, run
from longtake.models.pvdm.planes import join, split, spread
from longtake.models.pvdm.rotary import over_space, over_time


class SpaceTimeTransformer(nn.Module):
    """The body of the encoder and of the decoder."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(SpaceTimeLayer(config.width, config.heads) for _ in range(config.depth))

    def forward(self, x_BTPC: Tensor, recompute: bool) -> Tensor:
        """Return the tokens of a clip, mixed over time and space."""
        grid, device = self.config.grid, x_BTPC.device
        time = over_time(grid.frames, HEAD_WIDTH, self.config.compat, device)
        space = over_space(grid.rows, grid.columns, HEAD_WIDTH, device)
        for layer in self.layers:
            x_BTPC = run(layer, x_BTPC, time, space, recompute=recompute)
        return x_BTPC


class PvdmAutoencoder(nn.Module):
    """Clips to latents (batch, channels, positions) and back; a latent's values lie in (-1, 1).

    The paper's z^s, z^h and z^w are the pools over time, height and width. `recompute` keeps no activations inside
    layers, for training in less memory.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config, self.recompute = config, False
        grid, width, patch = config.grid, config.width, config.patch
        lengths = {"time": grid.frames, "height": grid.rows, "width": grid.columns}
        self.from_pixels = nn.Conv2d(3, width, patch, patch)
        self.encoder = SpaceTimeTransformer(config)
        self.pools = nn.ModuleDict({axis: Pool(length, config) for axis, length in lengths.items()})
        self.from_planes = nn.ModuleDict({axis: nn.Conv2d(config.latent_channels, width, 1) for axis in lengths})
        self.decoder = SpaceTimeTransformer(config)
        self.to_pixels = nn.ConvTranspose2d(width, 3, patch, patch)

    def encode(self, video_B3THW: Tensor) -> Tensor:
        """Return the latents of clips, whose pixels lie in [-1, 1]."""
        patches = self.from_pixels(video_B3THW.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2)
        x_BTPC = self.encoder(patches.unflatten(0, (len(video_B3THW), -1)), self.recompute)
        x_BTRKC = x_BTPC.unflatten(2, (self.config.grid.rows, self.config.grid.columns))
        s, h, w = (self._plane(axis, x_BTRKC.movedim(place, 3)) for place, axis in enumerate(self.pools, start=1))
        return join((s, h, w))

    def decode(self, latent_BDP: Tensor) -> Tensor:
        """Return the clips of latents, (batch, 3, frames, height, width) in [-1, 1]."""
        grid = self.config.grid
        planes = split(latent_BDP, grid.planes)
        s, h, w = (layer(plane) for layer, plane in zip(self.from_planes.values(), planes, strict=True))
        x_BTPC = spread((s, h, w), grid).flatten(3).permute(0, 2, 3, 1)
        x_BTPC = self.decoder(x_BTPC, self.recompute)
        patches = x_BTPC.flatten(0, 1).transpose(1, 2).unflatten(2, (grid.rows, grid.columns))
        frames = self.to_pixels(patches).unflatten(0, (len(latent_BDP), -1))
        return 2 * frames.transpose(1, 2).sigmoid() - 1

    def forward(self, video_B3THW: Tensor) -> Tensor:
        """Return clips as they come back from their latents."""
        return self.decode(self.encode(video_B3THW))

    def _plane(self, axis: str, x_BUVNC: Tensor) -> Tensor:
        """Fold the fourth axis of the grid; returns (batch, channels of a latent, and the two axes that are left)."""
        batch, height, width = x_BUVNC.shape[:3]
        cells = self.pools[axis](x_BUVNC.flatten(0, 2), self.recompute)
        return cells.view(batch, height, width, -1).permute(0, 3, 1, 2)
