"""Long video in ComfyUI, as nodes of its V3 schema (docs/comfyui.md)."""

from .nodes import LongtakeExtension


async def comfy_entrypoint() -> LongtakeExtension:
    """Return what ComfyUI loads."""
    return LongtakeExtension()
