"""What is wanted, independent of model and sampler."""

import bisect
import re
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from longtake.errors import InputError
from longtake.typed import Setting, Typed, fitting, number_or_endless, refused

_BREAK = re.compile(r"\s*[\r\n]\s*")
_MOST_FRAMES = 10**15
"""Beyond them a clock and a rate in floating-point numbers miss frames."""


@dataclass(frozen=True)
class PromptTimeline(Typed):
    """Which prompt is meant when: `texts[i]` holds from frame `starts[i]` up to the next start (the last for ever). A
    line break in a text is a space."""

    starts: tuple[int, ...]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise InputError unless the first one starts at frame 0, starts rise, and each text says something."""
        super().__post_init__()
        if not self.texts or len(self.texts) != len(self.starts):
            raise InputError("there is no prompt; write what the video should show")
        if self.starts[0] != 0:
            raise InputError(f"the first prompt starts at frame {self.starts[0]}; one must start at frame 0")
        for i, (start, text) in enumerate(zip(self.starts, self.texts, strict=True)):
            if not text.strip():
                raise InputError(f"the prompt at frame {start} is empty; write what the video should show")
            _check_text(text, f"the prompt at frame {start}")
            if i and start <= self.starts[i - 1]:
                raise InputError(f"the prompt at frame {start} does not come after the one at {self.starts[i - 1]}")
        object.__setattr__(self, "texts", tuple(_BREAK.sub(" ", text) for text in self.texts))

    @classmethod
    def constant(cls, text: str) -> "PromptTimeline":
        """Return the timeline of one prompt."""
        fitting(text, str, "text")
        return cls((0,), (text,))

    def at(self, frame: int) -> int:
        """Return the index into `texts` of the prompt meant at `frame`; frames before 0 count as 0."""
        return bisect.bisect_right(self.starts, max(fitting(frame, int, "frame"), 0)) - 1

    def after(self, frame: int) -> "PromptTimeline":
        """Return the same timeline in the numbers that frames have counted from `frame`."""
        now = self.at(frame)
        return PromptTimeline((0, *(start - frame for start in self.starts[now + 1 :])), self.texts[now:])

    def spans(self, frames: int | None) -> list[tuple[int, int | None, str]]:
        """Return (start, stop, text) for every prompt that is reached within `frames` (None: endless)."""
        frames = fitting(frames, int | None, "frames")
        reached = [start for start in self.starts if frames is None or start < frames]
        return list(zip(reached, [*reached[1:], frames], self.texts, strict=False))


@dataclass(frozen=True, kw_only=True)
class Turn(Typed):
    """A change on the way: the first chunk that ends at `frame` or later is the last one before a new `seed` holds."""

    frame: int
    seed: int
    prompts: PromptTimeline
    """Those of the video until then."""
    keep_begun: bool
    """Whether frames that are half made by then go on as they are, rather than begin anew."""


@dataclass(frozen=True, kw_only=True)
class Request(Typed):
    """A video that somebody wants."""

    prompts: Annotated[PromptTimeline, Setting(option=False)]
    """What it shows, and when; a plain text is taken for the prompt of all of it."""
    frames: Annotated[int | None, Setting(metavar="N|endless", unset="endless", read=number_or_endless)] = 128
    """How many frames to make; endless runs until it is stopped."""
    seed: int = 0
    """The same command with the same seed on the same machine makes the same file."""
    guidance: Annotated[float | None, Setting(metavar="FLOAT", unset="the model's own")] = None
    """How strongly the prompt is enforced (classifier-free guidance); 1 is off, and halves the work."""
    negative_prompt: Annotated[str, Setting(metavar="TEXT", unset="none")] = ""
    """What guidance moves away from."""
    steps: Annotated[int | None, Setting(metavar="INT", unset="the sampler's own")] = None
    """Denoising steps, for samplers that let you choose."""
    init: Annotated[str | None, Setting(metavar="FILE", unset="nothing")] = None
    """What the video begins with: a picture, or the last frames of a video, as many as the model is shown at once."""
    told_fps: Annotated[float | None, Setting(metavar="FLOAT", unset="the model's own")] = None
    """Frames per second that the network is told of, for models that want to know; more means smaller steps."""
    turns: Annotated[tuple[Turn, ...], Setting(option=False)] = ()
    """What was changed while the video was made, in order; `prompts` are those that hold in the end."""

    def __post_init__(self) -> None:
        """Raise InputError for numbers that no video can have."""
        if isinstance(self.prompts, str):
            object.__setattr__(self, "prompts", PromptTimeline.constant(self.prompts))
        if not isinstance(self.prompts, PromptTimeline):
            raise refused(self.prompts, "prompts", "a text, or a PromptTimeline of several", "Request")
        super().__post_init__()
        if self.frames is not None and self.frames < 1:
            raise InputError(f"{self.frames} frames cannot be made; ask for 1 or more, or for 'endless'")
        if self.frames is not None and self.frames > _MOST_FRAMES:
            raise InputError(f"more than {_MOST_FRAMES:,} frames cannot be counted; ask for fewer, or for 'endless'")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"--steps {self.steps} cannot denoise anything; ask for 1 or more")
        if self.guidance is not None and not 0 <= self.guidance <= 100:
            raise InputError(f"--guidance {self.guidance:g} is out of range; use 0 to 100, usually 1 to 12")
        if self.told_fps is not None and not 0 < self.told_fps <= 1000:
            raise InputError(f"no network can be told of {self.told_fps} frames per second; use 1 to 1000")
        _check_text(self.negative_prompt, "the negative prompt")
        if self.init == "":
            raise InputError("what the video begins with is an empty name; give --init a picture or a video")


class GuidanceByLevel(NamedTuple):
    """Guidance that depends on how noisy a frame is."""

    noisy: float
    """From `timestep` up to pure noise, 1000."""
    clean: float
    """Below."""
    timestep: float

    def __format__(self, spec: str) -> str:
        """Return both numbers in this format, and where they meet."""
        return f"{self.noisy:{spec}} from timestep {self.timestep:g} up, {self.clean:{spec}} below"


Guidance = float | GuidanceByLevel


def num_branches(guidance: Guidance) -> int:
    """Return how many network evaluations a guidance scale costs per window: 1 or 2; always 2 where it is by level."""
    return 1 if guidance in (0, 1) else 2


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is no Unicode text (character {error.start}); save or type it as UTF-8") from None
