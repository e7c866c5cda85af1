"""What a run of Wan writes beside its video: python -m lab measure state-bytes [--minutes 5] [--report out.json].

A network as small as can be with the depth of the released autoencoder makes minutes of video, endless FIFO in the
default segments, and the bytes of every state that it stores are counted. The state of a released size follows from
what the tensors of that state are: latents, the decoder's part of it, and frames that wait.
"""

import string
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel  # pyright: ignore

from longtake import PromptTimeline, Request, generate, load_model
from longtake._generate import Output
from longtake.samplers.fifo.plan import Fifo
from longtake.video import durable

CHANNELS, SIDE = 16, 32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is made."""

    minutes: float = 5.0  # of video
    residual: bool = False  # the autoencoder of Wan2.2 5B in place of that of the others


def tiny_wan(parent: Path, residual: bool) -> Path:
    """Save a model with random weights in a new folder; return it."""
    torch.manual_seed(0)
    folder = parent / "tiny-wan"
    words = ["<pad>", "</s>", "<unk>", "\u2581", *string.ascii_lowercase]
    tokenizer = T5TokenizerFast(vocab=[(word, -float(rank)) for rank, word in enumerate(words)], extra_ids=0)
    text = UMT5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    changes = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
    vae = AutoencoderKLWan(base_dim=4, z_dim=CHANNELS, **(changes if residual else {}))  # pyright: ignore
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=1,
    )
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=vae.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer,
    ).save_pretrained(folder)
    (folder / "longtake.json").write_text(f'{{"num_frames": 4, "size": [{SIDE}, {SIDE}], "guidance": 1.0}}')
    return folder


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
