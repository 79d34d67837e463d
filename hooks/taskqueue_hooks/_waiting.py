"""Waiting without a trace: a loop may be closed at any moment without an end of its worker, and must then be silent.

asyncio complains of a pending task that is destroyed, and `asyncio.Event.wait()` with a time-out makes one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Awaitable, TypeVar

T = TypeVar("T")


class Signal:
    """Like asyncio.Event, for one that waits, and with a time-out."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self.is_set = False

    def set(self) -> None:
        self.is_set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        self.is_set = False

    async def wait(self, timeout: float) -> None:
        """Until it is set, at most `timeout` seconds."""
        if self.is_set:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._waiter, timeout)


def background(work: Awaitable[T]) -> asyncio.Task[T]:
    """A task that may be left pending when its loop is closed."""
    task: Any = asyncio.ensure_future(work)
    with suppress(AttributeError):  # as asyncio.gather does for its own; there is no public way
        task._log_destroy_pending = False
    made: asyncio.Task[T] = task
    return made
