"""The plain way to a long video: windows of the model's own length, one after the other, each by ordinary DDIM.

A baseline for the methods that do better, and the one sampler that runs on every model. This file holds the settings
and the index arithmetic; loop.py holds the loop over tensors. With `overlap`, a window begins with the last
frames of the one before, noised anew to the level of every step, so that the network goes on from them (the replacement
method of Ho et al., 2022, arXiv 2204.03458, sec. 3.1, without its guidance term; as RePaint does in pictures).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from longtake.errors import InputError
from longtake.model import VideoModel, VideoSpec
from longtake.request import Request, num_branches
from longtake.sampler import Plan
from longtake.samplers.keyframes import Anchored, given_places
from longtake.samplers.planning import Pieces, check_whole, chosen_steps, latent_start, whole_warnings


@dataclass(frozen=True, kw_only=True)
class ChunkedPlan(Plan):
    """Which frames of the video each window holds."""

    settings: "Chunked"
    windows: int | None
    """None for an endless run."""

    @property
    def overlap(self) -> int:
        """Return the latent frames that a window shares with the one before."""
        return self.settings.shared(self.spec)

    @property
    def stride(self) -> int:
        """Return the latent frames from the start of a window to the start of the next."""
        return self.spec.num_frames - self.overlap

    def frames(self, window: int) -> range:
        """Return the latent frames of the video that a window holds, the shared ones included."""
        start = window * self.stride
        return range(start, start + self.spec.num_frames)

    def shared(self, window: int) -> int:
        """Return how many frames at the start of a window the one before has finished."""
        return self.overlap if window else 0

    def pixel_start(self, window: int) -> int:
        """Return the number of the first pixel frame of a window, the shared ones included.

        Windows without overlap are decoded apart, so a causal autoencoder begins anew in each.
        """
        return window * (self.spec.timing.pixel_frames(self.spec.num_frames) - self.overlap)

    def prompts(self, window: int) -> list[int]:
        """Return the row of the prompt table (row 0 is the negative prompt) for every latent frame of a window."""
        start, spec = self.pixel_start(window), self.spec
        return [
            1 + self.request.prompts.at(start + spec.timing.pixel_frames(place)) for place in range(spec.num_frames)
        ]

    def holds_from(self, frame: int) -> int:
        """Return from which frame on a prompt holds fully that begins at this one: where a window has one, that of its
        middle latent, it may be the next window."""
        timing, length = self.spec.timing, self.spec.num_frames
        size = timing.pixel_frames(length)
        start = self.pixel_start(max(0, frame - self.overlap) // (size - self.overlap))
        place = frame - start
        if self.spec.prompts == "window":
            return frame if place <= timing.pixel_frames(length // 2) else start + size
        return start + latent_start(place, timing)

    def seams(self, frames: int) -> Sequence[int]:
        """Return the numbers, among so many frames that come out, of the first new one of every later window."""
        first = self.spec.timing.pixel_frames(self.spec.num_frames)
        return range(first, frames, first - self.overlap)

    def round(self, first: int, size: int) -> range:
        """Return the windows that so many processes compute at once, beginning with `first`; none after the end."""
        last = first + size
        return range(first, last if self.windows is None else min(last, self.windows))


@dataclass(frozen=True, kw_only=True)
class Chunked(Anchored):
    """Chunk by chunk: the model's own clips in a row; a baseline, and the one sampler that runs on every model."""

    name: ClassVar[str] = "chunked"
    requires: ClassVar[tuple[type[VideoModel], ...]] = ()

    overlap: int = 0
    """Latent frames that a window shares with the one before: smoother seams, at window / (window - overlap) times the
    cost. 0 makes clips that know nothing of each other."""

    def plan(self, request: Request, spec: VideoSpec) -> ChunkedPlan:
        """Lay out the windows and count the work. Raises InputError for settings that do not fit the model."""
        self._check(request, spec)
        first, overlap = spec.timing.pixel_frames(spec.num_frames), self.shared(spec)
        later = first - overlap
        windows = None if request.frames is None else 1 + max(0, -(-(request.frames - first) // later))
        steps = chosen_steps(request, spec)
        anchored = given_places(self.keyframes, request, spec)
        plan = ChunkedPlan(
            request=request,
            spec=spec,
            settings=self,
            windows=windows,
            anchored=anchored,
            given=len(anchored) if request.init is not None else 0,
            forwards=None,
            forwards_per_frame=0.0,
            tasks=windows,
            decoded=None if windows is None else overlap + windows * (spec.num_frames - overlap),
            window_batch=1,
            held_frames=spec.num_frames + overlap + len(anchored),
            window_frames=spec.num_frames,
            num_levels=steps,
            warnings=() if spec.call is None else whole_warnings(spec),
        )
        # Guidance that the network is told takes no second evaluation.
        is_told = spec.call is not None and "negative_prompt" not in spec.call
        per_window = steps * (1 if is_told else num_branches(plan.guidance))
        forwards = None if windows is None else windows * per_window
        return replace(plan, forwards=forwards, forwards_per_frame=per_window / later)

    def check_ranks(self, plan: Plan, ranks: int) -> None:
        """Raise InputError where more processes than one are to share windows that wait for each other."""
        if self.shared(plan.spec) and ranks > 1:
            raise InputError(
                f"{ranks} processes cannot share windows that overlap, each waits for the one before; use overlap 0, "
                "or let 2 processes share the two branches of guidance"
            )

    def shared(self, spec: VideoSpec) -> int:
        """Return the latent frames that windows share: for whole clips, those that the pipeline goes on from."""
        return self.overlap if spec.call is None else spec.continues_from or 0

    def _check(self, request: Request, spec: VideoSpec) -> None:
        self.check_eta()
        if spec.call is not None:
            unused = {"eta": self.eta, "keyframes": self.keyframes, "overlap": self.overlap}
            check_whole(request, spec, [f"--sampler.{name}" for name, value in unused.items() if value])
        if not 0 <= self.overlap < spec.num_frames:
            raise InputError(
                f"overlap is {self.overlap}; it must be 0 to {spec.num_frames - 1}: a window has "
                f"{spec.num_frames} latent frames, and one of them has to be new"
            )
        if self.overlap and not spec.frame_by_frame:
            raise InputError(f"overlap needs a latent for every frame, which {spec.name} does not have; use overlap 0")


def window_pieces(plan: Plan) -> Pieces:
    """Return the pieces of a video in windows."""
    assert isinstance(plan, ChunkedPlan)
    first, frames = plan.spec.timing.pixel_frames(plan.spec.num_frames), plan.request.frames
    return Pieces(
        first=first,
        later=first - plan.overlap,
        begun=0,
        free=None if frames is None else frames - 1,
        holds_from=plan.holds_from,
    )
