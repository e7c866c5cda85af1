"""Settings that are known to work, as functions that return them in full."""
