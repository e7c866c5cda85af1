"""Code that gives the API another type than it takes is answered in one line."""

import json
import subprocess
import sys

import pytest

CALLS = {
    "load_model(None)": "load_model: name is None, which it cannot be; it takes the name of a model, its folder or",
    "load_model(Path('no/folder'))": "no/folder is no folder",
    "load_model('toy', dtype='float32')": "dtype is 'float32', which it cannot be; it takes a format of torch with",
    "load_model('toy', dtype='bfloat16')": "such as torch.bfloat16",
    "load_model('toy', dtype=3)": "dtype is 3, which it cannot be",
    "load_model('toy', dtype=torch.int64)": "dtype is torch.int64, which it cannot be",
    "load_model('toy', device='gpu')": "device is 'gpu', which it cannot be; it takes a device of torch, such as 'cpu'",
    "load_model('toy', device=None)": "device is None, which it cannot be",
    "load_model('sprites', device='xpu')": "no device of the kind xpu that torch can use (is_available() is false)",
    "load_model('sprites', window='8')": "Loading: window is '8', which it cannot be; it takes a whole number or None",
    "load_model('sprites', lora='a.safetensors')": "it takes a tuple, every item a text: lora=['a.safetensors']",
    "load_model('sprites', torch_dtype=None)": "no keyword of load_model 'torch_dtype'; did you mean 'dtype'?",
    "from_pipe(None)": "from_pipe: pipe is None, which it cannot be; it takes a prepared DiffusionPipeline of",
    "stream(model, request, 'fifo')": "sampler is 'fifo', which it cannot be; it takes a sampler with its settings",
    "stream(model, request, Fifo)": "sampler is <class 'longtake.samplers.fifo.plan.Fifo'>, which it cannot be",
    "stream(model, 'a red car', Fifo())": "request is 'a red car', which it cannot be; it takes a Request, such as",
    "stream('toy', request, Fifo())": "model is 'toy', which it cannot be; it takes a model, as load_model",
    "generate(model, request, Fifo(), 'out.mp4')": "output is 'out.mp4', which it cannot be; it takes an Output, such",
    "stream(model, request, Fifo(partitions='2'))": "Fifo: partitions is '2', which it cannot be; it takes a whole num",
    "stream(model, Request(prompts=None), Fifo())": "Request: prompts is None, which it cannot be; it takes a text, or",
    "load_model('toy', torch.device('meta'))": "device is device(type='meta'), which it cannot be; it takes a device",
    "Output(path='')": "the path of the output is empty; give PATH, or leave it out",
    "Output(keep_states=-1)": "--keep-states -1 is no size; write bytes, or 500MB or 2GB",
    "generate(model, request, Fifo(), Output(), 3)": "world is 3, which it cannot be; it takes a World, as",
    "generate(model, request, Fifo(), Output(), progress=3)": "progress is 3, which it cannot be; it takes a function",
    "generate(model, request, Fifo(), Output(), made=3)": "made is 3, which it cannot be; it takes a list of",
    "generate(model, request, Fifo(), Output(), executor=3)": "executor is 3, which it cannot be; it takes an Executor",
    "PromptTimeline.constant('a').at('x')": "frame is 'x', which it cannot be; it takes a whole number",
    "PromptTimeline.constant('a').spans('x')": "frames is 'x', which it cannot be; it takes a whole number or None",
    "PromptTimeline.constant(Path('a'))": "text is PosixPath('a'), which it cannot be; it takes a text",
    "Request(prompts=Path('a'))": "prompts is PosixPath('a'), which it cannot be; it takes a text, or a PromptTimeline",
    "Request(prompts='a', negative_prompt=Path('a'))": "negative_prompt is PosixPath('a'), which it cannot be",
    "extend('a.mp4', 8, progress=3)": "progress is 3, which it cannot be; it takes a function",
    "redo('a.mp4', 1, keep_queue='x')": "keep_queue is 'x', which it cannot be; it takes True or False",
    "extend('a.mp4', '8')": "frames is '8', which it cannot be; it takes a whole number",
    "extend(None, 8)": "file is None, which it cannot be; it takes a path",
    "redo('a.mp4', 1.5)": "frame is 1.5, which it cannot be; it takes a whole number",
    "redo('a.mp4', 1, ['a'])": "prompts is ['a'], which it cannot be; it takes a text or a PromptTimeline or None",
    "LongVideoPipeline('toy')": "model is 'toy', which it cannot be; it takes a model, as load_model",
    "LongVideoPipeline(model, 3)": "sampler is 3, which it cannot be; it takes the name of a sampler, or one with its",
    "LongVideoPipeline(model)(None)": "prompt is None, which it cannot be; it takes a text or a PromptTimeline",
    "LongVideoPipeline(model)('a', num_frames='8')": "num_frames is '8', which it cannot be; it takes a whole number",
    "LongVideoPipeline(model)('a', num_frames=None)": "num_frames None never ends, and a call returns it as a whole;",
    "LongVideoPipeline(model)('a', callback_on_step_end=3)": "callback_on_step_end is 3, which it cannot be; it",
    "LongVideoPipeline(model)('a', negative_prompt=Path('a'))": "negative_prompt is PosixPath('a'), which it cannot",
    "LongVideoPipeline(model)('a', generator='1')": "generator is '1', which it cannot be; it takes a torch.Generator",
}

PROGRAM = """
import json, sys
from pathlib import Path
import torch
from longtake import *
from longtake.samplers.fifo.plan import Fifo
model, request, told = load_model("toy"), Request(prompts="a", frames=4), {}
for call in json.load(sys.stdin):
    try:
        told[call] = f"nothing was raised, but {eval(call)} returned"
    except Exception as error:
        told[call] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    # In a process without beartype, by which the tests check arguments themselves.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(list(CALLS)), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_type_is_named_in_one_line(call: str, told: dict[str, str]) -> None:
    assert CALLS[call] in told[call]
    assert told[call].startswith("InputError: ")
    assert "\n" not in told[call]
