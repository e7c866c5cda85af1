"""Prints a digest of the pixels that a short run of every sampler makes, to hold two versions of the code against each
other:

python scripts/frame_digests.py [NAME ...]
"""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROCKET = "a rocket flies up through the night sky"
STORY = "a red car drives right through the city | a penguin dives down through the water"
SPRITES = ["--model", "sprites"]
RUNS: dict[str, list[str]] = {
    "demo": [ROCKET, *SPRITES, "--frames", "256", "--sampler", "fifo", "--seed", "7", "--scale", "4"],
    "fifo": ["--prompts", STORY, *SPRITES, "--frames", "48", "--sampler", "fifo", "--sampler.eta", "0.5"],
    "fifo-realtime": [ROCKET, *SPRITES, "--frames", "40", "--preset", "realtime"],
    "fifo-videocrafter2": [
        ROCKET,
        *SPRITES,
        "--frames",
        "24",
        "--sampler",
        "fifo",
        "--sampler.compat",
        "videocrafter2",
    ],
    "fifo-opensora": [ROCKET, *SPRITES, "--frames", "24", "--sampler", "fifo", "--sampler.compat", "opensora"],
    "chunked": ["--prompts", STORY, *SPRITES, "--frames", "40", "--sampler", "chunked", "--sampler.overlap", "4"],
    "autoregressive": [ROCKET, *SPRITES, "--frames", "40", "--sampler", "autoregressive"],
    "video-infinity": ["--prompts", STORY, *SPRITES, "--frames", "48", "--sampler", "video-infinity", "--steps", "8"],
    "nuwa-xl": ["--prompts", STORY, *SPRITES, "--frames", "46", "--sampler", "nuwa-xl", "--steps", "6"],
    "pvdm-autoregressive": [ROCKET, "--model", "pvdm-sprites", "--frames", "40", "--sampler", "autoregressive"],
    "nuwa-sprites": [ROCKET, "--model", "nuwa-sprites", "--frames", "16", "--sampler", "nuwa-xl"],
    "uniform-chunked": [ROCKET, "--model", "sprites-uniform", "--frames", "32", "--sampler", "chunked"],
    "toy-fifo": ["a", "--model", "toy", "--frames", "64", "--sampler", "fifo"],
}
"""Name -> arguments of `longtake generate`."""


def digest(folder: Path) -> str:
    """Return the digest of the pixels of all pictures in a folder, in the order of their names."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.png")):
        total.update(np.asarray(Image.open(path)).tobytes())
    return total.hexdigest()[:32]


def main(names: list[str]) -> None:
    """Make the videos of these names, by default all, on one thread, and print a line for each."""
    for name in names or list(RUNS):
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "frames"
            command = [sys.executable, "-m", "longtake", "generate", *RUNS[name], "-o", f"{output}/", "--device", "cpu"]
            done = subprocess.run(command, capture_output=True, text=True)
            print(f"{name:22} {digest(output) if done.returncode == 0 else done.stderr.strip()[-200:]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
