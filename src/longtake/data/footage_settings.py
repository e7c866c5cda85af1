"""The recordings that a user asks for. Free of torch, so that wrong settings are told before anything is loaded."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from longtake.errors import InputError
from longtake.typed import Setting, Typed

if TYPE_CHECKING:
    from longtake.data.footage import Footage
    from longtake.data.footage_files import OpenVideo

Layout = Literal["videos", "ucf101", "sky", "sprites"]

_WORLDS, _WORLD_FRAMES = 1000, 128


SPRITES = "sprites"


@dataclass(frozen=True, kw_only=True)
class FootageSettings(Typed):
    """Which recordings, to train on or to score against."""

    layout: Annotated[Layout, Setting(metavar="videos|ucf101|sky")] = "videos"
    """How the folder lies: videos (any files), ucf101 (class per folder, official lists), sky (SkyTimelapse's folders
    of frames); sprites (drawn on the spot) has none."""
    folder: Annotated[Path | None, Setting(option=False)] = None
    """Where the data is."""
    split: Annotated[Literal["train", "test"] | None, Setting(metavar="train|test", unset="train")] = None
    """Official part of ucf101 or sky."""
    fps: Annotated[float | None, Setting(metavar="FLOAT", unset="every frame, whatever the rate")] = None
    """Thin faster videos out to this rate and skip slower ones."""
    worlds: Annotated[int | None, Setting(metavar="INT", unset=str(_WORLDS))] = None
    """How many sprite worlds."""
    world_frames: Annotated[int | None, Setting(metavar="INT", unset=str(_WORLD_FRAMES))] = None
    """Frames of every sprite world."""
    hold_out: Annotated[int | None, Setting(metavar="INT", unset="none")] = None
    """Hold every n-th recording back: training shows it in its pictures, and evaluation scores against it alone."""

    def of(self, data: str | None) -> "FootageSettings":
        """Return the same for a folder of videos, or for the word sprites.

        Raises InputError for nothing, for a folder that is not there, and for settings without effect.
        """
        if data is None:
            raise InputError("what to train on is missing; give a folder of videos, or the word sprites")
        if data == SPRITES and self.layout != FootageSettings.layout:
            raise InputError(
                f"--layout {self.layout} has no effect on the sprite worlds; give a folder, or leave it out"
            )
        folder = None if data == SPRITES else Path(data).expanduser()
        if folder is not None and not folder.exists():
            raise InputError(f"there is no folder {folder}; give one that holds videos, or the word sprites")
        chosen = replace(self, layout=SPRITES if data == SPRITES else self.layout, folder=folder)
        chosen.check()
        return chosen

    def check(self) -> None:
        """Raise InputError for a setting that the layout does not use, and for one that it lacks."""
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
    settings: FootageSettings, *, size: int | None, min_frames: int, open_video: "OpenVideo"
) -> "tuple[Footage, Footage | None]":
    """Return the recordings, at `size` pixels or as they are, and those held back; None without `hold_out`.

    Recordings shorter than `min_frames` are skipped before. `open_video` opens a video file
    (`longtake.video.read.open_video`). Raises InputError as `FootageSettings.check` does, and where nothing can be
    used.
    """
    settings.check()
    from longtake.data.footage import held_out

    footage = _all_footage(settings, size, min_frames, open_video)
    return (footage, None) if settings.hold_out is None else held_out(footage, settings.hold_out)


def _all_footage(settings: FootageSettings, size: int | None, min_frames: int, open_video: "OpenVideo") -> "Footage":
    from longtake.data.footage_files import sky_timelapse, sprite_worlds, ucf101, video_folder

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
