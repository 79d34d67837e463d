"""The decoding turn: all feeds of a process decode in it, in slices, so that none holds up the loop or another feed."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

SLICE_SECONDS: Final = 0.004
"""Of decoding between two rounds of the loop."""
DRAINING_SECONDS: Final = 0.0005
"""The same while data keeps coming in: a round of asyncio's loop reads once from a socket, and a server that publishes
flat out (300 MB/s) cuts a subscriber that is 32 MB behind. With slices of 4 ms it lost 240,000 of 300,000 messages,
with these none."""
MOST_SKIPPED: Final = 4
"""Rounds in a row in which nothing is decoded, for the sake of a socket that holds more than could be read."""


class Member(Protocol):
    """Something with work to do in the turn."""

    def step(self) -> bool:
        """Does one piece of it, well under a millisecond. Returns whether more is waiting. Never raises."""
        ...


class Turn:
    """Gives its members their steps, round robin, for a slice in each round of the loop."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._waiting: OrderedDict[Member, None] = OrderedDict()  # an ordered set: who is woken twice has one place
        self._scheduled = False
        self._draining = False
        self._flooded = False
        self._skipped = 0

    def wake(self, member: Member, *, flooded: bool = False) -> None:
        """`member` has something to do. It stays in the round until a step of it returns False.

        `flooded` where more stands in its socket than could be read: then that is read before anything is decoded.
        """
        self._waiting[member] = None
        self._draining = True
        self._flooded = self._flooded or flooded
        if not self._scheduled:
            self._schedule()

    def leave(self, member: Member) -> None:
        """`member` gets no further step."""
        self._waiting.pop(member, None)

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._slice)

    def _slice(self) -> None:
        waiting = self._waiting
        end = self._clock() + self._slice_seconds()
        self._scheduled = self._draining = self._flooded = False
        try:
            while waiting and self._clock() < end:
                self._step(next(iter(waiting)))
        finally:  # should a step raise all the same, then the others still get theirs
            if waiting and not self._scheduled:
                self._schedule()

    def _slice_seconds(self) -> float:
        self._skipped = self._skipped + 1 if self._flooded and self._skipped < MOST_SKIPPED else 0
        if self._skipped:
            return 0.0
        return DRAINING_SECONDS if self._draining else SLICE_SECONDS

    def _step(self, member: Member) -> None:
        self._waiting.move_to_end(member)
        more = False
        try:
            more = member.step()
        finally:
            if not more:
                self._waiting.pop(member, None)
