"""AnimateDiff, and AnimateDiff with SparseCtrl: known frames anywhere in a window."""
