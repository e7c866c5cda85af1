import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.errors import InputError
from longtake.metrics.clips import ClipDraw, draw
from longtake.metrics.fvd import mean_psnr, score_sets
from longtake.metrics.scores import HIGHEST, frechet_distance, gaussian, kernel_distance
from longtake.metrics.video_networks import Rows, VideoNetwork

PLAN = ClipDraw(num_frames=4, num_clips=100, size=None, seed=0)


def describe(clips: np.ndarray) -> Rows:
    """Three numbers of a clip: its mean colour."""
    return (clips.mean((1, 2, 3)) / 100).astype(np.float32)


def classify(clips: np.ndarray) -> Rows:
    rows = np.stack([clips.mean((1, 2, 3, 4)) / 255, 1 - clips.mean((1, 2, 3, 4)) / 255], axis=1)
    return rows.astype(np.float32)


NETWORK = VideoNetwork(name="means", digest=None, least_frames=1, read=describe)
CLASSIFIER = VideoNetwork(name="light", digest=None, least_frames=1, read=classify)


def write_videos(
    root: Path, num_videos: int, bright: int, shape: tuple[int, int] = (8, 8), length: int = 4
) -> list[Path]:
    rng = np.random.default_rng(bright)
    folders = [root / f"{index:03d}" for index in range(num_videos)]
    for folder in folders:
        folder.mkdir(parents=True)
        colour = rng.integers(bright, bright + 60, 3, dtype=np.uint8)
        for frame in range(length):
            Image.fromarray(np.broadcast_to(colour, (*shape, 3)).copy()).save(folder / f"{frame:06d}.png")
    return folders


def colours(folders: list[Path]) -> Rows:
    return np.stack([np.asarray(Image.open(folder / "000000.png"))[0, 0] / 100 for folder in folders]).astype(
        np.float32
    )


def test_the_scores_are_those_of_the_features(tmp_path: Path):
    real, fake = write_videos(tmp_path / "r", 12, 50), write_videos(tmp_path / "f", 9, 120)
    scores = score_sets(draw(real, PLAN), draw(fake, PLAN), PLAN, NETWORK, CLASSIFIER)
    assert scores.fvd == pytest.approx(frechet_distance(gaussian(colours(real)), gaussian(colours(fake))), rel=1e-4)
    assert scores.kvd == pytest.approx(kernel_distance(colours(real), colours(fake)), rel=1e-4)
    assert (scores.clips_real, scores.clips_fake, scores.features) == (12, 9, 3)
    assert scores.inception_score is not None and 1 < scores.inception_score < 2
    assert scores.inception_score_deviation is None
    assert score_sets(draw(real, PLAN), draw(fake, PLAN), PLAN, NETWORK, None).inception_score is None


def test_other_sizes_are_refused_and_size_brings_them_together(tmp_path: Path):
    real, fake = write_videos(tmp_path / "r", 3, 50), write_videos(tmp_path / "f", 3, 50, shape=(12, 16))
    with pytest.raises(InputError, match=r"000 has 16x12 pixels and .*000 has 8x8; --size 8 crops"):
        score_sets(draw(real, PLAN), draw(fake, PLAN), PLAN, NETWORK, None)
    plan = ClipDraw(num_frames=4, num_clips=100, size=8, seed=0)
    # The same colours: the writer draws them by brightness alone.
    assert score_sets(draw(real, plan), draw(fake, plan), plan, NETWORK, None).fvd == pytest.approx(0, abs=1e-6)


def test_one_clip_is_not_enough(tmp_path: Path):
    one, two = write_videos(tmp_path / "r", 1, 50), write_videos(tmp_path / "f", 2, 50)
    with pytest.raises(InputError, match="one clip only"):
        score_sets(draw(one, PLAN), draw(two, PLAN), PLAN, NETWORK, None)


def test_psnr_of_pairs(tmp_path: Path):
    real = write_videos(tmp_path / "r", 3, 50)
    assert mean_psnr(draw(real, PLAN), draw(real, PLAN), PLAN) == HIGHEST


def test_memory_does_not_grow_with_the_videos(tmp_path: Path):
    def peak(folders: list[Path]) -> int:
        plan = ClipDraw(num_frames=4, num_clips=1000, size=None, seed=0)
        drawn = draw(folders, plan)
        tracemalloc.start()
        score_sets(drawn, drawn, plan, NETWORK, None)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few = write_videos(tmp_path / "few", 4, 50, (48, 48), length=100)
    many = write_videos(tmp_path / "many", 6, 50, (48, 48), length=160)
    peak(few)
    assert peak(many) < 1.15 * peak(few)
