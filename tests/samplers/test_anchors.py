"""Videos that pass through given images: on the toy, whose x0 given what a window shows is exact."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from longtake.errors import InputError
from longtake.model import Timing, VideoModel
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.noise import seeded_noise
from longtake.ranks.world import ALONE
from longtake.request import PromptTimeline, Request
from longtake.samplers import run_plan
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.loop import advance, base_clip, fill, prepare, shift
from longtake.samplers.fifo.plan import Fifo
from longtake.samplers.nuwa_xl.plan import NuwaXl

COLOURS = [(200, 30, 30), (30, 200, 30), (90, 90, 200), (240, 240, 20)]


@pytest.fixture
def board(tmp_path):
    return paint(tmp_path / "board", COLOURS)


def paint(folder, colours):
    folder.mkdir(exist_ok=True)
    for number, colour in enumerate(colours):
        Image.new("RGB", (8, 8), colour).save(folder / f"{number:02}.png")
    return str(folder)


def planned(sampler, frames: int | None = 46, spec=TOY):
    request = Request(prompts=PromptTimeline((0, 20), ("a", "b")), frames=frames, seed=3, guidance=2.0)
    return sampler.plan(request, spec)


def chunks(sampler, frames=46, resume=None, model=None, world=ALONE):
    model = model or Toy()
    return run_plan(model, planned(sampler, frames, model.spec), seeded_noise(3), world, resume)


def video(*args, **kwargs):
    return np.concatenate([chunk.frames for chunk in chunks(*args, **kwargs)])


def colours_at(made, frames):
    return [tuple(int(value) for value in made[frame, 4, 4]) for frame in frames]


@pytest.mark.parametrize("clean_frames", [True, False])
@pytest.mark.parametrize(
    "sampler",
    [
        Fifo(),
        Fifo(partitions=3, short_warmup=True, eta=1.0, window_batch=4),
        Fifo(partitions=2, lookahead=False, frames_per_level=2),
        Chunked(),
        Chunked(overlap=3, eta=1.0),
    ],
)
def test_the_video_passes_through_every_keyframe(sampler, clean_frames, board):
    model, sampler = Toy(), replace(sampler, keyframes=board)
    model.spec = replace(TOY, clean_frames=clean_frames)
    plan = planned(sampler, spec=model.spec)
    alone = planned(replace(sampler, keyframes=None))
    assert plan.anchored == (0, 15, 30, 45) and plan.forwards == alone.forwards
    assert plan.held_frames == alone.held_frames + 4
    made = video(sampler, model=model)
    assert colours_at(made, plan.anchored) == COLOURS


@pytest.mark.parametrize("sampler", [Fifo(), Fifo(partitions=3), Chunked(overlap=2)])
def test_frames_on_both_sides_go_over_into_a_keyframe(sampler, board):
    """What the toy holds likely changes little from frame to frame, and the keyframes are unlike its own colours."""
    alone, anchored = (video(replace(sampler, keyframes=folder)).astype(float) for folder in (None, board))
    for frame, colour in zip((15, 30), COLOURS[1:3], strict=True):
        for near in (frame - 1, frame + 1):
            off = [np.abs(made[near] - colour).mean() for made in (alone, anchored)]
            assert off[1] < 0.75 * off[0]


@pytest.mark.parametrize("sampler", [Fifo(), Fifo(partitions=2, eta=1.0), Chunked(overlap=2)])
def test_going_on_from_any_chunk_gives_the_same_frames(sampler, board):
    sampler = replace(sampler, keyframes=board)
    made = [(chunk.frames, {key: value.clone() for key, value in chunk.state().items()}) for chunk in chunks(sampler)]
    for index, (_, state) in list(enumerate(made[:-1]))[1::3]:
        rest = np.concatenate([frames for frames, _ in made[index + 1 :]])
        assert np.array_equal(video(sampler, resume=state), rest)


def shared(world, board):
    torch.set_num_threads(1)
    return video(Fifo(partitions=3, keyframes=board), world=world)


def test_processes_share_the_windows_and_change_nothing(board, ranks):
    first, *_ = ranks.run(3, shared, board)
    assert np.abs(first.astype(int) - video(Fifo(partitions=3, keyframes=board))).max() <= 1


@pytest.mark.parametrize("clean_frames", [True, False])
def test_a_keyframe_in_the_queue_is_the_image_at_every_level(clean_frames, board, monkeypatch):
    """The queue holds it as noisy as its slot; only a network that knows clean frames is shown it clean."""
    model = Toy(torch.float64)
    model.spec = replace(TOY, clean_frames=clean_frames)
    setting = prepare(model, planned(Fifo(partitions=2, keyframes=board), spec=model.spec), seeded_noise(3))
    queue, plan, given = fill(setting, base_clip(setting)), setting.plan, setting.keyframes.latents
    seen, denoise = [], model.denoise
    monkeypatch.setattr(model, "denoise", lambda x, level, *rest: seen.append((x, level)) or denoise(x, level, *rest))
    for _ in range(12):
        updated, emitted = advance(setting, queue)
        queue = shift(setting, queue, updated, emitted)
    seen.clear()
    advance(setting, queue)
    slot = next(slot for slot in range(plan.head, plan.queue_length) if plan.frame(queue.iteration, slot) == 15)
    now = setting.schedule.now(torch.tensor(plan.level(slot)))
    noise = (queue.frames[:, slot] - now.alpha * given[:, 1]) / now.sigma
    assert 2 < plan.level(slot) < 15 and 0.7 < noise.std() < 1.3
    for window, (x, level) in zip(plan.windows, seen[::2], strict=True):
        if window.start <= slot < window.stop:
            place = slot - window.start
            assert level[0, place] == (0 if clean_frames else plan.level(slot))
            wanted = given[:, 1].double() if clean_frames else queue.frames[:, slot]
            assert torch.equal(x[0, :, place], wanted)


class OneLevel(VideoModel):
    """The toy, for which all frames of a window have one level."""

    def __init__(self) -> None:
        self.toy = Toy()
        self.spec, self.digest = replace(TOY, capabilities=frozenset()), "one"
        self.device, self.dtype = self.toy.device, self.toy.dtype

    def encode(self, prompts):
        return self.toy.encode(prompts)

    def schedule(self, num_levels, spacing="trailing"):
        return self.toy.schedule(num_levels, spacing)

    def denoise(self, x, level, schedule, condition, prompt_index):
        assert level.shape == x.shape[:1]
        return self.toy.denoise(x, level, schedule, condition, prompt_index)

    def decode(self, latents, state, last):
        return self.toy.decode(latents, state, last)

    def encode_frames(self, frames):
        return self.toy.encode_frames(frames)


def test_a_network_of_one_level_a_window_passes_through_keyframes(board):
    made = video(Chunked(keyframes=board), model=OneLevel())
    assert colours_at(made, (0, 15, 30, 45)) == COLOURS


@pytest.mark.parametrize(("frames", "places"), [(4, (0, 1, 2, 3)), (45, (0, 15, 29, 44)), (100, (0, 33, 66, 99))])
def test_keyframes_are_spread_evenly(frames, places, board):
    assert planned(Fifo(keyframes=board), frames).anchored == places
    assert planned(Chunked(keyframes=board), frames).anchored == places


def test_keyframes_mean_the_same_to_the_tree(board):
    """Where all frames of the tree are wanted, its first level is where the other samplers put the images."""
    tree = planned(NuwaXl(keyframes=board), 22)
    assert tuple(range(0, 22, tree.ladder.stride(1))) == planned(Fifo(keyframes=board), 22).anchored


@pytest.mark.parametrize("kind", [Fifo, Chunked])
def test_keyframes_that_cannot_be(kind, board, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        planned(kind(keyframes=str(tmp_path / "nothing")))
    with pytest.raises(InputError, match="4 keyframes are more than 3 frames"):
        planned(kind(keyframes=board), 3)
    with pytest.raises(InputError, match="an endless one has no end"):
        planned(kind(keyframes=board), None)
    with pytest.raises(InputError, match="a latent for every frame"):
        planned(kind(keyframes=board), spec=replace(TOY, timing=Timing(stride=4)))


def test_the_authors_code_knows_no_keyframes(board):
    with pytest.raises(InputError, match="keyframes and --init out"):
        planned(Fifo(keyframes=board, compat="videocrafter2"))
