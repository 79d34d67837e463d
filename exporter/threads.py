"""Blocking work in threads that nobody else waits for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def take_note(future: asyncio.Future[Any]) -> None:
    """Takes note of an exception that nobody may be waiting for: else the loop would log it."""
    if not future.cancelled():
        future.exception()


def in_thread(function: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Runs a blocking `function` in a thread of its own. Of what it raises only an Exception comes as it is.

    A daemon thread, and none of a pool: one that hangs must keep neither the others waiting nor the process alive.
    Raises RuntimeError where no thread can be started.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    future.add_done_callback(take_note)

    def tell(put: Callable[[Any], None], outcome: object) -> None:
        if not future.done():  # whoever waited may have been cancelled
            put(outcome)

    def work() -> None:
        put: Callable[[Any], None] = future.set_result
        outcome: object
        try:
            outcome = function()
        except BaseException as error:
            put, outcome = future.set_exception, _passable(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(tell, put, outcome)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future


def _passable(error: BaseException) -> Exception:
    """A SystemExit ends what ran, and not the exporter; a StopIteration no future takes."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(repr(error))
