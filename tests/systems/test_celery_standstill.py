"""Since when the feed `events` heard nothing, also where this process stood still."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NoReturn

import pytest
import redis

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.push import ConnectionLost
from exporter.brokers.turn import Turn
from exporter.systems.celery.events import feed as feeds
from exporter.systems.celery.events.feed import EventsFeed
from exporter.systems.celery.events.standstill import LONG, SOON, Standstill
from exporter.systems.celery.jobs.table import CLOCKS_AGREE
from tests.servers import RedisServer
from tests.systems.observing import START, Clock
from tests.systems.sinks import RecordingSink
from tests.systems.test_celery_feed import DB, Monotonic, following
from tests.toys import until


def test_while_the_process_runs_a_connection_is_silent_since_it_was_heard_on() -> None:
    still = Standstill(0, 100)
    still.look(LONG, 100 + LONG)
    still.look(2 * LONG, 100 + 2 * LONG)
    assert still.silent(3, 2 * LONG, 100 + 2 * LONG) == 3


@pytest.mark.parametrize(("clock", "monotonic"), [(60, 60), (60, 0), (0, 60)])
def test_what_is_read_after_a_standstill_was_heard_before_it(clock: float, monotonic: float) -> None:
    still = Standstill(0, 100)
    assert still.silent(0, clock, 100 + monotonic) == 60
    still = Standstill(0, 100)
    still.look(clock, 100 + monotonic)
    assert still.silent(0.5, clock + 1, 101 + monotonic) == 61


def test_a_connection_that_outlived_the_standstill_was_not_lost_in_it() -> None:
    still = Standstill(0, 100)
    still.look(60, 160)
    assert still.silent(1, 63 + SOON, 163 + SOON) == 1


def test_what_was_not_heard_for_longer_than_the_standstill_counts() -> None:
    assert Standstill(0, 100).silent(70, 60, 160) == 70


class Lost:
    """A connection that was lost long ago."""

    def __init__(self, silent: float) -> None:
        self.error = ConnectionLost("no answer", time.monotonic() - silent)

    async def lost(self) -> NoReturn:
        await asyncio.sleep(0)
        raise self.error


@pytest.fixture
async def feed(redis_server: RedisServer, clock: Clock) -> EventsFeed:
    return EventsFeed(Access(parse_address(redis_server.url(DB))), Turn(), clock, 3600, monotonic=Monotonic())


async def test_a_gap_began_when_something_was_last_heard(feed: EventsFeed, clock: Clock) -> None:
    clock.now += 100
    feed._gaps.connected(clock(), 0)
    feed._gaps._since = None
    connection: Any = Lost(30)
    with pytest.raises(ConnectionLost):
        await feed._listen(connection)
    assert feed._gaps._since == pytest.approx(START + 70 - CLOCKS_AGREE, abs=1)


async def test_a_gap_began_when_the_process_stood_still(
    feed: EventsFeed, clock: Clock, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "TICK_SECONDS", 0.05)
    server: redis.Redis = redis_server.client(DB)
    clock.now += 100
    async with following(feed, RecordingSink()) as task:
        await until(lambda: feed._gaps._ever_connected)
        feed._gaps._since = None
        clock.now += 60  # the machine was suspended
        server.client_kill_filter(_type="pubsub")
        await until(task.done)
    error = task.exception()
    assert isinstance(error, ConnectionLost)
    assert time.monotonic() - error.heard_at == pytest.approx(60, abs=2), "the gap that operators are shown"
    assert feed._gaps._since == pytest.approx(START + 100 - CLOCKS_AGREE, abs=2)
