"""Prompts that are told anew while their video is made: looked at whenever another segment has filled."""

from collections.abc import Callable

from longtake.report import Order
from longtake.request import PromptTimeline
from longtake.sampler import Plan
from longtake.samplers import pieces_of
from longtake.steer.plan import spliced


class EditedError(Exception):
    """The story of a run says otherwise what has not begun: its run has to turn (`plan_retelling`)."""

    def __init__(self, prompts: PromptTimeline) -> None:
        super().__init__("the story was edited")
        self.prompts = prompts
        """Of the whole video, as they are told now."""


class Story:
    """The story of a run that is under way."""

    def __init__(self, order: Order, plan: Plan, told_anew: Callable[[], PromptTimeline | None]) -> None:
        """`told_anew` returns the prompts of the whole video, where they were told since it was called last."""
        self._order, self._plan, self._told_anew = order, plan, told_anew
        self._segments: int | None = None

    def check(self, frames: int) -> None:
        """Raise EditedError where the story was told otherwise, once so many frames have filled another segment."""
        segments = frames // self._order.output.segment
        begun, self._segments = self._segments is None or segments == self._segments, segments
        told = None if begun else self._told_anew()
        if told is None:
            return
        pieces = pieces_of(self._plan)
        assert pieces is not None
        ahead, now = frames + pieces.begun, self._order.request.prompts
        if spliced(now, told.after(ahead), ahead) != now:
            raise EditedError(told)
