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
from collections.abc import Callable, Collection
from typing import Final

import structlog

from exporter.brokers.errors import ReplyTooLarge
from exporter.brokers.pulls import Pulls
from exporter.model import Sink
from exporter.systems.arq.feed.beside import first_of
from exporter.systems.arq.feed.glances import Denied, Question, look, look_at_server
from exporter.systems.arq.feed.looks import QUEUES_AT_ONCE, Looks
from exporter.systems.arq.feed.modes import FeedMode, Line, Scope
from exporter.systems.arq.feed.tally import Tally
from exporter.systems.arq.feed.unended import LIMIT, Unended
from exporter.systems.arq.layout import CRON
from exporter.systems.arq.records.serializers import Serializer
from exporter.systems.keys import pages

TRIAL: Final = 60.0
"""Seconds for which all jobs are watched at first, to see whether that is needed."""
FRONT: Final = 1000
"""Jobs at the front of each queue whose function is read before it is known whether that is needed."""
CHECK_INTERVAL: Final = 1.0
"""Seconds between two looks for the need to watch all jobs, and between two decisions on ends that came unseen."""
SAMPLE: Final = 20
"""Jobs looked at for that need."""
SEARCH_PAUSE: Final = 5.0
DENIED_PAUSE: Final = 60.0
"""Seconds until it is tried again whether the server lets us look."""

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
        self._looks = Looks(self._jobs, queues, tally.ends.vanished)
        self._search_wanted = asyncio.Event()
        self._again = False  # look at all that is known, too
        self._missed = False  # ends may not have been told
        self._run_id = b""
        self._ends = 0  # since it was looked ahead
        self._enough = 0  # of these, to look ahead again
        self._denied: str | None = None
        self._unread: str | None = None

    @property
    def problem(self) -> str | None:
        """Why ends without a result are not seen, though they are to be."""
        return self._denied or self._unread

    @property
    def scope(self) -> Scope:
        """What the server is to tell of."""
        if self._wanted is Unkept.OFF:
            return Scope.RESULTS
        return Scope.JOBS if self._needed or not self._tried else Scope.CRON

    def pushed(self, key: bytes) -> None:
        """A definition, or a mark of progress, came or went."""
        if not self._looks.pushed(key):
            self._miss()

    def doubt(self) -> None:
        """Jobs may be gone that did not end: some database of the server may have lost all its keys."""
        self._again = True
        self._search_wanted.set()

    def look_for_queues(self) -> None:
        """There are new ones, of which jobs may be whose queue was not known."""
        self._looks.look_for_queues()
        self._search_wanted.set()

    async def follow(self, line: Line, sink: Sink) -> None:
        """Watches over `line`. Returns when `scope` is no longer that of `line`; raises when it is lost.

        Where the server does not let us look, only this ends, with a `problem`: results are counted all the same.
        """
        self._denied = self._unread = None
        while True:
            try:
                if line.scope is Scope.RESULTS:
                    await self._stay_deaf(line)
                else:
                    await self._watch(line, sink)
                return
            except Denied as error:
                self._denied = f"jobs that keep no result are not watched: {error}"
            await asyncio.sleep(DENIED_PAUSE)

    async def _watch(self, line: Line, sink: Sink) -> None:
        await look(line.data, [Question(b"", 1, [*self._queues()][:1])])  # whether we may
        await look_at_server(line.data, self._pulls.access.db)
        self._denied = None
        self._miss()
        change = self._look_for_need(line) if line.scope is Scope.CRON else self._try()
        looking = self._looks.read_pushed(line, sink), self._search(line, sink), self._settle_unseen(line, sink)
        await first_of(*looking, change)

    async def _stay_deaf(self, line: Line) -> None:
        """The server tells of results at most. That is a problem as soon as a job ends without one."""
        if self._wanted is not Unkept.OFF:
            if not self._needed:
                await self._look_for_need(line)
            self._denied = f"jobs that keep no result are not counted: the server tells of no jobs (mode {line.mode})"
        await asyncio.Event().wait()

    # -- searched -----------------------------------------------------------------------------------------------

    def _miss(self) -> None:
        self._missed = True
        self.doubt()

    async def _search(self, line: Line, sink: Sink) -> None:
        """Whenever something may have been missed, for the first time when the connection was made."""
        while True:
            await self._search_wanted.wait()
            self._search_wanted.clear()
            if self._again:
                self._again = False
                await self._look_again(line, sink)
            await self._look_ahead(line, sink)
            await asyncio.sleep(SEARCH_PAUSE)

    async def _look_again(self, line: Line, sink: Sink) -> None:
        """What became of the jobs that are known. Those that are gone without a word did not end, unless it was missed;
        and not where the server lost its data, or is another."""
        missed, self._missed = self._missed, False
        state = await look_at_server(line.data, self._pulls.access.db)
        another = self._run_id not in (b"", state.run_id)
        self._run_id = state.run_id
        vanished = await self._looks.look_again(line, sink, lost=not missed or state.empty or another)
        if another:
            sink.lost(vanished)

    async def _look_ahead(self, line: Line, sink: Sink) -> None:
        queues = max(1, len(self._queues()))
        most = max(FRONT, LIMIT // 2 // queues) if self._needed else FRONT
        prefix = CRON if line.scope is Scope.CRON else b""
        self._ends = 0
        try:
            more = await self._looks.look_ahead(line, sink, self._pulls, most, prefix)
        except ReplyTooLarge as error:
            self._unread = f"jobs that wait are not read: {error}"
            return
        self._unread = None
        self._enough = most // 2 if more else 0

    def _ended(self, job_id: bytes) -> None:
        if not job_id.startswith(CRON):
            self._need()
        self._ends += 1
        if self._enough and self._ends >= self._enough:
            self._search_wanted.set()
        self._tally.ahead.take(job_id)

    # -- beside it ----------------------------------------------------------------------------------------------

    async def _settle_unseen(self, line: Line, sink: Sink) -> None:
        """Counts the ends of jobs that were too short to be looked at before, where they can only be of this database:
        tracking does not tell of which database a key is."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            unseen = self._jobs.settle()
            ours = line.mode is FeedMode.KEYSPACE
            if unseen and (ours or not (await look_at_server(line.data, self._pulls.access.db)).others):
                self._looks.tell(map(self._jobs.unseen_end_of, unseen.elements()), sink)

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
        await asyncio.sleep(0 if self._tried else TRIAL)
        self._tried = True
        if self._needed:
            await asyncio.Event().wait()
        self._looks.forget(but=CRON)  # of the others it is not told any more when they end

    def _need(self) -> None:
        if not self._needed:
            self._needed = True
            self._search_wanted.set()
            log.info("jobs end that keep no result", server=self._pulls.access.server)
