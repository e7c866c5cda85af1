"""Latte: a transformer with absolute positions in time."""
