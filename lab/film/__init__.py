"""Training on a film instead of sprite worlds."""
