from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.data.footage_files import video_folder
from longtake.errors import InputError
from longtake.metrics.blocks import read_blocks, score_blocks
from longtake.metrics.scores import frechet_distance, gaussian
from longtake.metrics.video_networks import VideoNetwork, stand_in_looks
from longtake.video.read import open_video

CLIPS = VideoNetwork(
    name="means", digest=None, least_frames=1, read=lambda clips: (clips.mean((1, 2, 3)) / 100).astype(np.float32)
)


def write(folder: Path, frames: np.ndarray) -> Path:
    """A folder of evenly coloured 8x8 pictures; frames (n, 3)."""
    folder.mkdir(parents=True)
    for number, colour in enumerate(frames):
        Image.fromarray(np.broadcast_to(colour, (8, 8, 3)).astype(np.uint8).copy()).save(folder / f"{number:06d}.png")
    return folder


def blocks(folder: Path) -> Iterator[np.ndarray]:
    return video_folder(folder, size=None, min_frames=1, open_video=open_video).clips(0, 4)


def videos(root: Path, seed: int, count: int, drift: float) -> tuple[list[Path], np.ndarray]:
    rng = np.random.default_rng(seed)
    colours = rng.integers(60, 90, (count, 18, 3)) + (drift * np.arange(18)[None, :, None]).astype(int)
    return [write(root / f"{seed}-{number}", one) for number, one in enumerate(colours)], colours


def test_scores_are_those_of_blocks_at_the_same_place_and_their_means(tmp_path: Path):
    real, real_colours = videos(tmp_path, 0, 6, 0.0)
    fake, fake_colours = videos(tmp_path, 1, 5, 4.0)
    rows = [[read_blocks(blocks(path), CLIPS, CLIPS) for path in paths] for paths in (real, fake)]
    scores = score_blocks(rows[0], rows[1], None)
    cut = [colours[:, :16].reshape(-1, 4, 4, 3) / 100 for colours in (real_colours, fake_colours)]
    fvd = [frechet_distance(*(gaussian(each[:, i].mean(1)) for each in cut)) for i in range(4)]
    fid = [frechet_distance(*(gaussian(each[:, i].reshape(-1, 3)) for each in cut)) for i in range(4)]
    np.testing.assert_allclose(scores.fvd, fvd, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores.fid, fid, rtol=1e-4, atol=1e-6)
    assert scores.block_fvd == pytest.approx(np.mean(fvd), rel=1e-4)
    assert scores.avg_fid == pytest.approx(np.mean(fid), rel=1e-4)
    assert scores.clips_per_part == 5 and scores.block_fvd_shrunk is None
    assert scores.block_fvd_floor is not None and 0 < scores.block_fvd_floor < scores.block_fvd
    assert scores.fvd[0] < scores.fvd[-1] and scores.kvd[0] < scores.kvd[-1]


def test_parts_pool_their_blocks(tmp_path: Path):
    real, _ = videos(tmp_path, 2, 2, 0.0)
    rows = [read_blocks(blocks(path), CLIPS, CLIPS) for path in real]
    scores = score_blocks(rows, rows, 2)
    assert scores.clips_per_part == 4 and len(scores.fvd) == 2
    assert scores.block_fvd == pytest.approx(0, abs=1e-6) and scores.avg_fid == pytest.approx(0, abs=1e-6)


def test_too_little_for_a_distance_is_said(tmp_path: Path):
    real, _ = videos(tmp_path, 3, 1, 0.0)
    rows = [read_blocks(blocks(real[0]), CLIPS, CLIPS)]
    with pytest.raises(InputError, match="fewer than 2 blocks"):
        score_blocks(rows, rows, None)


def test_looks_of_a_frame_are_those_of_a_clip_that_stands_still():
    from longtake.metrics.judge import Judge

    frame = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    looks = stand_in_looks().read(frame[:, None])
    np.testing.assert_allclose(looks, Judge.load().features(np.repeat(frame[None], 16, axis=1))[:, :128], atol=1e-4)
