"""Killed in the middle and made to the end: python -m lab measure resume --folders DIR [--samplers fifo ...] [-o FILE].

Every model folder in DIR by every sampler, through the command line: `plan`, which may refuse the pair; a video that
nobody disturbs; one whose process is killed (SIGKILL) once half of the frames were handed to the file, and the same
command again. Both files, and what says which prompt was meant when, must have the same bytes, and nobody may print a
traceback. FILE has a line for every pair as soon as it is known; pairs that are in it are not run again.

Models of a released size run at 64 x 32 pixels and 5 latent frames; all samplers but fifo take 2 steps.
"""

import gc
import hashlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal
from unittest import mock

import numpy as np
import torch
from PIL import Image
from tyro.conf import arg

from longtake.apps.cli import main
from longtake.errors import InputError, LongtakeError, unknown_name
from longtake.model import VideoSpec
from longtake.models import load_model, model_spec
from longtake.sampler import Chunk
from longtake.samplers import SAMPLERS, samplers_of
from longtake.video.files import subfolders, subtitle_path
from longtake.video.output import Output
from longtake.video.read import read_frames
from longtake.video.record import read_record
from longtake.video.sink import Sink

SECONDS = 1800.0
"""After which a process is taken for one that hangs."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is run."""

    folders: Path  # model folders are in it
    samplers: tuple[str, ...] = tuple(SAMPLERS)
    frames: int = 200
    output: Annotated[Path, arg(aliases=("-o",))] = Path("resume.jsonl")  # a line of JSON for every pair


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What became of a folder and a sampler."""

    folder: str
    sampler: str
    frames: int
    verdict: Literal["same bytes", "refused", "failed"]
    why: str = ""
    """What was said, of those that are not the same bytes."""
    promised: bool = False
    """Whether the model has all that the sampler needs."""
    killed_at: int = 0
    """Frames that the file and the state held."""
    sha256: str = ""
    """Of the video that nobody disturbed."""
    seconds: float = 0.0
    command: str = ""


def measure(chosen: Settings) -> str:
    """Run what is not in the file yet; return the table of all that is. Raises InputError."""
    if not chosen.folders.is_dir():
        raise InputError(f"--folders {chosen.folders} is no folder; name one that holds model folders")
    for name in chosen.samplers:
        if name not in SAMPLERS:
            raise unknown_name("sampler", name, SAMPLERS)
    if chosen.frames < 2 * Output.segment:
        needed = f"half of them must fill a segment; take {2 * Output.segment} or more"
        raise InputError(f"--frames {chosen.frames} is too few to be killed in the middle: {needed}")
    if not any((folder / "model_index.json").is_file() for folder in subfolders(chosen.folders)):
        raise InputError(f"--folders {chosen.folders} holds no model folder; name one that does")
    found = {(pair.folder, pair.sampler, pair.frames): pair for pair in _read(chosen.output)}
    for folder in subfolders(chosen.folders):
        for sampler in chosen.samplers:
            if (folder.name, sampler, chosen.frames) in found:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                pair = killed_and_resumed(folder, sampler, chosen.frames, Path(scratch))
            found[folder.name, sampler, chosen.frames] = pair
            with chosen.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(pair)) + "\n")
            print(f"{pair.folder} {sampler}: {pair.verdict} ({pair.seconds:.0f} s) {pair.why}", file=sys.stderr)
    return table(list(found.values()))


def table(pairs: Sequence[Pair]) -> str:
    """Return folder by sampler, the counts, and what was said of pairs that failed or that should not be refused."""
    rows = {pair.folder: {other.sampler: other for other in pairs if other.folder == pair.folder} for pair in pairs}
    lines = [["folder", *SAMPLERS], ["---"] * (1 + len(SAMPLERS))]
    lines += [[name, *(row[s].verdict if s in row else "" for s in SAMPLERS)] for name, row in rows.items()]
    count = Counter(pair.verdict for pair in pairs)
    told = [p for p in pairs if p.verdict == "failed" or (p.verdict == "refused" and p.promised)]
    return "\n".join(
        [
            *(f"| {' | '.join(line)} |" for line in lines),
            "",
            f"{len(pairs)} pairs: {count['same bytes']} the same bytes, {count['refused']} refused, "
            f"{count['failed']} failed",
            *(f"- {pair.folder}, {pair.sampler}: {pair.verdict}: {pair.why}" for pair in told),
        ]
    )


def small(name: str) -> dict[str, Any]:
    """Return how a model that may have been saved at its released size is loaded in one that can be afforded."""
    spec = model_spec(name)
    window = {} if spec.call is not None else {"window": 5}
    return {"size": "64x32", **window} if spec.width > 96 else {}


def killed_and_resumed(folder: Path, sampler: str, frames: int, scratch: Path) -> Pair:
    """Run a pair in an empty folder of its own."""
    began, log = time.monotonic(), scratch / "said.txt"
    try:
        size = small(str(folder))
        spec = model_spec(str(folder), **size)
    except LongtakeError as refusal:
        return Pair(folder=folder.name, sampler=sampler, frames=frames, verdict="refused", why=str(refusal))
    loading = ["--model", str(folder), *(word for name, value in size.items() for word in (f"--{name}", str(value)))]
    command = [*loading, "--sampler", sampler, "--frames", str(frames), "--dtype", "float32"]
    command += _given(spec, sampler, frames, scratch)
    called = partial(_called, log=log, cache=scratch / "cache")
    told: dict[str, Any] = {"folder": folder.name, "sampler": sampler, "frames": frames, "command": " ".join(command)}
    told["promised"] = sampler in samplers_of(spec)

    def ended(verdict: Literal["same bytes", "refused", "failed"], why: str = "") -> Pair:
        return Pair(**told, verdict=verdict, why=why, seconds=round(time.monotonic() - began, 1))

    if status := called(["plan", *command]):
        said = log.read_text(encoding="utf-8")
        return ended("refused" if status == 2 and said.count("\n") == 1 else "failed", _complaint(said))
    with suppress(LongtakeError):
        # The processes share what is imported for it, which takes longer than such a video.
        load_model(str(folder), **size)
    whole, path = scratch / "whole.mp4", scratch / "killed.mp4"
    runs = {"undisturbed": (whole, None, 0), "killed": (path, frames // 2, -signal.SIGKILL), "again": (path, None, 0)}
    for run, (file, last, right) in runs.items():
        status = called(["generate", *command, "-o", str(file)], last=last)
        said = log.read_text(encoding="utf-8")
        if status != right or "Traceback (most recent call last)" in said:
            return ended("failed", f"{run}: status {status}: {_complaint(said)}")
        if run == "killed":
            record = read_record(path)
            told["killed_at"] = record.next_frame if record else 0
    told["sha256"] = hashlib.sha256(whole.read_bytes()).hexdigest()
    if all(of(whole).read_bytes() == of(path).read_bytes() for of in (Path, subtitle_path)):
        return ended("same bytes")
    return ended("failed", _difference(whole, path))


def _given(spec: VideoSpec, sampler: str, frames: int, scratch: Path) -> Iterator[str]:
    """Yield the words of a command that are the pair's own; pictures are drawn into the folder."""
    if spec.vocabulary != frozenset():
        yield from ("--prompts", "a red car | a blue boat")
    if sampler != "fifo":
        yield from ("--steps", "2")
    if spec.needs_pictures and (spec.call is not None or sampler in ("autoregressive", "nuwa-xl")):
        pictures, rng = scratch / "pictures", np.random.default_rng(0)
        pictures.mkdir()
        clip = spec.timing.pixel_frames(spec.num_frames) - 1
        # As many as such a video has clips between them.
        for number in range(2 + (frames - 2) // clip):
            shown = rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
            Image.fromarray(shown).save(pictures / f"{number}.png")
        is_story = sampler == "nuwa-xl"
        yield from ("--sampler.keyframes", str(pictures)) if is_story else ("--init", str(pictures / "0.png"))


def _called(arguments: Sequence[str], log: Path, cache: Path, last: int | None = None) -> int:
    """Run `longtake` in a forked process, which shares what is loaded, and dies once so many frames were handed to the
    file; return its exit status, or the number of the signal that ended it, below 0."""
    if not (child := os.fork()):
        status = 1
        try:
            status = _run(arguments, log, cache, last)
        finally:
            # Nothing of this process's own end may run in its copy, whatever happens.
            os._exit(status)
    deadline = time.monotonic() + SECONDS
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGABRT)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


