"""ModelScope, ZeroScope and VideoCrafter2: 3-D UNets of diffusers."""
