import pytest

from longtake.apps.generate.settings import video_settings
from longtake.errors import InputError
from longtake.samplers import PRESETS, preset_settings
from longtake.samplers.fifo.plan import Fifo


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_the_sampler(name):
    assert video_settings(["a", "--preset", name]).method == preset_settings(name)


def test_a_setting_beside_a_preset_wins():
    method = video_settings(["a", "--preset", "realtime", "--sampler.partitions", "3"]).method
    assert isinstance(method, Fifo) and method.partitions == 3 and not method.lookahead


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'realtime'"):
        video_settings(["a", "--preset", "realtim"])


def test_one_preset_holds_and_no_other_is_dropped_without_a_word():
    with pytest.raises(InputError, match="--preset is given as 'loop' and as 'realtime'; give it once"):
        video_settings(["a", "--preset", "loop", "--preset=realtime"])
    with pytest.raises(InputError, match="--sampler is given as 'fifo' and as 'chunked'"):
        video_settings(["a", "--sampler", "fifo", "--sampler", "chunked"])
    assert video_settings(["a", "--preset", "loop", "--preset", "loop"]) == video_settings(["a", "--preset", "loop"])
