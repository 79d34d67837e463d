"""Where Celery's queues stand in Redis (kombu's `transport/redis.py`, celery's `backends/base.py`)."""

from __future__ import annotations

from typing import Final

from exporter.systems.keys import key_bytes

SEPARATOR: Final = "\x06\x16"
"""kombu's default, between the parts of a binding and between a queue and its priority."""
PRIORITY_STEPS: Final = (0, 3, 6, 9)
"""kombu's default; the lowest number is consumed first, and 0 has the queue's plain name."""
VISIBILITY_TIMEOUT: Final = 3600.0
"""kombu's default: seconds after which an unacknowledged message is delivered again."""
BINDINGS: Final = "_kombu.binding."
UNACKED: Final = "unacked"
UNACKED_INDEX: Final = "unacked_index"


def list_key(queue: str, priority: int, separator: str = SEPARATOR) -> bytes:
    """The list of one priority of a queue."""
    return key_bytes(queue if priority == 0 else f"{queue}{separator}{priority}")
