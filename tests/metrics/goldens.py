"""Numbers of the evaluation code of PVDM's authors: (folder, arrays)."""

import os
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "golden" / "data" / "pvdm"
ROOTS = [DATA] + [Path(os.environ[name]) / "pvdm" for name in ("LONGTAKE_GOLDEN",) if name in os.environ]


def _arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as content:
        return {name: content[name] for name in content if name.startswith("fvd")}


GOLDENS = [
    (file.parent, found) for root in ROOTS for file in sorted(root.rglob("*_io.npz")) if (found := _arrays(file))
]
