"""Latents of clips, computed once: the frozen encoder would be most of the work of every step of PVDM's second stage.

A clip starts at every `every`-th frame of a recording. With `every=1` a step sees exactly the clips it would see
without a cache, rounded to half precision; a larger one leaves out starts, and says so in its name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from longtake.data.footage import Footage, Frames
from longtake.models.pvdm.autoencoder import PvdmAutoencoder
from longtake.train.fit.latents import ALL, Share, Stop, in_files, never, read_latents, write_latents
from longtake.train.fit.settings import Precision
from longtake.train.fit.task import autocast
from longtake.train.pvdm.autoencoder import to_video
from longtake.train.pvdm.settings import check_every

RECORDINGS_PER_FILE = 250
_CLIPS_AT_ONCE = 8

Places = list[tuple[int, int]]
"""Recording and first frame of each clip."""


def encode_footage(
    autoencoder: PvdmAutoencoder,
    footage: Footage,
    every: int,
    folder: Path,
    stop: Stop = never,
    precision: Precision = "bf16",
    share: Share = ALL,
    per_file: int = RECORDINGS_PER_FILE,
) -> bool:
    """Encode the clips of all recordings into `folder`; files that exist are kept. Returns whether all are done.

    `stop` is asked before every file, of `per_file` recordings; the same call continues there. Raises
    InputError where no clip could have one before it in the cache.
    """
    num_frames = autoencoder.config.grid.frames
    check_every(every, num_frames)

    def encode(recordings: range) -> dict[str, Tensor]:
        places = clip_places(footage, num_frames, every, recordings.start, recordings.stop)
        groups = (places[start : start + _CLIPS_AT_ONCE] for start in range(0, len(places), _CLIPS_AT_ONCE))
        latents = [_encode(autoencoder, footage, group, precision) for group in groups]
        return {"latents": torch.cat(latents), "places": torch.tensor(places)}

    return write_latents(folder, in_files("clips", len(footage.recordings), per_file, encode), stop, share)


def clip_places(footage: Footage, num_frames: int, every: int, first: int = 0, last: int | None = None) -> Places:
    """Return where the clips of recordings first to last (half open) start, every `every` frames."""
    recordings = list(enumerate(footage.recordings))[first:last]
    return [
        (number, start)
        for number, recording in recordings
        for start in range(0, recording.num_frames - num_frames + 1, every)
    ]


@torch.no_grad()
def _encode(
    autoencoder: PvdmAutoencoder, footage: Footage, places: Places, precision: Precision
) -> Float[Tensor, "clips channels positions"]:
    device = next(autoencoder.parameters()).device
    clips = torch.from_numpy(np.stack(list(_clips(footage, places, autoencoder.config.grid.frames))))
    with autocast(device, precision):
        return autoencoder.encode(to_video(clips.to(device))).half().cpu().contiguous()


def _clips(footage: Footage, places: Places, num_frames: int) -> Iterator[Frames]:
    """Yield clips; those of one recording overlap, and are read together."""
    for recording, group in groupby(places, key=lambda place: place[0]):
        starts = [start for _, start in group]
        frames = footage.clip(recording, starts[0], starts[-1] + num_frames)
        yield from (frames[start - starts[0] :][:num_frames] for start in starts)


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """Clips of a step, each with the one before it."""

    latents: Float[Tensor, "clips channels positions"]
    previous: Float[Tensor, "clips channels positions"]
    """Zeros where a clip follows nothing."""
    recording: Int[Tensor, "clips"]


class LatentClips:
    """The clips of a cache."""

    def __init__(self, folder: Path, num_frames: int) -> None:
        """Read all files into memory; `num_frames` is the length of a clip.

        Raises InputError where there is none, CheckpointError where one is damaged.
        """
        self.latents, self.places = read_latents(folder, ("latents", "places"), "clips_*").values()
        self.shape = tuple(self.latents.shape[1:])
        row = {place: number for number, place in enumerate(map(tuple, self.places.tolist()))}
        before = [row.get((recording, start - num_frames), -1) for recording, start in row]
        self.before = torch.tensor(before)
        self.following = torch.nonzero(self.before >= 0).flatten()

    def draw(self, num_clips: int, conditional: float, generator: Generator) -> LatentBatch:
        """Return random clips, a share `conditional` of which follow the one before; every clip is equally likely."""
        follows = torch.rand(num_clips, generator=generator) < conditional
        if not len(self.following):
            follows = torch.zeros_like(follows)
        pick = torch.randint(len(self.latents), (num_clips,), generator=generator)
        later = torch.randint(max(len(self.following), 1), (num_clips,), generator=generator)
        pick = torch.where(follows, self.following[later] if len(self.following) else pick, pick)
        previous = self.latents[self.before[pick]].float() * follows[:, None, None]
        return LatentBatch(latents=self.latents[pick].float(), previous=previous, recording=self.places[pick, 0])
