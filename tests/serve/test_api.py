"""The interface as its clients see it."""

import base64
import html
import io
import json
import re
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from longtake._generate import generate
from longtake.models import load_model
from longtake.models.toy import Toy
from longtake.request import PromptTimeline, Request
from longtake.samplers.fifo.plan import Fifo
from longtake.serve.job import ExtendJob, RedoJob, VideoJob, order_of
from longtake.serve.meter import Meter
from longtake.serve.stream import Growth, read_settled
from longtake.video.output import Output

from .conftest import TOY, Server


def test_a_video_is_asked_for_made_and_read(server: Server) -> None:
    client = server.client
    asked = client.post("/v1/videos", json=TOY).json()
    assert asked["object"] == "video" and asked["status"] == asked["state"] == "queued" and asked["progress"] == 0
    assert re.fullmatch(r"video_[0-9a-f]{24}", asked["id"]) and asked["position"] == 1
    assert (asked["size"], asked["seconds"], asked["num_frames"], asked["fps"]) == ("16x16", "5", 40, 8.0)
    assert asked["prompt"] == "a red car" and asked["prompts"] == [{"start": 0, "text": "a red car"}]
    assert client.get(f"/v1/videos/{asked['id']}/content").status_code == 409
    job = server.claim()
    server.make(job, stop=24)
    grows = client.get(f"/v1/videos/{job.id}").json()
    assert grows["status"] == "in_progress" and 0 < grows["progress"] < 100 and grows["frames_per_second"] == 16.0
    assert 0 < grows["frames_ready"] <= grows["frames_done"] == 24 and grows["eta_seconds"] == pytest.approx(1)
    server.make(job)
    whole = client.get(f"/v1/videos/{job.id}").json()
    assert whole["status"] == "completed" and whole["progress"] == 100 and whole["frames_ready"] == 40
    assert whole["completed_at"] >= whole["created_at"] and whole["eta_seconds"] is None
    content = client.get(f"/v1/videos/{job.id}/content")
    assert content.headers["content-type"] == "video/mp4" and content.content == server.queue.path(job).read_bytes()
    report = client.get(f"/v1/videos/{job.id}/report").json()
    assert report["complete"] and report["output"]["file"] == job.file
    assert client.get(f"/v1/videos/{job.id}/prompts.vtt").text.startswith("WEBVTT")
    again = client.post("/v1/videos", json=whole["request"]).json()
    assert again["request"] == whole["request"]
    assert client.delete(f"/v1/videos/{job.id}").json() == {"id": job.id, "object": "video.deleted", "deleted": True}
    assert client.get(f"/v1/videos/{job.id}").status_code == 404 and not server.queue.path(job).exists()


def test_a_form_says_the_same_as_json(server: Server) -> None:
    form = {**{name: str(value) for name, value in TOY.items()}, "sampler.overlap": "2", "seed": "7"}
    form |= {"guidance_scale": "1.0", "negative_prompt": "", "prompts": json.dumps({"0": "a", "20": "b"})}
    id = server.client.post("/v1/videos", files={name: (None, value) for name, value in form.items()}).json()["id"]
    assert server.queue.get(id).asked == VideoJob(
        prompts=PromptTimeline((0, 20), ("a", "b")),
        model="toy",
        sampler="chunked",
        settings={"overlap": 2},
        frames=40,
        seed=7,
        guidance=1.0,
        size="16x16",
        steps=2,
    )


@pytest.mark.parametrize(
    ("said", "starts"),
    [
        ({"seconds": 2}, (0,)),
        ({"seconds": "2", "prompts": "a | b"}, (0, 8)),
        ({"num_frames": 16, "prompts": [{"start": 0, "text": "a"}, {"start": 5, "text": "b"}]}, (0, 5)),
        ({"num_frames": 16, "prompts": [{"start_time": 0, "text": "a"}, {"start_time": 1, "text": "b"}]}, (0, 8)),
        ({"num_frames": 16, "prompts": "[0s: a] [1s: b]"}, (0, 8)),
        ({"num_frames": 16, "fps": "8000/1001", "prompts": ["a", "b"]}, (0, 8)),
    ],
)
def test_lengths_and_prompts_in_their_spellings(server: Server, said: dict[str, object], starts: tuple[int]) -> None:
    content = {name: value for name, value in TOY.items() if name != "num_frames"} | said
    job = server.queue.get(server.client.post("/v1/videos", json=content).json()["id"])
    assert job.frames_total == 16 and job.prompts.starts == starts


