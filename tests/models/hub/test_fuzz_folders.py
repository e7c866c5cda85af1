"""Folders spoilt at random: whatever they hold, a model comes, or one line that names the file and what is wrong."""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.errors import LongtakeError
from longtake.models import load_model, model_spec

from ..tiny import TINY

pytestmark = pytest.mark.slow

TRIES = 100
"""For every family."""
VALUES: list[Any] = [
    None, True, -1, 0, 0.5, 3, 7, 10**6, 10**30, -(10**9), 1e308, float("nan"), float("inf"), "", "x", "../x", "\udc80",
    [], [None], ["x"], [0], [1, 2, 3, 4, 5, 6, 7], {}, {"a": 1}, [[1]], "float16", "Wan-AI/secret", [10**6] * 3,
]  # fmt: skip
QUANTISERS = ["bitsandbytes", "torchao", "quanto", "gguf", "awq", "modelopt", 3, None]


def configs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.json") if path.is_file())


def weights(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def parts_of(folder: Path, path: Path) -> list[str]:
    return list(path.relative_to(folder).parts[:1])


def said_of(folder: Path) -> list[Path]:
    return [path for path in configs(folder) if "config" in path.name or path.parent == folder]


def change_a_value(folder: Path, dice: random.Random) -> list[str]:
    file = dice.choice(said_of(folder))
    content = json.loads(file.read_text())
    key, value = dice.choice([*content, "extra"]), dice.choice(VALUES)
    file.write_text(json.dumps(content | {key: value}))
    return [*parts_of(folder, file), key]


def drop_a_value(folder: Path, dice: random.Random) -> list[str]:
    file = dice.choice(said_of(folder))
    content = json.loads(file.read_text())
    key = dice.choice([*content, "extra"])
    file.write_text(json.dumps({name: value for name, value in content.items() if name != key}))
    return [*parts_of(folder, file), key]


def remove_something(folder: Path, dice: random.Random) -> list[str]:
    path = dice.choice(sorted(folder.rglob("*")))
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return parts_of(folder, path)


def cut_a_file(folder: Path, dice: random.Random) -> list[str]:
    path = dice.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    path.write_bytes(path.read_bytes()[: dice.randrange(path.stat().st_size + 1)])
    return parts_of(folder, path)


def spoil_bytes(folder: Path, dice: random.Random) -> list[str]:
    path = dice.choice(configs(folder))
    content = bytearray(path.read_bytes())
    for _ in range(dice.randrange(1, 5)):
        content[dice.randrange(len(content))] = dice.randrange(256)
    path.write_bytes(bytes(content))
    # A letter of a name in the index shows as another part or class.
    return [*parts_of(folder, path), *(["has a ", "is a ", "is of a "] if path.name == "model_index.json" else [])]


def garble(folder: Path, dice: random.Random) -> list[str]:
    path = dice.choice(configs(folder))
    others = ["", "[]", "3", "null", "{", '{"a": 1}', "[" * 100_000, '{"a":' * 50_000, "NaN", "\ufeff{}"]
    path.write_text(dice.choice(others))
    return parts_of(folder, path)


def another_class(folder: Path, dice: random.Random) -> list[str]:
    file = folder / "model_index.json"
    content = json.loads(file.read_text())
    part = dice.choice(list(content))
    names = ["UNet2DConditionModel", "CLIPTextModel", "os.system", "AutoencoderKL", "T5TokenizerFast", 3, None, ["x"]]
    libraries = ["diffusers", "transformers", "my_code", None]
    content[part] = dice.choice([[dice.choice(libraries), dice.choice(names)], "x", 3])
    file.write_text(json.dumps(content))
    return [file.name, part, "which is none of diffusers"]


def spoil_tensors(folder: Path, dice: random.Random) -> list[str]:
    file = dice.choice(weights(folder))
    tensors = load_file(file)
    name = dice.choice(sorted(tensors))
    kind = dice.choice(["gone", "renamed", "shape", "nan", "foreign", "integers"])
    tensor = tensors.pop(name) if kind in ("gone", "renamed") else tensors[name]
    if kind == "renamed":
        tensors[f"{name}_old"] = tensor
    elif kind == "shape":
        tensors[name] = torch.zeros(3, 5)
    elif kind == "nan":
        tensors[name] = torch.full_like(tensor, torch.nan)
    elif kind == "foreign":
        tensors["some.other.weight"] = torch.zeros(2)
    elif kind == "integers":
        tensors[name] = torch.zeros(tensor.shape, dtype=torch.uint8)
    save_file(tensors, file)
    return parts_of(folder, file)


def spoil_a_header(folder: Path, dice: random.Random) -> list[str]:
    file = dice.choice(weights(folder))
    body = bytearray(file.read_bytes())
    (size,) = struct.unpack("<Q", body[:8])
    for _ in range(3):
        body[8 + dice.randrange(size)] = dice.randrange(256)
    file.write_bytes(bytes(body))
    return parts_of(folder, file)


def quantised(folder: Path, dice: random.Random) -> list[str]:
    file = dice.choice(sorted(folder.glob("*/config.json")))
    method = dice.choice(QUANTISERS)
    said = dice.choice([{"quant_method": method}, {"quant_method": method, "load_in_4bit": True}, method, {}])
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": said}))
    return parts_of(folder, file)


def no_plain_file(folder: Path, dice: random.Random) -> list[str]:
    path = dice.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    path.unlink()
    kind = dice.choice(["pipe", "device", "folder", "broken link", "loop"])
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "broken link": "/nothing/here", "loop": path.name}[kind])
    return parts_of(folder, path)


def spoil_the_extras(folder: Path, dice: random.Random) -> list[str]:
    names = ["fps", "guidance", "num_frames", "size", "told_fps", "clean_frames", "vocabulary", "shared"]
    said = {name: dice.choice(VALUES) for name in dice.sample(names, dice.randrange(1, 3))}
    (folder / "longtake.json").write_text(json.dumps(said))
    return ["longtake.json", *said]


WAYS: list[Callable[[Path, random.Random], list[str]]] = [
    change_a_value, change_a_value, change_a_value, drop_a_value, remove_something, cut_a_file, spoil_bytes, garble,
    another_class, spoil_tensors, spoil_a_header, quantised, no_plain_file, spoil_the_extras,
]  # fmt: skip


@pytest.mark.parametrize("family", TINY)
def test_no_folder_ends_in_a_traceback(family: str, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole, failures, refused = TINY[family](tmp_path / "whole"), [], 0
    extras = whole / "longtake.json"
    if shared := extras.exists() and json.loads(extras.read_text()).get("shared"):
        shutil.copytree(whole / shared, tmp_path / Path(shared).name)
    for seed in range(TRIES):
        dice, copy = random.Random(seed), tmp_path / "copy"
        shutil.copytree(whole, copy)
        way = dice.choice(WAYS)
        guilty = way(copy, dice)
        for ask in (model_spec, load_model):
            try:
                ask(str(copy))
            except LongtakeError as error:
                refused += 1
                line = str(error)
                if "\n" in line or len(line) > 1200 or "weights_only" in line or not any(g in line for g in guilty):
                    failures.append(f"{seed} {way.__name__} {guilty}: {line}")
            except Exception as error:
                failures.append(f"{seed} {way.__name__} {guilty}: {type(error).__name__} {error}")
        shutil.rmtree(copy)
    assert not failures, "\n".join([f"{len(failures)} of {TRIES}", *failures])
    assert refused > TRIES // 2
