"""Downloads from a stand-in for the hub: asked for, said before, and only of what is read."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi, errors

from longtake.errors import InputError
from longtake.models import load_model, model_spec
from longtake.models.hub.download import wanted

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "somebody/tiny-wan"


class Hub:
    """A repository with the files of a folder, and others that longtake does not read."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache, self.asked, self.fetched = folder, cache, 0, list[list[str]]()
        files = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        self.files = files | {"README.md": 10, "wan.ckpt": 10**12, "transformer/model.bin": 10**12}

    def model_info(self, api: HfApi, name: str, *, revision: str | None, files_metadata: bool, timeout: float) -> Any:
        assert name == NAME and files_metadata and timeout
        self.asked += 1
        return SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=file, size=size) for file, size in self.files.items()]
        )

    def snapshot_download(self, name: str, *, revision: str | None, allow_patterns: list[str]) -> None:
        place = self.cache / f"models--{name.replace('/', '--')}"
        self.fetched.append(allow_patterns)
        for file in allow_patterns:
            target = place / "snapshots" / COMMIT / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.folder / file, target)
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(COMMIT)


@pytest.fixture
def hub(wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(wan_folder, tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setattr(HfApi, "model_info", lambda api, *given, **named: hub.model_info(api, *given, **named))
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.snapshot_download)
    return hub


def test_it_is_asked_for_and_said_before_and_only_what_is_read_comes(
    hub: Hub, wan_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = {file: size for file, size in hub.files.items() if size < 10**12 and file != "README.md"}
    large = f"{len(read)} files, {sum(read.values()) / 1e9:.2f} GB"
    with pytest.raises(InputError, match=f"not in the hub's cache .*; --download fetches it: {large}"):
        model_spec(NAME)
    assert not hub.fetched and not hub.cache.exists()
    model = load_model(NAME, download=True)
    assert capsys.readouterr().err.startswith(f"download {NAME}: {large} to {hub.cache}\n")
    assert set(hub.fetched[0]) == set(read) and model.origin == NAME and model.loading == {}
    assert model.digest == load_model(str(wan_folder)).digest
    asked = hub.asked
    load_model(NAME)
    assert hub.asked == asked and len(hub.fetched) == 1


def test_what_an_interrupted_download_lacks_comes_later(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    model_spec(NAME, download=True)
    weights = hub.cache / "models--somebody--tiny-wan" / "snapshots" / COMMIT / "vae" / "config.json"
    weights.unlink()
    capsys.readouterr()
    model_spec(NAME, download=True)
    assert f"download {NAME}: 1 files, 0.00 GB" in capsys.readouterr().err
    model_spec(NAME, download=True)
    assert len(hub.fetched) == 2 and not capsys.readouterr().err


def test_offline_asks_nobody(hub: Hub, wan_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="not in the hub's cache"):
        model_spec(NAME, offline=True)
    with pytest.raises(InputError, match="--download has no effect beside --offline"):
        model_spec(NAME, offline=True, download=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="--download has no effect beside"):
        model_spec(NAME, download=True)
    assert hub.asked == 0
    for option in ("download", "offline"):
        for name in ("sprites", str(wan_folder)):
            with pytest.raises(InputError, match=f"--{option} has no effect on"):
                model_spec(name, **{option: True})


def refused(kind: type[errors.HfHubHTTPError]) -> Exception:
    """The error, without the answer of a server that it holds."""
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refused(errors.GatedRepoError), f"is gated: .*huggingface.co/{NAME}.*hf auth login"),
        (refused(errors.RepositoryNotFoundError), "the hub has none of the name"),
        (refused(errors.RevisionNotFoundError), "has no revision None"),
        (type("ConnectError", (Exception,), {"__module__": "httpx2"})("no name"), "the hub does not answer .no name"),
        (ConnectionError("no route\nto host"), "the hub does not answer .no route to host.*folder.*--download, which"),
    ],
)
def test_what_the_hub_says_is_one_line(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def refuse(*given: Any, **named: Any) -> Any:
        raise error

    monkeypatch.setattr(HfApi, "model_info", refuse)
    with pytest.raises(InputError, match=message) as caught:
        model_spec(NAME, download=True)
    assert "\n" not in str(caught.value)


def test_a_disk_without_room_is_said_before(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files["vae/diffusion_pytorch_model.safetensors"] = 10**18
    with pytest.raises(InputError, match="are free at .*make room, or set HF_HOME"):
        model_spec(NAME, download=True)
    assert not hub.fetched and not os.path.exists(hub.cache)


def test_of_the_weights_of_a_part_one_variant_is_read() -> None:
    stem = "transformer/diffusion_pytorch_model"
    plain = {f"{stem}-00001-of-00002.safetensors": 1, f"{stem}-00002-of-00002.safetensors": 1}
    plain |= {f"{stem}.safetensors.index.json": 1}
    half = {f"{stem}.fp16.safetensors": 2, f"{stem}.safetensors.index.fp16.json": 2}
    config, only = {"transformer/config.json": 3}, {"vae/diffusion_pytorch_model.fp16.safetensors": 4}
    everything = plain | half | config | only | {"transformer/a/b.safetensors": 5, "notes.txt": 6}
    assert wanted(everything, None) == plain | config | only
    assert wanted(everything, "fp16") == half | config | only