def test_videos_are_listed_by_pages(server: Server) -> None:
    ids = [server.ask() for _ in range(3)]
    first = server.client.get("/v1/videos", params={"limit": 2}).json()
    assert [video["id"] for video in first["data"]] == ids[:0:-1] and first["has_more"]
    assert (first["first_id"], first["last_id"]) == (ids[2], ids[1])
    rest = server.client.get("/v1/videos", params={"limit": 2, "after": first["last_id"]}).json()
    assert [video["id"] for video in rest["data"]] == ids[:1] and not rest["has_more"]
    up = server.client.get("/v1/videos", params={"order": "asc"}).json()
    assert [video["id"] for video in up["data"]] == ids
    assert server.client.get("/v1/videos", params={"after": "video_0"}).status_code == 404


def test_what_grows_is_read_to_its_end(server: Server) -> None:
    id = server.ask()
    job = server.claim()
    server.make(job, stop=24)
    path = server.queue.path(job)
    before = Growth(path).now().bytes
    threading.Thread(target=lambda: (time.sleep(0.2), server.make(job))).start()
    answer = server.client.get(f"/v1/videos/{id}/content")
    assert answer.status_code == 200 and "content-length" not in answer.headers
    assert answer.content == read_settled(path, 0, path.stat().st_size, finished=False) and len(answer.content) > before


def test_what_grows_is_read_by_ranges(server: Server) -> None:
    id = server.ask()
    job = server.claim()
    server.make(job, stop=24)
    now, get = Growth(server.queue.path(job)).now().bytes, server.client.get
    part = get(f"/v1/videos/{id}/content", headers={"range": "bytes=10-"})
    assert part.status_code == 206 and part.headers["content-range"] == f"bytes 10-{now - 1}/*"
    assert len(part.content) == now - 10
    assert get(f"/v1/videos/{id}/content", headers={"range": f"bytes={now}-"}).status_code == 416
    growing = part.headers["etag"]
    # An unchanged name of something that grows is no reason to send nothing of it.
    held = {"if-none-match": growing, "range": "bytes=0-1"}
    assert get(f"/v1/videos/{id}/content", headers=held).status_code == 206
    server.make(job)
    size = server.queue.path(job).stat().st_size
    rest = get(f"/v1/videos/{id}/content", headers={"range": f"bytes={now}-"})
    assert rest.status_code == 206 and rest.headers["content-range"] == f"bytes {now}-{size - 1}/{size}"
    # The beginning has changed with the end: who holds one of what grew gets it all.
    moved = get(f"/v1/videos/{id}/content", headers={"range": f"bytes={now}-", "if-range": growing})
    assert moved.status_code == 200 and len(moved.content) == size
    tag = moved.headers["etag"]
    assert tag != growing and get(f"/v1/videos/{id}/content", headers={"if-none-match": tag}).status_code == 304
    last = get(f"/v1/videos/{id}/content", headers={"range": "bytes=-5", "if-range": tag})
    assert last.content == server.queue.path(job).read_bytes()[-5:]
    assert get(f"/v1/videos/{id}/content", headers={"range": f"bytes={size}-"}).status_code == 416
    head = server.client.head(f"/v1/videos/{id}/content")
    assert head.status_code == 200 and head.headers["content-length"] == str(size) and head.content == b""


def test_what_was_given_up_can_be_read_as_far_as_it_is(server: Server) -> None:
    id = server.ask()
    job = server.claim()
    server.make(job, stop=24)
    answer = server.client.post(f"/v1/videos/{id}/cancel").json()
    assert (answer["status"], answer["state"], answer["error"]["code"]) == ("failed", "cancelled", "cancelled")
    content = server.client.get(f"/v1/videos/{id}/content")
    assert len(content.content) == int(content.headers["content-length"]) == Growth(server.queue.path(job)).now().bytes


def test_pictures_of_a_video(server: Server) -> None:
    id = server.made()
    small = server.client.get(f"/v1/videos/{id}/content", params={"variant": "thumbnail"})
    assert small.headers["content-type"] == "image/webp" and Image.open(io.BytesIO(small.content)).size == (16, 16)
    sheet = server.client.get(f"/v1/videos/{id}/content", params={"variant": "spritesheet"})
    assert Image.open(io.BytesIO(sheet.content)).size == (80, 80) and sheet.headers["x-sheet-columns"] == "5"
    assert len(sheet.headers["x-sheet-frames"].split(",")) == 25
    assert server.client.get(f"/v1/videos/{id}/content", params={"variant": "all"}).status_code == 400


def news(text: str) -> list[tuple[str, dict[str, object]]]:
    """The events of a stream."""
    found = re.findall(r"event: (\w+)\ndata: (.*)\n\n", text)
    return [(name, json.loads(data)) for name, data in found]


