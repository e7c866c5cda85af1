"""Window after window, each by ordinary sampling: the baseline."""
