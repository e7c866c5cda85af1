"""Training PVDM in its two stages: on videos of one's own, and the embedded pvdm-sprites."""
