"""How far a worker's clock is off from ours, by its heartbeats: they are sent one by one, each as it arises."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

AGREE: Final = 5.0
"""Seconds by which a clock may be off, so that its times can be set against ours and those of other hosts."""
_BEATS: Final = 5


class Skew:
    """Of one worker. A heartbeat may come late, never early: the least difference of a few is the clock's."""

    __slots__ = ("_differences", "behind")

    def __init__(self) -> None:
        self.behind: float | None = None
        """Seconds that the worker's clock is behind ours, negative where it is ahead; None where nothing tells."""
        self._differences: deque[float] = deque(maxlen=_BEATS)

    def note(self, sent: float, now: float) -> None:
        """A heartbeat came `now`, `sent` by the worker's clock: Unix time, 0 where it does not say."""
        if sent and math.isfinite(sent):
            self._differences.append(now - sent)
            self.behind = min(self._differences)

    def forget(self) -> None:
        """It may run elsewhere now."""
        self._differences.clear()
        self.behind = None


def by_our_clock(at: float, behind: float | None) -> float:
    """A worker's time, set right where its clock is known to be off."""
    return at if behind is None or abs(behind) <= AGREE else at + behind


def agrees(at: float, now: float, behind: float | None) -> bool:
    """Whether the clock of a worker that told `now` what happened `at` can be trusted. Where no heartbeat tells, what
    was told at once, by that very clock, does. What is to come did not happen."""
    late = now - at
    return late >= -AGREE and abs(late if behind is None else behind) <= AGREE
