import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from longtake.data.sprite_render import Pose
from longtake.data.sprites import Shot, SpriteWorld, held_out_shots
from longtake.errors import InputError
from longtake.metrics.controls import blur
from longtake.metrics.sprite_state.figures import true_state
from longtake.metrics.sprite_state.objects import over
from longtake.metrics.sprite_state.reader import FrameState, outline_quality, read_state, read_states, whole_turn
from longtake.metrics.sprite_state.scenery import read_scenery, scroll_period
from longtake.models.embedded import WEIGHTS
from longtake.train.sprites.autoencode import decode_scaled, encode_scaled

WORLDS = [SpriteWorld(4400 + number, {0: shot}) for number, shot in enumerate(held_out_shots()[::16])]
FRAME = 60


def errors(pairs: list[tuple[FrameState, FrameState]]) -> dict[str, np.ndarray]:
    """What was read against what is true, a value a frame."""
    return {
        "position": np.array([np.hypot(read.pose.x - true.pose.x, read.pose.y - true.pose.y) for read, true in pairs]),
        "size": np.array([abs(read.pose.size - true.pose.size) for read, true in pairs]),
        "angle": np.abs([whole_turn(read.pose.angle - true.pose.angle) for read, true in pairs]),
        "tint": np.array([np.abs(np.subtract(read.pose.tint, true.pose.tint)).max() for read, true in pairs]),
        "horizon": np.array([abs(read.scenery.horizon - true.scenery.horizon) for read, true in pairs]),
        "time": np.array([abs(read.scenery.time_of_day - true.scenery.time_of_day) for read, true in pairs]),
    }


def reconstructed(frames: list[np.ndarray]) -> np.ndarray:
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "sprites" / "vae")
    pixels = decode_scaled(vae, encode_scaled(vae, torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)))
    return (pixels * 255).round().byte().permute(0, 2, 3, 1).numpy()


def test_the_state_of_real_worlds_is_recovered():
    pairs = [(read_state(world.frames(FRAME, FRAME + 1)[0]), true_state(world, FRAME)) for world in WORLDS]
    assert [(read.object, read.scenery.name) for read, _ in pairs] == [
        (true.object, true.scenery.name) for _, true in pairs
    ]
    found = errors(pairs)
    limits = {"position": 0.02, "size": 0.03, "angle": 0.001, "tint": 0.005, "horizon": 0.15, "time": 0.03}
    assert {name: value for name, value in limits.items() if np.median(found[name]) > value} == {}
    limits = {"position": 1.0, "size": 0.3, "angle": 0.1, "tint": 0.05, "horizon": 1.0, "time": 0.05}
    assert {name: found[name] for name, value in limits.items() if np.sort(found[name])[-2] > value} == {}
    assert np.median([read.outline for read, _ in pairs]) > 0.98 and min(read.outline for read, _ in pairs) > 0.8
    assert np.median([read.margin for read, _ in pairs]) > 0.98


def test_the_state_behind_the_autoencoder_is_recovered():
    worlds = WORLDS[::2]
    seen = reconstructed([world.frames(FRAME, FRAME + 1)[0] for world in worlds])
    pairs = [(read_state(frame), true_state(world, FRAME)) for frame, world in zip(seen, worlds, strict=True)]
    assert [(read.object, read.scenery.name) for read, _ in pairs] == [
        (true.object, true.scenery.name) for _, true in pairs
    ]
    found = errors(pairs)
    limits = {"position": 0.4, "size": 0.4, "angle": 0.03, "tint": 0.06, "horizon": 0.3, "time": 0.06}
    assert {name: found[name] for name, value in limits.items() if np.median(found[name]) > value} == {}
    assert np.mean([read.outline for read, _ in pairs]) > 0.75


@pytest.mark.parametrize("world", WORLDS[1::4], ids=lambda world: world.shot(0).scene)
def test_the_scenery_is_drawn_again(world: SpriteWorld):
    frame = world.frames(FRAME, FRAME + 1)[0].astype(np.float32)
    state, read = world.state(FRAME), read_scenery(frame)
    assert read.name == state.shot.scene and abs(read.horizon - state.horizon) < 0.6
    assert np.abs(read.draw() - frame)[state.pose.draw()[..., 3] == 0].mean() < 4


def test_an_object_that_has_left_is_not_there():
    world = SpriteWorld(5, {0: Shot(object="cat", scene="city", motion="rests")})
    away = next(frame for frame in range(900) if world.state(frame).visible == 0)
    read = read_state(world.frames(away, away + 1)[0], wanted="cat")
    assert read.object is None and read.empty and read.scenery.name == "city"


def test_another_object_than_the_one_asked_for_has_a_margin_below_0():
    world = WORLDS[3]
    frame = world.frames(FRAME, FRAME + 1)[0]
    right = read_state(frame, wanted=world.shot(0).object).wanted_margin
    wrong = read_state(frame, wanted="pumpkin" if world.shot(0).object != "pumpkin" else "cat").wanted_margin
    assert right is not None and wrong is not None
    assert right > 0.8 and wrong < -0.8


def test_edges_that_are_soft_or_elsewhere_lower_the_outline():
    behind = np.full((64, 64, 3), 90, np.float32)
    pose = Pose(name="panda", x=31, y=33, size=36, angle=0.2)
    sharp = over(pose, behind)
    assert outline_quality(sharp, behind, pose) == pytest.approx(1)
    softer = [
        outline_quality(blur(sharp.astype(np.uint8)[None], sigma)[0].astype(np.float32), behind, pose)
        for sigma in (0.7, 2)
    ]
    assert 0.95 > softer[0] > 0.75 and softer[1] < 0.6
    assert outline_quality(np.roll(sharp, 3, axis=1), behind, pose) < 0.4
    assert outline_quality(behind, behind, pose) == 0


def test_the_ground_repeats_itself_after_its_period():
    assert scroll_period("sea") == pytest.approx(128 / 6) and scroll_period("city") == 128


def test_bad_input():
    with pytest.raises(InputError, match="this video has 128x128; set the scale"):
        read_states([np.zeros((1, 128, 128, 3), np.uint8)])
    with pytest.raises(InputError, match="no frames"):
        read_states([])
