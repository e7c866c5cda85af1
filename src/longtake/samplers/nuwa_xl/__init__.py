"""NUWA-XL: frames far apart first, then those between them, as a tree of tasks (arXiv 2303.12346)."""
