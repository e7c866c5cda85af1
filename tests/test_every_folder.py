"""Every tiny folder by every sampler that is promised for it, through the command line: 200 frames, killed once in the
middle and made to the end by the same command, have the bytes of a run that nobody disturbed.

`pytest -m slow tests/test_every_folder.py -s` prints the table, folder by sampler. LONGTAKE_HUB=DIR adds the folders in
DIR, of which every sampler runs that `longtake plan` takes, those of a released size at 96 x 64 pixels and 5 latent
frames; FRAMES=N makes videos of another length.
"""

import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from longtake.apps.cli import main
from longtake.models import model_spec
from longtake.report import subtitle_path
from longtake.samplers import SAMPLERS
from longtake.video.sink import Sink

from .forked import in_child
from .models.test_contract import EMBEDDED, HUB, small
from .models.tiny import OTHERS, TINY

FRAMES = int(os.environ.get("FRAMES", "200"))
SECONDS = 1800.0
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
NAMES = [*TINY, *OTHERS, *(pytest.param(folder, id=folder.name) for folder in HUB)]
made: dict[str, dict[str, str]] = defaultdict(dict)


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    print("", " | ".join(["", "folder", *SAMPLERS, ""]), " | ".join(["", *["---"] * (1 + len(SAMPLERS)), ""]), sep="\n")
    for name, row in made.items():
        print(" | ".join(["", name, *(row.get(sampler, "no") for sampler in SAMPLERS), ""]))


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name = request.param
    return str(name), name if isinstance(name, Path) else (TINY | OTHERS)[name](tmp_path_factory.mktemp("models"))


@pytest.fixture
def pictures(tmp_path: Path, folder: tuple[str, Path]) -> Path:
    """A folder of pictures of the size of a frame, as many as such a video has clips between them."""
    spec, rng = model_spec(str(folder[1]), **small(str(folder[1]))), np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    clip = spec.timing.pixel_frames(spec.num_frames) - 1
    for number in range(2 + (FRAMES - 2) // clip):
        shown = rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
        Image.fromarray(shown).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def command(folder: Path, sampler: str, pictures: Path) -> list[str]:
    size = small(str(folder))
    spec = model_spec(str(folder), **size)
    arguments = ["--model", str(folder), "--sampler", sampler, "--frames", str(FRAMES), "--dtype", "float32"]
    arguments += [word for option, value in size.items() for word in (f"--{option}", str(value))]
    if spec.vocabulary != frozenset():
        arguments += ["--prompts", "a red car | a blue boat"]
    if sampler != "fifo":
        arguments += ["--steps", "2"]
    if spec.needs_pictures and sampler == "autoregressive":
        arguments += ["--init", str(pictures / "0.png")]
    if spec.needs_pictures and sampler == "nuwa-xl":
        arguments += ["--sampler.keyframes", str(pictures)]
    return arguments


def run(arguments: list[str], log: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command in a process of its own; return how it ended, with the last line that it said where not well."""
    monkeypatch.setattr("sys.argv", ["longtake", *arguments])
    ended = log.with_suffix(".status")
    ended.unlink(missing_ok=True)

    def command() -> None:
        with log.open("w") as said:
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            # Those of pytest lead elsewhere.
            sys.stdout = sys.stderr = said
            try:
                main()
            except SystemExit as leaving:
                ended.write_text(str(leaving.code))

    if killed := in_child(command, SECONDS):
        return signal.Signals(killed).name
    status = ended.read_text() if ended.exists() else "1"
    return "" if status == "0" else " ".join([status, *log.read_text().splitlines()[-1:]])


def bytes_of(path: Path) -> list[bytes]:
    return [file.read_bytes() for file in (path, subtitle_path(path))]


def killed_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process end as soon as half of the frames were handed to the file."""
    append = Sink.append

    def last(sink: Sink, chunk: Any) -> None:
        append(sink, chunk)
        if sink.next_frame >= FRAMES // 2:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Sink, "append", last)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_killed_in_the_middle_a_folder_ends_in_the_same_bytes(
    folder: tuple[str, Path], sampler: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, model = folder
    if model in EMBEDDED:
        pytest.skip("is embedded: tests/test_kills_at_random.py")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments, log = command(model, sampler, pictures), tmp_path / "said.txt"
    refused = run(["plan", *arguments], log, monkeypatch)
    is_promised = sampler in PROMISED[name] if name in PROMISED else not refused
    if refused:
        assert not is_promised and refused.startswith("2 longtake: "), refused
        pytest.skip(refused)
    assert is_promised, "the plan takes what README says is not run"
    whole, path = tmp_path / "whole.mp4", tmp_path / "killed.mp4"
    assert run(["generate", *arguments, "-o", str(whole)], log, monkeypatch) == ""
    with monkeypatch.context() as middle:
        killed_in_the_middle(middle)
        assert run(["generate", *arguments, "-o", str(path)], log, monkeypatch) == "SIGKILL"
    assert run(["generate", *arguments, "-o", str(path)], log, monkeypatch) == ""
    assert bytes_of(path) == bytes_of(whole)
    made[name][sampler] = "the same bytes"
