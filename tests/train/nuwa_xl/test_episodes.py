"""Recorded episodes as training data: every frame encoded once, clips with the captions of their frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.data.episodes import Captions, Episodes
from longtake.data.footage import Footage, Recording
from longtake.errors import CheckpointError, InputError
from longtake.train.fit.latents import Share
from longtake.train.nuwa_xl.data import EpisodeLatents, encode_episodes
from longtake.train.sprites.autoencode import encode_scaled
from longtake.train.sprites.build import SpriteSizes, build_vae

STRIDES = (4, 1)
FRAMES = 20


def shades(start: int, stop: int):
    return (np.full((16, 16, 3), 12 * number, np.uint8) for number in range(start, stop))


def embed(texts) -> Tensor:
    """The embedding of a caption is the number in it; of none, -1."""
    return torch.tensor([float(text or -1) for text in texts])[:, None, None].expand(-1, 2, 3)


@pytest.fixture
def episodes() -> Episodes:
    """A video whose shade and caption are the frame's number, but for the first two, which have no caption."""
    recording = Recording(name="shades", num_frames=FRAMES, fps=6.0, read=shades)
    numbers = tuple(range(2, FRAMES))
    captions = Captions(starts=numbers, stops=(None,) * len(numbers), texts=tuple(map(str, numbers)))
    return Episodes(footage=Footage(recordings=(recording,), size=16), captions=(captions,))


def test_clips_hold_the_frames_that_their_captions_name(episodes: Episodes, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build_vae(SpriteSizes(vae_channels=(8, 8, 8, 8), latent_channels=4))
    encode_episodes(vae, episodes, tmp_path)
    source = EpisodeLatents(tmp_path, episodes, embed, STRIDES)
    drawn = source.draw([0, 1, 1, 0, 1, 0], 5, torch.Generator().manual_seed(0))
    assert drawn.latents.shape == (6, 4, 5, 2, 2) and drawn.texts.shape == (6, 5, 2, 3)
    for latents, text, stride in zip(drawn.latents, drawn.texts[:, :, 0, 0], drawn.stride.tolist(), strict=True):
        last = int(text[-1])
        frames = [last - stride * back for back in range(4, -1, -1)]
        assert text.tolist() == [number if number > 1 else -1 for number in frames]
        pixels = torch.from_numpy(np.stack([next(shades(frame, frame + 1)) for frame in frames])).permute(0, 3, 1, 2)
        assert torch.allclose(latents, encode_scaled(vae, pixels).transpose(0, 1), atol=2e-2)
    assert (source.empty == -1).all()


def test_what_is_encoded_is_kept_and_checked(episodes: Episodes, tmp_path: Path) -> None:
    vae = build_vae(SpriteSizes(vae_channels=(8, 8, 8, 8), latent_channels=4))
    encode_episodes(vae, episodes, tmp_path, stop=lambda episode: True)
    with pytest.raises(InputError, match="holds no latents"):
        EpisodeLatents(tmp_path, episodes, embed, STRIDES)
    encode_episodes(vae, episodes, tmp_path)
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    encode_episodes(vae, episodes, tmp_path)
    assert file.stat().st_mtime_ns == before
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="shades.safetensors is damaged"):
        EpisodeLatents(tmp_path, episodes, embed, STRIDES)


def test_encoding_is_shared_out_and_can_be_stopped_in_the_middle(episodes: Episodes, tmp_path: Path) -> None:
    recordings = tuple(replace(episodes.footage.recordings[0], name=name) for name in "abc")
    three = Episodes(footage=replace(episodes.footage, recordings=recordings), captions=episodes.captions * 3)
    vae = build_vae(SpriteSizes(vae_channels=(8, 8, 8, 8), latent_channels=4))
    assert not encode_episodes(vae, three, tmp_path, stop=lambda frame: frame > 0)
    assert not list(tmp_path.iterdir())
    assert encode_episodes(vae, three, tmp_path, share=Share(rank=1, size=2))
    assert [path.stem for path in tmp_path.iterdir()] == ["b"]
    assert encode_episodes(vae, three, tmp_path, share=Share(rank=0, size=2))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "b", "c"]
