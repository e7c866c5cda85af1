"""Building, assembling and describing the model inside the package."""
