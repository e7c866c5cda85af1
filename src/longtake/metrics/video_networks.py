"""Networks that turn clips into numbers: files of the user, TorchScript or weights, and a stand-in that needs none.

A network here is a function of clips, uint8 (clips, frames, height, width, 3), that returns one row for each.
"""

import hashlib
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from longtake.data.footage import Frames, centre_square
from longtake.errors import CheckpointError
from longtake.metrics.clips import planes
from longtake.metrics.judge import CLIP_FRAMES, Judge
from longtake.metrics.released import network_of
from longtake.models.pvdm.losses import read_tensors

Rows = NDArray[np.float32]

_JUDGE_SIZE = 64
_I3D_SIZE = 224
_ASKED = ("rescale", "resize", "return_features")
"""Arguments of the I3D script that most published numbers were made with."""


@dataclass(frozen=True, kw_only=True)
class VideoNetwork:
    """A network, and what to call it in a report."""

    name: str
    """The file, or which stand-in."""
    digest: str | None
    """SHA-256 of the file; None for a stand-in."""
    least_frames: int
    """Fewest frames of a clip that it reads."""
    read: Callable[[Frames], Rows]
    """Clips to rows."""


def stand_in_features() -> VideoNetwork:
    """Return what the judge of the sprite worlds sees before it decides: 384 numbers of looks and of motion."""
    judge = Judge.load()
    name = "stand-in: features of the sprite judge"
    return VideoNetwork(
        name=name, digest=None, least_frames=CLIP_FRAMES, read=lambda clips: judge.features(_judge_sized(clips))
    )


def stand_in_looks() -> VideoNetwork:
    """Return what the judge of the sprite worlds sees in a frame, 128 numbers of looks; for clips of one frame."""
    judge = Judge.load()
    name = "stand-in: looks of the sprite judge"
    return VideoNetwork(
        name=name, digest=None, least_frames=1, read=lambda clips: judge.looks(centre_square(clips[:, 0], _JUDGE_SIZE))
    )


def stand_in_classes() -> VideoNetwork:
    """Return the judge of the sprite worlds as a classifier: which of 16 objects the first 16 frames show, or none."""
    judge = Judge.load()

    def read(clips: Frames) -> Rows:
        readings = judge.read_batch(_judge_sized(clips[:, :CLIP_FRAMES]))
        return np.stack([reading.probabilities["object"] for reading in readings])

    name = "stand-in: objects of the sprite judge"
    return VideoNetwork(name=name, digest=None, least_frames=CLIP_FRAMES, read=read)


def script_features(path: Path, device: str) -> VideoNetwork:
    """Return a network of features, such as I3D, from a file: weights of I3D alone (safetensors, or what torch.save
    writes), or TorchScript that the user trusts (loading runs its code).

    A script whose arguments include rescale, resize and return_features gets pixels in 0 to 255 and these three set,
    and scales by itself. Any other gets clips of 224x224 in -1 to 1 (see `i3d_input`). Both get (clips, 3, frames,
    height, width) and must return (clips, features). Raises CheckpointError for a file that is no TorchScript.
    """
    script = _load(path, device)
    if _arguments(script).issuperset(_ASKED):
        read = partial(
            _read, lambda clips: script(clips, rescale=True, resize=True, return_features=True), path, device
        )
        return _named(path, lambda clips: read(_stacked(clips, planes)))
    read = partial(_read, script, path, device)
    return _named(path, lambda clips: read(_stacked(clips, i3d_input)))


def script_frames(path: Path, device: str) -> VideoNetwork:
    """Return a TorchScript network of single pictures, such as Inception, from a file that the user trusts (loading
    runs its code); for clips of one frame.

    It gets pixels in 0 to 255, uint8 (frames, 3, height, width), with return_features set where its arguments include
    that, and must return (frames, features). Raises CheckpointError for a file that is no TorchScript.
    """
    script = _load(path, device)
    asked = {"return_features": True} if "return_features" in _arguments(script) else {}

    def read(clips: Frames) -> Rows:
        return _read(lambda frames: script(frames, **asked), path, device, planes(clips[:, 0]).to(torch.uint8))

    return _named(path, read)


