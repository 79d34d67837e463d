"""The feed `hook`, followed as the exporter does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import pytest

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import BrokerError
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.systems.arq.ends.ends import Ends
from exporter.systems.arq.hook import feed as hook_feed
from exporter.systems.arq.hook.feed import HookFeed
from tests.servers import RedisServer
from tests.systems.sinks import RecordingSink
from tests.toys import until


def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed looks at workers and streams as often as it can."""
    monkeypatch.setattr(hook_feed, "LOOK_INTERVAL", 0.02)
    monkeypatch.setattr(hook_feed, "BUSY_SHARE", 1.0)
    monkeypatch.setattr(hook_feed, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(hook_feed, "BLOCK", 0.05)


class Following:
    """A feed, followed again and again; `problems` says why it ended each time."""

    def __init__(self, url: str, only: Iterable[str] | None) -> None:
        self.sink = RecordingSink()
        self.pulls = Pulls(Access(parse_address(url)))
        self.ends = Ends(lambda queue, at: None)
        self.ends.alone = True
        self.feed = HookFeed(self.pulls, Turn(), self.ends, 3600, None if only is None else [*only])
        self.problems: list[BrokerError] = []
        self._task: asyncio.Task[None]

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            try:
                await self.feed.follow(self.sink)
            except BrokerError as error:
                self.problems.append(error)
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def counted(self) -> Counter[str]:
        return Counter(event.job_id for event in self.sink.finished)

    async def until(self, condition: Callable[[], object]) -> None:
        try:
            await until(condition, 20)
        except TimeoutError:
            raise AssertionError(f"{self.counted}, {self.sink.log[-5:]}, {self.problems[-3:]}") from None
        assert not self._task.done(), self._task

    async def until_connected(self, times: int = 1) -> None:
        await self.until(lambda: len(self.sink.modes) >= times)

    async def until_counted(self, *jobs: str) -> None:
        """Returns once these were counted; AssertionError if others were, or one twice."""
        await self.until(lambda: len(self.counted) >= len(jobs))
        assert self.counted == Counter(jobs)

    async def until_looked(self) -> None:
        """Returns once all workers were looked at, and then once more."""
        look, looks = self.feed._workers.looked, 0

        def counted(*arguments: object) -> None:
            nonlocal looks
            looks += 1
            look(*arguments)  # type: ignore[arg-type]

        self.feed._workers.looked = counted  # type: ignore[method-assign, assignment]
        await self.until(lambda: looks >= 3)
        self.feed._workers.looked = look  # type: ignore[method-assign]


@asynccontextmanager
async def following(server: RedisServer | str, only: Iterable[str] | None = None) -> AsyncIterator[Following]:
    """A feed that is followed until the end of the block; of a server, or of a URL."""
    followed = Following(server if isinstance(server, str) else server.url(), only)
    followed.start()
    try:
        yield followed
    finally:
        await followed.stop()
        await followed.pulls.close()
