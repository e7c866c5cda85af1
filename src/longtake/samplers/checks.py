"""Checks of settings that several samplers have."""

from longtake.errors import InputError


def check_eta(eta: float) -> None:
    """Raise InputError for a share of fresh noise outside 0 to 1."""
    if not 0 <= eta <= 1:
        raise InputError(f"eta is {eta}; it must lie between 0 (DDIM) and 1 (DDPM)")
