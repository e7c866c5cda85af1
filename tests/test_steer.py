"""A video that is steered is the video that its report alone describes, whatever happened on the way."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from longtake.errors import CapabilityError, CheckpointError, InputError, OutputError
from longtake.models.toy import Toy
from longtake.models.toy_spec import TOY
from longtake.report import read_order, report_path
from longtake.request import PromptTimeline
from longtake.sampler import Sampler
from longtake.samplers.autoregressive.plan import Autoregressive
from longtake.samplers.nuwa_xl.plan import NuwaXl
from longtake.samplers.video_infinity.plan import VideoInfinity
from longtake.steer.plan import plan_extension, plan_redo, plan_retelling, spliced
from longtake.steer.run import begin, carried_out
from longtake.steer.video import find_video
from longtake.video import durable
from longtake.video.formats import FORMATS
from longtake.video.kept import kept_folder, read_kept

from .forked import in_child
from .steered import (
    CHUNKED,
    FIFO,
    PROMPTS,
    asked,
    content,
    extend,
    frames_of,
    make,
    quiet,
    redo,
    repeated,
    stopped,
)

SAMPLERS: dict[str, Sampler] = {"fifo": FIFO, "chunked": CHUNKED, "autoregressive": Autoregressive()}
NAMES = [f"a{row.ending}" if row.ending else "frames" for row in FORMATS.values()]
CASES = [*(("fifo", name) for name in NAMES), ("chunked", "a.mkv"), ("autoregressive", "a.mkv")]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch):
    """A forked child cannot use the parent's pool of threads; fsync only matters when the power fails."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("sampler", "name"), CASES)
def test_a_video_made_longer_is_the_longer_video(tmp_path: Path, sampler: str, name: str) -> None:
    short = make(tmp_path / "short" / name, 70, SAMPLERS[sampler])
    whole = make(tmp_path / "whole" / name, 111, SAMPLERS[sampler])
    left = content(short)
    (tmp_path / "branch").mkdir()
    extend(short, 41, output=tmp_path / "branch" / name)
    assert content(tmp_path / "branch" / name) == content(whole) and content(short) == left
    result = extend(short, 41)
    assert content(short) == content(whole) and 0 < result.resumed_from < 70
    assert result.report["complete"] and result.report["frames"] == 111
    assert read_order(str(report_path(short))).request == asked(111, SAMPLERS[sampler])


def test_again_and_again_also_where_the_end_was_begun(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 10)
    for frames in (1, 25, 60):
        extend(path, frames)
    assert content(path) == content(make(tmp_path / "whole.mkv", 96))


def test_a_stopped_video_goes_on_and_further(tmp_path: Path) -> None:
    path = stopped(tmp_path / "a.mp4", 50)
    assert extend(path, 20).frames == 116
    assert content(path) == content(make(tmp_path / "whole.mp4", 116))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_other_prompts_for_what_is_added_leave_what_is_there(tmp_path: Path, sampler: str) -> None:
    path = make(tmp_path / "a.mkv", 70, SAMPLERS[sampler])
    before = frames_of(path)
    extend(path, 40, "a green house")
    assert np.array_equal(frames_of(path)[:70], before)
    report = json.loads(report_path(path).read_text())
    assert report["request"]["prompts"] == {"0": "a red car", "30": "a blue boat", "70": "a green house"}
    assert "a green house" in (tmp_path / "a.vtt").read_text()
    plain = make(tmp_path / "plain.mkv", 110, SAMPLERS[sampler])
    assert not np.array_equal(frames_of(path)[100:], frames_of(plain)[100:])
    assert content(repeated(path, tmp_path / "again" / "a.mkv")) == content(path)


def test_a_prompt_that_is_said_again_changes_nothing(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 40)
    again, plain = plan_extension(path, 20, "a blue boat"), plan_extension(path, 20)
    assert (again.order, again.holds) == (plain.order, None)
    assert plan_extension(path, 20, "a green house").holds is not None
    seeded = plan_redo(path, 35, "a blue boat", seed=9)
    assert seeded.holds is None and seeded.order.request.turns[-1].seed == 9
    assert plan_redo(path, 35, "a green house").holds is not None


