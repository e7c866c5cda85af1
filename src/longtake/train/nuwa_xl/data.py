"""Clips of 16 frames from spans of 3,376, at the strides of all levels of NUWA-XL's tree: what its network learns from.

A span is never encoded as a whole. Frames are reached directly, by number, and of every sprite world a few stretches at
each stride are encoded once: a stretch is somewhat longer than a clip, so that clips start at several places in it.
Recorded episodes are encoded once as a whole, frame by frame.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Generator, Tensor

from longtake.data.episodes import Episodes, draw_node
from longtake.data.sprites import SpriteWorld, drawn, random_world, training_shots
from longtake.errors import InputError
from longtake.train.fit.latents import ALL, Share, Stop, in_files, never, read_latents, write_latents
from longtake.train.sprites.autoencode import encode_scaled
from longtake.train.sprites.build import AutoencoderKL
from longtake.train.sprites.cache import Drawn, WorldFiles, encode_pictures

Embed = Callable[[Sequence[str]], Float[Tensor, "texts tokens width"]]
"""Turns captions into the states of a text encoder."""

_FRAMES_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class StretchSettings(WorldFiles):
    """How much of how many sprite worlds is encoded."""

    num_worlds: int = 1500
    """Worlds, each with a timeline of its own."""
    strides: tuple[int, ...] = (225, 15, 1)
    """Frames of a world from one frame of a clip to the next, a number for every level of the tree."""
    num_stretches: tuple[int, ...] = (2, 4, 6)
    """Stretches of a world at each of these strides, at random places."""
    num_frames: int = 24
    """Frames of a stretch."""
    shot_frames: tuple[int, int] = (120, 280)
    """Least and most frames of a shot: 12 changes of scene or more in any span of 3,376 frames."""
    calm_every: int = 4
    """One world in so many has shots ten times as long, for videos in which little changes."""
    first_seed: int = 5_000_000
    worlds_per_file: int = 15


_STARTS = 3000
"""Stretches start before this frame of a world."""


def encode_stretches(vae: AutoencoderKL, settings: StretchSettings, folder: Path, stop: Stop = never) -> bool:
    """Draw and encode stretches of all worlds into `folder`, unit variance, float16; files that exist are kept.

    Returns whether all are there. A file holds, for every stride s, `latents_s` (stretches, frames, channels, height,
    width) and `shots_s` (stretches, frames), which are numbers of training shots. `stop` is asked before every file.
    """

    def encode(numbers: range) -> dict[str, Tensor]:
        worlds = [stretch_world(number, settings) for number in numbers]
        tensors: dict[str, Tensor] = {}
        for stride, count in zip(settings.strides, settings.num_stretches, strict=True):
            stretches = [place for world in worlds for place in _places(world, stride, count, settings.num_frames)]
            latents = torch.cat([encode_pictures(vae, pictures) for pictures in _pictures(stretches)])
            tensors[f"latents_{stride}"] = latents.unflatten(0, (-1, settings.num_frames))
            tensors[f"shots_{stride}"] = torch.tensor([_shots(*stretch) for stretch in stretches])
        return tensors

    return write_latents(folder, in_files("stretches", settings.num_worlds, settings.worlds_per_file, encode), stop)


def draw_clips(settings: StretchSettings) -> UInt8[Tensor, "clips frames 3 64 64"]:
    """Return the pixels of all stretches, those of a world one after the other, from coarse to fine."""
    stretches = [
        place
        for number in range(settings.num_worlds)
        for stride, count in zip(settings.strides, settings.num_stretches, strict=True)
        for place in _places(stretch_world(number, settings), stride, count, settings.num_frames)
    ]
    return _pictures(stretches)


def stretch_world(number: int, settings: StretchSettings) -> SpriteWorld:
    """Return world `number` of the cache: an endless timeline of random shots."""
    is_calm = number % settings.calm_every == settings.calm_every - 1
    least, most = (frames * (10 if is_calm else 1) for frames in settings.shot_frames)
    last = _STARTS + settings.num_frames * max(settings.strides)
    return random_world(settings.first_seed + number, num_shots=2 + last // least, shot_frames=(least, most))


def _places(world: SpriteWorld, stride: int, count: int, num_frames: int) -> Iterator[tuple[SpriteWorld, range]]:
    starts = np.random.default_rng([world.seed, 3, stride]).integers(0, _STARTS, count).tolist()
    return ((world, range(start, start + num_frames * stride, stride)) for start in starts)


def _pictures(stretches: Sequence[tuple[SpriteWorld, range]]) -> UInt8[Tensor, "stretches frames 3 64 64"]:
    return torch.from_numpy(np.stack(drawn(stretches, torch.get_num_threads()))).permute(0, 1, 4, 2, 3)


def _shots(world: SpriteWorld, frames: range) -> list[int]:
    return [_SHOT_NUMBERS[world.shot(frame)] for frame in frames]


_SHOT_NUMBERS = {shot: number for number, shot in enumerate(training_shots())}


class SpanSource(ABC):
    """Long videos, seen as clips at all levels of the tree."""

    strides: Sequence[int]
    """Of the levels, from coarse to fine."""
    empty: Tensor
    """The embedding of no caption, (tokens, width)."""

    @abstractmethod
    def draw(self, levels: Sequence[int], num_frames: int, generator: Generator) -> Drawn:
        """Return a random clip for every level asked for; 0 is the coarsest."""


class SpriteStretches(SpanSource):
    """The stretches of `encode_stretches`, in memory."""

    def __init__(self, folder: Path, captions: Path, strides: Sequence[int]) -> None:
        """Read all files of `folder`, and the embeddings of all captions.

        Raises InputError where there are none, CheckpointError where those of a stride are missing.
        """
        self.strides = strides
        names = [f"{kind}_{stride}" for kind in ("latents", "shots") for stride in strides]
        found = list(read_latents(folder, names, "stretches_*").values())
        self.latents, self.shots = found[: len(strides)], found[len(strides) :]
        tensors = load_file(captions)
        self.table, self.empty = tensors["table"], tensors["empty"].float()

    def draw(self, levels: Sequence[int], num_frames: int, generator: Generator) -> Drawn:
        """Return random clips; a shot has the same one of its captions all through a clip, the canonical one beside."""
        clips, texts, plain = [], [], []
        for level in levels:
            latents, shots = self.latents[level], self.shots[level]
            stretch = _below(len(latents), generator)
            start = _below(latents.shape[1] - num_frames + 1, generator)
            seen = shots[stretch, start : start + num_frames]
            num_variants = self.table.shape[1]
            variant = (seen + _below(num_variants, generator)) % num_variants
            clips.append(latents[stretch, start : start + num_frames].float())
            texts.append(self.table[seen, variant].float())
            plain.append(self.table[seen, 0].float())
        stride, latents = torch.tensor([self.strides[level] for level in levels]), torch.stack(clips).transpose(1, 2)
        return Drawn(latents=latents, texts=torch.stack(texts), plain=torch.stack(plain), stride=stride)


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

    def draw(self, levels: Sequence[int], num_frames: int, generator: Generator) -> Drawn:
        """Return random nodes of the tree: an episode, a place of the span in it, and a node of the level."""
        clips, texts = [], []
        for episode, frames in self.draw_places(levels, num_frames, generator):
            clips.append(self.latents[episode][frames].float())
            texts.append(self.table[self.rows[episode][frames]])
        stride = torch.tensor([self.strides[level] for level in levels])
        told = torch.stack(texts)
        return Drawn(latents=torch.stack(clips).transpose(1, 2), texts=told, plain=told, stride=stride)

    def draw_places(
        self, levels: Sequence[int], num_frames: int, generator: Generator
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield the number of an episode, and frames of it, for every level asked for."""
        for level in levels:
            episode = int(torch.randint(len(self.latents), (), generator=generator))
            yield episode, list(draw_node(len(self.latents[episode]), level, self.strides, num_frames, generator))


def _below(stop: int, generator: Generator) -> int:
    return int(torch.randint(stop, (), generator=generator))
