"""Parts that leave the device between their calls: when they move, that no thread sees it, and that nothing changes."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.hooks import CpuOffload
from torch import Tensor, nn

import longtake
from longtake import Request, stream
from longtake.errors import InputError
from longtake.models import family_of, load_model, model_spec
from longtake.models.hub.configs import read_configs
from longtake.models.hub.find import find
from longtake.models.hub.load import load_pipeline
from longtake.models.hub.offload import HOST, Turns, come_in_blocks, rests_on_host, take_turns
from longtake.samplers.fifo.plan import Fifo

DEVICE = torch.device("cuda")
PARTS = ("transformer", "vae", "text_encoder")


class Part(nn.Module):
    """Notes where it is told to go, in place of going there, and whether it is there when it computes."""

    def __init__(self, name: str, log: list[str], place: torch.device) -> None:
        super().__init__()
        self.name, self.log, self.place = name, log, place

    def to(self, device: torch.device) -> "Part":
        self.log.append(f"{self.name} -> {device.type}")
        self.place = device
        return self

    def forward(self, x: float) -> float:
        assert self.place == DEVICE
        self.log.append(self.name)
        if x < 0:
            raise ValueError("broken")
        assert self.place == DEVICE
        return x


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def pipeline(log: list[str]) -> SimpleNamespace:
    vae = nn.Module()
    vae.encoder, vae.decoder, vae.quant_conv = (Part(name, log, HOST) for name in ("encoder", "decoder", "small"))
    parts = {"transformer": Part("network", log, DEVICE), "text_encoder": Part("text", log, HOST), "vae": vae}
    return SimpleNamespace(**parts)


def test_the_text_encoder_comes_in_for_its_call_alone(pipeline, log) -> None:
    take_turns(pipeline, PARTS, "text", Turns(DEVICE))
    pipeline.text_encoder(1.0)
    with pytest.raises(ValueError, match="broken"):
        pipeline.text_encoder(-1.0)
    pipeline.transformer(1.0)
    assert log == ["text -> cuda", "text", "text -> cpu"] * 2 + ["network"]


def test_one_part_at_a_time_is_in(pipeline, log) -> None:
    take_turns(pipeline, PARTS, "model", Turns(DEVICE))
    assert log == ["small -> cuda"]
    del log[:]
    for part in (pipeline.text_encoder, pipeline.transformer, pipeline.transformer, pipeline.vae.decoder):
        part(1.0)
    assert log == [
        *("network -> cpu", "text -> cuda", "text", "text -> cpu", "network -> cuda", "network", "network"),
        *("network -> cpu", "decoder -> cuda", "decoder"),
    ]


def test_threads_take_turns_too(pipeline) -> None:
    """A part that another thread has put out while it computes would find itself elsewhere."""
    take_turns(pipeline, PARTS, "model", Turns(DEVICE))
    failed: list[BaseException] = []

    def called(part: nn.Module) -> None:
        try:
            for _ in range(300):
                part(1.0)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=called, args=(part,)) for part in (pipeline.transformer, pipeline.vae.decoder)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def frames(model) -> list[Tensor]:
    request = Request(prompts="a red car", frames=21, seed=3)
    return [torch.from_numpy(chunk) for chunk in stream(model, request, Fifo(partitions=1))]


@pytest.mark.parametrize("offload", ["text", "model"])
def test_the_frames_are_the_same(wan_folder: Path, offload: str) -> None:
    """On a CPU, where the parts stay where they are: what the hooks hand on is what the networks would be given."""
    expected, model = frames(load_model(str(wan_folder))), load_model(str(wan_folder))
    take_turns(model.pipeline, PARTS, offload, Turns(HOST))
    model.takes_turns = True
    assert all(torch.equal(one, other) for one, other in zip(frames(model), expected, strict=True))


def test_the_decoder_of_a_pipeline_that_diffusers_offloads_comes_in(wan_folder: Path) -> None:
    pipe = load_model(str(wan_folder)).pipeline
    expected = frames(longtake.from_pipe(pipe, num_frames=5, size=[32, 48]))
    vars(pipe.vae)["_hf_hook"] = CpuOffload(execution_device="cpu")
    model = longtake.from_pipe(pipe, num_frames=5, size=[32, 48])
    assert model.takes_turns and pipe.vae.decoder._forward_pre_hooks
    assert all(torch.equal(one, other) for one, other in zip(frames(model), expected, strict=True))


AT_REST = {
    "none": {"transformer", "vae", "text_encoder"},
    "text": {"transformer", "vae"},
    "model": {"transformer"},
    "group": {"vae"},
}


@pytest.mark.parametrize("offload", AT_REST)
def test_bytes_at_rest_on_the_device_are_those_of_the_parts_that_the_plan_leaves_there(
    wan_folder: Path, offload: Any
) -> None:
    """Counted on a device that holds no numbers."""
    found = find(str(wan_folder))
    configs = read_configs(found, family_of(found))
    pipeline = load_pipeline(configs, family_of(found), torch.device("meta"), torch.float32, offload)
    counted = {
        # The other name of the text encoder's table, which is one tensor where there are numbers.
        part: sum(
            weight.nbytes
            for name, weight in getattr(pipeline, part).named_parameters()
            if weight.device.type == "meta" and name != "encoder.embed_tokens.weight"
        )
        for part in PARTS
    }
    spec = model_spec(str(wan_folder))
    text, decoder = 4 * spec.text_encoder.parameters, 4 * spec.decoder.parameters
    sizes = {"text_encoder": text, "vae": decoder, "transformer": 4 * spec.parameters - text - decoder}
    assert counted == {part: size if part in AT_REST[offload] else 0 for part, size in sizes.items()}


AT_CALL = {
    "none": {"text_encoder": set(PARTS), "transformer": set(PARTS), "vae": set(PARTS)},
    "text": {"text_encoder": set(PARTS), "transformer": {"transformer", "vae"}, "vae": {"transformer", "vae"}},
    "model": {"text_encoder": {"text_encoder"}, "transformer": {"transformer"}, "vae": {"vae"}},
}
"""Parts that are on the device while one of them computes."""
AWAY = torch.device("meta")


@pytest.mark.parametrize("offload", AT_CALL)
def test_bytes_on_the_device_at_every_call_of_a_video(
    wan_folder: Path, offload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted part by part; no part really moves, so that the video is made where there is no device."""
    model = load_model(str(wan_folder))
    halves = {"text_encoder": model.pipeline.text_encoder, "transformer": model.pipeline.transformer}
    halves["vae"] = model.pipeline.vae.decoder
    sizes = {part: sum(weight.nbytes for weight in half.parameters()) for part, half in halves.items()}
    is_in = {id(half): not rests_on_host(part, offload) for part, half in halves.items()}
    counted: dict[str, set[tuple[tuple[str, int], ...]]] = {part: set() for part in PARTS}

    def moved(module: nn.Module, device: torch.device) -> nn.Module:
        is_in[id(module)] = device != AWAY
        return module

    def look(part: str) -> None:
        counted[part].add(tuple((name, sizes[name] if is_in[id(half)] else 0) for name, half in halves.items()))

    monkeypatch.setattr(nn.Module, "to", moved)
    take_turns(model.pipeline, PARTS, offload, Turns(HOST, host=AWAY))
    for part, half in halves.items():
        half.register_forward_pre_hook(lambda *_, part=part: look(part))
    assert frames(model)
    assert {part: [dict(seen) for seen in held] for part, held in counted.items()} == {
        part: [{name: sizes[name] if name in held else 0 for name in halves}] for part, held in AT_CALL[offload].items()
    }