@pytest.mark.parametrize(("sampler", "name"), CASES)
@pytest.mark.parametrize("change", [{"prompts": "a green house"}, {"seed": 9}])
def test_a_video_made_otherwise_from_a_frame_on(tmp_path: Path, sampler: str, name: str, change: dict) -> None:
    path = make(tmp_path / "a" / name, 100, SAMPLERS[sampler])
    before, left = frames_of(path), content(path)
    branch = tmp_path / "b" / name
    branch.parent.mkdir()
    redo(path, 75, output=branch, **change)
    assert content(path) == left
    after = frames_of(branch)
    assert len(after) == 100 and np.array_equal(after[:64], before[:64])
    assert not np.array_equal(after[75:], before[75:])
    assert content(repeated(branch, tmp_path / "again" / name)) == content(branch)
    redo(path, 75, **change)
    assert content(path) == content(branch)
    assert redo(path, 75, **change).finished_before
    if path.suffix:
        stored = next(state.mark["bytes"] for state in read_kept(path) if state.next_frame >= 64)
        # The number of frames stands in the header, and is the same.
        assert content(path)[0][:stored] == left[0][:stored]


def test_redo_can_be_redone_and_extended(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 100)
    redo(path, 80, "a green house")
    redo(path, 60, seed=8)
    redo(path, 90, "a red car | a blue sky", keep_queue=True)
    extend(path, 30, "a dog")
    turns = read_order(str(report_path(path))).request.turns
    assert [turn.frame for turn in turns] == [54, 84, 100] and [turn.seed for turn in turns] == [8, 8, 8]
    assert content(repeated(path, tmp_path / "again" / "a.mkv")) == content(path)
    redo(path, 30, "a cat")
    assert len(read_order(str(report_path(path))).request.turns) == 1


def test_a_queue_that_is_kept_turns_more_softly(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 100)
    before = frames_of(path).astype(int)
    moved = {}
    for keep in (False, True):
        branch = tmp_path / f"{keep}.mkv"
        redo(path, 50, "a green house", output=branch, keep_queue=keep)
        moved[keep] = np.abs(frames_of(branch).astype(int)[50:58] - before[50:58]).mean()
    assert moved[True] < moved[False]


