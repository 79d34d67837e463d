"""Due times, seen before jobs end: a result holds when its job was enqueued and started, not when it was due."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from exporter.brokers.pulls import BrokerError, Command, Pulls
from exporter.systems.keys import key_bytes

INTERVAL: Final = 1.0
"""Seconds between two looks. A longer one would not see what is deferred by less."""
AHEAD: Final = 3
"""So many intervals ahead is looked."""
LIMIT: Final = 100_000
"""Due times held."""
MEMORY: Final = 6 * 3600.0
"""Seconds after which a due time is forgotten, as its job may keep no result. Longer waits are beyond any bucket."""
LONGEST_ID: Final = 1024
"""Bytes of a job id; longer ones are nobody's."""
PAGE: Final = 5000
MAX_PAGES: Final = 4
_QUEUES_A_SECOND: Final = 500
_QUEUES_AT_ONCE: Final = 10  # a reply is bounded to 8 MiB


def interval(queues: int) -> float:
    """Seconds from one look to the next at so many queues."""
    return INTERVAL * max(1.0, queues / _QUEUES_A_SECOND)


class Ahead:
    """When jobs are due, by id: ids are unique in a database, whatever their queue."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._due: OrderedDict[bytes, float] = OrderedDict()  # OrderedDict: a dict is slow to drop its first
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, job_id: bytes) -> bool:
        return job_id in self._due

    def take(self, job_id: bytes) -> float | None:
        """When the job was due, if that was seen; it is forgotten with this."""
        return self._due.pop(job_id, None)

    async def look(self, pulls: Pulls, queues: Collection[str], now: float, interval: float) -> None:
        """Notes what gets due in the next three intervals, and what got due since the last look and still stands there
        (a job stays in its queue while it runs): so no due time falls between two looks.

        A queue that cannot be read is left out, and all are while the broker cannot be reached.
        """
        start = max(self._looked, now - 10 * interval) if self._looked else now - interval
        names = [key_bytes(queue) for queue in queues]
        for place in range(0, len(names), _QUEUES_AT_ONCE):
            await self._look_at(pulls, names[place : place + _QUEUES_AT_ONCE], min(start, now), now + AHEAD * interval)
        self._looked = now
        self._forget(now - MEMORY)

    async def _look_at(self, pulls: Pulls, queues: list[bytes], start: float, end: float) -> None:
        for page in range(MAX_PAGES):
            commands = [_range(queue, start, end, page) for queue in queues]
            try:
                replies = await pulls.many(commands)
            except BrokerError:
                return
            queues = [queue for queue, reply in zip(queues, replies, strict=True) if self._note(reply)]
            if not queues:
                return

    def _note(self, reply: object) -> bool:
        """Takes in one page; whether there may be another."""
        if not isinstance(reply, list):
            return False
        for job_id, score in zip(reply[::2], reply[1::2], strict=True):
            if len(job_id) <= LONGEST_ID:
                self._due[job_id] = float(score) / 1000
        while len(self._due) > self._limit:
            self._due.popitem(last=False)
        return len(reply) == 2 * PAGE

    def _forget(self, before: float) -> None:
        """Drops from the front, where the oldest stand: nearly in the order of their times, as they were seen so."""
        while self._due and next(iter(self._due.values())) < before:
            self._due.popitem(last=False)


def _range(queue: bytes, start: float, end: float, page: int) -> Command:
    low, high = int(start * 1000), int(end * 1000)
    return ("ZRANGEBYSCORE", queue, low, high, "WITHSCORES", "LIMIT", page * PAGE, PAGE)
