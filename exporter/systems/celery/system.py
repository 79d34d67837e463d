"""Celery's queues on Redis, observed.

A queue is one list per priority step, pushed at the left and popped at the right; what a worker took and has not
acknowledged stands in the hash `unacked`, which all queues of a database share, with delivery times in
`unacked_index` (kombu/transport/redis.py, `Channel._q_for_pri`, `QoS`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

from exporter.brokers.pulls import BrokerError, Pulls, ReplyTooLarge
from exporter.model import JobState, Observation, Permissions, QueueState
from exporter.systems.base import Discovery, RedisSystem, SystemOptions
from exporter.systems.head import Head
from exporter.systems.keys import Problems, key_bytes, key_text

SEPARATOR: Final = "\x06\x16"
PRIORITY_STEPS: Final = (0, 3, 6, 9)
"""kombu's default; the lowest number is consumed first, and 0 has the queue's plain name."""
BINDINGS: Final = "_kombu.binding."
UNACKED: Final = "unacked"
UNACKED_INDEX: Final = "unacked_index"
# Exchanges whose queues carry no tasks: remote control, its replies, events.
_NO_TASKS: Final = (b"pidbox", b"celeryev")
# A reply queue that never goes away leaves its binding behind: sets of a million members were seen.
_MAX_BINDINGS: Final = 10_000
# Heads read in one go: whole messages, of any size.
_PEEKED_LISTS: Final = 50

_List = tuple[str, int]  # queue, priority


class Celery(RedisSystem):
    """The Celery queues of one database."""

    name = "celery"

    def __init__(self, pulls: Pulls, options: SystemOptions, clock: Callable[[], float] = time.time) -> None:
        super().__init__(pulls, options, clock)
        self._discovery = Discovery(self._search if options.discover else None, options.queues)
        self._heads: dict[_List, Head] = {}
        self._progress: dict[str, float] = {}

    async def observe(self) -> Observation:
        queues = await self._discovery.queues()
        problems = Problems(self._discovery.problem)
        depths = await self._depths(queues, problems)
        heads = await self._peek([where for where, depth in depths.items() if depth], problems)
        now = self.clock()
        states = [self._state(queue, depths, heads, now) for queue in queues if (queue, 0) in depths]
        self._heads = {where: head for where, head in self._heads.items() if where[0] in queues}
        self._progress = {queue: at for queue, at in self._progress.items() if queue in queues}
        unacked, oldest = await self._unacked(problems)
        return Observation(
            queues=states,
            # A database without any trace of Celery has no unacknowledged messages to speak of.
            unacked_jobs=unacked if states or unacked else None,
            oldest_unacked=oldest,
            problems=problems.lines(),
        )

    def permissions(self) -> Collection[Permissions]:
        lists = frozenset(f"{queue}*" for queue in self.options.queues) or frozenset({"*"})
        return (
            Permissions("queues", frozenset({"llen", "lindex"}), lists),
            Permissions("unacked", frozenset({"hlen", "zrange"}), frozenset({UNACKED, UNACKED_INDEX})),
            Permissions("discovery", frozenset({"scan", "sscan"}), frozenset({BINDINGS + "*"})),
        )

    async def close(self) -> None:
        await self._discovery.close()

    # -- reading ------------------------------------------------------------------------------------------------

    async def _depths(self, queues: Collection[str], problems: Problems) -> dict[_List, int]:
        """Jobs by queue and priority; a queue of which a list cannot be read is left out whole."""
        lists = [(queue, priority) for queue in queues for priority in PRIORITY_STEPS]
        replies = await self.pulls.many(("LLEN", list_key(*where)) for where in lists)
        depths = dict(zip(lists, replies, strict=True))
        for queue in queues:
            own = [(queue, priority) for priority in PRIORITY_STEPS]
            if problems.note(queue, *(depths[where] for where in own)):
                for where in own:
                    del depths[where]
        return depths

    async def _peek(self, lists: list[_List], problems: Problems) -> dict[_List, object]:
        """What identifies the message at the head of each list: a hash, as nothing of it is read or kept."""
        heads: dict[_List, object] = {}
        for start in range(0, len(lists), _PEEKED_LISTS):
            some = lists[start : start + _PEEKED_LISTS]
            try:
                replies = await self.pulls.many(("LINDEX", list_key(*where), -1) for where in some)
            except ReplyTooLarge as error:
                problems.add(f"heads of queues not read: {error}")
                continue
            except BrokerError as error:  # the depths stand
                problems.add(f"heads of queues not read: {error}")
                break
            for where, message in zip(some, replies, strict=True):
                if not problems.note(where[0], message) and message is not None:
                    heads[where] = hash(message)
        return heads

    async def _unacked(self, problems: Problems) -> tuple[int | None, float | None]:
        count, index = await self.pulls.many([("HLEN", UNACKED), ("ZRANGE", UNACKED_INDEX, 0, 0, "WITHSCORES")])
        if problems.note(UNACKED, count, index):
            return None, None
        return int(count), float(index[1]) if index else None

    def _state(self, queue: str, depths: dict[_List, int], identities: dict[_List, object], now: float) -> QueueState:
        by_priority = {priority: depths[queue, priority] for priority in PRIORITY_STEPS}
        left = False
        waiting: list[float | None] = []
        for priority, depth in by_priority.items():
            head = self._heads.setdefault((queue, priority), Head(empty=self._discovery.appeared(queue)))
            left = head.note(identities.get((queue, priority)), depth, now) or left
            if depth:
                waiting.append(head.since)
        ready = sum(by_priority.values())
        if left or not ready or queue not in self._progress:
            self._progress[queue] = now
        return QueueState(
            queue=queue,
            jobs={JobState.READY: ready},
            ready_by_priority=by_priority,
            oldest_ready=_earliest(waiting),
            last_progress=self._progress[queue],
        )

    # -- discovery ----------------------------------------------------------------------------------------------

    async def _search(self) -> Collection[str]:
        """Queues by their bindings, which producers write too: also those that no worker ever consumed."""
        found: set[str] = set()
        async for keys in self.pulls.scan("MATCH", BINDINGS + "*", "TYPE", "set"):
            for key in keys:
                if not key.endswith(_NO_TASKS):
                    found.update(await self._bound(key))
            if len(found) > self._discovery.KNOWN_QUEUES:
                break
        return found

    async def _bound(self, key: bytes) -> set[str]:
        found: set[str] = set()
        async for members in self.pulls.members(key):
            found.update(key_text(member).rpartition(SEPARATOR)[2] for member in members)
            if len(found) > _MAX_BINDINGS:
                break
        return found - {""}


def list_key(queue: str, priority: int) -> bytes:
    """The list of one priority of a queue."""
    return key_bytes(queue if priority == 0 else f"{queue}{SEPARATOR}{priority}")


def _earliest(times: list[float | None]) -> float | None:
    """The earliest of `times`, unknown as soon as one of them is."""
    known = [moment for moment in times if moment is not None]
    return min(known) if known and len(known) == len(times) else None
