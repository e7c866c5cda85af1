"""Training the classifier that reads videos of sprite worlds."""
