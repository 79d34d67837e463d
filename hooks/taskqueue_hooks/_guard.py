"""Nothing of ours may reach a worker or its jobs: whatever fails here is logged and left."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, Awaitable, Callable, TypeVar

T = TypeVar("T")

logger = logging.getLogger("taskqueue_hooks")

_told: set[tuple[str, str]] = set()


def safely(step: Callable[..., T], *arguments: Any) -> T | None:
    """What `step` returns; None if it raises, which is logged.

    The one function that must not fail, since jobs call it: all that it calls may.
    """
    try:
        return step(*arguments)
    except Exception as error:
        with suppress(Exception):  # a filter or a handler of the user's logging may raise as well
            complain(step, error)
    return None


async def safely_await(step: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Await `step`; what it raises is logged. A cancellation passes."""
    try:
        await step(*arguments)
    except Exception as error:
        with suppress(Exception):
            complain(step, error)


def complain(step: Callable[..., Any], error: Exception) -> None:
    """Log a failure: the first of its kind as a warning, others at level debug."""
    where = getattr(step, "__qualname__", repr(step))
    kind = (where, type(error).__name__)
    level = logging.DEBUG if kind in _told else logging.WARNING
    _told.add(kind)
    logger.log(level, "%s failed, jobs go on: %s: %s", where, kind[1], error)
