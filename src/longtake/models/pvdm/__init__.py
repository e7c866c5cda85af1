"""PVDM: video diffusion in a latent space of three planes (Yu et al., CVPR 2023, arXiv 2302.07685)."""
