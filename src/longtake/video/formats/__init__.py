"""The formats that a video can be written in: a module and a row each, which every check and forecast goes by."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Format:
    """How the frames of a run are stored. Free of torch and av: the module of its writer is imported when one opens."""

    name: str
    ending: str
    """Ending of the path; none for a folder."""
    about: str
    """What it is, for messages."""
    writer: str
    """Where the function is that opens a `Writer` for a path and an `Encoding`: module:function."""
    bytes_per_pixel: float
    """Of a stored pixel, measured on sprite worlds of 64x64; large and flat pictures need a tenth of it."""
    lossy: bool
    """Whether the quality setting (crf) has an effect."""
    even: bool
    """Whether height and width have to be even."""
    sound: bool = False
    """Whether it has room for sound."""

    def example(self, stem: object) -> str:
        """Return a path in this format, and what it is."""
        return f"{stem}{self.ending or '/'} ({self.about})"


_LIST = (
    Format(
        name="mp4",
        ending=".mp4",
        about="H.264",
        writer="longtake.video.formats.mp4:open_mp4",
        bytes_per_pixel=0.2,
        lossy=True,
        even=True,
        sound=True,
    ),
    Format(
        name="mkv",
        ending=".mkv",
        about="lossless",
        writer="longtake.video.formats.mkv:open_mkv",
        bytes_per_pixel=1.45,
        lossy=False,
        even=False,
    ),
    Format(
        name="png",
        ending="",
        about="PNG files",
        writer="longtake.video.formats.png:PngFolder",
        bytes_per_pixel=1.5,
        lossy=False,
        even=False,
    ),
)

FORMATS = {one.name: one for one in _LIST}
"""Name -> format; its ending tells it, none a folder. A new one is a module beside this file and a row above."""
