"""Video files: written as the frames are made, safe against any kill, and read back with flat memory."""
