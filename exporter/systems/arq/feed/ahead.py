"""Due times, seen before jobs end: a result holds when its job was enqueued and started, not when it was due."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Collection
from itertools import chain, islice
from typing import Final

from redis.exceptions import NoPermissionError

from exporter.brokers.errors import BrokerError, Command
from exporter.brokers.pulls import Pulls
from exporter.safe.text import one_line
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
_SOME: Final = 1000
_QUEUES_A_SECOND: Final = 500
_QUEUES_AT_ONCE: Final = 10  # a reply is bounded to 8 MiB


def interval(queues: int) -> float:
    """Seconds from one look to the next at so many queues."""
    return INTERVAL * max(1.0, queues / _QUEUES_A_SECOND)


class Ahead:
    """When jobs are due, by id: ids are unique in a database, whatever their queue."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self.only: Collection[str] | None = None
        """The queues that are looked at, where others may not be; None where any may."""
        self._denied: str | None = None  # by this look
        self.problem: str | None = None
        """Why no due times are seen, where the server denies us the command. (Of a key denied the depths tell.)"""
        self._due: OrderedDict[bytes, float] = OrderedDict()  # OrderedDict: a dict is slow to drop its first
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, job_id: bytes) -> bool:
        return job_id in self._due

    def sees(self, queue: str | None) -> bool:
        """Whether what gets due in the queue is seen: else nobody knows whether a job was deferred."""
        return self.only is None or queue in self.only

    def take(self, job_id: bytes) -> float | None:
        """When the job was due, if that was seen; it is forgotten with this."""
        return self._due.pop(job_id, None)

    def sample(self, most: int, now: float) -> list[bytes]:
        """Some jobs, picked at random, that are due: by now they may have ended. From both ends of a backlog."""
        some = chain(islice(self._due.items(), _SOME), islice(reversed(self._due.items()), _SOME))
        due = list({job_id for job_id, at in some if at <= now})
        return random.sample(due, min(most, len(due)))

    async def look(self, pulls: Pulls, queues: Collection[str], now: float, interval: float) -> None:
        """Notes what gets due in the next three intervals, and what got due since the last look and still stands there
        (a job stays in its queue while it runs): so no due time falls between two looks.

        A queue that cannot be read is left out, and all are while the broker cannot be reached.
        """
        start = max(self._looked, now - 10 * interval) if self._looked else now - interval
        self._denied = None
        names = [key_bytes(queue) for queue in queues]
        for place in range(0, len(names), _QUEUES_AT_ONCE):
            await self._look_at(pulls, names[place : place + _QUEUES_AT_ONCE], min(start, now), now + AHEAD * interval)
        self._looked, self.problem = now, self._denied
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
        if isinstance(reply, NoPermissionError) and " run the " in str(reply):
            self._denied = one_line(f"due times are not seen ahead: {reply}")
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
