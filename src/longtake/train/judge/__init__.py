"""The classifier that reads videos of sprite worlds, and the check of what fools it."""
