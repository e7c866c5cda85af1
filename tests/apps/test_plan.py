"""Plans, tables and help: what can be known without weights."""

import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from longtake import rates
from longtake.apps.cli import COMMANDS
from longtake.apps.generate.display import Display
from longtake.apps.generate.stopping import StoppedError
from longtake.machine import Part
from longtake.model import Timing
from longtake.models import DEFAULT_MODEL, MODELS, model_spec, toy_spec
from longtake.samplers import DEFAULT_SAMPLER, SAMPLERS, sampler_class, samplers_of

from ..models.tiny import TINY

PLAN = ("plan", "a red car", "--model", "toy", "--frames", "64")


def test_the_plan_counts_what_a_run_does(longtake: Callable) -> None:
    plan = json.loads(longtake(*PLAN, "--json").out)
    # Base clip 8 levels; 64 iterations, two windows of half a clip each; nothing guided at guidance 1.
    assert plan["forwards"] == 8 + 2 * 64 - 1
    assert plan["frames"] == 64
    assert plan["peak_memory_bytes"] > 1e8
    assert plan["seconds"] is None and "has not run" in plan["seconds_reason"]


def test_guidance_doubles_the_forwards(longtake: Callable) -> None:
    plain, guided = (json.loads(longtake(*PLAN, "--json", "--guidance", g).out)["forwards"] for g in ("1", "4"))
    assert guided == 2 * plain


@pytest.mark.parametrize("sampler", ["video-infinity", "freenoise"])
def test_what_sees_the_whole_video_at_once_counts_as_many_windows_as_that_is_long(
    longtake: Callable, sampler: str
) -> None:
    asked = "a red car", "--model", "toy", "--sampler", sampler, "--frames", "50", "--steps", "3", "--guidance", "1"
    content = json.loads(longtake("plan", *asked, "--json").out)
    assert content["forwards"] == 3 * 50 / 8 and content["mean_forwards_per_frame"] == 3 / 8
    assert "19 forwards in" in longtake("plan", *asked).out


@pytest.mark.parametrize(
    ("sampler", "words", "number"),
    [
        # A window of 8 begins every 2 of 64 frames.
        (["freenoise"], "29 windows", 29),
        (["freenoise", "--sampler.context-stride", "8"], "8 windows", 8),
        (["video-infinity", "--sampler.clips", "3"], "3 clips", 3),
        # Steps have 11 or 12.
        (["context-windows", "--sampler.context-schedule", "standard_uniform"], "12 windows", 12),
        (["context-windows"], "11 windows", 11),
        (["chunked"], "8 windows", 8),
        (["autoregressive", "--model", "sprites"], "7 windows", 7),
    ],
)
def test_the_windows_of_a_plan_are_those_that_there_are(
    longtake: Callable, sampler: list[str], words: str, number: int
) -> None:
    model = () if "--model" in sampler else ("--model", "toy")
    asked = "plan", "a red car", "--frames", "64", *model, "--sampler", *sampler
    told = longtake(*asked)
    assert f" in {words} (" in told.out, told
    assert json.loads(longtake(*asked, "--json").out)["tasks"] == number


@pytest.mark.parametrize("sampler", ["context-windows", "video-infinity", "freenoise"])
def test_whole_forwards_are_whole_numbers_in_json_too(longtake: Callable, sampler: str) -> None:
    asked = "a red car", "--model", "toy", "--sampler", sampler, "--frames", "48"
    assert isinstance(json.loads(longtake("plan", *asked, "--json").out)["forwards"], int)


def test_dry_run_is_the_plan(longtake: Callable) -> None:
    assert longtake("generate", *PLAN[1:], "--dry-run").out == longtake(*PLAN).out


def test_memory_grows_with_the_batch_and_not_with_the_length(longtake: Callable) -> None:
    def memory(*more: str) -> int:
        return json.loads(longtake(*PLAN, "--json", *more).out)["peak_memory_bytes"]

    assert memory("--sampler.window-batch", "64") > memory()
    assert memory("--frames", "6400") == memory() == memory("--frames", "endless")


@pytest.mark.parametrize("sampler", ["fifo", "chunked", "autoregressive"])
def test_kept_states_take_no_more_than_planned_and_a_redo_says_the_same_of_both(
    longtake: Callable, sampler: str
) -> None:
    make = ("a red car", "--model", "toy", "--frames", "64", "--sampler", sampler, "-o", "x.mkv")
    plan = json.loads(longtake("plan", *make, "--json").out)
    longtake("generate", *make)
    sizes = [file.stat().st_size for file in Path("x.mkv.state/kept").glob("*.safetensors")]
    assert len(sizes) == plan["kept_states"] == 2 and sum(sizes) <= plan["disk_by_part"]["kept states"]
    told = json.loads(longtake("redo", "x.mkv", "--from", "40", "--seed", "3", "--dry-run", "--json").out)
    assert told["kept_states"] == len(told["steering"]["states"])
    assert told["disk_by_part"]["kept states"] == 2 * max(sizes)


