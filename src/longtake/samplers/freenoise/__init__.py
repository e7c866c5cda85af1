"""FreeNoise: one long video of the noise of one window, whose frames attend in sliding windows (arXiv 2310.15169)."""
