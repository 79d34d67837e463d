"""ARQ's queues, observed.

A queue is a sorted set: member = job id, score = due time in epoch milliseconds. A member stays while its job runs,
so `ready` is what is due and has no `arq:in-progress:` key of its own (arq/worker.py, `_poll_iteration` and
`start_jobs`; `queues/front.py` has the exception). Due it is by our clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import ClassVar

from exporter.brokers.errors import Command
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.model import Feed, JobState, Observation, Outcome, Permissions, QueueState
from exporter.systems.arq.features import Feature, permissions
from exporter.systems.arq.feed.feed import ResultsFeed
from exporter.systems.arq.feed.modes import FeedMode
from exporter.systems.arq.hook.feed import HookFeed
from exporter.systems.arq.layout import ABORTS, DEFAULT_QUEUE
from exporter.systems.arq.options import ArqOptions
from exporter.systems.arq.queues import health
from exporter.systems.arq.queues.front import Front, Run
from exporter.systems.arq.queues.health import Look
from exporter.systems.arq.queues.running import RunningTasks
from exporter.systems.arq.queues.search import search
from exporter.systems.arq.queues.walk import recall, verify, walk
from exporter.systems.arq.queues.watched import Watched
from exporter.systems.base import Discovery, RedisSystem
from exporter.systems.keys import Problems


class Arq(RedisSystem):
    """The ARQ queues of one database."""

    name = "arq"
    Options = ArqOptions
    outcomes: ClassVar[Collection[Outcome]] = (
        Outcome.SUCCEEDED,
        Outcome.FAILED,
        Outcome.ABORTED,
        Outcome.EXPIRED,
        Outcome.NOT_FOUND,
        Outcome.UNDECODABLE,
        Outcome.UNKNOWN,
    )

    def __init__(
        self,
        pulls: Pulls,
        options: ArqOptions,
        clock: Callable[[], float] = time.time,
        turn: Turn | None = None,
    ) -> None:
        super().__init__(pulls, options, clock, turn)
        self._arq_options = options
        self._discovery = Discovery(self._search if options.discover else None, options.queues)
        self._watched: dict[str, Watched] = {}
        self._tasks = RunningTasks(pulls, options.job_serializer)
        self._results = ResultsFeed(
            pulls,
            self.turn,
            options.feed_mode,
            self._queues_ahead,
            clock,
            serializer=options.job_serializer,
            unkept=options.unkept_mode,
            only_those=not options.discover,
        )
        follows_results = options.feed_mode is not FeedMode.OFF
        ends = self._results.tally.ends
        ends.alone = not follows_results
        only = None if options.discover else options.queues
        self._hook = HookFeed(pulls, self.turn, ends, options.forget_workers_after, only, clock)
        wanted: tuple[tuple[Feed, bool], ...] = ((self._results, follows_results), (self._hook, options.hook))
        self._feeds = tuple(feed for feed, is_wanted in wanted if is_wanted)

    @property
    def feeds(self) -> Collection[Feed]:
        return self._feeds

    async def observe(self) -> Observation:
        now = self.clock()
        self._results.tally.ends.release()  # nothing waits for records for ever, though they should be read no more
        queues = await self._queues(now)
        problems = Problems(self._discovery.problem)
        for problem in (*self._results.problems, *self._hook.problems):
            problems.add(problem)
        fronts = [Front(queue) for queue in queues]
        aborts, looks = await self._read(fronts, now, problems)
        await walk(self.pulls, fronts, now, problems)
        await recall(self.pulls, fronts, self._ran, now, problems)
        await verify(self.pulls, fronts, self._ran, now, problems)
        running = await self._tasks.count([front for front in fronts if front.is_queue], problems)
        states = [self._state(front, look, now) for front, look in zip(fronts, looks, strict=True) if front.is_queue]
        self._watched = {queue: watched for queue, watched in self._watched.items() if queue in queues}
        return Observation(
            queues=states,
            workers=self._hook.workers(),
            abort_requests=aborts,
            running=running,
            problems=problems.lines(),
        )

    def permissions(self) -> Collection[Permissions]:
        return permissions(self._arq_options, self.pulls.access.db)

    async def close(self) -> None:
        await self._discovery.close()

    async def _read(self, fronts: list[Front], now: float, problems: Problems) -> tuple[int | None, list[Look | None]]:
        """What takes one command each: the requests to abort jobs, how many jobs are due and scheduled (into `fronts`),
        and the health records."""
        began = self.clock()
        replies = await self.pulls.many(
            [("ZCARD", ABORTS), *(part for front in fronts for part in _read_of(front, now))]
        )
        ended = self.clock()
        looks: list[Look | None] = []
        for front, (due, scheduled, text, ttl) in zip(fronts, zip(*[iter(replies[1:])] * 4, strict=True), strict=True):
            if not problems.note(front.queue, due, scheduled, feature=Feature.DEPTH):
                front.due, front.scheduled = int(due), int(scheduled)
            elif str(due).startswith("WRONGTYPE"):
                front.refute()
            denied = problems.note(front.queue, text, ttl, feature=Feature.HEALTH)
            looks.append(None if denied else Look(text, ttl, began, ended))
        if problems.note(None, replies[0], feature=Feature.ABORTS) or not (fronts or replies[0]):
            return None, looks  # or no ARQ is there
        return int(replies[0]), looks

    def _ran(self, queue: str) -> Collection[Run]:
        """The jobs that ran at the last look."""
        return self._watched[queue].running_since if queue in self._watched else ()

    def _state(self, front: Front, look: Look | None, now: float) -> QueueState:
        tally = self._results.tally
        ended = tally.ended[front.queue]
        watched = self._watched.setdefault(front.queue, Watched(now))
        watched.note(front, look, now, ended)
        counts = {
            JobState.READY: front.ready_jobs,
            JobState.SCHEDULED: front.scheduled,
            JobState.RUNNING: len(front.running) if front.complete else None,
        }
        record = watched.health.reported
        hooked = self._hook.queue(front.queue)
        return QueueState(
            queue=front.queue,
            jobs={state: count for state, count in counts.items() if count is not None},
            kept_results=tally.kept.of(front.queue),
            oldest_ready=front.oldest_ready,
            oldest_running=None if front.failed else watched.oldest_running,
            last_progress=None
            if front.due is None
            else max(watched.last_progress, tally.progress.get(front.queue, 0.0)),
            expired_jobs=front.expired,
            health_at=watched.health.written_at,
            reported_jobs={} if record is None else record.by_outcome,
            reported_running=None if record is None else record.running,
            workers=hooked.workers,
            slots=hooked.slots,
            busy_slots=hooked.busy,
            progress_jobs=hooked.progress_jobs,
            oldest_progress=hooked.oldest_progress,
        )

    async def _search(self) -> Collection[str]:
        return await search(self.pulls)

    async def _queues(self, now: float) -> Collection[str]:
        """Those that are watched: also, unless only some are to be, those that nothing tells of but results or workers.
        An empty queue leaves no key."""
        queues = dict.fromkeys(await self._discovery.queues())
        if self._arq_options.discover:
            progress = self._results.tally.progress
            queues |= dict.fromkeys(queue for queue, at in progress.items() if now - at <= Discovery.MEMORY)
            queues |= dict.fromkeys(self._hook.queues)
        return queues.keys()

    async def _queues_ahead(self) -> Collection[str]:
        """Where jobs may get due soon. Of those searched for the default queue always: the search may come late."""
        unasked = [DEFAULT_QUEUE.decode(), *self._hook.queues] if self.options.discover else []
        return {*unasked, *await self._discovery.queues()}


def _read_of(front: Front, now: float) -> tuple[Command, ...]:
    """The commands for how many jobs of a queue are due and scheduled, and for its health record."""
    at = int(now * 1000)
    due, scheduled = ("ZCOUNT", front.key, "-inf", at), ("ZCOUNT", front.key, f"({at}", "+inf")
    return (due, scheduled, *health.questions(front.key))
