"""Training: one loop, and a task per model."""
