"""What workers took and have not acknowledged: one hash for all queues of a database."""

from __future__ import annotations

from collections.abc import Collection

from exporter.brokers.pulls import Pulls
from exporter.systems.celery.layout import UNACKED, UNACKED_INDEX
from exporter.systems.keys import Problems, key_bytes


async def count_unacked(pulls: Pulls, prefixes: Collection[str], problems: Problems) -> tuple[int | None, float | None]:
    """How many messages are unacknowledged under all key prefixes, and when the oldest was delivered."""
    replies = await pulls.many(
        command
        for prefix in sorted(prefixes)
        for command in (
            ("HLEN", key_bytes(prefix + UNACKED)),
            ("ZRANGE", key_bytes(prefix + UNACKED_INDEX), 0, 0, "WITHSCORES"),
        )
    )
    counts, indexes = replies[::2], replies[1::2]
    count = None if problems.note(UNACKED, *counts) else sum(map(int, counts))
    if problems.note(UNACKED, *indexes):
        return count, None
    return count, min((float(index[1]) for index in indexes if index), default=None)
