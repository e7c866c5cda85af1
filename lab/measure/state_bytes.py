"""What a run of Wan writes beside its video: python -m lab measure state-bytes [--minutes 5] [--report out.json].

A network as small as can be with the depth of the released autoencoder makes minutes of video, endless FIFO in the
default segments, and the bytes of every state that it stores are counted. The state of a released size follows from
what the tensors of that state are: latents, the decoder's part of it, and frames that wait.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

from lab.measure.tiny import tiny_wan
from longtake import PromptTimeline, Request, generate, load_model
from longtake._generate import Output
from longtake.samplers.fifo.plan import Fifo
from longtake.video import durable


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is made."""

    minutes: float = 5.0  # of video
    residual: bool = False  # the autoencoder of Wan2.2 5B in place of that of the others


def measure(chosen: Settings) -> dict[str, object]:
    """Return the report: states, bytes of them a minute of video, and bytes of the last one by part."""
    torch.set_num_threads(1)
    stored: list[int] = []
    last: Counter[str] = Counter()
    write = durable.write_durable

    def counted(path: Path, data: bytes) -> None:
        if path.suffix == ".safetensors":
            stored.append(len(data))
            last.clear()
            for name, tensor in safetensors.torch.load(data).items():
                part = "decoder" if ".decoder." in name else "pending" if name == "pending" else "sampler"
                last[part] += tensor.numel() * tensor.element_size()
        write(path, data)

    with tempfile.TemporaryDirectory() as scratch:
        model = load_model(str(tiny_wan(Path(scratch), chosen.residual)))
        frames = round(chosen.minutes * 60 * model.spec.fps)
        request = Request(prompts=PromptTimeline.constant("a"), frames=frames)
        durable.write_durable = counted
        try:
            generate(model, request, Fifo(lookahead=False), Output(path=Path(scratch) / "video.mp4"))
        finally:
            durable.write_durable = write
        video = (Path(scratch) / "video.mp4").stat().st_size
    return {
        "frames": frames,
        "size": [model.spec.height, model.spec.width],
        "states": len(stored),
        "state_bytes_a_minute": round(sum(stored) / chosen.minutes),
        "largest_state": max(stored),
        "last_state_by_part": dict(last),
        "video_bytes": video,
    }
