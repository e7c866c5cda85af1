import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.data.footage_files import video_folder
from longtake.errors import InputError
from longtake.metrics.clips import DrawnSet, draw
from longtake.metrics.fvd import SetRows, score_sets, split_halves
from longtake.metrics.scores import frechet_distance, gaussian, kernel_distance
from longtake.metrics.video_networks import Rows, VideoNetwork
from longtake.video.read import open_video


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


def drawn(folders: list[Path], size: int | None = None) -> DrawnSet:
    footage = video_folder(folders[0].parent, size=size, min_frames=4, open_video=open_video)
    return draw(footage, 4, 100, seed=0)


def colours(folders: list[Path]) -> Rows:
    return np.stack([np.asarray(Image.open(folder / "000000.png"))[0, 0] / 100 for folder in folders]).astype(
        np.float32
    )


def test_the_scores_are_those_of_the_features(tmp_path: Path):
    real, fake = write_videos(tmp_path / "r", 12, 50), write_videos(tmp_path / "f", 9, 120)
    scores = score_sets(drawn(real), drawn(fake), NETWORK, CLASSIFIER, 0)
    assert scores.fvd == pytest.approx(frechet_distance(gaussian(colours(real)), gaussian(colours(fake))), rel=1e-4)
    assert scores.kvd == pytest.approx(kernel_distance(colours(real), colours(fake)), rel=1e-4)
    assert (scores.clips_real, scores.clips_fake, scores.features) == (12, 9, 3)
    assert scores.inception_score is not None and 1 < scores.inception_score < 2
    assert scores.inception_score_deviation is None
    assert score_sets(drawn(real), drawn(fake), NETWORK, None, 0).inception_score is None


def test_other_sizes_are_refused_and_size_brings_them_together(tmp_path: Path):
    real, fake = write_videos(tmp_path / "r", 3, 50), write_videos(tmp_path / "f", 3, 50, shape=(12, 16))
    with pytest.raises(InputError, match=r"000 has 16x12 pixels and .*000 has 8x8; --size 8 crops"):
        score_sets(drawn(real), drawn(fake), NETWORK, None, 0)
    # The same colours: the writer draws them by brightness alone.
    assert score_sets(drawn(real, 8), drawn(fake, 8), NETWORK, None, 0).fvd == pytest.approx(0, abs=1e-6)


def test_one_clip_is_not_enough(tmp_path: Path):
    one, two = write_videos(tmp_path / "r", 1, 50), write_videos(tmp_path / "f", 2, 50)
    with pytest.raises(InputError, match="one clip of 4 frames alone"):
        score_sets(drawn(one), drawn(two), NETWORK, None, 0)


def test_the_floor_is_the_distance_of_halves_of_the_real_videos(tmp_path: Path):
    real, fake = write_videos(tmp_path / "r", 12, 50), write_videos(tmp_path / "f", 9, 120)
    scores = score_sets(drawn(real), drawn(fake), NETWORK, None, 0)
    assert scores.fvd_floor is not None and 0 < scores.fvd_floor < 0.3 * scores.fvd
    assert scores.kvd_floor is not None and abs(scores.kvd_floor) < 0.3 * scores.kvd
    three = write_videos(tmp_path / "t", 3, 50)
    assert score_sets(drawn(three), drawn(fake), NETWORK, None, 0).fvd_floor is None


def test_clips_of_one_video_are_never_on_both_sides_of_the_floor():
    videos = np.repeat(np.arange(5), 3)
    rows = SetRows(features=videos[:, None].astype(np.float32), classes=np.empty((0, 0)), videos=videos)
    halves = split_halves(rows, 0)
    assert halves is not None and sorted(map(len, halves)) == [6, 9]
    assert not set(halves[0].ravel()) & set(halves[1].ravel())


def test_memory_does_not_grow_with_the_videos(tmp_path: Path):
    def peak(folders: list[Path]) -> int:
        footage = video_folder(folders[0].parent, size=None, min_frames=4, open_video=open_video)
        clips = draw(footage, 4, 1000, seed=0)
        tracemalloc.start()
        score_sets(clips, clips, NETWORK, None, 0)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few = write_videos(tmp_path / "few", 4, 50, (48, 48), length=100)
    many = write_videos(tmp_path / "many", 6, 50, (48, 48), length=160)
    peak(few)
    assert peak(many) < 1.15 * peak(few)
