"""CogVideoX: a transformer over the tokens of a text and a video together, and a causal autoencoder in pieces."""
