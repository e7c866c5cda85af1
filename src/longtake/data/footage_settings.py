"""The training data that a user asks for. Free of torch, so that wrong settings are told before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from longtake.errors import InputError

if TYPE_CHECKING:
    from longtake.data.footage import Footage
    from longtake.data.footage_files import OpenVideo

Layout = Literal["videos", "ucf101", "sky", "sprites"]

_WORLDS, _WORLD_FRAMES = 1000, 128


@dataclass(frozen=True, kw_only=True)
class FootageSettings:
    """Which recordings a model learns from. Raises InputError for a setting that the layout does not use."""

    layout: Layout = "videos"
    """How the data lies: videos (any files in a folder), ucf101 (class per folder, official lists), sky (SkyTimelapse's
    folders of frames), sprites (drawn on the spot, no folder)."""
    folder: Path | None = None
    """Where the data is."""
    split: Literal["train", "test"] | None = None
    """Which official part of ucf101 or sky; None means train."""
    fps: float | None = None
    """Thin faster videos out to this rate and skip slower ones; None takes every frame, whatever the rate."""
    worlds: int | None = None
    """Sprite worlds; None means 1000."""
    world_frames: int | None = None
    """Frames of every sprite world; None means 128."""
    hold_out: int | None = None
    """Hold every n-th recording back for evaluation; None trains on all."""

    def __post_init__(self) -> None:
        used = {
            "videos": {"folder", "fps"},
            "ucf101": {"folder", "fps", "split"},
            "sky": {"folder", "split"},
            "sprites": {"worlds", "world_frames"},
        }[self.layout]
        for name in ("folder", "split", "fps", "worlds", "world_frames"):
            if getattr(self, name) is not None and name not in used:
                raise InputError(f"{name} has no effect on the layout {self.layout}; leave it out")
        if "folder" in used and self.folder is None:
            raise InputError(f"the layout {self.layout} needs a folder; say where the data is")
        if self.fps is not None and not 0 < self.fps <= 240:
            raise InputError(f"fps {self.fps:g} is no frame rate to thin out to; give one above 0 and up to 240")


def open_footage(
    settings: FootageSettings, *, size: int, min_frames: int, open_video: "OpenVideo"
) -> "tuple[Footage, Footage | None]":
    """Return the recordings to train on, at `size` pixels, and those held back; None without `hold_out`.

    Recordings shorter than `min_frames` are skipped before. `open_video` opens a video file
    (`longtake.video.seekable.open_video`). Raises InputError where nothing can be used.
    """
    from longtake.data.footage import held_out

    footage = _all_footage(settings, size, min_frames, open_video)
    return (footage, None) if settings.hold_out is None else held_out(footage, settings.hold_out)


def _all_footage(settings: FootageSettings, size: int, min_frames: int, open_video: "OpenVideo") -> "Footage":
    from longtake.data.footage_files import sky_timelapse, ucf101, video_folder
    from longtake.data.footage_sprites import sprite_worlds

    split, folder = settings.split or "train", settings.folder
    if settings.layout == "sprites":
        num_worlds = _WORLDS if settings.worlds is None else settings.worlds
        num_frames = _WORLD_FRAMES if settings.world_frames is None else settings.world_frames
        return sprite_worlds(num_worlds, num_frames, size=size, min_frames=min_frames)
    assert folder is not None
    if settings.layout == "sky":
        return sky_timelapse(folder, split, size=size, min_frames=min_frames)
    if settings.layout == "ucf101":
        return ucf101(folder, split, size=size, min_frames=min_frames, open_video=open_video, fps=settings.fps)
    return video_folder(folder, size=size, min_frames=min_frames, open_video=open_video, fps=settings.fps)
