"""PVDM's networks, from their folders."""

from torch import nn

from longtake.models.hub.configs import Part, place_of
from longtake.models.hub.load import filled
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.models.pvdm.config import AutoencoderConfig, UnetConfig
from longtake.models.pvdm.spec import read_config
from longtake.models.pvdm.unet import PvdmUnet


def load_network(part: Part) -> nn.Module:
    """Load a network as `save_network` wrote it. Raises CheckpointError for missing or damaged files."""
    place = place_of(part)
    if place.name == "unet":
        config = read_config(UnetConfig, place)
        return filled(lambda: PvdmUnet(config), place, part.variant)
    settings = read_config(AutoencoderConfig, place)
    return filled(lambda: PvdmAutoencoder(settings), place, part.variant)
