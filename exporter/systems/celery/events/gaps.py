"""What happened while nobody listened: told by kept results where there are any, else estimated as lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Final

from msgspec.structs import replace

from exporter.brokers.errors import BrokerError, Refused
from exporter.model import Unreadable
from exporter.safe.text import one_line
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.events.loss import ENDS, Losses
from exporter.systems.celery.jobs.filling import Filling
from exporter.systems.celery.jobs.table import CLOCKS_AGREE
from exporter.systems.celery.jobs.tasks import Tasks
from exporter.systems.celery.results.metas import Result
from exporter.systems.celery.results.results import Results

LONG_START: Final = 5.0
"""Seconds to the first connection, beyond which they are a gap like any other."""
PATIENCE: Final = 60.0
"""Seconds without a result after which losses are estimated though they are still being read; and in which workers
are waited for that tell of jobs."""
Naming = Callable[[str], str | None]
"""Gives the queue that a routing key names, where it names one."""
ATTEMPTS: Final = 5
"""To read the results of one gap."""
RETRY_SECONDS: Final = 2.0
AT_ONCE: Final = 200
"""Jobs counted before what came of them is handed on."""
SETTLE_SECONDS: Final = 1.0
"""For which results wait: events that are on their way tell more."""
MOST_LATE: Final = 50_000
"""Results that wait at one time."""
REPEAT_SECONDS: Final = 5.0
"""Between two walks, where one takes no longer: workers that lost the same Redis write late, and the new ones are heard
of late."""


class Gaps:
    """The gaps of one feed. `now` is Unix time, `tick` monotonic."""

    def __init__(
        self,
        tasks: Tasks,
        results: Results | None,
        began: float,
        naming: Callable[[], Awaitable[Naming]] | None = None,
    ) -> None:
        """`results` is None where they are not to be read; `naming` looks which queues there are; `began` is when the
        feed was made."""
        self.losses = Losses()
        self.problem: str | None = None
        """Why results cannot be read."""
        self.prefixes: set[str] = set()
        """What events put before the names of workers."""
        self._heard_jobs = asyncio.Event()
        self._moved = False
        self._tasks = tasks
        self._by_results = Filling(tasks)
        self._results = results
        self._naming = naming
        self._floor = began  # what ended before is of no concern
        self._since: float | None = began  # of the gap whose results were not read yet
        self._until = began
        self._ever_connected = False
        self._filling = False
        self._impatient_at = 0.0
        self._told = 0

    # -- what the feed tells ------------------------------------------------------------------------------------

    def connected(self, now: float, tick: float) -> None:
        """Everything is heard from now on."""
        if not self._ever_connected:
            self._ever_connected = True
            if now - self._floor < LONG_START:
                self._floor, self._since = now, None
        self._until = now + CLOCKS_AGREE
        self._filling = self._results is not None and self._since is not None
        self._tasks.held.reading_results = self._filling
        if self._filling:
            self._tasks.ended.keep()
        self._impatient_at = tick + PATIENCE
        self.losses.connected(tick)

    def disconnected(self, heard_at: float, tick: float) -> None:
        """Nothing is heard, since `heard_at`: Unix time."""
        if self._since is None:
            self._since = max(self._floor, heard_at - CLOCKS_AGREE)
        if not self._filling and self.losses.settled(tick):
            self.losses.unheard = self._tasks.filled_starts = self._told = 0
        self.losses.disconnected(tick)

    def take(self, event: Event) -> None:
        """An event of a worker."""
        self.losses.take(event)
        if event.type.startswith("task-") and event.type != "task-sent":
            self._heard_jobs.set()
        if event.type in ENDS:
            job = self._tasks.remembered(event.uuid)
            if job is None:
                self.losses.take_unstarted(event, None)
            elif not job.ended and job.runs_in(event.hostname) is None:
                self.losses.take_unstarted(event, job.received_at if job.receiver == event.hostname else None)

    def take_losses(self, tick: float) -> int:
        """How many starts are lost for good, more than were told of before."""
        proven, self.losses.proven = self.losses.proven, 0
        if self._moved:
            self._moved, self._impatient_at = False, tick + PATIENCE
        if self._filling and tick < self._impatient_at:
            return proven
        lost = max(0, self.losses.unheard - self._tasks.filled_starts)
        new, self._told = max(0, lost - self._told), max(lost, self._told)
        return proven + new

    def take_unreadable(self) -> Collection[tuple[Unreadable, int]]:
        """Results that could not be read, by reason, since this was called last."""
        if self._results is None or not self._results.unreadable:
            return ()
        found = list(self._results.unreadable.items())
        self._results.unreadable.clear()
        return found

    # -- results ------------------------------------------------------------------------------------------------

    async def fill(self, hand_on: Callable[[int], None]) -> None:
        """Counts the jobs that ended in the gap, once, by their results. Never raises but when it is cancelled: then
        the next call goes on. `hand_on` is told how many were counted, now and then."""
        results = self._results
        if results is None:
            return
        for attempt in range(ATTEMPTS):
            try:
                await results.try_out()
                self.problem = None
                if self._filling and await self._hears_jobs():
                    await self._fill(results, hand_on)
                break
            except BrokerError as error:
                self.problem = one_line(f"results: {error}")
                if isinstance(error, Refused):
                    break
                await asyncio.sleep(RETRY_SECONDS * 2**attempt)
            except Exception as error:  # a fault of ours: it must not end the feed
                self.problem = one_line(f"results: {type(error).__name__}: {error}")
                break
        self._done()

    async def _hears_jobs(self) -> bool:
        """Whether workers tell of their jobs here. Else results are of others, or of jobs that are counted nowhere."""
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._heard_jobs.wait()
        except TimeoutError:
            return False
        return True

    async def _fill(self, results: Results, hand_on: Callable[[int], None]) -> None:
        began = time.perf_counter()
        await self._walk(results, hand_on)
        if time.perf_counter() - began <= REPEAT_SECONDS:
            await asyncio.sleep(REPEAT_SECONDS)
            await self._walk(results, hand_on)

    async def _walk(self, results: Results, hand_on: Callable[[int], None]) -> None:
        queue_of = await self._naming() if self._naming is not None else _nothing
        counted, looked = 0, time.perf_counter()
        try:
            async for result in self._found(results):
                counted += self._by_results.fill(result, queue_of(result.queue) if result.queue else None)
                if counted >= AT_ONCE or time.perf_counter() - looked > 0.1:
                    hand_on(counted)
                    counted, looked = 0, time.perf_counter()
                    await asyncio.sleep(0)
        finally:
            hand_on(counted)

    async def _found(self, results: Results) -> AsyncIterator[Result]:
        """Those that tell how a job of the gap ended."""
        since, connected = self._since or self._floor, self._until - CLOCKS_AGREE
        late: list[Result] = []
        async for found in results.walk():
            self._moved = True
            result = self._ours(found) if since <= found.at <= self._until else None
            if result is None:
                continue
            if result.name is None and result.at >= connected and len(late) < MOST_LATE:
                late.append(result)
            else:
                yield result
        await asyncio.sleep(SETTLE_SECONDS)  # their events, which tell their names, may be on their way
        for result in late:
            yield result

    def _ours(self, result: Result) -> Result | None:
        """A result, with the name that its worker has in events; None where that worker tells nothing of its jobs here:
        it may serve another broker."""
        if result.worker is None:
            return result
        names = [name for prefix in {"", *self.prefixes} if self.losses.hears(name := prefix + result.worker)]
        if not names:
            return result if self._by_results.ran(result) else None
        return replace(result, worker=names[0] if len(names) == 1 else None)

    def _done(self) -> None:
        """Nothing more will be told of the gap."""
        self._since = None
        self._filling = self._tasks.held.reading_results = False
        self._tasks.ended.release()


def _nothing(_: str) -> None:
    """No routing key names a queue."""
