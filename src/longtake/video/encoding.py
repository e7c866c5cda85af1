"""What a video file looks like: rate, size, quality. Free of torch and av, so that bad values are refused at once."""

from dataclasses import dataclass
from fractions import Fraction
from unicodedata import category

from longtake.errors import InputError

LARGEST_COMMENT = 1000
"""Bytes. The header of an MP4 has to fit into 32 KiB: its muxer patches sizes only in what it still holds."""
LARGEST_RATE_DENOMINATOR = 1001
LARGEST_SIDE = 8192
_CUT = " ... (whole in the .json beside this file)"
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def exact_rate(fps: float) -> Fraction:
    """Return the frame rate as the fraction that the file stores, so that frame times never drift.

    `fps` is in frames per second; 24000 / 1001 gives Fraction(24000, 1001). Raises InputError for a rate that is not
    positive or that is no fraction with a denominator up to 1001 (a file could only store it rounded).
    """
    if not 1 / LARGEST_RATE_DENOMINATOR <= fps <= 1000:
        raise InputError(f"fps {fps} cannot be stored; give a rate of 1/{LARGEST_RATE_DENOMINATOR} to 1000")
    rate = Fraction(fps).limit_denominator(LARGEST_RATE_DENOMINATOR)
    if float(rate) != fps:
        raise InputError(f"fps {fps} cannot be stored exactly; the nearest rate that can is {float(rate)!r} ({rate})")
    return rate


def read_rate(text: str) -> float:
    """Return frames per second from a number, or from a fraction such as 30000/1001. Raises InputError for others."""
    try:
        return float(text) if "/" not in text else float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InputError(f"--fps {text!r} is no number, and no fraction such as 30000/1001") from None


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How frames are stored. Raises InputError when the values cannot make a video."""

    rate: Fraction
    """Frames per second."""
    height: int
    """Height of the frames as they arrive, in pixels."""
    width: int
    """Width of the frames as they arrive, in pixels."""
    scale: int
    """Each pixel becomes a square of scale x scale pixels."""
    crf: int
    """Quality of H.264: 0 is nearly lossless, 18 looks clean, 51 is the worst. Only MP4 uses it."""
    segment: int
    """Frames per segment; each segment is encoded on its own, and the run can restart at its end."""
    comment: str
    """Text stored in the file's metadata: what fits of it, see `short_comment`."""
    audio: str | None = None
    """The file whose sound lies beside the frames."""

    def __post_init__(self) -> None:
        check_form(self.scale, self.crf, self.segment)
        if max(self.stored_size) > LARGEST_SIDE:
            raise InputError(
                f"scale {self.scale} makes {self.stored_size[1]}x{self.stored_size[0]} pixels; "
                f"a video may have up to {LARGEST_SIDE} a side"
            )

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width in the file, in pixels."""
        return self.height * self.scale, self.width * self.scale


def check_form(scale: int, crf: int, segment: int) -> None:
    """Raise InputError for what no video of any size can have; see `Encoding`."""
    if scale < 1:
        raise InputError(f"scale {scale} is below 1; frames can only be enlarged by a whole number")
    if scale > LARGEST_SIDE:
        raise InputError(f"scale {scale} makes more of one pixel than a video may have a side, {LARGEST_SIDE}")
    if not 0 <= crf <= 51:
        raise InputError(f"crf {crf} is outside 0 to 51; 18 looks clean, larger is smaller and coarser")
    if not 1 <= segment <= 10_000:
        raise InputError(f"segment {segment} is outside 1 to 10000 frames")


def without_controls(text: str) -> str:
    """Return text with a space for every character that steers a terminal or turns the direction of writing."""
    return "".join(" " if category(one) in ("Cc", "Cs") or one in _DIRECTIONS else one for one in text)


def short_comment(text: str) -> str:
    """Return as much of a text as a file's metadata holds, without control characters, and say where it was cut."""
    text = without_controls(text)
    if len(text.encode()) <= LARGEST_COMMENT:
        return text
    kept = text.encode()[: LARGEST_COMMENT - len(_CUT)].decode(errors="ignore")
    return kept + _CUT


def check_even(video: Encoding, format: str) -> None:
    """Raise InputError when a format with colour at half the size cannot store frames of this size."""
    height, width = video.stored_size
    if height % 2 or width % 2:
        raise InputError(
            f"{format.upper()} needs an even height and width, not {height}x{width}; use --scale 2, or -o with .mkv"
        )
