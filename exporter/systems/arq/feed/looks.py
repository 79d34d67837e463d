"""Looks at jobs of which the server tells, and at those that wait, and what follows for the sink."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from itertools import islice
from typing import Final

from exporter.brokers.pulls import Pulls
from exporter.model import Finished, JobEvent, Sink
from exporter.systems.arq.feed.ahead import LONGEST_ID
from exporter.systems.arq.feed.glances import PAGE, Glance, Question, look
from exporter.systems.arq.feed.modes import Line
from exporter.systems.arq.feed.unended import NOTHING, News, Unended
from exporter.systems.arq.layout import IN_PROGRESS, JOB
from exporter.systems.arq.records.definitions import HEAD_BYTES
from exporter.systems.keys import key_bytes, pages

COALESCE: Final = 0.002
"""Seconds in which pushes may gather: each look costs more than the few jobs looked at."""
PENDING: Final = 250_000
"""Jobs that wait to be looked at; beyond, what became of them has to be searched."""
QUEUES_AT_ONCE: Final = 8
"""Queues in which a new job is looked for in one go, first those in which one was found last."""
MOST_QUEUES: Final = 248
"""Queues in which it is looked for beyond those; a job of another one is counted without its queue."""
FRONT_PAGE: Final = 1000
OVERLAP: Final = 200


class Looks:
    """What is told of jobs, and looked at then. Outlives connections."""

    def __init__(
        self, jobs: Unended, queues: Callable[[], Collection[str]], vanished: Callable[[Finished, Sink], None]
    ) -> None:
        """`queues` gives those known by now; `vanished` counts an end without a result."""
        self._jobs = jobs
        self._queues = queues
        self._vanished = vanished
        self._recent: dict[str, None] = {}  # queues, that of the last new job at the end
        self._pending: dict[bytes, News] = {}
        self._arrived = asyncio.Event()
        self._looking = asyncio.Lock()

    def pushed(self, key: bytes) -> bool:
        """Takes note that a definition, or a mark of progress, came or went; whether there was room for that."""
        prefix, told = (JOB, News(definitions=1)) if key.startswith(JOB) else (IN_PROGRESS, News(starts=True))
        job_id = key.removeprefix(prefix)
        if len(job_id) > LONGEST_ID or len(job_id) == len(key):
            return True
        if told.starts and self._jobs.knows(job_id):
            return True  # it tells of its end by its definition
        if len(self._pending) >= PENDING:
            return False
        self._want(job_id, told)
        return True

    def look_for_queues(self) -> None:
        """There are new ones, of which jobs may be whose queue was not known."""
        for job_id in self._jobs.without_queue():
            self._want(job_id, NOTHING)

    def forget(self, *, but: bytes) -> None:
        """Forgets all jobs, but for those whose ids begin so."""
        self._jobs.forget(but=but)
        self._pending = {job_id: told for job_id, told in self._pending.items() if job_id.startswith(but)}

    async def read_pushed(self, line: Line, sink: Sink) -> None:
        """For ever, and soon: the definition of a short job is gone in a few milliseconds."""
        while True:
            await self._arrived.wait()
            await asyncio.sleep(COALESCE)
            while self._pending:
                async with self._looking:
                    page = dict(islice(self._pending.items(), PAGE))
                    for job_id in page:
                        del self._pending[job_id]
                    await self._look_now(line, page, sink)
            self._arrived.clear()

    async def look_again(self, line: Line, sink: Sink, *, lost: bool) -> int:
        """At all jobs that are known. Where the server has `lost` data, those that are gone without a word did not end;
        how many."""
        while self._pending:  # noqa: ASYNC110  the words come first
            await asyncio.sleep(COALESCE)
        vanished = 0
        for known in pages(list(self._jobs), PAGE):
            vanished += await self._look(line, dict.fromkeys(known, NOTHING), sink, lost=lost)
        return vanished

    async def look_ahead(self, line: Line, sink: Sink, pulls: Pulls, most: int, prefix: bytes = b"") -> bool:
        """At those jobs of each queue that start next, `most` at most, whose ids begin so; whether there are others.

        Raises BrokerError.
        """
        more = False
        for queue in [*self._queues()][:MOST_QUEUES]:
            async for ids in _front(pulls, queue, most):
                new = [job_id for job_id in ids if job_id not in self._jobs and job_id.startswith(prefix)]
                for page in pages((job_id for job_id in new if len(job_id) <= LONGEST_ID), PAGE):
                    await self._look(line, dict.fromkeys(page, News(starts=True)), sink)
            more = more or len(ids) == FRONT_PAGE
        return more

    def tell(self, events: Iterable[JobEvent], sink: Sink) -> None:
        """Hands on what was seen."""
        for event in events:
            if isinstance(event, Finished):
                sink.received("job", 1)
                self._vanished(event, sink)
            else:
                sink.record([event])

    def _want(self, job_id: bytes, told: News) -> None:
        self._pending[job_id] = self._pending.get(job_id, NOTHING).and_then(told)
        self._arrived.set()

    async def _look(self, line: Line, jobs: dict[bytes, News], sink: Sink, *, lost: bool = False) -> int:
        """Looks at jobs, and draws the conclusions. See `look_again`."""
        async with self._looking:  # what was seen first is to be judged first
            return await self._look_now(line, jobs, sink, lost=lost)

    async def _look_now(self, line: Line, jobs: dict[bytes, News], sink: Sink, *, lost: bool = False) -> int:
        try:
            glances = await look(line.data, [self._question(job_id) for job_id in jobs])
            await self._look_further(line, glances)
            await self._complete(line, glances, jobs)
        except BaseException:  # cut off: it is all to be looked at again
            for job_id, told in jobs.items():
                self._want(job_id, told)
            raise
        vanished = [
            glance.job_id
            for glance in glances
            if lost and glance.ended and glance.job_id in self._jobs and not jobs[glance.job_id].definitions
        ]
        for job_id in vanished:
            self._jobs.drop(job_id)
        for glance in glances:
            self._note_queue(glance)
        self.tell((event for glance in glances for event in self._jobs.judge(glance, jobs[glance.job_id])), sink)
        return len(vanished)

    def _question(self, job_id: bytes) -> Question:
        job = self._jobs.get(job_id)
        if job is not None and job.queue is not None:
            return Question(job_id, HEAD_BYTES, (job.queue,))
        return Question(job_id, HEAD_BYTES, [*self._likely_queues()])

    async def _look_further(self, line: Line, glances: Iterable[Glance]) -> None:
        """Looks for jobs in other queues than the likely ones."""
        missed = {glance.job_id: glance for glance in glances if glance.definition and self._queue(glance) is None}
        for some in pages(self._further_queues(), QUEUES_AT_ONCE):
            if not missed:
                return
            for found in await look(line.data, [Question(job_id, 1, some) for job_id in missed]):
                if found.queue is not None:
                    missed.pop(found.job_id).queue = found.queue

    async def _complete(self, line: Line, glances: Iterable[Glance], jobs: dict[bytes, News]) -> None:
        """Waits for what must be on its way, as jobs are gone, and takes it into account."""
        doubtful = [glance for glance in glances if self._jobs.doubtful(glance, jobs[glance.job_id])]
        if doubtful:
            await line.barrier()
        for glance in doubtful:
            job_id = glance.job_id
            jobs[job_id] = jobs[job_id].and_then(self._pending.pop(job_id, NOTHING))
            if self._jobs.doubtful(glance, jobs[job_id]):  # its id may be in use again by now
                self._want(job_id, NOTHING)

    def _likely_queues(self) -> Iterable[str]:
        names = dict.fromkeys([*reversed(self._recent), *self._queues()])
        return islice(names, QUEUES_AT_ONCE)

    def _further_queues(self) -> list[str]:
        likely = set(self._likely_queues())
        return [queue for queue in self._queues() if queue not in likely][:MOST_QUEUES]

    def _queue(self, glance: Glance) -> str | None:
        job = self._jobs.get(glance.job_id)
        return glance.queue or (job.queue if job is not None else None)

    def _note_queue(self, glance: Glance) -> None:
        if glance.queue is not None and glance.job_id not in self._jobs:
            self._recent.pop(glance.queue, None)
            self._recent[glance.queue] = None


async def _front(pulls: Pulls, queue: str, most: int) -> AsyncIterator[list[bytes]]:
    """The first jobs of a queue by pages, of which each overlaps the one before: those behind jobs that end move up.
    The last page, empty perhaps, is short where the queue ends before `most`."""
    before: set[bytes] = set()
    start = 0
    while start < most:
        (reply,) = await pulls.many([("ZRANGE", key_bytes(queue), start, start + FRONT_PAGE - 1)])
        ids = reply if isinstance(reply, list) else []
        yield ids
        if start and before.isdisjoint(ids):  # more ended than pages overlap
            start = max(0, start - FRONT_PAGE)
        elif len(ids) < FRONT_PAGE:
            return
        else:
            start += FRONT_PAGE - OVERLAP
        before = set(ids)
