"""Up to when every result was seen, in the time of a clock that may be set while we look."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Final

from exporter.systems.arq.feed.memory import MARGIN
from exporter.systems.arq.feed.tally import Tally

STEP: Final = MARGIN / 2
"""Seconds by which the wall clock must have left the steady one to have been set. Less is covered by the margin."""
KEPT: Final = 3600.0
"""Seconds for which arq keeps results unless told otherwise: while no search succeeds, this much is remembered."""

Mark = tuple[float, int]
"""A moment, and how often the clock had been set by then."""


def steady() -> float:
    """Seconds that nobody sets. They go on while the machine sleeps, as a wall clock does: waking up is no step."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Seen:
    """Until when results were seen, and since when they may not have been. Times are Unix seconds by `clock`."""

    def __init__(self, tally: Tally, clock: Callable[[], float], steady: Callable[[], float]) -> None:
        self._tally = tally
        self._clock = clock
        self._steady = steady
        self._ahead = clock() - steady()  # of the wall clock
        self.steps = 0
        """How often the clock was set."""
        self.armed: float | None = None
        """When we were, for the first time."""
        self.first_cutoff = math.inf
        """Of the searches until one has come to its end."""
        self._good = -math.inf  # until then everything that was written has been pushed to us, or was found
        self._missed: float | None = None  # since when it may not have been

    @property
    def cutoff(self) -> float:
        """What ended before this was seen."""
        return (self._good if self._missed is None else self._missed) - MARGIN

    def arm(self) -> None:
        """From now on we are told; of what was written until now we may not have been."""
        self.check()
        if self.armed is None:
            self.armed = self._good = self._clock()
        self.doubt()

    def doubt(self) -> None:
        """Results may have been written of which nothing tells us, since all was good for the last time."""
        self._missed = self._good if self._missed is None else self._missed

    def caught_up(self) -> None:
        """A search has found what may have been missed."""
        self._missed = None

    def mark(self) -> Mark:
        """This moment, for `confirm`."""
        self.check()
        return self._clock(), self.steps

    def confirm(self, mark: Mark) -> None:
        """All was good at `mark`. By a clock that has been set since, that tells nothing."""
        if mark[1] == self.steps:
            self._good = mark[0]

    def prune(self, *, searching: bool) -> None:
        """Forgets what no search to come would count anyway; while none succeeds, all but the last hour."""
        since = self._good if self._missed is None else min(self._good, self._missed)
        self._tally.memory.prune((since if searching else max(since, self._clock() - KEPT)) - MARGIN)

    def check(self) -> None:
        """Begins anew where the wall clock was set: what ended before now isn't counted by a search any more, so none
        is counted twice, and what is told from now on is counted again."""
        now = self._clock()
        ahead = now - self._steady()
        if abs(ahead - self._ahead) <= STEP:
            return
        self._ahead = ahead
        self.steps += 1
        self._tally.rebase(now)
        if self.armed is None:
            return
        self.armed = self._good = now
        self._missed = None if self._missed is None else now
        if self.first_cutoff < math.inf:
            self.first_cutoff = now
