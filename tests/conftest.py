"""Settings that hold for every test."""

import os

# No test reaches the network: a model that is not in the repository is a failure, not a download.
os.environ["HF_HUB_OFFLINE"] = "1"
