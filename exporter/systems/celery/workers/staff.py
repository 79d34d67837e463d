"""Who consumes a queue."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec


class Staff(msgspec.Struct, frozen=True):
    """The live workers that consume a queue, how many jobs they can run at once, and how many they run. None where one
    of them has not told. They may serve other queues, too."""

    workers: int
    slots: int | None
    busy: int | None


class Staffing:
    """Who consumes what, at one moment, where that is known of every live worker."""

    def __init__(self, new: Collection[str] = ()) -> None:
        """Of the queues that are `new`, nobody was asked."""
        self._by_queue: dict[str, Staff] = {}
        self._new = new

    def of(self, queue: str) -> Staff | None:
        """Who consumes a queue: nobody, where nobody said so. None where that is not known."""
        return None if queue in self._new else self._by_queue.get(queue, _NOBODY)

    def add(self, queue: str, slots: int | None, busy: int | None) -> None:
        """One more worker consumes a queue."""
        before = self._by_queue.get(queue, _NOBODY)
        self._by_queue[queue] = Staff(before.workers + 1, _sum(before.slots, slots), _sum(before.busy, busy))


_NOBODY: Final = Staff(0, 0, 0)


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
