"""The first messages of a queue's list: since when the oldest of its jobs is due.

A list is in the order of sending, but for jobs with an ETA, which are due later than they were sent, and those that
came back (kombu's `_do_restore_message`), which were sent earlier. So all of those at the head are looked at, up to the
first job that is neither: who stands behind it was sent later. A job that its task gave back (`Reject(requeue=True)`)
comes to the tail: it is seen until another is sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from exporter.systems.celery.queues.messages import Message, read_message

Due = Callable[[str], float | None]
"""When a job is due by its `task-sent`: Unix time; None if that is not known."""


class Front(msgspec.Struct, frozen=True):
    """One list that has jobs."""

    head: int
    """What tells its first message from others."""
    due: float | None
    """When the oldest job that is due became so; infinity where none is due, None where it is not known."""
    fresh: bool
    """Whether the first message was put there when it got due: it has no ETA, and did not come back."""
    odd: bool
    """Whether more than the first message has to be looked at."""
    back: float | None = math.inf
    """When the last job became due, as `due`, where that came back."""

    def oldest(self, since: float | None) -> float | None:
        """When the oldest job became due: by what is known of it, else `since` when it is seen to be there."""
        oldest = since if self.due is None and self.fresh else self.due
        return None if oldest is None or self.back is None else min(oldest, self.back)


def read_front(texts: Sequence[bytes], depth: int, due: Due, now: float) -> Front:
    """By the first messages of a list of so many."""
    messages: list[Message | None] = []
    for text in texts:
        messages.append(read_message(text))
        if not _is_odd(messages[-1]):
            break
    first = messages[0]
    fresh = first is None or (first.due is None and not first.redelivered)
    whole = len(messages) >= depth
    return Front(hash(texts[0]), _oldest(messages, due, now, whole=whole), fresh, odd=_is_odd(first) and not whole)


def with_tail(front: Front, text: bytes, due: Due, now: float) -> Front:
    """The same, of a list whose last message that is."""
    message = read_message(text)
    if message is None or not message.redelivered:
        return front
    return replace(front, back=_due_at(message, due, now))


def _is_odd(message: Message | None) -> bool:
    """Whether jobs behind it may be due for longer."""
    return message is not None and (message.due is not None or message.redelivered)


def _oldest(messages: Sequence[Message | None], due: Due, now: float, *, whole: bool) -> float | None:
    oldest = math.inf
    for message in messages:
        at = None if message is None else _due_at(message, due, now)
        if at is None:
            return None
        oldest = min(oldest, at)
        if not _is_odd(message):
            return oldest
    return oldest if whole else None


def _due_at(message: Message, due: Due, now: float) -> float | None:
    """Infinity while it is to come."""
    if message.due is not None and message.due > now:
        return math.inf
    sent = None if message.retries else due(message.job)  # what was sent is the first attempt's message
    at = message.due if sent is None else sent
    return None if at is None else min(at, now)