def test_news_come_until_a_video_is_over(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.serve.figures.RETRY_SECONDS", 0.0)
    id = server.ask()
    job = server.claim()
    server.make(job, stop=24)
    threading.Thread(target=lambda: (time.sleep(0.2), server.make(job))).start()
    answer = server.client.get(f"/v1/videos/{id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = news(answer.text)
    assert events[0][0] == "progress" and events[0][1]["status"] == "in_progress"
    assert events[-1][0] == "done" and events[-1][1]["status"] == "completed"
    rows = [row for name, data in events if name == "figures" for row in data["data"]]  # pyright: ignore
    assert [row["frame"] for row in rows] == [0, 8, 16, 24, 32]
    later = server.client.get(f"/v1/videos/{id}/figures").json()["data"]
    assert [row | {"seams": None} for row in later] == [row | {"seams": None} for row in rows]
    assert server.client.get(f"/v1/videos/{id}/figures", params={"start": 32}).json()["data"] == later[-1:]
    assert rows[0]["drift"] == 0 and rows[0]["steps"][0] is None and len(rows[0]["steps"]) == 8
    # Clips of the toy's eight frames follow each other.
    assert [row["seams"] for row in later] == [[], [8], [16], [24], [32]]


def test_a_video_goes_on_in_a_new_one(server: Server) -> None:
    id = server.made()
    extend = {"video": {"id": id}, "seconds": "2", "prompt": "a blue boat"}
    longer = server.client.post("/v1/videos/extensions", json=extend).json()
    assert longer["extended_from_video_id"] == id and longer["remixed_from_video_id"] is None
    assert longer["seconds"] == "7" and longer["num_frames"] == 56
    assert longer["prompts"] == [{"start": 0, "text": "a red car"}, {"start": 40, "text": "a blue boat"}]
    form = {"video[id]": (None, id), "seconds": (None, "2"), "prompt": (None, "a blue boat")}
    twice = server.client.post("/v1/videos/extensions", files=form).json()
    told = PromptTimeline.constant("a blue boat")
    assert server.queue.get(twice["id"]).asked == ExtendJob(parent=id, frames=16, prompts=told)
    assert server.client.post("/v1/videos/extensions", json={"video": {"id": "../x"}, "seconds": 1}).status_code == 404


def test_a_video_becomes_another(server: Server) -> None:
    id = server.made()
    other = server.client.post(f"/v1/videos/{id}/remix", json={"prompt": "a blue boat", "from_seconds": 2}).json()
    assert other["remixed_from_video_id"] == id and other["from_frame"] == 16 and other["num_frames"] == 40
    assert server.queue.get(other["id"]).asked == RedoJob(
        parent=id, frame=16, prompts=PromptTimeline.constant("a blue boat")
    )
    body = {"from_frame": 3, "from_seconds": 2}
    assert server.client.post(f"/v1/videos/{id}/remix", json=body).json()["error"]["param"] == "from_frame"


def test_what_waits_is_moved_paused_and_told_anew(server: Server) -> None:
    first, second = server.ask(), server.ask()
    assert server.client.post(f"/v1/videos/{second}/move", json={"position": 1}).json()["position"] == 1
    paused = server.client.post(f"/v1/videos/{first}/pause").json()
    assert (paused["status"], paused["state"]) == ("queued", "paused")
    assert server.client.post(f"/v1/videos/{first}/resume").json()["state"] == "queued"
    body = {"prompts": [{"start": 0, "text": "a"}, {"start": 9, "text": "b"}]}
    assert server.client.post(f"/v1/videos/{first}/prompts", json=body).json()["prompts"] == body["prompts"]
    told = server.client.post(f"/v1/videos/{first}/prompts", json={"prompt": "c", "from_frame": 20}).json()
    assert told["prompts"] == [*body["prompts"], {"start": 20, "text": "c"}]
    assert server.client.post(f"/v1/videos/{first}/prompts", json={}).json()["error"]["param"] == "prompts"


def test_a_prompt_alone_holds_from_now_on(server: Server) -> None:
    server.ask()
    job = server.claim()
    server.queue.progress(job, 21)
    told = server.client.post(f"/v1/videos/{job.id}/prompts", json={"prompt": "a blue boat"}).json()
    assert told["prompts"][-1] == {"start": 21, "text": "a blue boat"}


def test_the_queue_takes_so_many(server: Server) -> None:
    for _ in range(3):
        server.ask()
    answer = server.client.post("/v1/videos", json=TOY)
    assert answer.status_code == 429 and answer.json()["error"]["type"] == "rate_limit_error"
    long = server.client.post("/v1/videos", json=TOY | {"num_frames": 100_000})
    assert long.status_code == 429 and "100000 frames" in long.json()["error"]["message"]


def test_a_plan_says_what_a_request_would_take(server: Server) -> None:
    plan = server.client.post("/v1/plan", json=TOY).json()
    assert plan["forwards"] == 10 and plan["frames"] == 40 and plan["disk_bytes"] > 0
    assert plan["peak_memory_bytes"] > 0
    read = server.client.post("/v1/plan", json={"model": "toy", "num_frames": 40, "prompts": "one | two"}).json()
    assert read["prompts"] == [{"start": 0, "text": "one"}, {"start": 20, "text": "two"}]
    refusal = server.client.post("/v1/plan", json=TOY | {"sampler.overlap": 8})
    assert refusal.status_code == 400 and "overlap" in refusal.json()["error"]["message"]
    assert list(server.queue.folder.glob("video_*")) == []


def test_a_plan_of_what_comes_from_another_says_what_is_made_again(server: Server) -> None:
    id = server.made()
    redo = {"video": {"id": id}, "from_frame": 20, "prompt": "a blue boat"}
    plan = server.client.post("/v1/plan", json=redo).json()
    assert plan["made_from"] == 16 and plan["frames"] == 40
    longer = server.client.post("/v1/plan", json={"video": {"id": id}, "num_frames": 8}).json()
    assert longer["frames"] == 48 and longer["made_from"] > 0
    refusal = server.client.post("/v1/plan", json=redo | {"from_frame": 40})
    assert refusal.status_code == 400 and "40" in refusal.json()["error"]["message"]
    assert server.client.post("/v1/plan", json=redo | {"video": {"id": "../x"}}).status_code == 404
    waiting = server.client.post("/v1/plan", json=redo | {"video": server.ask()}).json()
    assert waiting["made_from"] is None
    assert len(list(server.queue.folder.glob("video_*.mp4"))) == 1


@pytest.mark.parametrize("setting", [{"negative_prompt": "a panda"}, {"guidance_scale": 2}])
def test_what_has_no_effect_on_a_model_is_refused_by_its_field_and_another_model_named(
    server: Server, setting: dict[str, object]
) -> None:
    asked = {"prompt": "a cat rests in space", "model": "sprites-fast", "num_frames": 32} | setting
    for path in ("/v1/plan", "/v1/videos"):
        refusal = server.client.post(path, json=asked)
        assert refusal.status_code == 400 and refusal.json()["error"]["param"] == [*setting][0]
        assert "choose the model sprites, which takes any guidance" in refusal.json()["error"]["message"]
    assert server.client.post("/v1/plan", json=asked | {"model": "sprites"}).status_code == 200


def test_what_a_model_can_be_asked_for_is_said_in_words_that_it_knows(server: Server) -> None:
    models = server.client.get("/v1/options").json()["models"]
    assert models["toy"]["phrases"] is models["toy"]["words"] is None
    for model in (model for name, model in models.items() if name != "toy"):
        assert [len(phrases) for phrases in model["phrases"].values()] == [16, 10, 19]
        assert {word for each in model["phrases"].values() for word in " ".join(each).split()} <= {*model["words"]}


def test_a_redo_warns_of_words_that_the_model_does_not_know(server: Server) -> None:
    fast = {"model": "sprites-fast", "prompt": "a cat rests in space", "num_frames": 16, "num_inference_steps": 1}
    id = server.ask(**fast, size="64x64")
    job, queue = server.claim(), server.queue
    order = order_of(job.asked, queue.path(job), queue.uploads, queue.computing)
    generate(load_model("sprites-fast"), order.request, order.sampler, order.output)
    queue.finish(queue.get(id), 16)
    redo = {"video": {"id": id}, "from_frame": 8}
    (warning,) = server.client.post("/v1/plan", json=redo | {"prompt": "a zeppelin rests in space"}).json()["warnings"]
    assert warning.startswith("the model sprites-fast does not know 'zeppelin'; ")
    assert server.client.post("/v1/plan", json=redo | {"prompt": "a duck rests in space"}).json()["warnings"] == []


def test_a_redo_of_fifo_says_that_a_new_scene_dissolves(server: Server) -> None:
    """With chunked a window does not see the one before, and nothing is begun anew where the words stay."""
    redo = {"video": {"id": server.made()}, "from_frame": 20}
    assert server.client.post("/v1/plan", json=redo | {"prompt": "a boat"}).json()["dissolves"] is False
    id = server.ask(sampler="fifo", num_inference_steps=None)
    generate(
        Toy(),
        Request(prompts=PromptTimeline.constant("a red car"), frames=40),
        Fifo(),
        Output(path=server.queue.path(server.claim()), scale=2, segment=8),
    )
    server.queue.finish(server.queue.get(id), 40)
    redo["video"] = {"id": id}
    later = {"0": "a red car", "10": "a boat"}
    for asked, dissolves in (({"prompt": "a boat"}, True), ({"prompts": later}, False), ({"seed": 3}, False)):
        assert server.client.post("/v1/plan", json=redo | asked).json()["dissolves"] is dissolves


def test_options_are_the_settings_of_the_command_line(server: Server) -> None:
    found = server.client.get("/v1/options").json()
    assert "fifo" in found["models"]["sprites"]["samplers"] and found["models"]["toy"]["ready"]
    fifo = {one["name"]: one for one in found["samplers"]["fifo"]["settings"]}
    partitions = fifo["sampler.partitions"]
    assert (partitions["type"], partitions["default"], partitions["optional"]) == ("integer", 1, False)
    assert partitions["help"].startswith("Latent partitions n")
    assert fifo["sampler.lookahead"]["type"] == "boolean" and fifo["sampler.compat"]["choices"][0] == "off"
    assert not {"sampler.keyframes", "sampler.before"} & {
        one["name"] for row in found["samplers"].values() for one in row["settings"]
    }
    settings = {one["name"]: one for one in found["settings"]}
    assert settings["keep_states"]["unit"] == "bytes" and settings["crf"]["unit"] is None
    assert settings["guidance_scale"]["unset"] == "the model's own" and settings["seed"]["default"] == 0
    assert found["presets"]["realtime"]["sampler"] == "fifo" and found["limits"]["max_frames"] == 1000


def test_the_description_tells_every_field(server: Server) -> None:
    described = server.client.get("/openapi.json").json()
    forms = described["paths"]["/v1/videos"]["post"]["requestBody"]["content"]
    fields = forms["multipart/form-data"]["schema"]["properties"]
    assert fields["fps"]["description"].startswith("Frames per second") and "input_reference" in fields
    text = server.client.get("/docs").text
    assert all(f"{method.upper()} {path}" in text for path, route in described["paths"].items() for method in route)
    assert html.escape(fields["size"]["description"]) in text


def test_health_and_metrics(server: Server) -> None:
    assert server.client.get("/health").json() == {"status": "ok", "reason": None}
    server.made()
    text = server.client.get("/metrics").text
    assert 'longtake_videos{state="completed"} 1.0' in text and "longtake_first_frames_seconds_bucket" in text


def test_what_happens_is_counted(server: Server) -> None:
    meter = Meter(server.queue)

    def figure(name: str) -> float:
        meter.look()
        found = re.search(rf"^longtake_{re.escape(name)} (\S+)$", meter.exposed()[0].decode(), re.M)
        assert found, name
        return float(found[1])

    server.ask()
    job = server.claim()
    assert figure("frames_made_total") == 0
    server.queue.progress(job, 8, rate=4.0)
    assert figure("frames_made_total") == 8 and figure("first_frames_seconds_count") == 1
    assert figure("frames_per_second") == 4.0 and figure('videos{state="in_progress"}') == 1
    server.queue.progress(job, 24)
    assert figure("frames_made_total") == 24 and figure("gap_seconds_count") == 1
    server.queue.finish(job, 40)
    assert figure("frames_made_total") == 40 and figure('videos_over_total{state="completed"}') == 1
    assert figure('videos{state="in_progress"}') == 0


def test_a_picture_comes_first(server: Server) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "JPEG")
    form = {name: (None, str(value)) for name, value in TOY.items()}
    picture = ("../../../evil.png", buffer.getvalue(), "image/png")
    answer = server.client.post("/v1/videos", files=form | {"input_reference": picture})
    assert answer.status_code == 200, answer.text
    address = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    for reference in (address, {"image_url": address}):
        assert server.client.post("/v1/videos", json=TOY | {"input_reference": reference}).status_code == 200
    kept = sorted(server.queue.uploads.iterdir())
    assert len(kept) == 3 and all(re.fullmatch(r"[0-9a-f]{24}\.png", one.name) for one in kept)
    assert Image.open(kept[0]).format == "PNG"
    assert not (server.queue.folder / "evil.png").exists()


def names(folder: Path) -> list[str]:
    """Everything in a folder."""
    return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if "queue.sqlite" not in one.name)
