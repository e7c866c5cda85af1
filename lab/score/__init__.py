"""Scores of the embedded models and of samplers."""
