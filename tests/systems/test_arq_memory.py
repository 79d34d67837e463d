"""What was counted not long ago, and what gets due soon."""

from __future__ import annotations

import math
import time

import redis

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.pulls import Pulls
from exporter.systems.arq.feed.ahead import PAGE, Ahead, interval
from exporter.systems.arq.feed.memory import Memory
from tests.servers import RedisServer

NOW = 1_700_000_000.0


def test_it_knows_what_was_added_until_that_minute_is_pruned() -> None:
    memory = Memory()
    memory.add(1, NOW, NOW)
    memory.add(2, NOW + 90, NOW + 90)
    memory.prune(NOW)
    assert 1 in memory
    memory.prune(NOW + 60)
    assert (1 in memory, 2 in memory, len(memory)) == (False, True, 1)


def test_what_lies_before_what_was_pruned_is_not_kept() -> None:
    memory = Memory()
    memory.prune(NOW)
    memory.add(1, NOW - 61, NOW)
    assert 1 not in memory
    assert len(memory) == 0
    assert NOW - 60 < memory.reach <= NOW


def test_at_its_limit_the_oldest_minute_goes_and_the_horizon_rises() -> None:
    memory = Memory(limit=10)
    for number in range(25):
        at = NOW + 60 * (number // 5)
        memory.add(number, at, at)
        assert len(memory) <= 10
    assert [number for number in range(25) if number in memory] == list(range(15, 25))
    # all that is forgotten ended before the horizon, and nothing that is known did
    assert NOW + 60 * 2 < memory.horizon <= NOW + 60 * 3


def test_times_far_ahead_are_kept_in_few_sets_until_they_are_past() -> None:
    memory = Memory()
    for number in range(100_000):
        memory.add(number, NOW + 37 * number, NOW)
    assert len(memory._buckets) < 80
    # an hour later those of the last ten minutes, and all that are still to come, are known
    memory.prune(NOW + 3000)
    assert all(number in memory for number in range(82, 100_000, 100))
    assert 0 not in memory


def test_a_time_beyond_all_sense_does_no_harm() -> None:
    memory = Memory()
    for number, at in enumerate((1e11, 2.5e11, 1e300, math.inf, 0.0, -1e300)):
        memory.add(number, at, NOW)
    assert all(number in memory for number in range(6))
    memory.prune(NOW + 86400)
    assert [number for number in range(6) if number in memory] == [0, 1, 2, 3]


# -- ahead ------------------------------------------------------------------------------------------------------


async def test_no_due_time_falls_between_two_looks(redis_server: RedisServer, client: redis.Redis) -> None:
    pulls = Pulls(Access(parse_address(redis_server.url())))
    ahead = Ahead()
    try:
        await ahead.look(pulls, ["q"], NOW, 1.0)
        # given jobs that come after one look and stand there at the next: due just before that, and long after
        client.zadd("q", {"past": NOW * 1000 - 1, "between": NOW * 1000 + 400, "soon": NOW * 1000 + 4000})
        client.zadd("q", {"later": NOW * 1000 + 9000, "aborted": 1})
        await ahead.look(pulls, ["q", "nobody", "wrong"], NOW + 1.5, 1.0)
        assert [ahead.take(job) for job in (b"past", b"between", b"soon", b"later", b"aborted")] == [
            None, NOW + 0.4, NOW + 4, None, None
        ]  # fmt: skip
        assert ahead.take(b"soon") is None
    finally:
        await pulls.close()


async def test_it_is_bounded_in_number_and_time(redis_server: RedisServer, client: redis.Redis) -> None:
    pulls = Pulls(Access(parse_address(redis_server.url())))
    ahead = Ahead(limit=PAGE + 500)
    try:
        client.zadd("q", {f"job{number}": NOW * 1000 + number / 10 for number in range(PAGE + 1000)})
        client.zadd("q", {"x" * 2000: NOW * 1000 + 700})
        client.set("wrong", "type")
        await ahead.look(pulls, ["wrong", "q"], NOW, 1.0)
        assert len(ahead) == PAGE + 500
        assert f"job{PAGE + 999}".encode() in ahead
        await ahead.look(pulls, [], NOW + 7 * 3600, 1.0)
        assert len(ahead) == 0
    finally:
        await pulls.close()


async def test_a_broker_that_is_gone_is_looked_at_later(redis_server: RedisServer) -> None:
    pulls = Pulls(Access(parse_address(redis_server.url())))
    ahead = Ahead()
    redis_server.stop()
    try:
        await ahead.look(pulls, ["q"], time.time(), 1.0)
        assert len(ahead) == 0
    finally:
        await pulls.close()


def test_many_queues_are_looked_at_less_often() -> None:
    assert [interval(queues) for queues in (0, 500, 5000)] == [1.0, 1.0, 10.0]
