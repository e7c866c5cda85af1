from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lab.score.judge import wrong_prompt
from longtake.data.sprites import Shot, SpriteWorld
from longtake.errors import InputError
from longtake.metrics.controls import CONTROLS
from longtake.metrics.judge import Judge
from longtake.metrics.prompt_accuracy import prompt_accuracy, read_clips, switch_response

FIRST = Shot(object="fish", scene="underwater", motion="sails left")
SECOND = Shot(object="pumpkin", scene="city", motion="pulses")
TIMELINE = {0: FIRST, 40: SECOND}
VIDEO = SpriteWorld(4, TIMELINE).frames(0, 96)
JUDGE = Judge.load()


def test_a_real_video_is_right_and_clips_across_a_change_are_left_out():
    scores = prompt_accuracy(VIDEO, TIMELINE, judge=JUDGE)
    assert scores == {"object": 1.0, "scene": 1.0, "motion": 1.0, "all": 1.0, "clips": 5}


def test_a_wrong_prompt_is_wrong():
    wrong = {frame: wrong_prompt(shot, frame) for frame, shot in TIMELINE.items()}
    scores = prompt_accuracy(VIDEO, wrong, judge=JUDGE)
    assert scores["object"] == scores["scene"] == scores["motion"] == scores["all"] == 0


@pytest.mark.parametrize(("name", "head"), [("frozen", "motion"), ("looped", "motion"), ("blurred", "object")])
def test_spoilt_videos_are_wrong(name: str, head: str):
    clips = [CONTROLS[name](VIDEO[start : start + 16], start) for start in (0, 16, 48, 64)]
    scores = prompt_accuracy(np.concatenate(clips[:2]), {0: FIRST}, judge=JUDGE)
    assert scores[head] == 0
    assert prompt_accuracy(np.concatenate(clips[2:]), {0: SECOND}, judge=JUDGE)[head] == 0


def test_ranges_and_strides():
    starts = [place for place, _ in read_clips(VIDEO, JUDGE, start=3, stop=70, stride=20)]
    assert starts == [3, 23, 43]
    starts = [place for place, _ in read_clips(VIDEO, JUDGE, stride=5)]
    assert starts == list(range(0, 81, 5))
    assert prompt_accuracy(VIDEO, TIMELINE, start=40, stop=72, judge=JUDGE)["clips"] == 2


def test_a_delivered_folder_is_read_with_its_enlargement(tmp_path: Path):
    for index, frame in enumerate(VIDEO[:16]):
        Image.fromarray(frame.repeat(2, 0).repeat(2, 1)).save(tmp_path / f"{index:06d}.png")
    assert prompt_accuracy(tmp_path, {0: FIRST}, scale=2, judge=JUDGE)["all"] == 1
    with pytest.raises(InputError, match="scale"):
        prompt_accuracy(tmp_path, {0: FIRST}, judge=JUDGE)


def test_bad_input():
    with pytest.raises(InputError, match="says nothing of frame 0"):
        prompt_accuracy(VIDEO, {5: FIRST}, judge=JUDGE)
    with pytest.raises(InputError, match="longer video"):
        prompt_accuracy(VIDEO[:10], {0: FIRST}, judge=JUDGE)


def test_a_late_switch_is_measured():
    late = np.concatenate([VIDEO[:40], VIDEO[30:40], VIDEO[40:80]])
    (switch,) = switch_response(late, TIMELINE, judge=JUDGE)
    assert switch["frame"] == 40 and switch["delay"] == 10 and switch["new"] == 1
    (switch,) = switch_response(np.repeat(VIDEO[:40], 2, axis=0), TIMELINE, judge=JUDGE)
    assert switch["delay"] is None and switch["new"] == 0
