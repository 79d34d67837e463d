"""Where Celery's queues stand in Redis (kombu's `transport/redis.py`, celery's `backends/base.py`)."""

from __future__ import annotations

from typing import Final

from exporter.systems.keys import key_bytes, pattern

SEPARATOR: Final = "\x06\x16"
"""kombu's default, between the parts of a binding and between a queue and its priority."""
PRIORITY_STEPS: Final = (0, 3, 6, 9)
"""kombu's default; the lowest number is consumed first, and 0 has the queue's plain name."""
VISIBILITY_TIMEOUT: Final = 3600.0
"""kombu's default: seconds after which an unacknowledged message is delivered again."""
BINDINGS: Final = "_kombu.binding."
UNACKED: Final = "unacked"
UNACKED_INDEX: Final = "unacked_index"
RESULT: Final = "celery-task-meta-"


def queue_name(queue: str, prefix: str, only: str | None) -> str | None:
    """What we call a queue that Celery calls `queue`, under a key prefix.

    `only` is the option `global_keyprefix`: with it, queues go by Celery's names, and None tells that the queue stands
    under another prefix; without it, they go by their keys.
    """
    if only is None:
        return prefix + queue
    return queue if prefix == only else None


def list_key(queue: str, priority: int, separator: str = SEPARATOR, only: str | None = None) -> bytes:
    """The list of one priority of a queue, by the name we call it."""
    name = (only or "") + queue
    return key_bytes(name if priority == 0 else f"{name}{separator}{priority}")


def result_pattern(only: str | None) -> str:
    """What the keys of results are like. `only` is the option `global_keyprefix`."""
    return pattern(result_prefix(only)) + "*" if only else f"*{RESULT}*"


def result_prefix(only: str | None) -> str:
    """What they begin with, under no other prefix: Celery puts its own option of that name before them, with a mark
    behind it (`backends/base.py`, `_add_global_keyprefix`)."""
    mark = "_" if only and only[-1] not in ":_-." else ""
    return f"{only or ''}{mark}{RESULT}"


def event_channels(db: int, only: str | None = None) -> str:
    """A pattern of the channels of events: the key prefix stands before them, the type of event behind."""
    return f"{'*' if only is None else pattern(only)}/{db}.celeryev/*"
