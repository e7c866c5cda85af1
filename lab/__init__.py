"""The laboratory: scripts that measure, score and ablate. Not part of the package, which never imports it."""