def test_where_the_first_piece_is_cut_all_is_made_again(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 60)
    redo(path, 3, seed=9)
    request = read_order(str(report_path(path))).request
    assert not request.turns and request.seed == 9


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("steer", ["extend", "redo"])
def test_killed_anywhere_the_same_call_ends_in_the_same_bytes(tmp_path: Path, steer: str, branch: bool) -> None:
    def work(path: Path) -> None:
        output = path.with_name("b.mp4") if branch else None
        if steer == "extend":
            extend(path, 40, "a green house", output)
        else:
            redo(path, 50, "a green house", 8, output)

    made = make(tmp_path / "made" / "a.mp4", 70, CHUNKED)

    def prepared(name: str) -> Path:
        return Path(shutil.copytree(made.parent, tmp_path / name), made.name)

    seen: list[str] = []
    whole = prepared("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable, "reach", seen.append)
        work(whole)
    for nth in {*range(1, 12), *np.linspace(12, len(seen) - 1, 9).round().astype(int).tolist()}:
        path = prepared(str(nth))
        assert in_child(lambda path=path, nth=nth: _killed(nth, work, path)) == signal.SIGKILL, seen[nth - 1]
        work(path)
        for name in ("a.mp4", "b.mp4") if branch else ("a.mp4",):
            assert content(path.with_name(name)) == content(whole.with_name(name)), (nth, seen[nth - 1], name)
        assert len(frames_of(path)) == (70 if branch or steer == "redo" else 110)


def _killed(nth: int, work: Callable[[Path], None], path: Path) -> None:
    reached = 0

    def count(point: str) -> None:
        nonlocal reached
        reached += 1
        if reached == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    durable.reach = count
    work(path)


def test_without_a_state_it_begins_with_the_last_frames(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 70, keep_states=0)
    assert not kept_folder(path).exists()
    with pytest.raises(OutputError, match="give -o"):
        plan_extension(path, 30)
    steering = plan_extension(path, 30, output=tmp_path / "b.mkv")
    assert "not the video that a longer run" in steering.notes[0] and steering.video is None
    carried_out(steering, Toy(), quiet)
    given = frames_of(tmp_path / "b.mkv")
    assert np.array_equal(given[:7], frames_of(path)[-7:]) and len(given) == 37


def test_a_file_of_other_origin_needs_a_model(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 20)
    path.rename(tmp_path / "film.mkv")
    with pytest.raises(InputError, match="which model"):
        plan_extension(tmp_path / "film.mkv", 30)
    with pytest.raises(InputError, match="no run of longtake"):
        plan_redo(tmp_path / "film.mkv", 3, seed=2)


def test_a_folder_is_no_prompt(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 20)
    with pytest.raises(InputError, match="is a folder; give a file"):
        plan_extension(path, 5, str(tmp_path))


def test_a_report_of_another_video_is_named(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 20)
    report_path(path).write_text("{")
    with pytest.raises(InputError, match="is damaged, or of a video of another name"):
        plan_extension(path, 5)
    report_path(path).unlink()
    with pytest.raises(InputError, match="is not there; bring it back"):
        plan_extension(path, 5)


def test_another_encoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.mkv", 70)
    steering = plan_extension(path, 30)
    assert steering.video is not None
    steering.video.record.environment["encoder"] = "ffv1 1"
    with pytest.raises(CheckpointError, match="encoded by ffv1 1, here is ffv1"):
        begin(steering)


def test_what_cannot_be_steered_says_so(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 64, VideoInfinity())
    with pytest.raises(CapabilityError, match="whole or not at all"):
        plan_redo(path, 30, seed=3)
    with pytest.raises(CapabilityError, match="whole or not at all"):
        plan_extension(path, 30)
    fifo = make(tmp_path / "b.mkv", 64)
    for wrong, message in (
        ({"frame": 70, "seed": 3}, "frames 0 to 63"),
        ({"frame": 40}, "nothing would change"),
        ({"frame": 40, "seed": 3, "output": tmp_path / "b.mp4"}, "has its form"),
        ({"frame": 40, "seed": 3, "output": path}, "begun with other settings"),
        ({"frame": 40, "seed": 3, "output": ""}, "no name of its own"),
    ):
        with pytest.raises((InputError, OutputError), match=message):
            plan_redo(fifo, **wrong)
    with pytest.raises(InputError, match="there is no"):
        plan_redo(tmp_path / "nowhere.mkv", 40, seed=3)
    with pytest.raises(InputError, match="no state yet"):
        plan_redo(stopped(tmp_path / "e.mkv", 1), 0, seed=3)
    with pytest.raises(InputError, match="no state yet .* the command that began it"):
        plan_extension(stopped(tmp_path / "f.mkv", 1), 5)
    with pytest.raises(InputError, match="endless"):
        plan_extension(stopped(tmp_path / "c.mkv", 20, None), 5)
    with pytest.raises(InputError, match="no queue"):
        plan_redo(make(tmp_path / "d.mkv", 64, CHUNKED), 40, seed=3, keep_queue=True)


def test_an_endless_video_is_made_otherwise(tmp_path: Path) -> None:
    path = stopped(tmp_path / "a.mkv", 70, None)
    steering = plan_redo(path, 50, "a green house", output=tmp_path / "b.mkv")
    assert steering.made_from and steering.order.frames is None


def test_a_story_of_nuwa_xl_is_told_otherwise_and_further(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", 60, NuwaXl())
    before = frames_of(path)
    redo(path, 50, "a green house", output=tmp_path / "b.mkv")
    assert np.array_equal(frames_of(tmp_path / "b.mkv")[:50], before[:50])
    assert not np.array_equal(frames_of(tmp_path / "b.mkv")[51:], before[51:])
    row = NuwaXl(depth=1)
    path = make(tmp_path / "row.mkv", 60, row)
    extend(path, 40)
    assert content(path) == content(make(tmp_path / "whole.mkv", 100, row))
    before = frames_of(path)
    redo(path, 50, "a green house")
    assert np.array_equal(frames_of(path)[:49], before[:49]) and len(frames_of(path)) == 100
    with pytest.raises(CapabilityError, match="other levels"):
        plan_extension(make(tmp_path / "c.mkv", 30, NuwaXl()), 400)


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), NuwaXl(depth=2)], ids=lambda sampler: sampler.name)
def test_a_run_that_has_made_nothing_goes_on_first(tmp_path: Path, sampler: Sampler) -> None:
    path = stopped(tmp_path / "a.mkv", 0, 50, sampler)
    for output in (None, tmp_path / "b.mkv"):
        with pytest.raises(InputError, match="has no state yet to go on from; let the command that began it go on"):
            plan_extension(path, 8, output=output)
        with pytest.raises(InputError, match="has no state yet to go on from; let the command that began it go on"):
            plan_redo(path, 0, "a cat", output=output)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_prompts_that_change_on_the_way(tmp_path: Path, sampler: str) -> None:
    path = stopped(tmp_path / "a.mkv", 40, 120, SAMPLERS[sampler])
    assert plan_retelling(path, PROMPTS) is None
    edited = PromptTimeline((0, 20, 80), ("a red car", "a cat", "a green house"))
    steering = plan_retelling(path, edited)
    assert steering is not None
    begun = steering.holds
    assert begun is not None and begun >= 32
    carried_out(steering, Toy(), quiet)
    assert plan_retelling(path, edited) is None
    texts = json.loads(report_path(path).read_text())["request"]["prompts"]
    assert texts == {"0": "a red car", "30": "a blue boat", str(begun): "a cat", "80": "a green house"}
    assert content(repeated(path, tmp_path / "again" / "a.mkv")) == content(path)


