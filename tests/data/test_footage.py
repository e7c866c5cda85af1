import numpy as np
import pytest
import torch

from longtake.data.footage import Footage, Recording, centre_square, draw_windows, gathered, held_out, in_memory
from longtake.data.footage_files import sprite_worlds
from longtake.data.sprite_captions import parse_caption
from longtake.data.sprites import random_world
from longtake.errors import InputError


def counting(name: str, num_frames: int, height: int = 16, width: int = 16) -> Recording:
    """A recording whose frame number is its grey level."""

    def read(start: int, stop: int):
        return (np.full((height, width, 3), frame, np.uint8) for frame in range(start, stop))

    return Recording(name=name, num_frames=num_frames, fps=8.0, read=read)


def footage_of(*lengths: int) -> Footage:
    named = [counting(f"r{number}", length) for number, length in enumerate(lengths)]
    return gathered(named, size=8, min_frames=1, looked_for="recordings")


def test_a_clip_is_the_middle_square_resized_without_blurring():
    picture = torch.rand(3, 20, 33, generator=torch.Generator().manual_seed(0)).mul(255).byte()
    frame = picture.permute(1, 2, 0).numpy()
    recording = Recording(name="a", num_frames=2, fps=None, read=lambda start, stop: [frame] * (stop - start))
    clip = Footage(recordings=(recording,), size=8).clip(0, 0, 2)
    assert clip.shape == (2, 8, 8, 3) and clip.dtype == np.uint8
    square = picture[None, :, :, 6:26].float()
    # Half-way between pixel centres 2.5 i + 0.75, four neighbours each, nothing else.
    places = torch.arange(8) * 2.5 + 0.75
    low, share = places.floor().long(), places % 1
    rows = square[:, :, low] * (1 - share[:, None]) + square[:, :, low + 1] * share[:, None]
    expected = (rows[..., low] * (1 - share) + rows[..., low + 1] * share).round()
    np.testing.assert_array_equal(clip[0], expected[0].permute(1, 2, 0).numpy())


def test_frames_may_change_their_size_on_the_way():
    def read(start: int, stop: int):
        return (np.zeros((8 + frame, 10, 3), np.uint8) for frame in range(start, stop))

    recording = Recording(name="a", num_frames=4, fps=None, read=read)
    assert Footage(recordings=(recording,), size=8).clip(0, 0, 4).shape == (4, 8, 8, 3)


def test_short_recordings_are_skipped_and_the_reasons_told():
    found = [counting("a", 16), counting("b", 15), ("c", "there is no video in it")]
    footage = gathered(found, size=8, min_frames=16, looked_for="recordings")
    assert [recording.name for recording in footage.recordings] == ["a"]
    assert footage.skipped == (("b", "15 of the 16 frames needed"), ("c", "there is no video in it"))
    assert footage.summary() == (
        "1 recording, 16 frames; 2 skipped: b (15 of the 16 frames needed); c (there is no video in it)"
    )


def test_a_long_list_of_skipped_files_stays_one_line_but_is_kept():
    found = [counting("a", 16), *((f"x{number}", "broken") for number in range(30))]
    footage = gathered(found, size=8, min_frames=1, looked_for="recordings")
    assert len(footage.skipped) == 30
    assert footage.summary().endswith("x9 (broken); and 20 more")


def test_nothing_left_says_what_was_looked_for():
    with pytest.raises(
        InputError, match=r"looked for films in /x; all 1 were skipped: a \(8 of the 16 frames needed\)"
    ):
        gathered([counting("a", 8)], size=8, min_frames=16, looked_for="films in /x")
    with pytest.raises(InputError, match="looked for films in /x; there is none"):
        gathered([], size=8, min_frames=16, looked_for="films in /x")


def test_every_nth_recording_is_held_out():
    training, evaluation = held_out(footage_of(1, 2, 3, 4, 5, 6, 7), every=3)
    assert [recording.num_frames for recording in training.recordings] == [1, 2, 4, 5, 7]
    assert [recording.num_frames for recording in evaluation.recordings] == [3, 6]
    for every in (1, 8):
        with pytest.raises(InputError, match="hold back"):
            held_out(footage_of(1, 2, 3, 4, 5, 6, 7), every=every)


