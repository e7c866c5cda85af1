"""Recorded episodes as what NUWA-XL's network learns from: encoded once, frame by frame, then reached by number."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from longtake.data.episodes import Episodes, draw_node
from longtake.errors import CheckpointError, InputError
from longtake.train.fit.job import ALL, Share
from longtake.train.nuwa_xl.data import SpanClips, SpanSource
from longtake.train.sprites.autoencode import encode_scaled
from longtake.train.sprites.build import AutoencoderKL

Embed = Callable[[Sequence[str]], Float[Tensor, "texts tokens width"]]
"""Turns captions into the states of a text encoder."""

_FRAMES_AT_ONCE = 16


def encode_episodes(
    vae: AutoencoderKL,
    episodes: Episodes,
    folder: Path,
    stop: Callable[[int], bool] = lambda frame: False,
    share: Share = ALL,
) -> bool:
    """Encode every frame of every episode into `folder`, a file each, unit variance, float16; files that exist are
    kept. Returns whether the whole share is there.

    `stop(frame)` is asked every few frames; an episode that is not complete then is begun again. Raises InputError
    where a video turns out to be damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(share.rank, len(episodes.footage.recordings), share.size):
        recording, parts = episodes.footage.recordings[number], []
        path = folder / f"{recording.name}.safetensors"
        if path.exists():
            continue
        for start in range(0, recording.num_frames, _FRAMES_AT_ONCE):
            if stop(start):
                return False
            clip = episodes.footage.clip(number, start, min(start + _FRAMES_AT_ONCE, recording.num_frames))
            pixels = torch.from_numpy(clip).permute(0, 3, 1, 2).to(vae.device)
            parts.append(encode_scaled(vae, pixels).half().cpu())
        save_file({"latents": torch.cat(parts).contiguous()}, path.with_suffix(".new"))
        path.with_suffix(".new").rename(path)
    return True


class EpisodeLatents(SpanSource):
    """The episodes of `encode_episodes`, in memory."""

    def __init__(self, folder: Path, episodes: Episodes, embed: Embed, strides: Sequence[int]) -> None:
        """Read all latents, and embed every distinct caption once.

        Raises InputError for an episode that is not encoded, or not as long as it was, CheckpointError for a damaged
        file.
        """
        self.strides = strides
        texts: dict[str, int] = {"": 0}
        self.latents, self.rows = [], []
        for recording, captions in zip(episodes.footage.recordings, episodes.captions, strict=True):
            path = folder / f"{recording.name}.safetensors"
            latents = _read(path) if path.exists() else torch.empty(0)
            if len(latents) != recording.num_frames:
                raise InputError(f"{path} does not hold {recording.num_frames} frames; encode the episodes again")
            shown = [captions.at(frame) for frame in range(recording.num_frames)]
            self.rows.append(torch.tensor([texts.setdefault(text, len(texts)) for text in shown]))
            self.latents.append(latents)
        self.table = embed(list(texts)).float()
        self.empty = self.table[0]

    def draw(self, levels: Sequence[int], num_frames: int, generator: Generator) -> SpanClips:
        """Return random nodes of the tree: an episode, a place of the span in it, and a node of the level."""
        clips, texts = [], []
        for level in levels:
            episode = int(torch.randint(len(self.latents), (), generator=generator))
            frames = list(draw_node(len(self.latents[episode]), level, self.strides, num_frames, generator))
            clips.append(self.latents[episode][frames].float())
            texts.append(self.table[self.rows[episode][frames]])
        stride = torch.tensor([self.strides[level] for level in levels])
        return SpanClips(latents=torch.stack(clips).transpose(1, 2), text=torch.stack(texts), stride=stride)


def _read(path: Path) -> Float[Tensor, "frames channels height width"]:
    try:
        return load_file(path)["latents"]
    except (SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it to let it be made again") from error