@pytest.mark.parametrize("sampler", ["chunked", "fifo"])
def test_frames_that_follow_new_prompts_before_their_moment_are_named(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(TOY, prompts="window")
    for place in ("toy_spec", "toy"):
        monkeypatch.setattr(f"longtake.models.{place}.TOY", spec)
    path = make(tmp_path / "a.mkv", 96, SAMPLERS[sampler])
    assert "\nNOTE All frames of a window share a prompt" in path.with_suffix(".vtt").read_text()
    early = []
    for frame in (49, 51, 53, 55):
        told = []
        for number, prompt in enumerate(("a green house", "a cat")):
            steering = plan_redo(path, frame, prompt, output=tmp_path / f"{frame}-{number}.mkv")
            carried_out(steering, Toy(), quiet)
            told.append(frames_of(tmp_path / f"{frame}-{number}.mkv"))
        differing = np.flatnonzero((told[0] != told[1]).any(axis=(1, 2, 3)))[0]
        note = re.match(r"frames (\d+) to \d+ may follow", " ".join(steering.notes))
        assert differing >= (int(note[1]) if note else frame)
        early.append(differing < frame)
    assert any(early)


def test_prompts_are_joined_where_one_goes_on() -> None:
    assert spliced(PROMPTS, PromptTimeline((0, 10), ("a blue boat", "a cat")), 40) == PromptTimeline(
        (0, 30, 50), ("a red car", "a blue boat", "a cat")
    )


def test_a_run_that_somebody_writes_is_left_alone(tmp_path: Path) -> None:
    steering = plan_extension(path := make(tmp_path / "a.mkv", 70), 30)
    lock = durable.Lock(Path(f"{path}.state") / "lock", path)
    with pytest.raises(OutputError, match="is writing"):
        begin(steering)
    lock.close()
    video = find_video(path)
    assert video is not None and video.is_complete
