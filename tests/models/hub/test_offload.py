"""Parts that leave the device between their calls: when they move, that no thread sees it, and that nothing changes."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.hooks import CpuOffload
from torch import Tensor, nn

import longtake
from longtake import Request, stream
from longtake.errors import InputError
from longtake.models import load_model
from longtake.models.hub.offload import HOST, Turns, take_turns
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


@pytest.mark.gpu
@pytest.mark.parametrize("offload", ["text", "model"])
def test_the_frames_are_the_same_on_a_gpu(wan_folder: Path, offload: str) -> None:
    held, away = (load_model(str(wan_folder), "cuda", offload=mode) for mode in ("none", offload))
    assert {weights.device.type for weights in away.pipeline.text_encoder.parameters()} == {"cpu"}
    assert all(torch.equal(one, other) for one, other in zip(frames(away), frames(held), strict=True))


def test_what_has_no_effect_or_does_not_fit_is_refused(wan_folder: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="--offload text has no effect on a CPU"):
        load_model(str(wan_folder), offload="text")
    with pytest.raises(InputError, match="does not fit ModelScope"):
        load_model(str(folder), "cuda", offload="model")
