"""The feed `results` when connections are lost: each result that still stands is counted, and none twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import cast

import pytest
import redis

from exporter.brokers.access import CLIENT_NAME
from exporter.model import Outcome
from exporter.systems.arq.feed import feed
from tests.servers import RedisServer
from tests.systems.arq_results import QUEUE, following, names, result, write
from tests.thorough import THOROUGH

pytestmark = pytest.mark.slow

STANDING = 100_000 if THOROUGH else 20_000
"""Results."""
Cut = Callable[[redis.Redis], None]


def kill(client: redis.Redis, wanted: Callable[[dict[str, str]], bool]) -> None:
    """Ends the exporter's connections that are wanted."""
    clients = cast(list[dict[str, str]], client.client_list())
    for one in clients:
        if one["name"] == CLIENT_NAME and wanted(one):
            client.client_kill_filter(_id=one["id"])


def cut_subscriber(client: redis.Redis) -> None:
    client.client_kill_filter(_type="pubsub")


def cut_reader(client: redis.Redis) -> None:
    """The connection that tracks: the server pushes nothing more, and the subscriber hears nothing of it."""
    kill(client, lambda one: "P" not in one["flags"])


def cut_all(client: redis.Redis) -> None:
    kill(client, lambda one: True)


@pytest.fixture(autouse=True)
def _search_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SCAN_INTERVAL", 0.05)
    monkeypatch.setattr(feed, "BUSY_SHARE", 1.0)


@pytest.mark.parametrize(
    ("mode", "cut"),
    [
        ("tracking", cut_subscriber),
        ("tracking", cut_reader),
        ("tracking", cut_all),
        ("keyspace", cut_subscriber),
        ("keyspace", cut_reader),
        ("scan", cut_reader),
    ],
)
async def test_four_cuts_under_load(redis_server: RedisServer, client: redis.Redis, cut: Cut, mode: str) -> None:
    client.config_set("notify-keyspace-events", "KA")
    standing = names("standing", 300)
    write(client, *standing)
    async with following(redis_server.url(), mode) as followed:
        await followed.until_connected()
        jobs: list[str] = []
        for times in range(1, 5):
            new = names(f"{times}-", 1500)
            writing = asyncio.create_task(asyncio.to_thread(write, redis_server.client(), *new))
            await followed.until_more(200)
            cut(client)
            await followed.until_problems(times)
            await writing
            jobs += new
        await followed.until_counted(jobs)
        await followed.until_connected(5)
        assert followed.counted == Counter(jobs)
        assert len(followed.problems) == 4


async def test_what_is_written_while_nobody_is_connected(redis_server: RedisServer, client: redis.Redis) -> None:
    write(client, "stood")
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        write(client, "before")
        await followed.until_counted(["before"])
        await followed.stop()
        # given a gap in which one ends, one comes back, and one is restored that ended long ago
        now = time.time()
        write(client, "in the gap")
        write(client, "before", finished=now + 1)
        write(client, "long ago", finished=now - 700)
        write(client, "far ahead", finished=now + 700)
        client.set("arq:result:bad", b"\x80\x04junk")
        followed.start()
        await followed.until_connected(2)
        write(client, "after")
        await followed.until_counted(["in the gap", "after"])
        await followed.until(lambda: followed.counted["before"] == 2)
        assert set(followed.counted) == {"before", "in the gap", "after"}
        assert not followed.sink.undecodable_by_reason
        # and at the next gap nothing of it is counted again
        await followed.stop()
        followed.start()
        await followed.until_connected(3)
        write(client, "marker")
        await followed.until_counted(["marker"])
        assert followed.counted == Counter(["before", "before", "in the gap", "after", "marker"])