def script_classes(path: Path, device: str) -> VideoNetwork:
    """Return a classifier, such as C3D, from a file as `script_features` takes it: weights of C3D, or TorchScript.

    Weights get the first 16 frames resized to 171x128, of which the middle 112x112 are cut out, pixels in 0 to 255 of
    which no mean is taken. A script gets them as they are, (clips, 3, 16, height, width), and must return
    probabilities.
    Raises CheckpointError for a file that is no TorchScript, and where rows do not add to 1.
    """
    script = _load(path, device)
    prepare = planes if isinstance(script, torch.jit.ScriptModule) else c3d_input

    def read(clips: Frames) -> Rows:
        rows = _read(script, path, device, _stacked(clips[:, :CLIP_FRAMES], prepare))
        if rows.min() < 0 or np.abs(rows.sum(axis=1) - 1).max() > 1e-3:
            raise CheckpointError(
                f"{path} returns no probabilities: its rows do not add to 1; add a softmax to the script"
            )
        return rows

    return _named(path, read)


def i3d_input(clip: Frames, size: int = _I3D_SIZE) -> Tensor:
    """Return one clip as I3D was trained on it, (frames, 3, size, size) in -1 to 1.

    The short side is resized to `size`, bilinear without smoothing before, and the middle is cut out.
    """
    height, width = clip.shape[1:3]
    scale = size / min(height, width)
    target = (size, ceil(width * scale)) if height < width else (ceil(height * scale), size)
    resized = interpolate(planes(clip) / 255, size=target, mode="bilinear", align_corners=False)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return resized[:, :, top : top + size, left : left + size] * 2 - 1


def c3d_input(clip: Frames) -> Tensor:
    """Return one clip as C3D takes it, (frames, 3, 112, 112) in 0 to 255."""
    resized = interpolate(planes(clip), size=(128, 171), mode="bilinear", align_corners=False)
    return resized[:, :, 8:120, 30:142]


def _arguments(script: nn.Module) -> set[str]:
    """Return what the forward pass of a script takes; nothing for a network of ours."""
    if not isinstance(script, torch.jit.ScriptModule):
        return set()
    return {argument.name for argument in script.forward.schema.arguments}


def _judge_sized(clips: Frames) -> Frames:
    return np.stack([centre_square(clip, _JUDGE_SIZE) for clip in clips])


def _stacked(clips: Frames, prepare: Callable[[Frames], Tensor]) -> Tensor:
    return torch.stack([prepare(clip).transpose(0, 1) for clip in clips])


def _named(path: Path, read: Callable[[Frames], Rows]) -> VideoNetwork:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return VideoNetwork(name=path.name, digest=digest, least_frames=1, read=read)


def _is_script(path: Path) -> bool:
    """Return whether an archive of torch's is code, or no archive at all."""
    if not zipfile.is_zipfile(path):
        return True
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def load_script(path: Path, device: str, others: str = "") -> nn.Module:
    """Return a TorchScript network of a file that the user trusts: loading runs its code. Raises CheckpointError for
    any other file; `others` is what else may be given."""
    try:
        if not _is_script(path):
            raise ValueError("it holds weights without their network")
        with warnings.catch_warnings():
            # torch would rather have exported programs, but published networks are TorchScript.
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError, OSError) as error:
        # What torch guesses after the first sentence is of no file in particular.
        why = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise CheckpointError(
            f"{path} cannot be loaded as TorchScript ({why}); give a file that torch.jit.save wrote{others}"
        ) from None


@torch.inference_mode()
def run_script(script: Callable[..., object], path: Path, *given: Tensor) -> object:
    """Return what a script makes of some tensors. Raises CheckpointError where it cannot read them."""
    try:
        return script(*given)
    except RuntimeError as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[-1]
        shapes = " and ".join(str(tuple(each.shape)) for each in given)
        raise CheckpointError(f"{path} cannot read clips of shape {shapes} ({why})") from None


def _load(path: Path, device: str) -> nn.Module:
    if path.suffix == ".safetensors" or not _is_script(path):
        return network_of(read_tensors(path), str(path)).to(device)
    return load_script(path, device, ", or weights of I3D or C3D")


def _read(script: Callable[[Tensor], Tensor], path: Path, device: str, clips: Tensor) -> Rows:
    rows = run_script(script, path, clips.to(device))
    if not isinstance(rows, Tensor) or rows.ndim != 2 or len(rows) != len(clips) or not rows.isfinite().all():
        raise CheckpointError(
            f"{path} does not return one row of finite numbers for each clip; docs/metrics.md says what it should"
        )
    return rows.float().cpu().numpy()
