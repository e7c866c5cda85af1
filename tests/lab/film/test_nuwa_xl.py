"""The film as an episode: captions of every frame, and a model to start from that tells them apart."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.__main__ import main
from lab.film import nuwa_xl as recipe
from longtake.data.episodes import episode_folders, read_captions
from longtake.train.nuwa_xl.stages import Words
from longtake.train.nuwa_xl.start import read_start
from longtake.train.sprites.build import SpriteSizes, build_vae
from longtake.video.read import open_video

FRAMES = recipe.SECONDS * recipe.FPS


def test_every_frame_has_one_caption() -> None:
    text = recipe.CAPTION_FILE.read_text(encoding="ascii")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["start"] for row in rows] == [0, *(row["stop"] for row in rows[:-1])]
    assert rows[-1]["stop"] == FRAMES == 3576 and all(row["stop"] > row["start"] for row in rows)
    captions = read_captions(recipe.CAPTION_FILE)
    assert captions.at(0) == rows[0]["text"] and captions.at(FRAMES - 1) == rows[-1]["text"]
    assert captions.at(FRAMES) == ""
    assert len(set(captions.texts)) > 170 and all(words.strip() == words != "" for words in captions.texts)


def test_the_episode_is_read_with_its_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    monkeypatch.setattr(recipe, "film_file", lambda source, scratch: source)
    monkeypatch.setattr(recipe, "film_frames", lambda film, seconds, fps: frames)
    recipe.write_episode(tmp_path / "film.mp4", tmp_path / "episodes" / "film")
    found = episode_folders(tmp_path / "episodes", size=64, min_frames=20, open_video=open_video)
    np.testing.assert_array_equal(found.footage.clip(0, 0, 20), frames)
    assert (
        found.footage.recordings[0].fps == pytest.approx(6) and found.captions[0].at(100) == found.captions[0].texts[2]
    )
    assert "Blender Foundation" in (tmp_path / "episodes" / "film" / "ATTRIBUTION.txt").read_text()


def test_the_start_tells_all_captions_apart(tmp_path: Path) -> None:
    build_vae(SpriteSizes()).save_pretrained(tmp_path / "vae")
    recipe.write_start(tmp_path / "vae", tmp_path / "start")
    start = read_start(str(tmp_path / "start"))
    assert start.size == 64
    words, texts = Words(start, torch.device("cpu")), sorted(set(read_captions(recipe.CAPTION_FILE).texts))
    assert words.notes(texts) == [f"captions: {len(texts)} different ones"]
    states = words.embed(texts).flatten(1)
    distance = torch.cdist(states, states) + 1e9 * torch.eye(len(states))
    assert distance.min() > 0.1 * states.norm(dim=1).mean()


def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["film", "nuwa-xl", str(tmp_path / "nowhere.mp4"), str(tmp_path / "new")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("longtake: cannot read the film from") and message.count("\n") == 1
    assert not (tmp_path / "new").exists()
