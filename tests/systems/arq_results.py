"""Results as arq writes them, and the feed that counts them, followed as the exporter does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import redis
from arq.jobs import serialize_result

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import BrokerError
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.systems.arq.feed.feed import ResultsFeed
from exporter.systems.arq.feed.modes import FeedMode
from exporter.systems.arq.feed.seen import steady
from exporter.systems.arq.feed.unkept import Unkept
from exporter.systems.arq.records.serializers import Serializer
from tests.systems.sinks import RecordingSink

QUEUE = "arq:queue"
TTL_MS = 3_600_000


def result(
    job_id: str,
    *,
    task: str = "send",
    queue: str = QUEUE,
    tries: int = 1,
    finished: float | None = None,
    ran: float = 0.25,
    waited: float = 1.0,
    success: bool = True,
    value: object = None,
) -> bytes:
    """What arq writes for a job that ended `finished`, after it had waited and run."""
    ended = round((time.time() if finished is None else finished) * 1000)
    started = ended - round(ran * 1000)
    enqueued = started - round(waited * 1000)
    data = serialize_result(
        task, (1,), {}, tries, enqueued, success, value, started, ended, f"{job_id}:{task}", queue, job_id
    )
    assert data is not None
    return data


def write(client: redis.Redis, *job_ids: str, **how: Any) -> None:
    """Writes results, each by itself."""
    for job_id in job_ids:
        client.set(f"arq:result:{job_id}", result(job_id, **how), px=TTL_MS)


def names(prefix: str, number: int) -> list[str]:
    return [f"{prefix}{place}" for place in range(number)]


class Clocks:
    """The clocks of the machine, and what the test does to them."""

    def __init__(self) -> None:
        self.passed = 0.0
        """Seconds by which time is further on than it is."""
        self.set_by = 0.0
        """Seconds by which the wall clock is set wrong."""

    def wall(self) -> float:
        return time.time() + self.passed + self.set_by

    def steady(self) -> float:
        return steady() + self.passed


class Following:
    """A feed, followed again and again; `problems` says why it ended each time."""

    def __init__(
        self,
        url: str,
        mode: str = "auto",
        queues: Iterable[str] = (QUEUE,),
        unkept: str = "off",
        serializer: str = "auto",
    ) -> None:
        self.sink = RecordingSink()
        self.clocks = Clocks()
        self.pulls = Pulls(Access(parse_address(url)))

        async def find() -> list[str]:
            return list(queues)

        self.feed = ResultsFeed(
            self.pulls,
            Turn(),
            FeedMode(mode),
            find,
            self.clocks.wall,
            self.clocks.steady,
            serializer=Serializer(serializer),
            unkept=Unkept(unkept),
        )
        self.problems: list[str] = []
        self._task: asyncio.Task[None] | None = None
        self._looks = 0
        self._count_looks()

    def _count_looks(self) -> None:
        look = self.feed.tally.ahead.look

        async def counted(*arguments: Any) -> None:
            self._looks += 1
            await look(*arguments)

        self.feed.tally.ahead.look = counted  # type: ignore[method-assign, assignment]

    @asynccontextmanager
    async def searches_held(self, *, where: str) -> AsyncIterator[asyncio.Event]:
        """Holds up every search that begins until the end of the block, at its `start` or `end`. The event tells that
        one has come there."""
        reached, go = asyncio.Event(), asyncio.Event()
        scan = self.pulls.scan

        async def held(*arguments: str) -> AsyncIterator[list[bytes]]:
            if where == "start":
                reached.set()
                await go.wait()
            async for keys in scan(*arguments):
                yield keys
            if where == "end":
                reached.set()
                await go.wait()

        self.pulls.scan = held  # type: ignore[method-assign]
        try:
            yield reached
        finally:
            self.pulls.scan = scan  # type: ignore[method-assign]
            go.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def close(self) -> None:
        await self.stop()
        await self.pulls.close()

    async def _follow(self) -> None:
        while True:
            try:
                await self.feed.follow(self.sink)
            except BrokerError as error:
                self.problems.append(str(error))
                await asyncio.sleep(0.02)

    @property
    def counted(self) -> Counter[str]:
        """How often each job was counted."""
        return Counter(event.job_id for event in self.sink.finished)

    async def until(self, condition: Callable[[], object], deadline: float = 30.0) -> None:
        """Returns once `condition` is true."""
        try:
            async with asyncio.timeout(deadline):
                while not condition():
                    assert self._task is not None
                    assert not self._task.done(), self._task
                    await asyncio.sleep(0.01)
        except TimeoutError:
            total = len(self.sink.finished)
            raise AssertionError(f"{total} finished, {self.sink.modes}, {self.problems[-3:]}") from None

    async def until_connected(self, times: int = 1) -> None:
        await self.until(lambda: len(self.sink.modes) >= times)

    async def until_watched(self) -> None:
        """Returns once the feed has made sure twice that all is good."""
        wanted = self._looks + 3
        await self.until(lambda: self._looks >= wanted)

    async def restart(self) -> None:
        """Follows anew, and returns once it is connected."""
        times = len(self.sink.modes)
        await self.stop()
        self.start()
        await self.until_connected(times + 1)

    async def until_problems(self, times: int) -> None:
        await self.until(lambda: len(self.problems) >= times)

    async def until_more(self, number: int, or_when: Callable[[], bool] = lambda: False) -> None:
        """Returns once so many more were counted."""
        wanted = len(self.sink.finished) + number
        await self.until(lambda: len(self.sink.finished) >= wanted or or_when())

    async def until_total(self, number: int) -> None:
        """Returns once so many were counted in all."""
        await self.until(lambda: len(self.sink.finished) >= number)

    async def until_seen_ahead(self, job_id: str) -> None:
        await self.until(lambda: job_id.encode() in self.feed.tally.ahead)

    async def until_counted(self, jobs: Iterable[str]) -> None:
        """Returns once all the jobs were counted, and nothing more is on its way."""
        wanted = set(jobs)
        await self.until(lambda: wanted <= {event.job_id for event in self.sink.finished})


@asynccontextmanager
async def following(url: str, mode: str = "auto", *, start: bool = True, **how: Any) -> AsyncIterator[Following]:
    """A feed that is followed until the end of the block."""
    followed = Following(url, mode, **how)
    if start:
        followed.start()
    try:
        yield followed
    finally:
        await followed.close()
