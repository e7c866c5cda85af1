"""Training NUWA-XL: on episodes of one's own, and the embedded nuwa-sprites."""
