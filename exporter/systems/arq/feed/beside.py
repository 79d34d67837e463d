"""Coroutines side by side, of which the first to end ends all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from typing import Any, Final

from exporter.threads import take_note

AGAIN: Final = 0.2
"""Seconds until what was cancelled and has not ended is cancelled again: a library may take a cancellation for its own
(asyncio.wait_for does on Python 3.11, when what it waits for ends in the same round of the loop)."""
TIMES: Final = 25
"""What so many cancellations do not end is left behind: the feed must go on."""


async def first_of(*awaitables: Awaitable[object]) -> None:
    """Runs them side by side until the first ends, and ends as it does. None is left running."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await _end(tasks)


async def _end(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancels them until they end."""
    for task in tasks:
        task.add_done_callback(take_note)  # of an exception beside the first
    for _ in range(TIMES):
        running = [task for task in tasks if not task.done()]
        if not running:
            return
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=AGAIN)
