"""One queue, watched over scrapes: since when its first jobs wait, and when jobs last left it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from exporter.systems.celery.queues.front import Front
from exporter.systems.head import Head


class Watched:
    """What earlier scrapes saw of a queue."""

    def __init__(self, *, empty: bool) -> None:
        """`empty` where the queue is known to have been so until now."""
        self.last_progress = 0.0
        self.oldest_ready: float | None = None
        self._empty = empty
        self._heads: dict[int, Head] = {}

    def note(self, depths: Mapping[int, int], fronts: Mapping[int, Front], now: float) -> None:
        """What the lists of the queue hold now, by priority: how many jobs, and what is at each head."""
        left = False
        waiting: list[float | None] = []
        for priority, depth in depths.items():
            head = self._heads.setdefault(priority, Head(empty=self._empty))
            front = fronts.get(priority)
            left = head.note(None if front is None else front.head, depth, now) or left
            if depth:
                waiting.append(None if front is None else front.oldest(head.since))
        if left or not any(depths.values()) or not self.last_progress:
            self.last_progress = now
        self.oldest_ready = _earliest(waiting)


def _earliest(times: list[float | None]) -> float | None:
    """The earliest of `times`, unknown as soon as one of them is; infinity stands for a list in which none is due."""
    known = [moment for moment in times if moment is not None]
    earliest = min(known, default=math.inf)
    return earliest if len(known) == len(times) and earliest < math.inf else None
