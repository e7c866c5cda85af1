"""Every command of docs/how-to-choose.md, on a tiny folder in the place of the model that it names."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.models import DEFAULT_MODEL, model_spec

from ..models.tiny import OTHERS, TINY

PAGE = Path(__file__).parents[2] / "docs" / "how-to-choose.md"
COMMANDS = re.findall(r"^(?:torchrun .* -m )?longtake generate (.*)$", PAGE.read_text(), re.MULTILINE)
FOLDERS = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": "WanTransformer3DModel",
    "Wan-AI/Wan2.1-VACE-1.3B-diffusers": "WanVACETransformer3DModel",
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": "wan 5b",
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers": "wan a14b",
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": "wan i2v",
    "Lightricks/LTX-Video": "LTXVideoTransformer3DModel",
    "Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers": "SkyReelsV2Transformer3DModel",
    "animatediff": "UNetMotionModel",
}
FRAMES = "20"
"""What is made of it; the plan is of the whole."""


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line[-60:])
def test_a_command_of_the_page_makes_a_video(line: str, longtake: Callable, tmp_path: Path) -> None:
    words = shlex.split(line)
    name = words[words.index("--model") + 1] if "--model" in words else DEFAULT_MODEL
    if builder := (TINY | OTHERS).get(FOLDERS.get(name, "")):
        (tmp_path / "models").mkdir()
        words[words.index(name)] = name = str(builder(tmp_path / "models"))
    spec, rng = model_spec(name), np.random.default_rng(0)
    Path("pictures").mkdir()
    for path in ("first.png", "pictures/1.png", "pictures/2.png", "pictures/3.png"):
        Image.fromarray(rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)).save(path)
    if "--sampler.keyframes" in words:
        # Two clips between three pictures, as on the page, of 17 frames in place of 81.
        words[words.index("--frames") + 1] = "33"
    planned = longtake("plan", *words, "--device", "cuda")
    assert planned.status == 0, planned.err
    # A CPU has one memory, which nothing can leave.
    words = " ".join(map(shlex.quote, words)).replace("--offload model ", "")
    length = "33" if "--sampler.keyframes" in words else FRAMES
    words = shlex.split(re.sub(r"--frames \w+", f"--frames {length}", words))
    steps = [] if "--sampler" not in words or "fifo" in words else ["--steps", "1"]
    made = longtake("generate", *words, *steps, "--dtype", "float32")
    assert made.status == 0, made.err
    assert Path(words[words.index("-o") + 1]).stat().st_size > 0
