"""Videos that begin with given frames and go on from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake._generate import checked_plan, generate, stream
from longtake.errors import CapabilityError, InputError
from longtake.model import Continuation, Timing
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.report import read_order, report_path
from longtake.request import Request
from longtake.sampler import Sampler
from longtake.samplers import run_plan
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.samplers.planning import plan_warnings
from longtake.samplers.video_infinity.plan import VideoInfinity
from longtake.video.output import Output
from longtake.video.read import read_frames

TAKEN = {"autoregressive": TOY.num_frames // 2, "chunked": TOY.num_frames - 1, "fifo": TOY.num_frames - 1, "nuwa-xl": 1}
BEGINNERS: list[Sampler] = [Autoregressive(), Chunked(), Fifo(partitions=2), NuwaXl()]


def wanted(init: Path | str, sampler: Sampler, **changes) -> Request:
    steps = None if sampler.name == "fifo" else 2
    asked = {"prompts": "a red car", "frames": 40, "seed": 5, "steps": steps, "init": str(init)}
    return Request(**asked | changes)


@pytest.fixture
def film(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A lossless video that is longer than what any sampler takes, and its frames."""
    path = tmp_path / "film.mkv"
    generate(Toy(), Request(prompts="a blue boat", frames=50, seed=1, steps=2), Chunked(), Output(path=path, scale=3))
    return path, np.concatenate(list(read_frames(path, scale=3)))


@pytest.mark.parametrize("sampler", BEGINNERS, ids=lambda sampler: sampler.name)
def test_a_video_begins_with_the_last_frames_of_what_it_goes_on_from(sampler: Sampler, film) -> None:
    path, frames = film
    made = np.concatenate(list(stream(Toy(), wanted(path, sampler), sampler)))
    taken = TAKEN[sampler.name]
    assert len(made) == 40
    assert np.abs(made[:taken].astype(int) - frames[-taken:]).max() <= 1
    other = np.concatenate(list(stream(Toy(), wanted(path, sampler, seed=6), sampler)))
    assert np.abs(made[:taken].astype(int) - other[:taken]).max() <= 1 and not np.array_equal(
        made[taken:], other[taken:]
    )


@pytest.mark.parametrize("sampler", BEGINNERS, ids=lambda sampler: sampler.name)
def test_a_picture_is_the_first_frame(sampler: Sampler, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (TOY.width, TOY.height), (90, 120, 30)).save(picture)
    made = np.concatenate(list(stream(Toy(), wanted(picture, sampler), sampler)))
    assert len(made) == 40 and np.abs(made[0].astype(int) - (90, 120, 30)).max() <= 1


@pytest.mark.parametrize("sampler", BEGINNERS, ids=lambda sampler: sampler.name)
def test_from_any_state_it_ends_alike(sampler: Sampler, film) -> None:
    model = Toy()
    plan = checked_plan(model.spec, wanted(film[0], sampler), sampler)
    chunks = list(run_plan(model, plan, seeded_noise(5), ALONE))
    states = [chunk.state() for chunk in run_plan(model, plan, seeded_noise(5), ALONE)]
    for place in {0, 1, len(chunks) // 2}:
        rest = list(run_plan(model, plan, seeded_noise(5), ALONE, states[place]))
        whole = [chunk.frames for chunk in chunks[place + 1 :]]
        assert np.array_equal(np.concatenate([chunk.frames for chunk in rest]), np.concatenate(whole))


@pytest.mark.parametrize("sampler", BEGINNERS, ids=lambda sampler: sampler.name)
def test_the_plan_counts_the_calls(sampler: Sampler, film) -> None:
    model, calls = Toy(), 0
    denoise = model.denoise

    def counted(x, *others):
        nonlocal calls
        calls += len(x)
        return denoise(x, *others)

    # Whatever the toy is asked for, it comes to this.
    model.denoise = counted
    plan = checked_plan(model.spec, wanted(film[0], sampler), sampler)
    for _ in run_plan(model, plan, seeded_noise(5), ALONE):
        pass
    assert calls == plan.forwards


def test_what_a_run_begins_with_is_in_its_report(film, tmp_path: Path) -> None:
    path, out = film[0], tmp_path / "out.mkv"
    generate(Toy(), wanted(path, BEGINNERS[0]), BEGINNERS[0], Output(path=out))
    order = read_order(str(report_path(out)))
    assert order.request.init == str(path) and order.init is not None and len(order.init) == 64


def test_other_frames_are_another_run(film, tmp_path: Path) -> None:
    path, out = film[0], tmp_path / "out.mkv"
    generate(Toy(), wanted(path, BEGINNERS[0]), BEGINNERS[0], Output(path=out))
    before = out.read_bytes()
    path.with_name("film.mkv").unlink()
    generate(
        Toy(), Request(prompts="a red boat", frames=50, seed=2, steps=2), Chunked(), Output(path=path, overwrite=True)
    )
    with pytest.raises(Exception, match="begun with other settings: the frames of --init are others; "):
        generate(Toy(), wanted(path, BEGINNERS[0]), BEGINNERS[0], Output(path=out))
    assert out.read_bytes() == before


def test_what_cannot_begin_a_video_is_refused_before_any_work(film, tmp_path: Path) -> None:
    path = film[0]
    with pytest.raises(CapabilityError, match="leave --init out"):
        checked_plan(TOY, wanted(path, VideoInfinity()), VideoInfinity())
    with pytest.raises(InputError, match="does not exist"):
        checked_plan(TOY, wanted(tmp_path / "nothing.mp4", Chunked()), Chunked())
    with pytest.raises(InputError, match="ask for more --frames"):
        checked_plan(TOY, wanted(path, Chunked(), frames=3), Chunked())
    with pytest.raises(InputError, match="a latent for every frame"):
        checked_plan(replace(TOY, timing=Timing(stride=4)), wanted(path, Chunked()), Chunked())
    with pytest.raises(CapabilityError, match="cannot go on from given frames"):
        spec = replace(TOY, capabilities=TOY.capabilities - {Continuation})
        checked_plan(spec, wanted(path, NuwaXl()), NuwaXl())


def test_a_picture_of_another_aspect_is_cropped_and_that_is_said(tmp_path: Path) -> None:
    path, middle = tmp_path / "wide.png", (90, 120, 30)
    picture = Image.new("RGB", (3 * 16, 16), (255, 0, 0))
    picture.paste(middle, (8, 0, 40, 16))
    picture.save(path)
    plan = checked_plan(TOY, wanted(path, Chunked()), Chunked())
    (said,) = [warning for warning in plan_warnings(plan) if "wide.png" in warning]
    assert "has 48x16 pixels: it is scaled to the 8x8 of the video, and 67% of it is cut off" in said
    first = next(iter(stream(Toy(), wanted(path, Chunked()), Chunked())))[0]
    assert np.abs(first.astype(int) - middle).max() <= 1


@pytest.mark.parametrize("times", [1, 3])
def test_a_picture_that_fits_is_reduced_and_nothing_is_said(times: int, tmp_path: Path) -> None:
    path = tmp_path / "fits.png"
    Image.new("RGB", (TOY.width * times, TOY.height * times), (90, 120, 30)).save(path)
    assert not [word for word in plan_warnings(checked_plan(TOY, wanted(path, Chunked()), Chunked())) if "fits" in word]
