"""Training the embedded models sprites and sprites-uniform, stage by stage."""
