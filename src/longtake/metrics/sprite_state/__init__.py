"""The state of every frame of a sprite world, read by drawing it again: objects, scenery, and figures of a video."""
