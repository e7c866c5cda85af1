"""`longtake evaluate state`, end to end on a few frames."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from longtake.data.sprites import Shot, SpriteWorld

WORLD = SpriteWorld(4, {0: Shot(object="robot", scene="beach", motion="rests")})


def write_video(name: str, frames: int) -> None:
    Path(name).mkdir()
    for number, frame in enumerate(WORLD.frames(20, 20 + frames)):
        Image.fromarray(frame.repeat(2, 0).repeat(2, 1)).save(Path(name) / f"{number:06d}.png")


def test_figures_and_track(longtake: Callable):
    write_video("video", 3)
    asked = ("evaluate", "state", "video", "--scale", "2", "--prompts", '{"0": "a robot rests on the beach"}')
    ran = longtake(*asked, "--track", "track.json", "--json")
    assert ran.status == 0, ran.err
    figures = json.loads(ran.out)
    assert (figures["num_frames"], figures["object"], figures["scene"], figures["flags"]) == (3, 1, 1, [])
    assert figures["outline"] > 0.95 and figures["identity"] == {"1": 1}
    track = json.loads(Path("track.json").read_text())
    true = WORLD.state(22)
    assert len(track) == 3 and track[2]["object"] == "robot" and abs(track[2]["pose"]["x"] - true.pose.x) < 0.5
    shown = longtake("evaluate", "state", "video", "--scale", "2", "--stop", "1")
    assert shown.status == 0 and "outline" in shown.out and shown.out.splitlines()[-1].split() == ["flags", "none"]


def test_mistakes_are_one_line(longtake: Callable):
    write_video("video", 1)
    for more, reason in (
        (("none.mp4",), "there is no none.mp4"),
        (("video",), "set the scale"),
        (("video", "--prompts", '{"0": "a tea pot"}'), "names no object"),
        (("video", "--scale", "2", "--track", "no/track.json"), "choose another --track"),
    ):
        ran = longtake("evaluate", "state", *more)
        assert ran.status == 2 and reason in ran.err and len(ran.err.splitlines()) == 1, ran.err
