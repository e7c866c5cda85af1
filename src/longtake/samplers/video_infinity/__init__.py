"""Video-Infinity: one long video at once, its clips shared out over processes (arXiv 2406.16260)."""