def test_footage_in_memory_is_read_once_and_equal():
    reads = []
    plain = counting("a", 20)

    def read(start: int, stop: int):
        reads.append((start, stop))
        return plain.read(start, stop)

    footage = Footage(recordings=(Recording(name="a", num_frames=20, fps=None, read=read),), size=8)
    kept = in_memory(footage)
    np.testing.assert_array_equal(kept.clip(0, 3, 9), footage_of(20).clip(0, 3, 9))
    kept.clip(0, 0, 20)
    assert reads == [(0, 20)]


def test_windows_fit_and_reach_everything():
    footage = footage_of(3, 5, 4, 100)
    drawn = draw_windows(footage, 4, 4000, torch.Generator().manual_seed(0))
    assert {recording for recording, _ in drawn} == {1, 2, 3}
    assert {start for recording, start in drawn if recording == 1} == {0, 1}
    assert {start for recording, start in drawn if recording == 3} == set(range(97))
    shares = [sum(recording == number for recording, _ in drawn) / 4000 for number in (1, 2, 3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)


def test_windows_follow_from_the_generator():
    footage = footage_of(50, 60, 70)
    first, second, other = (draw_windows(footage, 16, 20, torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert first == second != other


def test_clips_longer_than_everything_are_refused():
    with pytest.raises(InputError, match="no recording has 16 frames, the longest has 15"):
        draw_windows(footage_of(10, 15), 16, 1, torch.Generator())


def test_sprite_worlds_come_with_caption_and_shot():
    footage = sprite_worlds(3, 40, size=64, first_seed=7)
    assert [recording.name for recording in footage.recordings] == ["world-7", "world-8", "world-9"]
    for recording in footage.recordings:
        assert recording.num_frames == 40 and recording.label is not None
        assert parse_caption(recording.label) == recording.shot
    np.testing.assert_array_equal(footage.clip(1, 5, 8), random_world(8).frames(5, 8))
    assert sprite_worlds(1, 16, size=32).clip(0, 0, 2).shape == (2, 32, 32, 3)


@pytest.mark.parametrize(("num_worlds", "num_frames"), [(0, 16), (2, 15), (2, 0)])
def test_sprite_worlds_that_leave_nothing_are_refused(num_worlds: int, num_frames: int):
    with pytest.raises(InputError, match=f"looked for {num_worlds} sprite worlds of {num_frames} frames"):
        sprite_worlds(num_worlds, num_frames, min_frames=16)


def test_the_middle_is_cut_out_and_resized():
    clip = np.zeros((2, 4, 8, 3), np.uint8)
    clip[:, :, 2:4], clip[:, :, 4:6], clip[:, :, :2], clip[:, :, 6:] = 100, 201, 7, 9
    assert np.array_equal(centre_square(clip, 4), clip[:, :, 2:6])
    assert np.array_equal(centre_square(clip, 2)[0, :, :, 0], [[100, 201], [100, 201]])
    # Half of the size from pixel centres blends neighbours evenly.
    assert centre_square(clip[:, :, 3:5][:, :2], 1)[0, 0, 0, 0] == 150


def test_an_enlargement_is_undone_exactly():
    small = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), dtype=np.uint8)
    assert np.array_equal(centre_square(small.repeat(4, axis=1).repeat(4, axis=2), 6), small)


def test_smoothing_averages_what_lies_between():
    stripes = np.zeros((1, 32, 32, 3), np.uint8)
    stripes[:, :, ::2] = 200
    assert set(centre_square(stripes, 4, antialias=True)[0, :, 1:3, 0].ravel().tolist()) <= {99, 100, 101}
    alternate = centre_square(np.eye(32, dtype=np.uint8)[None, :, :, None].repeat(3, axis=3) * 255, 4)
    assert alternate.max() > 100, "without smoothing single pixels survive"
