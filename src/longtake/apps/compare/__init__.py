"""Videos side by side: runs of several samplers, or finished videos of any origin, on one page."""
