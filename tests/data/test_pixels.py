import numpy as np

from longtake.data.pixels import centre_square


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
