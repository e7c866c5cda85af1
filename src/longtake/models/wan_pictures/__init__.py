"""Wan's transformer on the latents of single pictures: the next embedded model."""
