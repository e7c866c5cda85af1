"""The node pack against a stand-in of ComfyUI's interface; a run in ComfyUI itself is told of in docs/comfyui.md."""

import asyncio
import json
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from longtake import Output, Request, generate, load_model
from longtake.errors import InputError
from longtake.models import DEFAULT_MODEL
from longtake.request import PromptTimeline
from longtake.samplers import SAMPLERS, sampler_class
from longtake.samplers.chunked.plan import Chunked
from longtake.samplers.fifo.plan import Fifo
from longtake.video.files import picture_files
from longtake.video.pictures import read_picture
from longtake.video.read import read_frames

from .comfyui_api import InterruptProcessingException, Server, load_pack

PACK = Path(__file__).parents[2] / "integrations/comfyui"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server(output=tmp_path / "output", models=tmp_path / "models")
    server.output.mkdir()
    for name, module in server.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return server


@pytest.fixture
def nodes(server: Server) -> Iterator[dict[str, Any]]:
    before = set(sys.modules)
    extension = asyncio.run(load_pack(PACK, "comfyui_pack").comfy_entrypoint())
    yield {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}
    for name in set(sys.modules) - before:
        if name.startswith("comfyui_pack"):
            del sys.modules[name]


def toy(**video: Any) -> dict[str, Any]:
    return {
        "model": {"class_type": "LongtakeModel", "inputs": {"model": "toy", "device": "cpu"}},
        "sampler": {"class_type": "LongtakeChunked", "inputs": {"context_overlap": 2}},
        "video": {
            "class_type": "LongtakeVideo",
            "inputs": {"model": ["model", 0], "sampler": ["sampler", 0], "prompt": "a", "frames": 24, "segment": 8}
            | video,
        },
    }


def plain_bytes(path: Path) -> bytes:
    """Return what longtake makes of the same settings."""
    output = Output(path=path, segment=8)
    generate(load_model("toy"), Request(prompts="a", frames=24), Chunked(overlap=2), output)
    return path.read_bytes()


def test_a_graph_makes_the_video_that_longtake_makes_and_shows_it_on_the_way(
    server: Server, nodes: dict[str, Any], tmp_path: Path
) -> None:
    path, last, report, video = server.run(nodes, toy(last_frames=3))["video"].args
    assert Path(path).read_bytes() == plain_bytes(tmp_path / "plain.mp4")
    assert Path(path).parent == server.output / "longtake"
    assert json.loads(report)["complete"] and video == ("video", path)
    (frames,) = read_frames(path, 21)
    assert last.dtype == torch.float32 and np.array_equal(np.rint(last.numpy() * 255).astype(np.uint8), frames)
    told = [entry["value"] for entry in server.progress]
    assert told == sorted(told) and told[0] == 0 and told[-1] == 24
    shown = [entry["preview"] for entry in server.progress if entry["preview"]]
    assert len(shown) == 3, "a picture for every full segment"
    assert all((kind, picture.size) == ("JPEG", frames.shape[1:3]) for kind, picture, _ in shown)


def test_an_interrupted_graph_goes_on_to_the_same_bytes(server: Server, nodes: dict[str, Any], tmp_path: Path) -> None:
    server.interrupt_at = 12
    with pytest.raises(InterruptProcessingException):
        server.run(nodes, toy())
    (stopped,) = (server.output / "longtake").glob("*.mp4")
    server.progress.clear()
    path = Path(server.run(nodes, toy())["video"].args[0])
    assert path == stopped and server.progress[0]["value"] >= 8
    assert path.read_bytes() == plain_bytes(tmp_path / "plain.mp4")


def test_another_setting_is_another_file(server: Server, nodes: dict[str, Any]) -> None:
    others = ({}, {"seed": 1}, {"format": "mkv"}, {})
    paths = [server.run(nodes, toy(frames=8, **other))["video"].args[0] for other in others]
    assert len(set(paths)) == 3 and paths[0] == paths[3]


def test_the_last_frames_begin_the_next_video(server: Server, nodes: dict[str, Any], tmp_path: Path) -> None:
    graph = toy(last_frames=4)
    graph["next"] = {
        "class_type": "LongtakeVideo",
        "inputs": {"model": ["model", 0], "prompt": "b", "frames": 16, "start_images": ["video", 1]},
    }
    first, begun = (server.run(nodes, graph)[name].args for name in ("video", "next"))
    (pictures,) = (server.output / "longtake").glob("pictures_*")
    assert np.array_equal(np.stack(list(map(read_picture, picture_files(pictures)))), next(read_frames(first[0], 20)))
    plain, request = tmp_path / "plain.mp4", Request(prompts="b", frames=16, init=str(pictures))
    generate(load_model("toy"), request, Fifo(), Output(path=plain))
    assert Path(begun[0]).read_bytes() == plain.read_bytes()


