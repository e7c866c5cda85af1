"""Wan: a transformer with full attention over space and time, and a causal autoencoder."""
