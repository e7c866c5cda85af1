"""Clip after clip, each in view of the one before: PVDM's sampler."""