def test_the_plan_loads_no_weights_and_writes_nothing(
    server: Server, nodes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longtake.models.kept.load_model", lambda *args, **more: pytest.fail("loaded"))
    graph = toy()
    graph["video"]["class_type"] = "LongtakePlan"
    output = server.run(nodes, graph)["video"]
    assert "24 frames" in output.args[0] and "forwards" in output.args[0]
    assert output.ui == {"text": (output.args[0],)}
    assert not [path for path in server.output.rglob("*") if path.is_file()]


def test_the_example_graph_is_one_that_the_nodes_take(server: Server, nodes: dict[str, Any]) -> None:
    graph = json.loads((PACK / "workflow.json").read_text())
    (model,) = (one for one in nodes["LongtakeModel"].define_schema().inputs if one.id == "model")
    assert graph["1"]["inputs"]["model"] == model.told["default"] == DEFAULT_MODEL
    del graph["5"]
    assert "64 frames" in server.run(nodes, graph)["4"].args[0]


def test_every_sampler_is_a_node_with_all_its_settings(nodes: dict[str, Any]) -> None:
    for name in SAMPLERS:
        kind = sampler_class(name)
        node = nodes[f"Longtake{kind.__name__}"]
        inputs = node.define_schema().inputs
        assert len(inputs) == len(fields(kind))
        assert all(one.told["tooltip"] for one in inputs)
        # What the widgets say untouched is the sampler as it is.
        untouched = {one.id: one.told["default"] for one in inputs if "default" in one.told}
        assert node.execute(**untouched).args == (kind(),)
        assert node.execute().args == (kind(),)


def test_names_are_those_of_context_windows_where_they_mean_the_same(nodes: dict[str, Any]) -> None:
    ids = {name: {one.id for one in node.define_schema().inputs} for name, node in nodes.items()}
    assert "context_length" in ids["LongtakeModel"] and "window" not in ids["LongtakeModel"]
    assert "context_overlap" in ids["LongtakeChunked"] & ids["LongtakeAutoregressive"]
    assert nodes["LongtakeAutoregressive"].execute(context_overlap="4").args[0].context == 4


def test_no_seed_is_drawn_after_a_run_since_the_same_graph_has_to_go_on(nodes: dict[str, Any]) -> None:
    (seed,) = (one for one in nodes["LongtakeVideo"].define_schema().inputs if one.id == "seed")
    assert seed.told["control_after_generate"] is False


def test_no_two_inputs_of_a_node_have_one_name(nodes: dict[str, Any]) -> None:
    for node in nodes.values():
        names = [one.id for one in node.define_schema().inputs]
        assert len(names) == len(set(names))


def test_folders_of_diffusers_stand_in_the_list(server: Server, nodes: dict[str, Any]) -> None:
    folder = server.models / "diffusers/wan"
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (choices,) = (one.told["options"] for one in nodes["LongtakeModel"].define_schema().inputs if one.id == "model")
    assert "sprites" in choices and "wan" in choices
    assert nodes["LongtakeModel"].execute(model="wan").args[0].name == str(folder)


def test_what_cannot_be_is_said_in_one_line(server: Server, nodes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"first_steps 'many' is no number"):
        nodes["LongtakeAutoregressive"].execute(first_steps="many")
    with pytest.raises(InputError, match="names a file"):
        nodes["LongtakePrompts"].execute(text=str(PACK / "workflow.json"))
    with pytest.raises(InputError, match="there is no prompt"):
        server.run(nodes, toy(prompt=""))
    with pytest.raises(InputError, match="--negative-prompt has no effect at guidance 1"):
        server.run(nodes, toy(negative_prompt="a boat"))


def test_zero_frames_are_endless_and_empty_guidance_is_the_models(nodes: dict[str, Any]) -> None:
    read = sys.modules["comfyui_pack.fields"].read_inputs
    prompts = {"starts": [0], "texts": ["a"]}
    request = read(Request, {"frames": 0, "guidance": "", "steps": "8", "seed": 3}, "it", prompts=prompts)
    assert request == Request(prompts=PromptTimeline.constant("a"), frames=None, steps=8, seed=3)