def test_what_is_there_already_is_said(longtake: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    video = ("a red car", "--model", "toy", "--frames", "64", "-o", "x.mkv")
    assert "there" not in longtake("plan", *video).out
    with monkeypatch.context() as midway:
        midway.setattr(Display, "show", stopped_at_32)
        assert longtake("generate", *video).status == 130
    assert "there    x.mkv is begun (32 frames), and would go on" in longtake("plan", *video).out
    assert longtake("generate", *video).status == 0
    assert "there    x.mkv is complete already (64 frames): nothing would be done" in longtake("plan", *video).out
    other = longtake("plan", *video, "--seed", "3", "--json")
    assert json.loads(other.out)["earlier"].endswith(
        "of a run with other settings, so that this one would be refused: seed was 0 and is now 3"
    )
    assert "made again from the start" in longtake("generate", *video, "--overwrite", "--dry-run").out
    content = Path("x.mkv").read_bytes()
    Path("x.mkv").write_bytes(content[:-1])
    for how in (f"has {len(content) - 1} bytes where its run wrote {len(content)}", "is gone"):
        said = f"x.mkv {how}, so its run cannot go on from there; "
        assert f"there    {said}" in longtake("plan", *video).out and said in longtake("generate", *video).err
        Path("x.mkv").unlink(missing_ok=True)


def stopped_at_32(display: Display, frames: int, doing: str) -> None:
    if frames == 32:
        raise StoppedError(signal.SIGINT)


def test_costs_are_said_by_part_and_a_frame_is_one_of_the_video(
    longtake: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that remembers 12 latents: they are stored, twice for a moment; what it remembers is held in memory."""
    decoder = Part(parameters=1000, working=2000, remembered=3000, width=4)
    wan = replace(toy_spec.TOY, timing=Timing(stride=4), decoder_history=12, decoder=decoder, parameters=1000)
    monkeypatch.setattr(toy_spec, "TOY", wan)
    plan = json.loads(longtake(*PLAN, "--json").out)
    memory, disk = plan["memory_by_part"], plan["disk_by_part"]
    assert sum(memory.values()) == plan["peak_memory_bytes"] and sum(disk.values()) == plan["disk_bytes"]
    assert (memory["decoder"], memory["decoder's memory"], memory["network"]) == (4000, 12000, 0)
    held, latent = plan["held_frames"], 3 * 8 * 8 * 4
    state = [disk[part] for part in ("sampler's state", "decoder's state", "frames that wait")]
    assert state == [2 * held * latent, 2 * 12 * latent, 2 * 32 * 8 * 8 * 3]
    told = longtake(*PLAN).out
    assert "disk     video " in told and "decoder's memory 12" in told and ", decoder's state " in told
    one, left = divmod(disk["kept states"], plan["kept_states"])
    # Pieces end at frames 29, 61 and so on, so that 29 frames wait in a state that is kept.
    assert (one, left) == (1000 + (held + 12) * latent + 29 * 8 * 8 * 3, 0) and "states   all 2 are kept" in told
    few = longtake(*PLAN, "--keep-states", str(one))
    assert (
        "states   1 of 2, dense near the end, is kept" in few.out
        and "none are kept" in longtake(*PLAN, "--keep-states", "0").out
    )
    for sampler in SAMPLERS:
        if sampler != "nuwa-xl":
            plan = json.loads(longtake(*PLAN[:-1], "20001", "--sampler", sampler, "--json").out)
            assert plan["forwards_per_frame"] == pytest.approx(plan["forwards"] / 20001, rel=0.01)


def test_forwards_per_frame_are_those_of_this_video(longtake: Callable) -> None:
    plan = "plan", "a red car", "--model", "toy", "--sampler", "nuwa-xl", "--frames"
    content = json.loads(longtake(*plan, "50", "--json").out)
    told = re.search(
        r"([\d,]+) forwards in \d+ windows \(([\d.]+) per frame, ([\d.]+) in the long run\)", longtake(*plan, "50").out
    )
    assert told and float(told[2]) == round(content["mean_forwards_per_frame"], 3) == round(content["forwards"] / 50, 3)
    assert float(told[3]) == round(content["forwards_per_frame"], 3) != float(told[2])
    assert int(told[1].replace(",", "")) == content["forwards"]


@pytest.mark.parametrize("command", [("plan",), ("generate", "--dry-run")])
def test_what_a_video_costs_is_worked_out_once(
    longtake: Callable, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    from longtake.apps.plan import costs

    worked_out, disk = [], costs._disk
    monkeypatch.setattr(costs, "_disk", lambda job: worked_out.append(job) or disk(job))
    assert longtake(*command, "a red car", "--model", "toy").status == 0
    assert len(worked_out) == 1


def test_prompts_count_where_they_are_reached(longtake: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_spec, "TOY", replace(toy_spec.TOY, prompt_numbers=1000))
    Path("story.json").write_text(json.dumps({str(start): f"scene {start}" for start in range(0, 5000, 5)}))
    plan = "plan", "--model", "toy", "--dtype", "float32", "--prompts", "story.json", "--json"
    memory = [json.loads(longtake(*plan, "--frames", frames).out)["memory_by_part"] for frames in ("11", "endless")]
    assert [part["prompts"] for part in memory] == [4 * 4000, 1001 * 4000]


def test_sides_that_meet_are_said(longtake: Callable) -> None:
    wrapped = ("plan", "a red car drives", "--model", "sprites-fast", "--frames", "64", "--size", "128x64", "--wrap")
    assert "128x64 whose sides meet, " in longtake(*wrapped).out
    assert json.loads(longtake(*wrapped, "--json").out)["wrap"] is True
    assert "--wrap has no effect on the model toy" in longtake(*PLAN, "--wrap").err


def test_a_remembered_rate_gives_the_time(longtake: Callable) -> None:
    rates.remember_rate("toy", "cpu", "float32", 1e6)
    plan = json.loads(longtake(*PLAN, "--json", "--dtype", "float32").out)
    operations = plan["forwards"] * 2 * 8**2 * 3 * 8 * 8 + 64 * 3 * 8 * 8
    assert plan["seconds"] == pytest.approx(operations / 1e6)
    assert plan["seconds_reason"] is None


@pytest.mark.parametrize("content", ["", "[]", "nonsense", '{"a": "b"}'])
def test_a_damaged_cache_is_an_empty_one(longtake: Callable, content: str) -> None:
    rates.remember_rate("toy", "cpu", "float32", 1e6)
    rates._path().write_text(content)
    assert json.loads(longtake(*PLAN, "--json", "--dtype", "float32").out)["seconds"] is None


def test_models_and_samplers_mark_those_that_are_taken_where_none_is_named(longtake: Callable) -> None:
    for command, name in (("models", DEFAULT_MODEL), ("samplers", DEFAULT_SAMPLER)):
        told = longtake(command).out
        assert f"{name} (default)" in told and told.count("(default)") == 1
    models = json.loads(longtake("models", "--json").out)["models"]
    assert [name for name, model in models.items() if model["default"]] == [DEFAULT_MODEL]
    assert {"rocket", "forest"} <= set(models["sprites"]["vocabulary"]) and models["toy"]["vocabulary"] is None


def test_words_that_the_model_does_not_know_are_said(longtake: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_spec, "TOY", replace(toy_spec.TOY, vocabulary=frozenset({"a", "red", "car"})))
    ran = longtake("plan", "a red zeppelin", "--model", "toy", "--json")
    assert ran.status == 0
    assert "does not know 'zeppelin'; its 3 words are listed by 'longtake models --json'" in ran.err
    assert (
        "does not know 'rad' (but 'red'), 'zeppelin'; its" in longtake("plan", "a rad zeppelin", "--model", "toy").err
    )
    many = " ".join(f"x{number}q" for number in range(15))
    assert "'x11q' and 3 other words; its 3 words are listed" in longtake("plan", many, "--model", "toy").err
    assert len(json.loads(ran.out)["warnings"]) == 1
    assert "know" not in longtake(*PLAN).err


def test_a_model_that_lacks_something_is_told_which_of_the_package_have_it(longtake: Callable) -> None:
    ran = longtake("plan", "a red car", "--model", "sprites-uniform", "--sampler", "nuwa-xl", "--frames", "226")
    does = [name for name in MODELS if MODELS[name].folder and "nuwa-xl" in samplers_of(model_spec(name))]
    assert ran.status == 2 and "sprites" in does and "sprites-uniform" not in does
    assert f"does not offer; of those in the package it runs on {', '.join(does)}; 'longtake models'" in ran.err


def test_an_endless_plan_has_no_totals(longtake: Callable) -> None:
    plan = json.loads(longtake("plan", "a", "--model", "toy", "--frames", "endless", "--json").out)
    assert plan["forwards"] is None and plan["seconds"] is None
    assert plan["forwards_per_frame"] == 2


@pytest.mark.parametrize("command", ["models", "samplers"])
def test_tables_fit_the_terminal_and_cut_no_name(
    longtake: Callable, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = longtake(command).out
    assert max(map(len, told.splitlines())) <= 80 and "\u2026" not in told
    needs = {need.__name__ for name in SAMPLERS for need in sampler_class(name).requires}
    assert command == "models" or all(f"{need}, to " in " ".join(told.split()) for need in needs)


def test_tables_name_every_model_and_sampler(longtake: Callable) -> None:
    models = json.loads(longtake("models", "--json").out)["models"]
    assert set(models) == set(MODELS)
    assert "a panda" in models["sprites-fast"]["phrases"]["a thing"] and models["toy"]["phrases"] is None
    samplers = json.loads(longtake("samplers", "--json").out)["samplers"]
    assert set(samplers) == set(SAMPLERS)
    assert "toy" in samplers["fifo"]["models"]
    assert "fifo" in longtake("samplers").out
    assert "toy" in longtake("models").out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(longtake: Callable, command: str) -> None:
    ran = longtake(*command.split(), "--help")
    assert ran.status == 0
    assert f"usage: longtake {command}" in ran.out


def test_the_main_help_fits_a_screen(longtake: Callable) -> None:
    ran = longtake("--help")
    assert ran.status == 0
    assert ran.out.count("\n") < 24
    assert longtake().out == ran.out


def test_a_contact_sheet_is_written_once(longtake: Callable) -> None:
    assert longtake("data", "sprites", "--preview", "-o", "sheet.png").status == 0
    assert "--overwrite" in longtake("data", "sprites", "--preview", "-o", "sheet.png").err


def test_a_model_of_one_prompt_a_window_says_how_prompts_change(
    longtake: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = ("plan", "--prompts", "a | b", "--model", "toy", "--frames", "64", "--json")
    assert json.loads(longtake(*story).out)["warnings"] == []
    monkeypatch.setattr(toy_spec, "TOY", replace(toy_spec.TOY, prompts="window"))
    (warning,) = json.loads(longtake(*story).out)["warnings"]
    assert "one prompt for all frames of a window" in warning
    assert json.loads(longtake("plan", "a", *story[3:]).out)["warnings"] == []


def test_what_the_plan_says_of_the_parts_is_counted(longtake: Callable, tmp_path: Path) -> None:
    """Of a tiny network, which the formula, made for large ones, need not fit in all."""
    folder = TINY["WanTransformer3DModel"](tmp_path)
    asked = ("plan", "a", "--model", str(folder), "--frames", "200", "--dtype", "float32", "--verify")
    ran = longtake(*asked, "--json")
    counted = json.loads(ran.out)["counted"]
    for part in ("text encoder", "network", "decoder"):
        assert counted[part]["formula"] == pytest.approx(counted[part]["counted"], rel=0.01)
    off = [row["formula"] / row["counted"] - 1 for row in counted.values() if row["counted"]]
    assert ran.status == (1 if max(map(abs, off)) > 0.1 else 0)
    told = longtake(*asked)
    assert "by formula" in told.out and "decoder's memory" in told.out and told.status == ran.status
    assert ("verify   failed: the plan is more than 10% from what is counted for " in told.err) == (told.status == 1)


def test_what_differs_from_the_plan_is_named(longtake: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.apps.plan.command.AGREES", -1.0)
    ran = longtake("plan", "a cat", "--model", "sprites", "--frames", "64", "--verify")
    assert ran.status == 1 and "from what is counted for text encoder, decoder, network, " in ran.err
    monkeypatch.setattr("longtake.apps.plan.command.AGREES", 10.0)
    ran = longtake("plan", "a cat", "--model", "sprites", "--frames", "64", "--verify")
    assert (ran.status, "verify" in ran.err) == (0, False)


def test_the_control_network_is_counted_where_a_sampler_shows_it_frames(longtake: Callable, tmp_path: Path) -> None:
    folder = str(TINY["AnimateDiffSparseControlNetPipeline"](tmp_path))
    counted = {}
    for sampler in ("chunked", "nuwa-xl"):
        ran = longtake("plan", "a", "--model", folder, "--sampler", sampler, "--frames", "64", "--verify", "--json")
        counted[sampler] = json.loads(ran.out)["counted"]
        assert counted[sampler]["network"]["formula"] == pytest.approx(counted[sampler]["network"]["counted"], rel=0.01)
    assert counted["nuwa-xl"]["denoising"]["counted"] > counted["chunked"]["denoising"]["counted"]


def test_what_cannot_be_counted_is_refused(longtake: Callable) -> None:
    reasons = {"toy": "is made by code", "pvdm-sprites": "is no network of diffusers"}
    for model, reason in reasons.items():
        ran = longtake("plan", "a", "--model", model, "--sampler", "chunked", "--frames", "64", "--verify")
        assert ran.status == 2 and reason in ran.err
