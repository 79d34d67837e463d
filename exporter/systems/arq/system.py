"""ARQ's queues, observed.

A queue is a sorted set: member = job id, score = due time in epoch milliseconds. A member stays while its job runs,
so `ready` is what is due and has no `arq:in-progress:` key (arq/worker.py, `_poll_iteration` and `start_jobs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import ClassVar, Final

from exporter.brokers.pulls import BrokerError, Pulls, ReplyTooLarge
from exporter.brokers.turn import Turn
from exporter.model import Feed, JobState, Observation, Outcome, Permissions, QueueState
from exporter.safe.documents import shown
from exporter.safe.text import one_line
from exporter.systems.arq.feed import ResultsFeed
from exporter.systems.arq.front import MAX_PAGES, PAGE, Front
from exporter.systems.arq.modes import RESULT, FeedMode, channels, commands
from exporter.systems.base import Discovery, RedisSystem, SystemOptions
from exporter.systems.head import Head
from exporter.systems.keys import Problems, key_text

JOB: Final = b"arq:job:"
IN_PROGRESS: Final = b"arq:in-progress:"
HEALTH_SUFFIX: Final = b":health-check"
HEALTH_MARK: Final = b" j_complete="  # other programs have keys of that suffix too
DEFAULT_QUEUE: Final = b"arq:queue"
ABORTS: Final = b"arq:abort"  # a sorted set of job ids, and no queue

# Members at each end of a sorted set that are looked up to tell a queue: the jobs of the oldest may have expired.
_PROBED_MEMBERS: Final = 5
# Sorted sets probed in one go: those of other programs may have members of any size.
_PROBED_KEYS: Final = 50


class ArqOptions(SystemOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """ARQ's section."""

    feed: str | bool = "auto"
    """How results are followed: see `modes.FeedMode`. YAML makes `false` of a plain `off`."""

    def __post_init__(self) -> None:
        if self.feed is not False and self.feed not in list(FeedMode):
            raise ValueError(f"feed: found {shown(self.feed)}, wanted one of {', '.join(FeedMode)}")

    @property
    def mode(self) -> FeedMode:
        """`feed`, read."""
        return FeedMode.OFF if self.feed is False else FeedMode(str(self.feed))


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
        self._discovery = Discovery(self._search if options.discover else None, options.queues)
        self._watched: dict[str, _Watched] = {}
        self._mode = options.mode
        self._results = ResultsFeed(pulls, self.turn, self._mode, self._queues_ahead, clock)

    @property
    def feeds(self) -> Collection[Feed]:
        return () if self._mode is FeedMode.OFF else (self._results,)

    async def observe(self) -> Observation:
        queues = await self._discovery.queues()
        if not queues:  # nothing would be asked of a broker that may be gone
            await self.pulls.ping()
        now = self.clock()
        problems = Problems(self._discovery.problem)
        for problem in self._results.problems:
            problems.add(problem)
        fronts = [Front(queue) for queue in queues]
        fronts = await self._count(fronts, now, problems)
        await self._walk(fronts, now, problems)
        await self._recall(fronts, problems)
        states = [self._state(front, now) for front in fronts]
        self._watched = {queue: watched for queue, watched in self._watched.items() if queue in queues}
        return Observation(queues=states, problems=problems.lines())

    def permissions(self) -> Collection[Permissions]:
        names = frozenset({"*"} if self.options.discover else self.options.queues)
        reads = frozenset({"zcount", "zrange", "zscore", "mget", "exists"})
        results = names | {DEFAULT_QUEUE.decode(), f"{RESULT.decode()}*"}
        features = [
            Permissions("queues", reads, names | {f"{IN_PROGRESS.decode()}*"}),
            Permissions("discovery", frozenset({"scan", "getrange", "zrange", "exists"}), frozenset({"*"})),
        ]
        if self._mode is not FeedMode.OFF:
            listens = channels(self._mode, self.pulls.address.db)
            features.append(Permissions("results", commands(self._mode), results, listens))
        return tuple(features)

    async def close(self) -> None:
        await self._discovery.close()

    # -- reading ------------------------------------------------------------------------------------------------

    async def _count(self, fronts: list[Front], now: float, problems: Problems) -> list[Front]:
        """Fills in how many jobs are due and scheduled; gives those whose queue could be read."""
        at = int(now * 1000)
        replies = await self.pulls.many(
            command
            for front in fronts
            for command in (("ZCOUNT", front.key, "-inf", at), ("ZCOUNT", front.key, f"({at}", "+inf"))
        )
        readable = []
        for front, due, scheduled in zip(fronts, replies[::2], replies[1::2], strict=True):
            if problems.note(front.queue, due, scheduled):
                continue
            front.due, front.scheduled = int(due), int(scheduled)
            readable.append(front)
        return readable

    async def _walk(self, fronts: Iterable[Front], now: float, problems: Problems) -> None:
        """Walks over the running jobs at the front of each queue, page by page, all queues side by side."""
        walking = [front for front in fronts if front.wants_page]
        while walking:
            pages = await self.pulls.many(front.page_command() for front in walking)
            for front, page in zip(walking, pages, strict=True):
                if problems.note(front.queue, page):
                    front.fail()
                else:
                    front.take_page(page, now * 1000)
            marked = [front for front in walking if front.page]
            marks = await self.pulls.many(
                ("MGET", *(IN_PROGRESS + job_id for job_id, _ in front.page)) for front in marked
            )
            for front, mark in zip(marked, marks, strict=True):
                if problems.note(front.queue, mark):
                    front.fail()
                else:
                    front.take_marks(mark)
            walking = [front for front in walking if front.wants_page]
        for front in fronts:
            if front.gave_up:
                problems.add(f"more than {PAGE * MAX_PAGES} running jobs: how many are ready is not known", front.queue)

    async def _recall(self, fronts: Iterable[Front], problems: Problems) -> None:
        """Adds jobs that ran at the last look and now stand behind ready ones: when a whole fleet dies at once, the
        jobs it lost come back in front of those that others run."""
        missed = [
            (front, job_id)
            for front in fronts
            if front.complete and front.queue in self._watched
            for job_id in self._watched[front.queue].running_since
            if job_id not in front.running and job_id not in front.ready
        ]
        replies = await self.pulls.many(
            command
            for front, job_id in missed
            for command in (("ZSCORE", front.key, job_id), ("EXISTS", IN_PROGRESS + job_id))
        )
        for (front, job_id), queued, running in zip(missed, replies[::2], replies[1::2], strict=True):
            if problems.note(front.queue, queued, running):
                front.fail()
            elif queued is not None and running:
                front.running.add(job_id)

    def _state(self, front: Front, now: float) -> QueueState:
        watched = self._watched.setdefault(front.queue, _Watched(now))
        watched.note(front, now)
        jobs = {JobState.SCHEDULED: front.scheduled}
        if front.complete:
            jobs[JobState.READY] = max(0, front.due - len(front.running))
            jobs[JobState.RUNNING] = len(front.running)
        return QueueState(
            queue=front.queue,
            jobs=jobs,
            oldest_ready=front.oldest_ready,
            oldest_running=None if front.failed else min(watched.running_since.values(), default=None),
            last_progress=max(watched.last_progress, self._results.tally.progress.get(front.queue, 0.0)),
        )

    async def _queues_ahead(self) -> Collection[str]:
        """Where jobs may get due soon. The default queue always: the search may come after its first job."""
        return {DEFAULT_QUEUE.decode(), *await self._discovery.queues()}

    # -- discovery ----------------------------------------------------------------------------------------------

    async def _search(self) -> Collection[str]:
        """Queues by their health keys, and by sorted sets whose members are jobs: also those no worker ever touched."""
        found: set[bytes] = set()
        async for keys in self.pulls.scan("MATCH", "*" + HEALTH_SUFFIX.decode(), "TYPE", "string"):
            texts = await self.pulls.many(("GETRANGE", key, 0, 100) for key in keys)
            found.update(
                key.removesuffix(HEALTH_SUFFIX)
                for key, text in zip(keys, texts, strict=True)
                if isinstance(text, bytes) and HEALTH_MARK in text
            )
        async for keys in self.pulls.scan("TYPE", "zset"):
            found.update({DEFAULT_QUEUE}.intersection(keys))
            new = [key for key in keys if key != ABORTS and key not in found]
            for start in range(0, len(new), _PROBED_KEYS):
                found.update(await self._queues_among(new[start : start + _PROBED_KEYS]))
            if len(found) > self._discovery.KNOWN_QUEUES:
                break
        return [key_text(key) for key in found]

    async def _queues_among(self, keys: list[bytes]) -> list[bytes]:
        """Those of the sorted sets whose members are jobs. Raises BrokerError where that cannot be looked up."""
        try:
            return await self._probed(keys)
        except ReplyTooLarge:
            if len(keys) == 1:
                return []  # job ids are short: it is another program's
            half = len(keys) // 2
            return [*await self._queues_among(keys[:half]), *await self._queues_among(keys[half:])]

    async def _probed(self, keys: list[bytes]) -> list[bytes]:
        ends = await self.pulls.many(
            command
            for key in keys
            for command in (("ZRANGE", key, 0, _PROBED_MEMBERS - 1), ("ZRANGE", key, -_PROBED_MEMBERS, -1))
        )
        members: dict[bytes, list[bytes]] = {}
        for key, first, last in zip(keys, ends[::2], ends[1::2], strict=True):
            if isinstance(first, list) and isinstance(last, list) and first:  # else gone, or not ours to read
                members[key] = first + last
        known = await self.pulls.many(("EXISTS", *(JOB + job_id for job_id in ids)) for ids in members.values())
        if error := next((count for count in known if isinstance(count, Exception)), None):
            raise BrokerError(one_line(str(error)))
        return [key for key, count in zip(members, known, strict=True) if count]


class _Watched:
    """What is remembered of a queue from scrape to scrape."""

    __slots__ = ("_first", "_head", "last_progress", "running_since")

    def __init__(self, now: float) -> None:
        self._head = Head()
        self._first: bytes | None = None
        self.last_progress = now
        self.running_since: dict[bytes, float] = {}

    def note(self, front: Front, now: float) -> None:
        if front.failed:
            return
        self.running_since = {job_id: self.running_since.get(job_id, now) for job_id in front.running}
        if not front.complete:
            return
        # The job watched is the first one until it leaves: a lost worker's jobs come back in front of it, and an
        # aborted one does, which is no progress.
        if self._first not in front.ready:
            self._first = next(iter(front.ready), None)
        ready = front.due - len(front.running)
        if self._head.note(self._first, ready, now) or ready <= 0:
            self.last_progress = now
