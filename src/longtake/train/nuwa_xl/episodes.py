"""Recorded episodes as what NUWA-XL's network learns from: encoded once, frame by frame, then reached by number."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from glob import escape
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from longtake.data.episodes import Episodes, draw_node
from longtake.errors import InputError
from longtake.train.fit.latents import ALL, Share, Stop, never, read_latents, write_latents
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
    stop: Stop = never,
    share: Share = ALL,
) -> bool:
    """Encode every frame of every episode into `folder`, a file each, unit variance, float16; files that exist are
    kept. Returns whether the whole share is there.

    `stop(frame)` is asked every few frames; an episode that is not complete then is begun again. Raises InputError
    where a video turns out to be damaged.
    """

    def encode(number: int) -> dict[str, Tensor] | None:
        parts, num_frames = [], episodes.footage.recordings[number].num_frames
        for start in range(0, num_frames, _FRAMES_AT_ONCE):
            if stop(start):
                return None
            clip = episodes.footage.clip(number, start, min(start + _FRAMES_AT_ONCE, num_frames))
            pixels = torch.from_numpy(clip).permute(0, 3, 1, 2).to(vae.device)
            parts.append(encode_scaled(vae, pixels).half().cpu())
        return {"latents": torch.cat(parts)}

    names = (recording.name for recording in episodes.footage.recordings)
    return write_latents(folder, ((name, partial(encode, number)) for number, name in enumerate(names)), share=share)


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
            latents = read_latents(folder, ("latents",), escape(recording.name))["latents"]
            if len(latents) != recording.num_frames:
                raise InputError(f"{folder} does not hold {recording.num_frames} frames of {recording.name}; delete it")
            shown = [captions.at(frame) for frame in range(recording.num_frames)]
            self.rows.append(torch.tensor([texts.setdefault(text, len(texts)) for text in shown]))
            self.latents.append(latents)
        self.table = embed(list(texts)).float()
        self.empty = self.table[0]

    def draw(self, levels: Sequence[int], num_frames: int, generator: Generator) -> SpanClips:
        """Return random nodes of the tree: an episode, a place of the span in it, and a node of the level."""
        clips, texts = [], []
        for episode, frames in self.draw_places(levels, num_frames, generator):
            clips.append(self.latents[episode][frames].float())
            texts.append(self.table[self.rows[episode][frames]])
        stride = torch.tensor([self.strides[level] for level in levels])
        return SpanClips(latents=torch.stack(clips).transpose(1, 2), text=torch.stack(texts), stride=stride)

    def draw_places(
        self, levels: Sequence[int], num_frames: int, generator: Generator
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield the number of an episode, and frames of it, for every level asked for."""
        for level in levels:
            episode = int(torch.randint(len(self.latents), (), generator=generator))
            yield episode, list(draw_node(len(self.latents[episode]), level, self.strides, num_frames, generator))
