"""Videos to train on and to measure against."""
