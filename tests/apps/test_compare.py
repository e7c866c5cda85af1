"""`longtake compare` and `longtake report`: videos on one page."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

pytest.importorskip("matplotlib", reason="it comes with the extra report")

from longtake.apps.compare.contenders import Contender, budget, equalised, read_contenders
from longtake.apps.compare.finished import as_json, look_into, video_metrics
from longtake.errors import InputError
from longtake.models import MODELS
from longtake.models.toy_spec import TOY
from longtake.request import Request
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.video.encoding import Encoding
from longtake.video.formats.mkv import open_mkv

PROMPTS = 'a <b>car</b> | a "boat" & <script>alert(1)</script>\n\nan island\n'
TOYS = ("compare", "--model", "toy", "--samplers", "fifo, chunked:steps=4", "--prompts", "p.txt", "--frames", "16")
REQUEST = Request(prompts="a", frames=128)


@pytest.fixture
def here(longtake: Callable) -> Path:
    Path("p.txt").write_text(PROMPTS)
    return Path("made")


def written(path: Path, frames: np.ndarray, scale: int = 1) -> Path:
    """Write a lossless file."""
    height, width = frames.shape[1:3]
    writer = open_mkv(
        path, Encoding(rate=Fraction(8), height=height, width=width, scale=scale, crf=18, segment=8, comment="")
    )
    mark = writer.start()
    for start in range(0, len(frames), 8):
        mark = writer.append(mark, start, frames[start : start + 8])
    writer.close_at(len(frames))
    writer.close()
    return path


def grey(*levels: int, side: int = 32) -> np.ndarray:
    return np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), side, side, 3)).copy()


def test_every_sampler_makes_every_prompt_with_every_seed_and_the_page_needs_no_other_file(
    longtake: Callable, here: Path
):
    Path("p.txt").write_text(PROMPTS.split("\n")[0])
    ran = longtake(*TOYS, "--seeds", "2", "--seed", "5", "-o", "made")
    assert ran.status == 0, ran.err
    results = json.loads((here / "results.json").read_text())
    labels = [(video["label"], video["seed"], video["frames"]) for video in results["videos"]]
    assert labels == [(label, seed, 16) for label in ("fifo", "chunked:steps=4") for seed in (5, 6)]
    assert results["videos"][0]["figures"]["switches"]["switches"] == 1
    same = ("--model", "toy", "--sampler", "chunked", "--steps", "4", "--frames", "16", "--seed", "6")
    alone = longtake("generate", "--prompts", "p.txt", *same, "-o", "alone.mkv")
    assert alone.status == 0 and Path("alone.mkv").read_bytes() == (here / "chunked-steps-4-000001.mkv").read_bytes()
    page = (here / "report.html").read_text()
    assert "a &lt;b&gt;car&lt;/b&gt;" in page and "<b>car" not in page and "alert(1)</script>" not in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page) and page.count("<video ") == 4
    assert "var(--c1)" in page and "no frames of 16 pixels or more" in page
    # What a reader looks for first comes first, and a story once, whatever its seeds.
    order = [page.index(f'id="{name}"') for name in ("results", "videos", "curves", "remarks", "origin")]
    assert order == sorted(order) and page.index("2 seeds") < order[0] and page.index("longtake compare") > order[-1]
    assert page.count("<h3>") == 1 and page.count("<summary>seed ") == 2
    # What is to be known of all is said once.
    assert page.count("no frames of 16 pixels or more") == 1 and "<dt>all</dt>" in page


def test_nothing_that_was_written_is_lost(longtake: Callable, here: Path):
    Path("p.txt").write_text("a car | a boat\n")
    fifo = (*TOYS[:3], "--samplers", "fifo", *TOYS[5:], "-o", "made")
    assert longtake(*fifo, "--metrics", "switches").status == 0
    results, page = (here / "results.json"), (here / "report.html").read_bytes()
    before = results.read_bytes()
    for arguments, reason in (
        ((*fifo, "--seed", "1"), "seed was 0 and is now 1"),
        (
            (*TOYS[:3], "--samplers", "chunked", *TOYS[5:], "-o", "made"),
            "has 1 video (fifo) that this comparison would",
        ),
    ):
        ran = longtake(*arguments)
        assert ran.status == 2 and reason in ran.err and not ran.out and ran.err.count("\n") == 1, ran.err
    assert results.read_bytes() == before and (here / "report.html").read_bytes() == page
    assert longtake(*fifo, "--metrics", "similarity").status == 0
    assert json.loads(results.read_bytes())["videos"][0]["figures"].keys() == {"switches", "similarity"}
    lacking = '{"videos": [{"file": "fifo-000000.mkv"}]}', '{"videos": [{"file": "zz.mkv"}]}'
    for content in ('{"notes": "of mine"}', '{"videos": {}}', "[" * 100_000, *lacking):
        results.write_text(content)
        ran = longtake(*fifo)
        assert ran.status == 2 and "is of no comparison; choose another -o" in ran.err and ran.err.count("\n") == 1
        assert results.read_text() == content


@pytest.mark.slow
def test_what_is_lost_is_made_again_and_what_was_measured_is_not(
    longtake: Callable, here: Path, monkeypatch: pytest.MonkeyPatch
):
    assert longtake(*TOYS, "-o", "made").status == 0
    page = (here / "report.html").read_bytes()
    for path in (here / "report.html", *here.glob("fifo-000001.*"), here / "fifo.jsonl"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    read = []
    monkeypatch.setattr(
        "longtake.metrics.similarity.similarity", lambda *_: read.append(1) or pytest.fail("it was measured before")
    )
    assert longtake(*TOYS, "-o", "made").status == 0
    assert (here / "report.html").read_bytes() == page
    other = longtake(*TOYS, "--guidance", "2", "-o", "made")
    assert other.status == 2 and "guidance was 1.0 and is now 2.0" in other.err


def test_one_budget_holds_for_all_within_five_percent():
    made = equalised(
        read_contenders("fifo:partitions=4, chunked, autoregressive, nuwa-xl, video-infinity"), REQUEST, TOY
    )
    costs = [budget(one, REQUEST, TOY).cost for one in made]
    assert max(costs) / costs[0] < 1.05 and min(costs) / costs[0] > 0.95
    assert made[0].steps is None and made[1].steps not in (None, 30)
    with pytest.raises(InputError, match="cannot have the budget of the others"):
        equalised(read_contenders("fifo, fifo:partitions=2"), REQUEST, TOY)


def test_samplers_are_read_with_their_settings():
    assert read_contenders("fifo:partitions=2:lookahead=false, chunked:steps=7:overlap=3") == [
        Contender(label="fifo:partitions=2:lookahead=false", sampler=Fifo(partitions=2, lookahead=False), steps=None),
        Contender(label="chunked:steps=7:overlap=3", sampler=Chunked(overlap=3), steps=7),
    ]


@pytest.mark.parametrize(
    ("samplers", "reason"),
    [
        ("fifu", "did you mean 'fifo'"),
        ("fifo:partition=2", "did you mean 'partitions'"),
        ("fifo:partitions", "is no setting"),
        ("fifo:partitions=many", "takes a whole number"),
        ("chunked:steps=few", "no whole number"),
        ("fifo,fifo", "there twice"),
        (" ,", "no sampler to compare"),
    ],
)
def test_samplers_that_cannot_be_are_refused_in_one_line(samplers: str, reason: str):
    with pytest.raises(InputError, match=reason):
        read_contenders(samplers)


def test_mistakes_are_one_line_and_touch_nothing(longtake: Callable, here: Path):
    Path("taken").touch()
    for arguments, reason in (
        (TOYS[:-1] + ("endless",), "endless videos cannot be compared"),
        (("compare", "--samplers", ""), "--samplers is empty; give NAME,NAME, or leave it out"),
        (("compare", "--prompts", ""), "there are no prompts; give --prompts a file with one a line"),
        (TOYS[:-4] + TOYS[-2:], "there are no prompts"),
        ((*TOYS, "--seeds", "0"), "--seeds 0"),
        ((*TOYS, "--metrics", "drifd"), "did you mean 'drift'"),
        ((*TOYS, "--steps", "4", "--equal-budget"), "--steps has no effect beside --equal-budget"),
        ((*TOYS, "-o", "taken"), "it is a file"),
        ((*TOYS, "-o", "taken/x/y"), "taken is a file, not a folder"),
        ((*TOYS, "-o", "/proc/x"), "cannot write /proc/x: no file can be made in /proc ("),
        ((*TOYS[:3], "--samplers", "fifo,nuwa-xl:depth=99", *TOYS[5:]), "depth"),
        (("report",), "which videos is missing"),
        (("report", "none.mkv"), "there is no none.mkv"),
        (("report", "p.txt"), "cannot be shown"),
        (("report", "p.txt", "p.txt"), "p.txt is there twice; name"),
        (("report", "p.txt", "../" + Path.cwd().name + "/p.txt"), "is there twice, as p.txt"),
        (("report", "p.txt", "none.mkv"), "there is no none.mkv"),
    ):
        ran = longtake(*arguments)
        assert ran.status == 2 and reason in ran.err and "Traceback" not in ran.err, ran.err
    assert "reading" not in ran.err and not Path("made").exists() and not list(Path("compared").glob("*.mkv"))


def test_a_plan_alone_touches_nothing(longtake: Callable, here: Path):
    ran = longtake(*TOYS, "--equal-budget", "--dry-run", "-o", "made")
    # A sampler with steps of its own keeps them.
    assert ran.status == 2 and "cannot have the budget of the others" in ran.err
    ran = longtake(*TOYS[:3], "--samplers", "fifo,chunked", *TOYS[5:], "--equal-budget", "--dry-run", "-o", "made")
    assert ran.status == 0 and "chunked" in ran.out and not list(Path().glob("made*"))


def variable_rate(path: Path, frames: np.ndarray, milliseconds: list[int]) -> Path:
    """Write an MP4 whose frames begin at these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, moment in zip(frames, milliseconds, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def levels(copy: bytes) -> list[int]:
    with av.open(BytesIO(copy)) as container:
        return [round(float(frame.to_ndarray(format="rgb24").mean())) for frame in container.decode(video=0)]


def test_a_copy_of_a_variable_rate_shows_every_frame_at_its_moment(tmp_path: Path):
    path = variable_rate(tmp_path / "a.mp4", grey(20, 80, 140, 200, 250), [0, 1000, 1250, 2000, 3000])
    video = look_into(path, {}, label="a", story="")
    assert video.looks is not None and video.looks.copy is not None and "250 to 1000 ms" in video.reasons["rate"]
    # Four frames over three seconds: a rate of 4/3.
    assert levels(video.looks.copy) == pytest.approx([20, 80, 140, 200, 250], abs=3)


def test_a_copy_of_a_constant_rate_has_the_frames_of_the_video(tmp_path: Path):
    video = look_into(written(tmp_path / "a.mkv", grey(*range(0, 240, 3))), {}, label="a", story="")
    assert video.looks is not None and video.looks.copy is not None and not video.reasons
    assert levels(video.looks.copy) == pytest.approx(list(range(0, 240, 3)), abs=2)
    assert video.looks.places[0] == 0 and len(video.looks.pictures) == 12 and video.looks.seconds == 10


def test_videos_of_any_origin_are_on_one_page(longtake: Callable):
    noise = np.random.default_rng(0).integers(0, 255, (64, 32, 32, 3)).astype(np.uint8)
    whole = written(Path("<i>whole.mkv"), noise).read_bytes()
    Path("cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    variable_rate(Path("rate.mp4"), grey(20, 80, 140), [0, 1000, 1100])
    written(Path("one.mkv"), grey(99))
    Path("broken.mp4").write_bytes(b"no video at all")
    Path("cut.json").write_text('{"of": "another program"}')
    files = ("<i>whole.mkv", "cut.mkv", "rate.mp4", "one.mkv", "broken.mp4")
    ran = longtake("report", *files, "-o", "page.html", "--json")
    assert ran.status == 0, ran.err
    found = {video["file"]: video for video in json.loads(ran.out)}
    assert [found[name]["frames"] for name in files] == [64, found["cut.mkv"]["frames"], 3, 1, 0]
    assert 16 <= found["cut.mkv"]["frames"] < 64 and "no report of a run" in found["cut.mkv"]["reasons"]["video"]
    assert (
        "cannot read" in found["broken.mp4"]["reasons"]["video"] and "ms each" in found["rate.mp4"]["reasons"]["rate"]
    )
    assert found["<i>whole.mkv"]["figures"]["drift"]["longest_freeze"] == 0
    single = found["one.mkv"]["figures"]
    assert [single["drift"][name] for name in ("mean_step", "loop_score")] == [None, None]
    assert [single["similarity"][name] for name in ("start", "end")] == [None, None]
    page = Path("page.html").read_text()
    assert "&lt;i&gt;whole.mkv" in page and "<i>" not in page and page.count("<video ") == 4
    refused = longtake("report", *files, "-o", "page.html")
    assert refused.status == 2 and "page.html exists" in refused.err
    alone = longtake("report", "one.mkv", "-o", "one.html")
    assert alone.status == 0 and "<svg" not in Path("one.html").read_text()
    assert "broken.mp4 cannot be shown: cannot read" in longtake("report", "broken.mp4", "-o", "none.html").err


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float().mean(dim=[2, 3])


def network(path: Path) -> Path:
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(Mean()), str(path))
    return path


def test_a_network_that_is_given_is_on_the_page(longtake: Callable):
    written(Path("a.mkv"), np.random.default_rng(0).integers(0, 255, (24, 32, 32, 3)).astype(np.uint8))
    network(Path("dino.pt"))
    ran = longtake("report", "a.mkv", "-o", "page.html", "--metrics", "similarity,vbench:dino=dino.pt", "--json")
    assert ran.status == 0, ran.err
    figures = json.loads(ran.out)[0]["figures"]["vbench:dino=dino.pt"]
    assert 0 < figures["subject_consistency"] < 1 and figures["networks"]["dino"].startswith("dino.pt")
    page = Path("page.html").read_text()
    for said in ("subject consistency within clips", "subject consistency from clip to clip", "temporal flickering"):
        assert said in page
    assert "vbench (subject consistency): VBench&#39;s arithmetic: comparable only if dino.pt is DINO ViT-B/16" in page
    assert "similarity (start, end, similar after): not comparable with VBench" in page
    assert "vbench (within clips): VBench&#39;s arithmetic: " in page and "(slow)" not in page


@pytest.mark.parametrize(
    ("metrics", "problem"),
    [
        ("vbench:dino=no.pt", "there is no file no.pt; vbench:dino takes one, or leave it out"),
        ("vbench:raft=a.mkv", "a.mkv cannot be loaded as TorchScript"),
        ("similarity:network=no.pt", "there is no file no.pt"),
        ("vbench:device=cpu", "vbench:device has no effect without a network"),
        ("vbench:din=no.pt", "did you mean 'dino'?"),
        ("vbench:scale=2", "there is no setting of vbench on a page 'scale'"),
        ("vbenhc:dino=no.pt", "did you mean 'vbench'?"),
        ("drift:block=few", "block is"),
        ("drift,drift:block=32", "is there twice"),
    ],
)
def test_metrics_that_cannot_be_are_refused_before_a_video_is_read_or_made(
    longtake: Callable, here: Path, metrics: str, problem: str
):
    written(Path("a.mkv"), grey(*range(16)))
    ran = longtake("report", "a.mkv", "-o", "page.html", "--metrics", metrics)
    assert ran.status == 2 and problem in ran.err and ran.err.count("\n") == 1 and "reading  " not in ran.err
    ran = longtake(*TOYS, "-o", "made", "--metrics", metrics)
    assert ran.status == 2 and problem in ran.err and not here.exists() and not Path("page.html").exists()


def test_what_another_network_measured_is_measured_again(tmp_path: Path):
    path, dino = written(tmp_path / "a.mkv", grey(*range(16))), network(tmp_path / "dino.pt")
    metrics = video_metrics(f"vbench:dino={dino},drift")
    found = as_json(look_into(path, metrics, label="a", story=""), None)
    for figures in found["figures"].values():
        figures["num_frames"] = 99
    again = look_into(path, metrics, label="a", story="", before=found)
    assert again.figures[f"vbench:dino={dino}"]["num_frames"] == 16 and again.figures["drift"]["num_frames"] == 99


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_file_that_ends_before_the_length_that_it_says_is_cut_off(tmp_path: Path, share: float):
    path = tmp_path / "a.mkv"
    noise = np.random.default_rng(0).integers(0, 255, (48, 32, 32, 3)).astype(np.uint8)
    variable_rate(path, noise, list(range(0, 4800, 100)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    reasons = look_into(path, {}, label="a", story="").reasons
    assert ("it is cut off: of the 4." in reasons.get("length", "")) == (share < 1)


@pytest.mark.slow
def test_a_killed_comparison_goes_on_to_the_same_files(longtake: Callable, here: Path):
    assert longtake(*TOYS, "-o", "made").status == 0
    videos = {path.name: path.read_bytes() for path in here.glob("*.mkv")}
    command: Any = [sys.executable, "-m", "longtake", *TOYS, "-o", "other"]
    other = Path("other")
    for many in (1, 3):
        process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(other.glob("*.mkv"))) < many:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, env=os.environ, check=False, capture_output=True).returncode == 0
    assert {path.name: path.read_bytes() for path in other.glob("*.mkv")} == videos


@pytest.mark.slow
def test_ten_minutes_take_little_memory_and_are_shown_without_playing(longtake: Callable):
    noise = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3)).astype(np.uint8)
    written(Path("long.mkv"), np.tile(noise, (300, 1, 1, 1)))
    ran = longtake("report", "long.mkv", "--metrics", "drift,similarity", "--json")
    assert ran.status == 0, ran.err
    (video,) = json.loads(ran.out)
    assert video["frames"] == 4800 and video["figures"]["drift"]["loop_period"] == 16
    assert "Too long or too large to play" in Path("report.html").read_text()


def test_a_model_that_lacks_something_is_said_before_anything_is_made(longtake: Callable, here: Path):
    ran = longtake("compare", "--model", "pvdm-sprites", "--samplers", "fifo", "--prompts", "p.txt", "--frames", "32")
    assert ran.status == 2 and "PerFrameNoise" in ran.err


def test_other_weights_are_noticed_by_the_plan(longtake: Callable, here: Path):
    entry = MODELS["sprites"].folder
    assert entry is not None
    model = Path(shutil.copytree(entry, "model"))
    asked = ("compare", "--model", "model", "--samplers", "chunked:steps=1", "--prompts", "p.txt", "--frames", "16")
    Path("p.txt").write_text("a cat")
    assert longtake(*asked, "-o", "made").status == 0
    assert longtake(*asked, "-o", "made", "--dry-run").status == 0
    weights = next(model.glob("unet/*.safetensors"))
    tensors = load_file(weights)
    tensors["conv_in.bias"] += 1
    save_file(tensors, weights)
    ran = longtake(*asked, "-o", "made", "--dry-run")
    assert ran.status == 2 and "was begun with other settings: the weights of the model are others" in ran.err
