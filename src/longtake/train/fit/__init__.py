"""One training loop for every model: checkpoints, exact resume, averages of weights, the record of a run."""