async def test_a_worker_whose_clock_is_ahead_is_counted_once_over_many_gaps(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        write(client, "ahead", finished=time.time() + 7000)
        await followed.until_counted(["ahead"])
        for times in (2, 3):
            await followed.stop()
            followed.start()
            await followed.until_connected(times)
            write(client, f"marker{times}")
            await followed.until_counted([f"marker{times}"])
        assert followed.counted["ahead"] == 1


async def test_a_redis_that_comes_back_empty(redis_server: RedisServer) -> None:
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        first, second = names("first", 50), names("second", 50)
        await asyncio.to_thread(write, redis_server.client(), *first)
        await followed.until_counted(first)
        await asyncio.to_thread(redis_server.restart)
        await followed.until_connected(2)
        await asyncio.to_thread(write, redis_server.client(), *second)
        await followed.until_counted(second)
        assert followed.counted == Counter([*first, *second])


async def test_what_stands_at_the_first_connection_is_standing_however_late_that_comes(
    redis_server: RedisServer,
) -> None:
    await asyncio.to_thread(redis_server.stop)
    async with following(redis_server.url()) as followed:
        await followed.until(lambda: followed.problems)
        await followed.stop()
        await asyncio.to_thread(redis_server.restart)
        client = redis_server.client()
        write(client, *names("stood", 20))
        followed.start()
        await followed.until_connected()
        write(client, "marker")
        await followed.until_counted(["marker"])
        await followed.until(lambda: followed.sink.known)
        assert followed.counted == {"marker": 1}


async def test_a_cut_during_the_first_search_loses_nothing_and_counts_nothing_that_stood(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    standing = names("standing", 3000)
    with client.pipeline(transaction=False) as pipeline:
        for job in standing:
            pipeline.set(f"arq:result:{job}", result(job, task=job[:12], finished=time.time() - 30))
        pipeline.execute()
    async with following(redis_server.url()) as followed:
        await followed.until(lambda: followed.sink.known)
        await followed.stop()
        write(client, "in the gap")
        followed.start()
        await followed.until_connected(2)
        write(client, "marker")
        await followed.until_counted(["in the gap", "marker"])
        assert followed.counted == Counter(["in the gap", "marker"])
        assert {event.outcome for event in followed.sink.known} == {Outcome.SUCCEEDED}


async def test_more_than_can_wait_is_found_by_a_search(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PENDING", 100)
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        jobs = names("job", 3000)
        with client.pipeline() as pipeline:  # one transaction: one push
            for job in jobs:
                pipeline.set(f"arq:result:{job}", result(job))
            pipeline.execute()
        await followed.until_counted(jobs)
        assert followed.counted == Counter(jobs)


async def test_cancelled_at_any_moment_it_neither_loses_nor_doubles(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        jobs = names("job", 4000)
        writing = asyncio.create_task(asyncio.to_thread(write, redis_server.client(), *jobs))
        connected = 1
        while not writing.done():
            await followed.until_more(1, or_when=writing.done)
            await followed.stop()
            followed.start()
            connected += 1
            await followed.until_connected(connected)
        await writing
        await followed.until_counted(jobs)
        assert followed.counted == Counter(jobs)


async def test_queues_in_results_are_learned_but_not_without_bound(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    async with following(redis_server.url(), queues=()) as followed:
        await followed.until_connected()
        with client.pipeline(transaction=False) as pipeline:
            for number in range(1100):
                pipeline.set(f"arq:result:{number}", result(str(number), queue=f"q{number}"))
            pipeline.set("arq:result:long", result("long", queue="q" * 5000))
            pipeline.set("arq:result:surrogate", result("surrogate", queue=QUEUE + "\ud800"))
            pipeline.execute()
        await followed.until_counted([*map(str, range(1100)), "long", "surrogate"])
        learned = followed.feed.tally.progress.keys()
        assert len(learned) == 1000
        assert all(len(queue.encode()) <= 1024 for queue in learned)


async def test_many_that_stand_take_no_memory_and_tell_of_their_tasks(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    ended = time.time() - 1800
    for start in range(0, STANDING, 5000):
        with client.pipeline(transaction=False) as pipeline:
            for number in range(start, start + 5000):
                pipeline.set(f"arq:result:{number}", result(str(number), task=f"task{number % 7}", finished=ended))
            pipeline.execute()
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        write(client, "marker")
        await followed.until_counted(["marker"])
        await followed.until(lambda: followed.feed.seeded, 120)
        assert followed.counted == {"marker": 1}
        assert {event.task for event in followed.sink.known} >= {f"task{number}" for number in range(7)}
        assert len(followed.sink.known) < 5000
        assert len(followed.feed.tally.memory) == 1
