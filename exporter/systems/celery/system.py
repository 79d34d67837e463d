"""Celery's queues on Redis, observed.

A queue is one list per priority step, pushed at the left and popped at the right; what a worker took and has not
acknowledged stands in the hash `unacked`, which all queues of a database share, with delivery times in
`unacked_index` (kombu/transport/redis.py, `Channel._q_for_pri`, `QoS`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import ClassVar

from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.model import Feed, Observation, Outcome, Permissions, QueueState
from exporter.systems.base import Discovery, RedisSystem
from exporter.systems.celery.control.inspector import Inspector
from exporter.systems.celery.control.mailbox import Mailbox
from exporter.systems.celery.events.feed import EventsFeed
from exporter.systems.celery.events.gaps import Naming
from exporter.systems.celery.features import permissions
from exporter.systems.celery.layout import queue_name
from exporter.systems.celery.options import CeleryOptions
from exporter.systems.celery.queues.queues import Queues
from exporter.systems.celery.queues.search import Search
from exporter.systems.celery.results.results import Results
from exporter.systems.celery.workers.staff import Staffing
from exporter.systems.keys import Problems, is_key


class Celery(RedisSystem):
    """The Celery queues of one database. A queue goes by its key, or, where the option `global_keyprefix` is given, by
    Celery's name for it."""

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
        self._feed = EventsFeed(
            pulls.access,
            self.turn,
            clock,
            options.forget_workers_after,
            accepted=options.accept_content,
            only=options.global_keyprefix,
            results=Results(pulls, options.accept_content, options.global_keyprefix) if options.results else None,
            naming=self._naming,
            route=self._route,
            inspect=options.inspect,
        )
        self._feeds: tuple[Feed, ...] = (self._feed,) if options.events else ()
        self._search = Search(pulls, options.separator, options.global_keyprefix)
        self._discovery = Discovery(self._search.queues if options.discover else None, options.queues)
        self._inspector = _inspector(pulls, options, self._feed, clock) if options.inspect else None
        self._queues = Queues(pulls, options, self._search, self._feed.tasks, clock)

    async def observe(self) -> Observation:
        names = await self._names()
        self._feed.note_queues(names)
        problems = Problems(self._discovery.problem)
        if self._search.problem is not None:
            problems.add(self._search.problem)
        for problem in self._feed.problems:
            problems.add(problem)
        read = await self._queues.read(names, problems)
        heard_any = self._feed.workers.hearing.anybody
        for problem in self._ask_workers(evident=bool(names) or heard_any):
            problems.add(problem)
        look = self._feed.look()
        running = look.running()
        states, unacked = self._queues.states(read, running), read.unacked
        known = bool(states) or heard_any
        # A database without any trace of Celery has no unacknowledged messages to speak of.
        shows_unacked = unacked.messages is not None and bool(states or unacked.messages)
        return Observation(
            queues=_staffed(states, look.staffing()),
            workers=look.states() if known else None,
            all_workers=look.is_whole,
            running=running.tasks if known and running is not None else None,
            unacked_jobs=unacked.messages if shows_unacked else None,
            oldest_unacked=unacked.oldest,
            visibility_timeout=self._celery_options.visibility_timeout if shows_unacked else None,
            problems=problems.lines(),
        )

    @property
    def feeds(self) -> Collection[Feed]:
        return self._feeds

    def permissions(self) -> Collection[Permissions]:
        return permissions(self._celery_options, self.pulls.access.db)

    async def close(self) -> None:
        if self._inspector is not None:
            await self._inspector.close()
        await self._discovery.close()

    def _ask_workers(self, *, evident: bool) -> Collection[str]:
        """Has them asked from now on, where Celery is in use. The problems met so far."""
        if self._inspector is None:
            return ()
        homes = self._search.homes or {}
        prefixes = frozenset().union(*homes.values()) or self._search.prefixes
        self._inspector.start(prefixes if evident else ())
        return self._inspector.problems

    async def _names(self) -> Mapping[str, bool]:
        """The queues that are watched, each with whether it came into being while we watched: also, unless only some
        are to be, those that nothing tells of but producers or workers. An empty queue leaves no key."""
        queues = dict.fromkeys(await self._discovery.queues())
        if self._celery_options.discover:
            queues |= dict.fromkeys(self._feed.tasks.queues_since(self.clock() - Discovery.MEMORY))
            queues |= dict.fromkeys(self._feed.look().consumed())
        return {queue: self._discovery.appeared(queue) for queue in queues if is_key(queue)}

    async def _naming(self) -> Naming:
        """What routing keys name, by the queues that are known now: a key may stand for one of many prefixes, or be a
        word of the application's own. Raises BrokerError."""
        queues = await self._names()
        prefixes, only = self._search.prefixes, self._celery_options.global_keyprefix

        def name(routing_key: str) -> str | None:
            found = {queue_name(routing_key, prefix, only) for prefix in prefixes} & queues.keys()
            return found.pop() if len(found) == 1 else None

        return name

    def _route(self, prefix: str, exchange: str, routing_key: str) -> Collection[str]:
        """See `events.routed.Route`."""
        only = self._celery_options.global_keyprefix
        return self._search.routes.queues(prefix if only is None else only, exchange, routing_key)


def _inspector(pulls: Pulls, options: CeleryOptions, feed: EventsFeed, clock: Callable[[], float]) -> Inspector:
    mailbox = Mailbox(pulls, options.separator, options.priority_steps, options.accept_content, clock)
    return Inspector(mailbox, feed.workers, options)


def _staffed(states: Collection[QueueState], staffing: Staffing | None) -> Collection[QueueState]:
    """With the live workers of each queue, where all of them are known."""
    if staffing is None:
        return states
    staffs = ((state, staffing.of(state.queue)) for state in states)
    return [
        state if staff is None else replace(state, workers=staff.workers, slots=staff.slots, busy_slots=staff.busy)
        for state, staff in staffs
    ]
