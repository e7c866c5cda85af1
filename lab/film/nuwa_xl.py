"""The film Big Buck Bunny for NUWA-XL: python -m lab film nuwa-xl FILM FOLDER [--minutes M].

Writes FOLDER/episodes, the film at 64x64 and 6 frames a second (3,576 frames, credits included) with a caption for
every shot, and FOLDER/start, a model to start from: the embedded autoencoder trained further on the frames (some
minutes; --minutes stops it early, the same command goes on), a tokenizer of the captions' words, and a text encoder
and a UNet with random weights. FOLDER/story.json holds the captions as prompts. Then

longtake train nuwa-xl FOLDER/episodes --base FOLDER/start -o FOLDER/run
longtake generate --prompts FOLDER/story.json --model FOLDER/run/final --sampler nuwa-xl --frames 3376

The film is that of `film big-buck-bunny`. It has 201 places for a span of 3,376 frames, nearly the same: a
film learnt by heart, which shows that training works, and not that the model could invent.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
from jaxtyping import UInt8
from torch import Tensor
from tyro.conf import Positional, arg

from lab.film.big_buck_bunny import ATTRIBUTION, SIZE, film_file, film_frames, write_video
from longtake.data.episodes import CAPTIONS, episode_folders, read_captions
from longtake.models.embedded import WEIGHTS
from longtake.models.hub.load import image_decoder
from longtake.train.fit.limit import Limit
from longtake.train.fit.loop import fit
from longtake.train.fit.settings import FitSettings
from longtake.train.sprites.assemble import assemble
from longtake.train.sprites.autoencode import decode_scaled, encode_scaled
from longtake.train.sprites.build import SpriteSizes, build_text_encoder, build_unet
from longtake.train.sprites.text import end_of_text, train_tokenizer
from longtake.train.sprites.vae import VaeSettings, VaeTask
from longtake.video.read import open_video

FPS = 6
SECONDS = 596
"""The last whole second of the film; 3,576 frames."""
MAX_TOKENS = 32
"""Length of a caption in tokens, start and end included; they have up to 27, one a word."""
GUIDANCE = 2.0
EMBEDDED = WEIGHTS / "sprites" / "vae"
CAPTION_FILE = Path(__file__).parent / "assets" / "big_buck_bunny_captions.jsonl"
"""Written by hand from what the middle square of the frames shows."""

_NOTICE = f"""Big Buck Bunny (2008), {ATTRIBUTION}
https://creativecommons.org/licenses/by/3.0/
Changed: the first {SECONDS} seconds, every fourth frame, the middle square scaled to {SIZE}x{SIZE} pixels, no sound.
"""


def autoencoder() -> tuple[VaeSettings, FitSettings]:
    """The embedded autoencoder, which has seen sprites only, on frames of the film."""
    fit = FitSettings(num_steps=1_200, learning_rate=1e-3, decay_steps=900, weight_decay=0.0, ema_decay=0.995)
    return VaeSettings(), fit


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The film, and where to."""

    source: Annotated[Positional[Path], arg(metavar="FILM")]  # the film, or moviepy-2.2.1.tar.gz, which holds it
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    minutes: float | None = None  # save and stop after this time


def prepare(chosen: Settings) -> dict[str, object]:
    """Write what is missing, and return what is there. Raises InputError for another film."""
    folder = chosen.folder
    done = write(chosen.source, folder, Limit(chosen.minutes))
    report: dict[str, object] = {"episodes": f"{folder}/episodes", "start": f"{folder}/start", "finished": done}
    if done:
        frames, places = episode_frames(folder)[::12], {"embedded": EMBEDDED, "start": folder / "start" / "vae"}
        report["psnr"] = {name: round(fidelity(place, frames), 1) for name, place in places.items()}
    return {**report, "film": f"Big Buck Bunny, {ATTRIBUTION}"}


def write(source: Path, folder: Path, stop: Callable[[int], bool]) -> bool:
    """Write what is missing of both folders; return whether all is there.

    Raises InputError for another film.
    """
    episode = folder / "episodes" / "big-buck-bunny"
    if not (episode / CAPTIONS).exists():
        write_episode(source, episode)
    if not train_autoencoder(folder, stop):
        return False
    if not (folder / "start" / "longtake.json").exists():
        write_start(folder / "autoencoder" / "final", folder / "start")
    captions = read_captions(CAPTION_FILE)
    story = dict(zip(map(str, captions.starts), captions.texts, strict=True))
    (folder / "story.json").write_text(json.dumps(story, indent=1) + "\n", encoding="utf-8")
    return True


def write_episode(source: Path, folder: Path) -> None:
    """Write the film as an episode, the captions last."""
    with TemporaryDirectory() as scratch:
        frames = film_frames(film_file(source, Path(scratch)), SECONDS, FPS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ATTRIBUTION.txt").write_text(_NOTICE, encoding="utf-8")
    write_video(frames, FPS, folder / "film.mkv")
    copyfile(CAPTION_FILE, folder / CAPTIONS)


def train_autoencoder(folder: Path, stop: Callable[[int], bool]) -> bool:
    """Train the autoencoder on all frames of the episode; return whether it is finished."""
    settings, loop = autoencoder()
    vae = image_decoder(EMBEDDED, torch.device("cpu"), torch.float32).requires_grad_(True)
    return fit(VaeTask(vae, settings, episode_frames(folder)), loop, folder / "autoencoder", stop)


def episode_frames(folder: Path) -> UInt8[Tensor, "frames 3 64 64"]:
    """Return all frames of the episode."""
    footage = episode_folders(folder / "episodes", size=SIZE, min_frames=1, open_video=open_video).footage
    return torch.from_numpy(footage.clip(0, 0, footage.recordings[0].num_frames)).permute(0, 3, 1, 2).contiguous()


def fidelity(place: Path, frames: UInt8[Tensor, "frames 3 64 64"]) -> float:
    """Return the PSNR in dB of what the autoencoder in a folder makes of frames, each by itself, their mean."""
    vae = image_decoder(place, torch.device("cpu"), torch.float32)
    parts = [decode_scaled(vae, encode_scaled(vae, part)) - part / 255 for part in frames.split(48)]
    errors = torch.cat(parts).square().mean(dim=(1, 2, 3))
    return float(-10 * errors.clamp_min(1e-6).log10().mean())


def write_start(autoencoder: Path, folder: Path) -> None:
    """Write a model folder of the autoencoder and of new networks."""
    texts = read_captions(CAPTION_FILE).texts
    tokenizer = train_tokenizer(texts, MAX_TOKENS)
    torch.manual_seed(0)
    sizes = SpriteSizes()
    encoder = build_text_encoder(sizes, len(tokenizer), MAX_TOKENS, end_of_text(tokenizer))
    unet = build_unet(sizes)
    words = sorted({word.strip(",;") for text in texts for word in text.split()})
    extras = {"guidance": GUIDANCE, "clean_frames": False, "vocabulary": words, "num_frames": 16, "fps": FPS}
    with TemporaryDirectory() as scratch:
        text, network = Path(scratch) / "text", Path(scratch) / "unet"
        encoder.save_pretrained(text / "text_encoder")
        tokenizer.save_pretrained(text / "tokenizer")
        unet.save_pretrained(network)
        assemble(text, autoencoder, network, extras, folder)
