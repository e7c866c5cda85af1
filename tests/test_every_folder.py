"""Every tiny folder by every sampler that is promised for it, through the command line: 200 frames, killed once in the
middle and made to the end by the same command, have the bytes of a run that nobody disturbed.

`python -m lab measure resume --folders DIR` does the same for folders that somebody has.
"""

from pathlib import Path

import pytest

from lab.measure.resume import killed_and_resumed
from longtake.samplers import SAMPLERS

from .models.test_contract import EMBEDDED
from .models.tiny import OTHERS, TINY

EVERYWHERE = {"chunked", "context-windows"}
ALWAYS = EVERYWHERE | {"fifo", "video-infinity", "freenoise"}
PROMISED = {
    # The tiny one was trained with finished frames among noisy ones, says its longtake.json, as `sprites` was.
    "TextToVideoSDPipeline": set(SAMPLERS),
    "LattePipeline": ALWAYS,
    "UNetMotionModel": ALWAYS,
    "UNet2DConditionModel": ALWAYS,
    "CogVideoXPipeline": EVERYWHERE | {"fifo"},
    "cogvideox 5b": EVERYWHERE | {"fifo"},
    "AnimateDiffSparseControlNetPipeline": EVERYWHERE | {"autoregressive", "nuwa-xl"},
    "LTXVideoTransformer3DModel": ALWAYS | {"autoregressive"},
    "ltx later": ALWAYS | {"autoregressive"},
    "LTX2VideoTransformer3DModel": ALWAYS | {"autoregressive"},
    "ltx 2.3": ALWAYS | {"autoregressive"},
    "SkyReelsV2Transformer3DModel": ALWAYS | {"autoregressive"},
    "UNetSpatioTemporalConditionModel": EVERYWHERE | {"autoregressive"},
    "WanTransformer3DModel": ALWAYS,
    "wan a14b": ALWAYS,
    "wan 5b": ALWAYS | {"autoregressive"},
    "WanVACETransformer3DModel": EVERYWHERE | {"autoregressive", "nuwa-xl"},
    "wan i2v": EVERYWHERE | {"fifo", "autoregressive"},
    "wan flf2v": EVERYWHERE | {"fifo", "nuwa-xl"},
    "wan i2v-a14b": EVERYWHERE | {"fifo", "autoregressive", "nuwa-xl"},
}
"""What README's table says of the tiny folders; of others whatever the plan takes is run."""


@pytest.fixture(scope="module", params=[*TINY, *OTHERS])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, (TINY | OTHERS)[request.param](tmp_path_factory.mktemp("models"))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_killed_in_the_middle_a_folder_ends_in_the_same_bytes(
    folder: tuple[str, Path], sampler: str, tmp_path: Path
) -> None:
    name, model = folder
    if model in EMBEDDED:
        pytest.skip("is embedded: tests/test_kills_at_random.py")
    pair = killed_and_resumed(model, sampler, 200, tmp_path)
    assert pair.verdict != "failed", pair.why
    if name in PROMISED:
        assert (pair.verdict == "same bytes") == (sampler in PROMISED[name]), pair.why
