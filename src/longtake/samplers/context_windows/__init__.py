"""Context windows: in every step all windows of the video, averaged where they overlap."""
