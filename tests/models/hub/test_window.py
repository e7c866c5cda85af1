"""Which numbers of latent frames a network can be given at once."""

import pytest

from longtake.errors import InputError
from longtake.model import Timing
from longtake.models.hub.configs import Configs

BLOCKS = Timing(window_lengths=range(2, 33, 5))


@pytest.mark.parametrize(("num_frames", "next_legal"), [(1, 2), (3, 2), (6, 2), (8, 7), (33, 32), (500, 32)])
def test_a_window_of_no_length_is_refused_with_the_next_that_is_one(num_frames, next_legal):
    configs = Configs(name="a", where="models/a", index={}, parts={})
    with pytest.raises(InputError) as refusal:
        configs.check_window(num_frames, BLOCKS)
    assert str(refusal.value) == (
        f"models/a/longtake.json: num_frames {num_frames} is no window of this network, which takes 2 to 32 latent "
        f"frames in steps of 5; the next is {next_legal}"
    )


def test_every_legal_window_is_taken():
    for num_frames in (2, 7, 32):
        Configs(name="a", where="models/a", index={}, parts={}).check_window(num_frames, BLOCKS)


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_latents_and_pixels_lead_to_each_other(stride):
    timing = Timing(stride=stride)
    assert [timing.pixel_frames(n) for n in range(4)] == [0, 1, 1 + stride, 1 + 2 * stride]
    assert all(timing.latent_frames(timing.pixel_frames(n)) == n for n in range(1, 9))
    assert timing.latent_frames(2 + stride) == 3
