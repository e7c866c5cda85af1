"""The command `longtake data shards`: finished videos as captioned clips in tar files, as WebDataset reads them."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from PIL import Image

from longtake import __version__
from longtake.apps.arguments import Answer, parse_arguments
from longtake.apps.shown import say, size
from longtake.errors import InputError, OutputError
from longtake.metrics.of_video import SMALLEST, Drift
from longtake.reading import (
    is_name,
    parse_json,
    read_file,
    refuse_name,
    refuse_no_place,
    refuse_unwritable,
)
from longtake.report import LAYOUT, Order, belongs, order_content, read_order
from longtake.typed import Flag, Setting
from longtake.video.encoding import Encoding, check_even, exact_rate
from longtake.video.output import read_bytes
from longtake.words import counted, plain


@dataclass(frozen=True, kw_only=True)
class ShardsSettings(Answer):
    """Write the finished videos of a folder, and of the folders in it, as clips with their captions: a clip for every
    prompt, in tar files that the library webdataset reads, each with a .json that says how it was made."""

    folder: Annotated[Path | None, Setting(positional=True, metavar="FOLDER")] = None
    """Where the videos lie, with the reports of their runs."""
    output: Annotated[Path, Setting(short="-o", metavar="FOLDER")] = Path("shards")
    """Where to: shard-000000.tar and so on."""
    licence: Annotated[str, Setting(metavar="TEXT", unset="has to be given")] = ""
    """What the clips may be used under, which follows from the model's licence; written beside every clip."""
    content: Literal["mp4", "frames"] = "mp4"
    """mp4, as it is where the clip is the whole video, else encoded again; or frames, a .png each, before --scale."""
    clip_frames: Annotated[int | None, Setting(metavar="N", unset="what a prompt holds for")] = None
    """Cut into clips of so many frames; what is left over at the end of a prompt is left out."""
    crf: int = 12
    """Quality of mp4 that is encoded again: 0 is lossless, 51 is worst."""
    shard_bytes: Annotated[int, Setting(metavar="BYTES", read=read_bytes)] = 1_000_000_000
    """Begin another file after so much: 500MB, 2GB."""
    overwrite: Flag = False
    """Replace shards that are there."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames of a finished video that have one prompt."""

    name: str
    """What it is called in its shard."""
    video: Path
    order: Order
    prompt: str
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """Return whether it is all of its video."""
        return (self.start, self.stop) == (0, self.order.frames)

    def frames(self) -> Iterator[np.ndarray]:
        """Read its frames as the model made them, before --scale: uint8 (frames, height, width, 3), a few at a time."""
        # Imports av.
        from longtake.video.read import read_frames

        return read_frames(self.video, self.start, self.stop, scale=self.order.output.scale)


def shards_command(arguments: Sequence[str]) -> int:
    """Write the shards; return the exit status."""
    settings = parse_arguments(ShardsSettings, "data shards", arguments)
    reports = _reports(settings)
    clips = [clip for video, order in reports.items() if order for clip in _clips(settings, video, order)]
    if not clips:
        raise InputError(f"{settings.folder} holds no finished video of longtake; give a folder that does")
    settings.output.mkdir(exist_ok=True)
    flagged: dict[str, int] = {}
    written = _write(settings, _samples(settings, clips, flagged))
    videos, left = sum(order is not None for order in reports.values()), sum(not order for order in reports.values())
    if settings.json:
        found = {"clips": len(clips), "videos": videos, "left_out": left, "flagged": flagged}
        print(json.dumps(found | {"shards": list(map(str, written))}, indent=2))
        return 0
    for flag, count in flagged.items():
        say(f"flag     {counted(count, 'clip')}: {flag}")
    if left:
        say(f"left out {counted(left, 'video')}, not complete")
    total = size(sum(path.stat().st_size for path in written))
    taken = f"{counted(len(clips), 'clip')} of {counted(videos, 'video')}"
    say(f"done     {taken} in {counted(len(written), 'shard')}, {total}: {settings.output}")
    return 0


def _reports(settings: ShardsSettings) -> dict[Path, Order | None]:
    """Return the videos of a folder with how they were made; None for those that are not complete."""
    folder, output = settings.folder, settings.output
    if folder is None or not folder.is_dir():
        raise InputError("there is no folder of videos" if folder is None else f"{folder} is no folder; give one")
    if not settings.licence.strip():
        raise InputError("there is no licence; say with --licence what the clips may be used under, such as Apache-2.0")
    refuse_name(output)
    if output.exists() and (not output.is_dir() or (list(output.glob("shard-*.tar")) and not settings.overwrite)):
        raise OutputError(f"{output} is there; choose another name, or --overwrite its shards")
    refuse_no_place(output, folder=True)
    refuse_unwritable(output, output if output.exists() else output.absolute().parent)
    found: dict[Path, Order | None] = {}
    for path in sorted(folder.rglob("*.json")):
        content = _content(path)
        output = content.get("output")
        name = output.get("file") if isinstance(output, dict) else None
        if not isinstance(name, str) or not is_name(name):
            continue
        video = path.with_name(name)
        if video != path and video.exists() and belongs(video):
            order = read_order(str(path))
            found[video] = order if content.get("complete") is True and order.frames is not None else None
    return found