def _run(arguments: Sequence[str], log: Path, cache: Path, last: int | None) -> int:
    # Threads stay with the parent: neither may the pool be used, nor what holds a thread be collected.
    torch.set_num_threads(1)
    gc.freeze()
    append = Sink.append

    def watched(sink: Sink, chunk: Chunk) -> None:
        append(sink, chunk)
        if last is not None and sink.next_frame >= last:
            os.kill(os.getpid(), signal.SIGKILL)

    with log.open("w", encoding="utf-8") as said, mock.patch.object(Sink, "append", watched):
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
        sys.stdout = sys.stderr = said
        sys.argv = ["longtake", *arguments]
        os.environ["XDG_CACHE_HOME"] = str(cache)
        try:
            main()
        except SystemExit as leaving:
            return leaving.code if isinstance(leaving.code, int) else 1
    return 1


def _complaint(said: str) -> str:
    """Return the traceback of what a process said, or its last line."""
    lines = said.splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("Traceback")), -1)
    return "\n".join(lines[first:])


def _difference(whole: Path, path: Path) -> str:
    """Return how far the frames of two videos are the same, or else what says which prompt was meant when."""
    if whole.read_bytes() == path.read_bytes():
        return f"{subtitle_path(path).name} differs"
    made, again = (np.concatenate(list(read_frames(file))) for file in (whole, path))
    if made.shape != again.shape:
        return f"{len(again)} frames in place of {len(made)}"
    differ = [number for number in range(len(made)) if (made[number] != again[number]).any()]
    return f"{len(differ)} frames differ, from {differ[0]} on" if differ else "the frames are the same, the bytes not"


def _read(file: Path) -> list[Pair]:
    return [Pair(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
