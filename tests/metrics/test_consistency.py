import tracemalloc

import numpy as np
import pytest

from lab.common import real_step
from longtake.data.sprites import Shot, SpriteWorld
from longtake.metrics.consistency import consistency

SHOT = Shot(object="fish", scene="sea", motion="circles")
VIDEO = SpriteWorld(2, {0: SHOT}).frames(0, 200)


def test_a_real_video_has_no_fault():
    figures = consistency([VIDEO], seams=range(16, 200, 16))
    assert figures.num_frames == 200
    assert figures.seam_ratio == pytest.approx(1, abs=0.15)
    assert figures.longest_freeze == 0 and figures.loop_period is None
    assert figures.colour_drift < 25
    assert 0.8 < figures.contrast_ratio < 1.2 and 0.8 < figures.sharpness_ratio < 1.2
    assert 0.8 < figures.step_ratio < 1.25
    assert 0.7 < figures.mean_step / real_step({0: SHOT}, 200) < 1.4


def test_figures_do_not_depend_on_the_chunks():
    whole = consistency([VIDEO])
    assert whole == consistency(VIDEO[start : start + 7] for start in range(0, 200, 7))


def test_mean_step_is_exact():
    flat = np.zeros((5, 16, 16, 3), np.uint8)
    flat[2:] = 40
    assert consistency([flat]).mean_step == pytest.approx(10)


def test_of_a_single_frame_there_is_no_change_and_no_loop():
    figures = consistency([VIDEO[:1]])
    assert figures.mean_step is None and figures.loop_score is None and figures.longest_freeze == 0
    assert [consistency([VIDEO[:frames]]).loop_score is None for frames in (2, 3, 4)] == [True, True, False]


def test_a_seam_is_seen():
    other = SpriteWorld(9, {0: SHOT}).frames(0, 100)
    cut = np.concatenate([VIDEO[:100], other])
    assert (consistency([cut], seams=[100]).seam_ratio or 0) > 2
    assert consistency([cut]).seam_ratio is None


def test_a_change_that_the_story_asks_for_counts_nowhere_and_is_counted():
    other = SpriteWorld(9, {0: Shot(object="car", scene="desert", motion="drives right")}).frames(0, 100)
    story = np.concatenate([VIDEO[:100], other])
    seams = range(10, 200, 10)
    figures = consistency([story], seams=seams, cuts=[0, 100])
    assert figures.cuts == 1
    assert figures.seam_ratio == pytest.approx(1, abs=0.2) and (consistency([story], seams=seams).seam_ratio or 0) > 1.5
    assert figures.mean_step < consistency([story]).mean_step
    # The last block shows another thing than the first because it was asked to.
    assert figures.colour_drift is figures.contrast_ratio is figures.sharpness_ratio is figures.step_ratio is None
    assert consistency([story], cuts=[190]).colour_drift is not None


def test_a_loop_is_seen_on_both_sides_of_a_change_of_the_story():
    other = SpriteWorld(9, {0: Shot(object="car", scene="desert", motion="drives right")}).frames(0, 96)
    loops = [clip[np.arange(96) % 16] for clip in (VIDEO, other)]
    figures = consistency([np.concatenate(loops)], cuts=[96])
    assert figures.loop_period == 16 and figures.loop_score is not None and figures.loop_score < 0.01
    assert consistency([np.concatenate([VIDEO[:96], other])], cuts=[96]).loop_period is None


@pytest.mark.parametrize(("num_frames", "is_comparable"), [(64, False), (127, False), (128, True)])
def test_blocks_that_overlap_are_not_compared(num_frames: int, is_comparable: bool):
    figures = consistency([VIDEO[:num_frames]])
    assert (figures.colour_drift is not None) == (figures.step_ratio is not None) == is_comparable


def test_drift_of_colour_contrast_and_sharpness_is_seen():
    fade = np.linspace(1, 0.5, 200)[:, None, None, None]
    figures = consistency([(VIDEO * fade + 60 * (1 - fade)).astype(np.uint8)])
    assert figures.colour_drift > 30
    assert figures.contrast_ratio < 0.7 and figures.sharpness_ratio < 0.7 and figures.step_ratio < 0.8


def test_a_freeze_is_seen():
    video = VIDEO.copy()
    video[50:71] = video[50]
    assert consistency([video]).longest_freeze == 20


@pytest.mark.parametrize("period", [2, 3, 24])
def test_a_loop_is_seen(period: int):
    figures = consistency([VIDEO[np.arange(200) % period]])
    assert figures.loop_period == period and figures.loop_score is not None and figures.loop_score < 0.01


def test_curves_are_exact():
    flat = np.zeros((8, 16, 16, 3), np.uint8)
    flat[4:, :, :, 0] = 60
    flat[:, ::2, :, 1] = 100
    curves = consistency([flat], block=4).curves
    assert curves["distance of the mean colour from the start"] == pytest.approx([0] * 4 + [60] * 4)
    assert curves["contrast"] == pytest.approx(flat.std((1, 2, 3)), rel=1e-6)
    # Rows that alternate by 100 in one of three colours.
    assert curves["sharpness"] == pytest.approx([100 / 3] * 8, rel=1e-6)
    assert curves["change from frame to frame"] == pytest.approx([0, 0, 0, 20, 0, 0, 0])


def test_memory_does_not_grow_with_the_length():
    def peak(length: int) -> int:
        tracemalloc.start()
        consistency(VIDEO[:10] for _ in range(length // 10))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(1500) < 1.1 * peak(300)


def test_the_start_ends_where_the_story_asks_for_something_else():
    story = np.concatenate([np.full((24, 16, 16, 3), 40, np.uint8), np.full((72, 16, 16, 3), 100, np.uint8)])
    figures = consistency([story], cuts=[24])
    away = np.linalg.norm([60] * 3)
    assert figures.curves["distance of the mean colour from the start"] == pytest.approx([0] * 24 + [away] * 72)
    assert consistency([np.concatenate([story, story[24:]])], cuts=[24]).colour_drift is None
