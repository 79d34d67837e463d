"""One queue, watched over scrapes: since when its first jobs wait, and when jobs last left it."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.systems.head import Head


class Watched:
    """What earlier scrapes saw of a queue."""

    def __init__(self, *, empty: bool) -> None:
        """`empty` where the queue is known to have been so until now."""
        self.last_progress = 0.0
        self.oldest_ready: float | None = None
        self._empty = empty
        self._heads: dict[int, Head] = {}

    def note(self, depths: Mapping[int, int], messages: Mapping[int, bytes], now: float) -> None:
        """What the lists of the queue hold now, by priority: how many jobs, and the message at each head."""
        left = False
        waiting: list[float | None] = []
        for priority, depth in depths.items():
            head = self._heads.setdefault(priority, Head(empty=self._empty))
            message = messages.get(priority)
            left = head.note(None if message is None else hash(message), depth, now) or left
            if depth:
                waiting.append(head.since)
        if left or not any(depths.values()) or not self.last_progress:
            self.last_progress = now
        self.oldest_ready = _earliest(waiting)


def _earliest(times: list[float | None]) -> float | None:
    """The earliest of `times`, unknown as soon as one of them is."""
    known = [moment for moment in times if moment is not None]
    return min(known) if known and len(known) == len(times) else None
