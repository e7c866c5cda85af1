"""The autoencoder of PVDM: a clip as three planes (Yu et al., CVPR 2023, arXiv 2302.07685, sec. 3.1).

Transformers over time, over space and along one axis of the grid, with rotary positions (Su et al., 2021, arXiv
2104.09864).

B batch, S sequences, N tokens, T frames, R rows and K columns of patches, P = R K, C channels of a token, h heads, D
channels of a head or of a latent.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from longtake.attention import attention
from longtake.models.pvdm.config import AutoencoderConfig
from longtake.models.pvdm.planes import join, run, split, spread

FASTEST_TURNS = 5.0
"""The finest scale of the positions in a picture: half turns from its middle to its edge."""
HEAD_WIDTH = 64
"""Channels of a head of attention over time and space, whatever the width of a token."""


@dataclass(frozen=True)
class Rotation:
    """An angle for every token and channel, as its cosine and sine (tokens, channels of a head)."""

    cosine: Tensor
    sine: Tensor

    def __call__(self, x_SNhD: Tensor) -> Tensor:
        """Turn neighbouring channels, taken as pairs, by the tokens' angles; x is (sequences, tokens, heads, width)."""
        cosine, sine = (table.to(x_SNhD)[:, None] for table in (self.cosine, self.sine))
        left, right = x_SNhD.unflatten(-1, (-1, 2)).unbind(-1)
        return x_SNhD * cosine + torch.stack([-right, left], dim=-1).flatten(-2) * sine


def over_time(num_frames: int, width: int, compat: bool, device: torch.device) -> Rotation:
    """Return the positions of frames.

    `compat` lays the angles out as two halves although pairs are neighbours, as the authors' code does: the two members
    of a pair turn by different angles, and attention depends on more than the distance in time.
    """
    frequency = 10000.0 ** (-torch.arange(0, width, 2, device=device) / width)
    angle_ND = torch.arange(num_frames, device=device)[:, None] * frequency
    return _rotation(torch.cat([angle_ND, angle_ND], dim=1) if compat else angle_ND.repeat_interleave(2, dim=1))


def over_space(rows: int, columns: int, width: int, device: torch.device) -> Rotation:
    """Return the positions of a picture's patches, row by row; half of the channels hold the row, half the column."""
    scale = torch.logspace(0, math.log2(FASTEST_TURNS), width // 4, base=2, device=device)
    row, column = (torch.linspace(-1, 1, num, device=device)[:, None] * scale * math.pi for num in (rows, columns))
    both = [row[:, None].expand(-1, columns, -1), column[None].expand(rows, -1, -1)]
    return _rotation(torch.cat(both, dim=2).flatten(0, 1).repeat_interleave(2, dim=1))


def _rotation(angle_ND: Tensor) -> Rotation:
    return Rotation(angle_ND.cos(), angle_ND.sin())


class SelfAttention(nn.Module):
    """Attention among the tokens of a sequence, with its normalisation before and the residual."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)

    def forward(self, x_SNC: Tensor, rotation: Rotation | None = None, read: slice = slice(None)) -> Tensor:
        """Return the tokens `read`, each after it has looked at all."""
        query, key, value = self.qkv(self.norm(x_SNC)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        if rotation:
            query, key = rotation(query), rotation(key)
        return x_SNC[:, read] + self.out(attention(query[:, read], key, value).flatten(2))


class Mlp(nn.Module):
    """Two linear layers, with the normalisation before and the residual; `gated` (Shazeer, 2020, arXiv 2002.05202)."""

    def __init__(self, width: int, hidden: int, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden * (2 if gated else 1))
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return every token, changed by itself."""
        hidden = self.expand(self.norm(x))
        if self.gated:
            hidden, gate = hidden.chunk(2, dim=-1)
            return x + self.contract(hidden * gelu(gate))
        return x + self.contract(gelu(hidden))


class SpaceTimeLayer(nn.Module):
    """Attention over time at each place, then over space in each frame, then a gated MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.time = SelfAttention(width, heads, HEAD_WIDTH)
        self.space = SelfAttention(width, heads, HEAD_WIDTH)
        self.mlp = Mlp(width, 4 * width, gated=True)

    def forward(self, x_BTPC: Tensor, over_time: Rotation, over_space: Rotation) -> Tensor:
        """Return the tokens of a clip, mixed."""
        batch, frames, patches, _ = x_BTPC.shape
        x_STC = self.time(x_BTPC.transpose(1, 2).flatten(0, 1), over_time)
        x_SPC = x_STC.unflatten(0, (batch, patches)).transpose(1, 2).flatten(0, 1)
        return self.mlp(self.space(x_SPC, over_space)).unflatten(0, (batch, frames))


class PoolLayer(nn.Module):
    """A plain transformer layer over one axis of the grid."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, width // 8)
        self.mlp = Mlp(width, hidden, gated=False)

    def forward(self, x_SNC: Tensor, read: slice = slice(None)) -> Tensor:
        """Return the tokens `read`."""
        return self.mlp(self.attention(x_SNC, read=read))


class Pool(nn.Module):
    """Folds one axis of the grid into a single cell: a plane, its channels in (-1, 1)."""

    def __init__(self, length: int, config: AutoencoderConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.pool_hidden
        self.read = slice(0, 1) if config.compat else slice(length, length + 1)
        # Small beside the tokens of the grid, so that a plane begins as nearly their mean.
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, length + 1, width))
        self.layers = nn.ModuleList(PoolLayer(width, config.pool_heads, hidden) for _ in range(config.pool_depth))
        self.to_plane = nn.Linear(width, config.latent_channels)

    def forward(self, x_SNC: Tensor, recompute: bool) -> Tensor:
        """Return one cell of the plane for every sequence, (sequences, channels of a latent)."""
        x_SNC = torch.cat([x_SNC, self.token.expand(len(x_SNC), -1, -1)], dim=1) + self.positions
        for layer in self.layers[:-1]:
            x_SNC = run(layer, x_SNC, recompute=recompute)
        # Of the last layer one token is read: the others need no query.
        return self.to_plane(run(self.layers[-1], x_SNC, self.read, recompute=recompute)[:, 0]).tanh()


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
