"""Every other pipeline of diffusers that makes videos of a text, run by its own call: whole clips, and no x0."""
