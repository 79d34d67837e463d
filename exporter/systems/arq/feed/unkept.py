"""Jobs that end and leave no result: with `keep_result=0`, as cron jobs by default, or where it cannot be serialized.

arq takes a job's definition, its queue member and its mark of progress away in one transaction when it ends
(arq/worker.py, `finish_job` and `finish_failed_job`), and writes the result in the same one, if it keeps any. So what
had a definition, has none any more, is no member and left no result has ended, and nobody kept how. Which function it
was must have been read before.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from itertools import islice
from typing import Final

import structlog

from exporter.brokers.pulls import Pulls, ReplyTooLarge
from exporter.brokers.push import PushConnection
from exporter.model import Finished, JobEvent, Sink
from exporter.systems.arq.feed.ahead import LONGEST_ID
from exporter.systems.arq.feed.beside import first_of
from exporter.systems.arq.feed.glances import PAGE, Denied, Glance, Question, look, other_databases
from exporter.systems.arq.feed.modes import FeedMode, Line, Scope
from exporter.systems.arq.feed.reading import pages
from exporter.systems.arq.feed.tally import Tally
from exporter.systems.arq.feed.unended import Told, Unended
from exporter.systems.arq.layout import CRON, IN_PROGRESS, JOB
from exporter.systems.arq.records.definitions import HEAD_BYTES
from exporter.systems.arq.records.serializers import Serializer

COALESCE: Final = 0.002
"""Seconds in which pushes may gather: each look costs more than the few jobs looked at."""
PENDING: Final = 250_000
"""Jobs that wait to be looked at; beyond, a search finds what became of them."""
QUEUES_AT_ONCE: Final = 8
"""Queues in which a new job is looked for in one go, first those in which one was found last."""
MOST_QUEUES: Final = 248
"""Queues in which it is looked for beyond those; a job of another one is counted without its queue."""
CHECK_INTERVAL: Final = 1.0
"""Seconds between two looks for the need to watch all jobs, and between two decisions on ends that came unseen."""
TRIAL: Final = 60.0
"""Seconds for which all jobs are watched at first, to see whether that is needed."""
SAMPLE: Final = 20
"""Jobs looked at for that need."""
SEARCH_PAUSE: Final = 5.0

log = structlog.get_logger("exporter.systems.arq")


class Unkept(enum.StrEnum):
    """The option `unkept`: which jobs are watched for an end without a result."""

    AUTO = "auto"  # all for TRIAL seconds, and on if one ends so; else cron jobs, until another is seen to
    ON = "on"
    OFF = "off"


class UnkeptJobs:
    """Watches jobs from when they are put into a queue, or start, to their end. Outlives connections."""

    def __init__(
        self,
        pulls: Pulls,
        wanted: Unkept,
        serializer: Serializer,
        tally: Tally,
        queues: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`queues` gives those known by now."""
        self._pulls = pulls
        self._wanted = wanted
        self._tally = tally
        self._queues = queues
        self._clock = clock
        self._needed = wanted is Unkept.ON
        self._tried = False
        self._jobs = Unended(serializer, self._ended, clock)
        self._recent: dict[str, None] = {}  # queues, that of the last new job at the end
        self._pending: dict[bytes, Told] = {}
        self._arrived = asyncio.Event()
        self._search_wanted = asyncio.Event()
        self._looking = asyncio.Lock()
        self.problem: str | None = None
        """Why ends without a result are not seen, though they are to be."""

    @property
    def scope(self) -> Scope:
        """What the server is to tell of."""
        if self._wanted is Unkept.OFF:
            return Scope.RESULTS
        return Scope.JOBS if self._needed or not self._tried else Scope.CRON

    def pushed(self, key: bytes) -> None:
        """A definition, or a mark of progress, came or went."""
        prefix, told = (JOB, Told.DEFINITION) if key.startswith(JOB) else (IN_PROGRESS, Told.PROGRESS)
        job_id = key.removeprefix(prefix)
        if len(job_id) > LONGEST_ID or len(job_id) == len(key):
            return
        if told is Told.PROGRESS and self._jobs.knows(job_id):
            return  # it tells of its end by its definition
        if len(self._pending) < PENDING:
            self._pending[job_id] = self._pending.get(job_id, Told.SEARCHED) | told
            self._arrived.set()
        else:
            self.doubt()

    def doubt(self) -> None:
        """Not everything may have been told."""
        self._search_wanted.set()

    async def follow(self, line: Line, sink: Sink) -> None:
        """Watches over `line`. Returns when `scope` is no longer that of `line`; raises when it is lost.

        Where the server does not let us look, only this ends, with a `problem`: results are counted all the same.
        """
        self.problem = None
        try:
            if line.scope is Scope.RESULTS:
                await self._stay_deaf(line)
            else:
                await self._watch(line, sink)
        except Denied as error:
            self.problem = f"jobs that keep no result are not watched: {error}"
            await asyncio.Event().wait()

    async def _watch(self, line: Line, sink: Sink) -> None:
        await other_databases(line.data, self._pulls.address.db)  # whether we may ask
        self.doubt()
        change = self._look_for_need(line) if line.scope is Scope.CRON else self._try()
        await first_of(self._read_pushed(line, sink), self._search(line, sink), self._settle_unseen(line, sink), change)

    async def _stay_deaf(self, line: Line) -> None:
        """The server tells of results at most. That is a problem as soon as a job ends without one."""
        if self._wanted is not Unkept.OFF and not self._needed:
            await self._look_for_need(line)
        if self._wanted is not Unkept.OFF:
            self.problem = f"jobs that keep no result are not counted: the server tells of no jobs (mode {line.mode})"
        await asyncio.Event().wait()

    # -- pushed and searched ------------------------------------------------------------------------------------

    async def _read_pushed(self, line: Line, sink: Sink) -> None:
        """Soon: the definition of a short job is gone in a few milliseconds."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(COALESCE)
            while self._pending:
                page = dict(islice(self._pending.items(), PAGE))
                for job_id in page:
                    del self._pending[job_id]
                await self._look(line.data, page, sink)
            self._arrived.clear()

    async def _search(self, line: Line, sink: Sink) -> None:
        """Whenever something may have been missed, for the first time when the connection was made."""
        while True:
            await self._search_wanted.wait()
            self._search_wanted.clear()
            for known in pages(list(self._jobs), PAGE):
                await self._look(line.data, dict.fromkeys(known, Told.SEARCHED), sink)
            with suppress(ReplyTooLarge):  # the search for results says so
                await self._search_new(line, sink)
            await asyncio.sleep(SEARCH_PAUSE)

    async def _search_new(self, line: Line, sink: Sink) -> None:
        prefix = JOB if self._needed else JOB + CRON  # many others may stand there for nothing
        async for keys in self._pulls.scan("MATCH", prefix.decode() + "*"):
            ids = [key.removeprefix(JOB) for key in keys if len(key) <= len(JOB) + LONGEST_ID]
            for page in pages([job_id for job_id in ids if job_id not in self._jobs], PAGE):
                await self._look(line.data, dict.fromkeys(page, Told.SEARCHED), sink)
            if self._jobs.full:
                return

    async def _look(self, data: PushConnection, jobs: dict[bytes, Told], sink: Sink) -> None:
        """Looks at jobs, and draws the conclusions."""
        async with self._looking:  # what was seen first is to be judged first
            glances = await look(data, [self._question(job_id, told) for job_id, told in jobs.items()])
            lost = {glance.job_id: glance for glance in glances if glance.definition and self._queue(glance) is None}
            for some in pages(self._further_queues(), QUEUES_AT_ONCE):
                if not lost:
                    break
                for found in await look(data, [Question(job_id, 1, some) for job_id in lost]):
                    if found.queue is not None:
                        lost.pop(found.job_id).queue = found.queue
            for glance in glances:
                self._note_queue(glance)
            events = [event for glance in glances for event in self._jobs.judge(glance, jobs[glance.job_id])]
        self._record(events, sink)

    def _question(self, job_id: bytes, told: Told) -> Question:
        job = self._jobs.get(job_id)
        known = job is not None and job.task is not None and Told.DEFINITION not in told
        length = 1 if known else HEAD_BYTES
        if job is not None and job.queue is not None:
            return Question(job_id, length, (job.queue,))
        return Question(job_id, length, [*self._likely_queues()])

    def _likely_queues(self) -> Iterable[str]:
        names = dict.fromkeys([*reversed(self._recent), *self._queues()])
        return islice(names, QUEUES_AT_ONCE)

    def _further_queues(self) -> list[str]:
        likely = set(self._likely_queues())
        return [queue for queue in self._queues() if queue not in likely][:MOST_QUEUES]

    def _note_queue(self, glance: Glance) -> None:
        if glance.queue is not None and glance.job_id not in self._jobs:
            self._recent.pop(glance.queue, None)
            self._recent[glance.queue] = None

    def _queue(self, glance: Glance) -> str | None:
        job = self._jobs.get(glance.job_id)
        return glance.queue or (job.queue if job is not None else None)

    def _ended(self, job_id: bytes, queue: str | None, at: float) -> None:
        if not job_id.startswith(CRON):
            self._need()
        self._tally.ahead.take(job_id)
        if queue is not None:
            self._tally.note_progress(queue, at)

    @staticmethod
    def _record(events: list[JobEvent], sink: Sink) -> None:
        if events:
            sink.received("job", sum(isinstance(event, Finished) for event in events))
            sink.record(events)

    # -- beside it ----------------------------------------------------------------------------------------------

    async def _settle_unseen(self, line: Line, sink: Sink) -> None:
        """Counts the ends of jobs that were too short to be looked at before, where they can only be of this database:
        tracking does not tell of which database a key is."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            unseen = self._jobs.settle()
            ours = line.mode is FeedMode.KEYSPACE
            if unseen and (ours or not await other_databases(line.data, self._pulls.address.db)):
                self._record([self._jobs.unseen_end_of(job_id) for job_id in unseen], sink)

    async def _look_for_need(self, line: Line) -> None:
        """Returns once a job was seen to end without a result, other than those that are watched. Jobs are seen when
        they get due, see `Ahead`."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            due = self._tally.ahead.sample(SAMPLE, self._clock()) if self._queues() else []
            watched = CRON if line.scope is Scope.CRON else None
            sample = [job_id for job_id in due if watched is None or not job_id.startswith(watched)]
            for queues in pages(self._queues(), QUEUES_AT_ONCE):
                asked = [Question(job_id, 1, queues) for job_id in sample]
                sample = [glance.job_id for glance in await look(line.data, asked) if glance.ended and not glance.kept]
            if sample:
                self._need()
                return

    async def _try(self) -> None:
        """Returns when all jobs were watched for a while, and that is not needed."""
        await asyncio.sleep(TRIAL)
        self._tried = True
        if self._needed:
            await asyncio.Event().wait()

    def _need(self) -> None:
        if not self._needed:
            self._needed = True
            self.doubt()
            log.info("jobs end that keep no result", server=self._pulls.address.server)
