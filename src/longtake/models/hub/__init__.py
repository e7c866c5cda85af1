"""Model folders in the layout of the hub: finding their configs, loading weights safely, one-line errors."""