@pytest.mark.parametrize("quantize", [None, "fp8"])
def test_blocks_that_come_in_one_after_the_other_change_nothing(wan_folder: Path, quantize: Any) -> None:
    plain, model = (load_model(str(wan_folder), quantize=quantize) for _ in range(2))
    come_in_blocks(model.pipeline.transformer, HOST)
    assert model.pipeline._execution_device == HOST
    assert all(torch.equal(one, other) for one, other in zip(frames(model), frames(plain), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["text", "model", "group"])
def test_the_frames_are_the_same_on_a_gpu(wan_folder: Path, offload: str) -> None:
    held, away = (load_model(str(wan_folder), "cuda", offload=mode) for mode in ("none", offload))
    assert {weights.device.type for weights in away.pipeline.text_encoder.parameters()} == {"cpu"}
    assert all(torch.equal(one, other) for one, other in zip(frames(away), frames(held), strict=True))


def test_what_has_no_effect_or_does_not_fit_is_refused(wan_folder: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="--offload text has no effect on a CPU"):
        load_model(str(wan_folder), offload="text")
    for loading, message in (
        ({"offload": "model"}, "--offload model does not fit ModelScope"),
        ({"offload": "group"}, "--offload group does not fit ModelScope"),
        ({"offload": "auto"}, "is chosen by a command"),
    ):
        with pytest.raises(InputError, match=message):
            load_model(str(folder), "cuda", **loading)
