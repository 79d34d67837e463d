"""Celery's queues on Redis, observed.

A queue is one list per priority step, pushed at the left and popped at the right; what a worker took and has not
acknowledged stands in the hash `unacked`, which all queues of a database share, with delivery times in
`unacked_index` (kombu/transport/redis.py, `Channel._q_for_pri`, `QoS`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar

from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.model import Feed, JobState, Observation, Outcome, Permissions, QueueState
from exporter.systems.base import Discovery, RedisSystem
from exporter.systems.celery.events.feed import EventsFeed
from exporter.systems.celery.features import permissions
from exporter.systems.celery.options import CeleryOptions
from exporter.systems.celery.queues.lists import Lists
from exporter.systems.celery.queues.search import Search
from exporter.systems.celery.queues.unacked import count_unacked
from exporter.systems.celery.queues.watched import Watched
from exporter.systems.keys import Problems


class Celery(RedisSystem):
    """The Celery queues of one database. A queue goes by its key, `global_keyprefix` included."""

    name = "celery"
    Options = CeleryOptions
    outcomes: ClassVar[Collection[Outcome]] = (
        *(Outcome.SUCCEEDED, Outcome.FAILED, Outcome.ABORTED, Outcome.EXPIRED),
        *(Outcome.NOT_FOUND, Outcome.REJECTED),
    )

    def __init__(
        self,
        pulls: Pulls,
        options: CeleryOptions,
        clock: Callable[[], float] = time.time,
        turn: Turn | None = None,
    ) -> None:
        super().__init__(pulls, options, clock, turn)
        self._celery_options = options
        self._feed = EventsFeed(pulls.address, self.turn, clock, options.forget_workers_after)
        self._feeds: tuple[Feed, ...] = (self._feed,) if options.events else ()
        self._search = Search(pulls, options.separator)
        self._discovery = Discovery(self._search.queues if options.discover else None, options.queues)
        self._lists = Lists(pulls, options.priority_steps, options.separator)
        self._watched: dict[str, Watched] = {}

    async def observe(self) -> Observation:
        queues = await self._discovery.queues()
        problems = Problems(self._discovery.problem)
        if self._search.problem is not None:
            problems.add(self._search.problem)
        depths = await self._lists.depths(queues, problems)
        heads = await self._lists.heads([where for where, depth in depths.items() if depth], problems)
        now = self.clock()
        states = [self._state(queue, depths, heads, now) for queue in queues if (queue, 0) in depths]
        self._watched = {queue: watched for queue, watched in self._watched.items() if queue in queues}
        unacked, oldest = await count_unacked(self.pulls, self._search.prefixes, problems)
        known = bool(states) or self._feed.heard_workers
        return Observation(
            queues=states,
            workers=self._feed.workers() if known else None,
            running=self._feed.running() if known else None,
            # A database without any trace of Celery has no unacknowledged messages to speak of.
            unacked_jobs=unacked if states or unacked else None,
            oldest_unacked=oldest,
            problems=problems.lines(),
        )

    @property
    def feeds(self) -> Collection[Feed]:
        return self._feeds

    def permissions(self) -> Collection[Permissions]:
        return permissions(self._celery_options, [self._feed.pattern])

    async def close(self) -> None:
        await self._discovery.close()

    def _state(
        self,
        queue: str,
        depths: Mapping[tuple[str, int], int],
        heads: Mapping[tuple[str, int], bytes],
        now: float,
    ) -> QueueState:
        steps = self._lists.steps(queue)
        by_priority = {priority: depths[queue, priority] for priority in steps}
        watched = self._watched.get(queue)
        if watched is None:
            watched = self._watched[queue] = Watched(empty=self._discovery.appeared(queue))
        watched.note(by_priority, {step: heads[queue, step] for step in steps if (queue, step) in heads}, now)
        return QueueState(
            queue=queue,
            jobs={JobState.READY: sum(by_priority.values())},
            ready_by_priority=by_priority,
            oldest_ready=watched.oldest_ready,
            last_progress=max(watched.last_progress, min(now, self._feed.progress(queue) or 0.0)),
        )
