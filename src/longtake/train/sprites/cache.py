"""Latents of many sprite worlds and embeddings of all captions, computed once: the data of the denoiser."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import pixel_unshuffle
from transformers import CLIPTextModel, CLIPTokenizer

from longtake.data.sprites import SpriteWorld, drawn, random_world, training_shots
from longtake.train.fit.latents import Stop, in_files, never, read_latents, write_latents
from longtake.train.fit.writing import write_tensors
from longtake.train.sprites.autoencode import encode_scaled
from longtake.train.sprites.build import AutoencoderKL
from longtake.train.sprites.text import captions_of, tokens_of
from longtake.typed import Typed

FRAMES_AT_ONCE = 48
_TOLD_SECONDS = 10
"""Seconds after which it is said again how far the captions are."""


@dataclass(frozen=True, kw_only=True)
class WorldFiles(Typed):
    """Which worlds are encoded, and into which files."""

    first_seed: int = 2_000_000
    """Seed of the first world; the others count up."""
    worlds_per_file: int = 50
    """Worlds in one file; a broken-off run continues at the file it was writing."""


@dataclass(frozen=True, kw_only=True)
class CacheSettings(WorldFiles):
    """How much video is drawn."""

    num_worlds: int
    """Worlds, of one shot each but for the last `num_switches`."""
    num_frames: int
    """Frames of every world."""
    frame_step: int = 1
    """Distance of these frames in the world; more than 1 gives varied pictures instead of video."""
    num_switches: int = 0
    """So many of the worlds, the last ones, show something else from the middle of their frames on."""


def encode_worlds(vae: AutoencoderKL, settings: CacheSettings, folder: Path, stop: Stop = never) -> bool:
    """Draw and encode all worlds into `folder`, unit variance, float16; files that exist are kept. Returns whether all
    are there.

    Every file holds `latents` (worlds, frames, channels, height, width) and `shots` (worlds, frames).
    `stop(number)` is asked before every file.
    """
    numbers = {shot: number for number, shot in enumerate(training_shots())}

    def encode(places: range) -> dict[str, Tensor]:
        worlds = [_some_frames(number, settings) for number in places]
        frames = torch.from_numpy(np.stack(drawn(worlds, torch.get_num_threads())))
        latents = encode_pictures(vae, frames.flatten(0, 1).permute(0, 3, 1, 2)).unflatten(0, frames.shape[:2])
        return {
            "latents": latents,
            "shots": torch.tensor([[numbers[world.shot(frame)] for frame in frames] for world, frames in worlds]),
        }

    return write_latents(folder, in_files("worlds", settings.num_worlds, settings.worlds_per_file, encode), stop)


def _some_frames(number: int, settings: CacheSettings) -> tuple[SpriteWorld, range]:
    """Return a world, and which of its frames are encoded."""
    seed = settings.first_seed + number
    first = int(np.random.default_rng([seed, 2]).integers(0, 2000))
    shown, later = random_world(seed, num_shots=2).timeline.values()
    middle = first + settings.num_frames // 2 * settings.frame_step
    switches = number >= settings.num_worlds - settings.num_switches
    world = SpriteWorld(seed, {0: shown, middle: later} if switches else {0: shown})
    return world, range(first, first + settings.num_frames * settings.frame_step, settings.frame_step)


def encode_pictures(vae: AutoencoderKL, frames: UInt8[Tensor, "frames 3 64 64"]) -> Float[Tensor, "frames 16 8 8"]:
    """Return the latents of frames, unit variance, float16, on the CPU, computed in bfloat16 where the network is."""
    with torch.autocast(vae.device.type, torch.bfloat16):
        parts = (part.to(vae.device) for part in frames.split(FRAMES_AT_ONCE))
        latents = [encode_scaled(vae, part).half().cpu().contiguous() for part in parts]
    return torch.cat(latents)


@torch.no_grad()
def embed_captions(
    encoder: CLIPTextModel, tokenizer: CLIPTokenizer, num_variants: int, path: Path, stop: Stop = never
) -> bool:
    """Write `table` (shots, variants, tokens, width), float16, and `empty` (tokens, width) for no prompt.

    `stop(number)` is asked before every shot; returns whether the file is written.
    """

    def states(captions: list[str]) -> Float[Tensor, "captions tokens width"]:
        return encoder(tokens_of(tokenizer, captions)).last_hidden_state.half()

    shots, table, told = training_shots(), [], time.monotonic()
    print(
        f"captions: {len(shots) * num_variants:,}, of {len(shots):,} shots, are embedded into {path.name}", flush=True
    )
    for number, shot in enumerate(shots):
        if stop(number):
            return False
        table.append(states(captions_of(shot, num_variants)))
        if time.monotonic() - told > _TOLD_SECONDS:
            print(f"captions: {number + 1:,} of {len(shots):,} shots", flush=True)
            told = time.monotonic()
    write_tensors({"table": torch.stack(table), "empty": states([""])[0]}, path)
    return True


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Random clips with their texts."""

    latents: Float[Tensor, "clips channels frames height width"]
    texts: Float[Tensor, "clips frames tokens width"]
    """Of what each frame shows."""
    plain: Float[Tensor, "clips frames tokens width"]
    """The same in canonical captions, never dropped."""
    stride: Int[Tensor, "clips"]
    """Frames of the video from one frame of a clip to the next."""

    def to(self, device: torch.device) -> "Drawn":
        """Return the same on a device."""
        return Drawn(**{name: value.to(device) for name, value in vars(self).items()})


class LatentClips:
    """Random windows of the cached worlds with their captions' embeddings."""

    def __init__(self, folder: Path, captions: Path, cell: int = 1) -> None:
        """Read all files of `folder` into memory, and the embeddings; squares of so many latents a side become one."""
        latents, self.shots = read_latents(folder, ("latents", "shots"), "worlds_*").values()
        self.latents = pixel_unshuffle(latents, cell)
        tensors = load_file(captions)
        self.table, self.empty = tensors["table"], tensors["empty"]

    def draw(self, num_clips: int, num_frames: int, drop_text: float, generator: torch.Generator) -> Drawn:
        """Clips and texts; in a share `drop_text` of the clips all texts are the empty prompt's."""
        world = torch.randint(len(self.latents), (num_clips,), generator=generator)
        last = self.latents.shape[1] - num_frames + 1
        starts = torch.randint(last, (num_clips,), generator=generator).tolist()
        variant = torch.randint(self.table.shape[1], (num_clips,), generator=generator)
        dropped = torch.rand(num_clips, generator=generator) < drop_text
        places = [(w, slice(s, s + num_frames)) for w, s in zip(world.tolist(), starts, strict=True)]
        shots = torch.stack([self.shots[place] for place in places])
        texts = torch.where(dropped[:, None, None, None], self.empty, self.table[shots, variant[:, None]])
        latents = torch.stack([self.latents[place].float() for place in places]).transpose(1, 2)
        stride = torch.ones(num_clips, dtype=torch.long)
        return Drawn(latents=latents, texts=texts.float(), plain=self.table[shots, 0].float(), stride=stride)
