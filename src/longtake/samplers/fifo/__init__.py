"""FIFO-Diffusion: endless video from a queue of frames at rising noise levels (arXiv 2405.11473)."""
