"""The decoding turn: all feeds of a process decode in it, in slices, so that none holds up the loop or another feed."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

SLICE_SECONDS: Final = 0.004
"""Of decoding between two rounds of the loop: sockets are drained in between, before a server's patience ends."""


class Member(Protocol):
    """Something with work to do in the turn."""

    def step(self) -> bool:
        """Does one piece of it, well under a millisecond. Returns whether more is waiting. Never raises."""
        ...


class Turn:
    """Gives its members their steps, round robin, for a slice in each round of the loop."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._waiting: deque[Member] = deque()
        self._scheduled = False

    def wake(self, member: Member) -> None:
        """`member` has something to do. It stays in the round until a step of it returns False."""
        if member not in self._waiting:
            self._waiting.append(member)
        if not self._scheduled:
            self._schedule()

    def leave(self, member: Member) -> None:
        """`member` gets no further step."""
        if member in self._waiting:
            self._waiting.remove(member)

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._slice)

    def _slice(self) -> None:
        self._scheduled = False
        waiting = self._waiting
        end = self._clock() + SLICE_SECONDS
        while waiting and self._clock() < end:
            member = waiting.popleft()
            if member.step():
                waiting.append(member)
        if waiting:
            self._schedule()
