"""NUWA-XL's networks (Yin et al., ACL 2023, arXiv 2303.12346): an image VAE and an image UNet, taught about time."""
