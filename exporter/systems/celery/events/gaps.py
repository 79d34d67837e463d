"""What happened while nobody listened: told by kept results where there are any, else estimated as lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from exporter.brokers.pulls import BrokerError, Refused
from exporter.model import Unreadable
from exporter.safe.text import one_line
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.events.loss import Losses
from exporter.systems.celery.jobs.table import CLOCKS_AGREE
from exporter.systems.celery.jobs.tasks import Tasks
from exporter.systems.celery.results.results import Results

LONG_START: Final = 5.0
"""Seconds to the first connection, beyond which they are a gap like any other."""
PATIENCE: Final = 60.0
"""Seconds after which losses are estimated though results are still being read."""
Naming = Callable[[str], str | None]
"""Gives the queue that a routing key names, where it names one."""
ATTEMPTS: Final = 5
"""To read the results of one gap."""
RETRY_SECONDS: Final = 2.0
AT_ONCE: Final = 200
"""Jobs counted before what came of them is handed on."""


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
        self._tasks = tasks
        self._results = results
        self._naming = naming
        self._floor = began  # what ended before is of no concern
        self._since: float | None = began  # of the gap whose results were not read yet
        self._until = began
        self._ever_connected = False
        self._filling = False
        self._impatient_at = 0.0
        self._told = 0

    @property
    def pattern(self) -> str | None:
        """What the keys of results are like, where they are read."""
        return None if self._results is None else self._results.pattern

    # -- what the feed tells ------------------------------------------------------------------------------------

    def connected(self, now: float, tick: float) -> None:
        """Everything is heard from now on."""
        if not self._ever_connected:
            self._ever_connected = True
            if now - self._floor < LONG_START:
                self._floor, self._since = now, None
        self._until = now + CLOCKS_AGREE
        self._filling = self._results is not None and self._since is not None
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

    def take_losses(self, tick: float) -> int:
        """How many starts are lost for good, more than were told of before."""
        if self._filling and tick < self._impatient_at:
            return 0
        lost = max(0, self.losses.unheard - self._tasks.filled_starts)
        new, self._told = max(0, lost - self._told), max(lost, self._told)
        return new

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
                await (self._fill(results, hand_on) if self._filling else results.try_out())
                self.problem = None
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

    async def _fill(self, results: Results, hand_on: Callable[[int], None]) -> None:
        since = self._since or self._floor
        queue_of = await self._naming() if self._naming is not None else _nothing
        counted, looked = 0, time.perf_counter()
        try:
            async for result in results.walk():
                if since <= result.at <= self._until:
                    counted += self._tasks.fill(result, queue_of(result.queue) if result.queue else None)
                if counted >= AT_ONCE or time.perf_counter() - looked > 0.1:
                    hand_on(counted)
                    counted, looked = 0, time.perf_counter()
                    await asyncio.sleep(0)
        finally:
            hand_on(counted)

    def _done(self) -> None:
        """Nothing more will be told of the gap."""
        self._since = None
        self._filling = False
        self._tasks.ended.release()


def _nothing(_: str) -> None:
    """No routing key names a queue."""