def _content(path: Path) -> dict[str, Any]:
    """Return the report of a run; nothing for another file."""
    try:
        content = parse_json(read_file(path))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) and content.get("longtake") == LAYOUT else {}


def _clips(settings: ShardsSettings, video: Path, order: Order) -> Iterator[Clip]:
    assert settings.folder is not None
    # What follows the first dot of a name tells WebDataset the kind of a file.
    name = video.relative_to(settings.folder).as_posix().replace(".", "_")
    for first, end, text in order.prompts.spans(order.frames):
        length = settings.clip_frames or (end or 0) - first
        for start in range(first, (end or 0) - length + 1, max(length, 1)):
            at = f"{name}-{start:06d}"
            yield Clip(name=at, video=video, order=order, prompt=text, start=start, stop=start + length)


def _samples(
    settings: ShardsSettings, clips: Iterable[Clip], flagged: dict[str, int]
) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the files of one clip after the other; count what is wrong with them."""
    for clip in clips:
        files, told = _sample(settings, clip)
        for flag in told["flags"]:
            flagged[flag] = flagged.get(flag, 0) + 1
        yield [*files, (f"{clip.name}.json", json.dumps(told, indent=1).encode())]


def _sample(settings: ShardsSettings, clip: Clip) -> tuple[list[tuple[str, bytes]], dict[str, Any]]:
    """Return the files of a clip, by their names, and what is told of it."""
    # Imports av.
    from longtake.metrics.consistency import consistency
    from longtake.video.read import open_video

    fps = clip.order.output.fps or (open_video(clip.video).fps if clip.video.is_file() else None)
    sides = np.array(next(clip.frames()).shape[1:3])
    figures = asdict(consistency(clip.frames())) if sides.min() >= SMALLEST else None
    height, width = (sides * (clip.order.output.scale if settings.content == "mp4" else 1)).tolist()
    made = order_content(clip.order)
    told = {
        "prompt": clip.prompt,
        "negative_prompt": clip.order.request.negative_prompt,
        "video": clip.video.name,
        "start": clip.start,
        "frames": clip.stop - clip.start,
        "fps": fps,
        "height": height,
        "width": width,
        "seed": clip.order.request.seed,
        "model": made["model"],
        "sampler": made["sampler"],
        "flags": Drift.flags(figures) if figures else [],
        "figures": figures,
        "licence": settings.licence,
        "longtake": __version__,
    }
    return list(_pictures(clip) if settings.content == "frames" else [_film(settings, clip, fps)]), told


def _pictures(clip: Clip) -> Iterator[tuple[str, bytes]]:
    for number, frame in enumerate(frame for batch in clip.frames() for frame in batch):
        picture = io.BytesIO()
        Image.fromarray(frame).save(picture, "PNG")
        yield f"{clip.name}.{number:06d}.png", picture.getvalue()


def _film(settings: ShardsSettings, clip: Clip, fps: float | None) -> tuple[str, bytes]:
    from longtake.video.formats.mp4 import Mp4

    name = f"{clip.name}.mp4"
    if clip.is_whole and clip.video.suffix == ".mp4":
        return name, clip.video.read_bytes()
    if fps is None:
        raise InputError(f"{clip.video} does not say its frames per second; write --content frames")
    batches = list(clip.frames())
    height, width = batches[0].shape[1:3]
    encoding = Encoding(
        rate=exact_rate(fps),
        height=height,
        width=width,
        scale=clip.order.output.scale,
        crf=settings.crf,
        segment=len(batches[0]),
        comment=plain(clip.prompt),
    )
    check_even(encoding, "mp4")
    film, first = Mp4(encoding), range(0, clip.stop - clip.start, encoding.segment)
    pieces = (film.segment(start, frames) for start, frames in zip(first, batches, strict=True))
    return name, b"".join([film.header(clip.stop - clip.start), *pieces])


def _write(settings: ShardsSettings, samples: Iterable[list[tuple[str, bytes]]]) -> list[Path]:
    """Write samples to one shard after the other; return the shards. Those of before are gone then."""
    begun: list[tuple[Path, tarfile.TarFile]] = []
    written = 0
    try:
        for sample in samples:
            if not begun or written >= settings.shard_bytes:
                path = settings.output / f"shard-{len(begun):06d}.tar.part"
                if begun:
                    begun[-1][1].close()
                begun.append((path, tarfile.open(path, "w")))
                written = 0
            for name, data in sample:
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                begun[-1][1].addfile(entry, io.BytesIO(data))
                written += len(data)
    finally:
        for _, shard in begun[-1:]:
            shard.close()
    for old in settings.output.glob("shard-*.tar"):
        old.unlink()
    return [path.rename(path.with_suffix("")) for path, _ in begun]
