"""Text-to-video models in the layout of the hub, through the diffusers library."""
