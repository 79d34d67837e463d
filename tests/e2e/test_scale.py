"""A million jobs in a queue: the depths are right, and no command of ours is slow for the server."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
import redis

from tests.e2e.apps import celery_producer, enqueue_arq
from tests.e2e.reading import jobs, oldest, success
from tests.servers import RedisServer, StartExporter, StartRedis, series

MILLION = 1_000_000
AT_ONCE = 50_000  # the server answers nobody while a script runs
SLOW_MICROSECONDS = 5000
SLOWLOG_ENTRIES = 20_000
SCRAPES = 5
ROUNDS = 3

ARQ_JOBS = """
for number = ARGV[1], ARGV[2] do
    redis.call('ZADD', KEYS[1], ARGV[3] + number, 'job' .. number)
    redis.call('SET', 'arq:job:job' .. number, 'x')
end
"""
CELERY_TASKS = """
local task = redis.call('LINDEX', KEYS[1], 0)
for number = ARGV[1], ARGV[2] do redis.call('LPUSH', KEYS[1], task) end
"""


@pytest.fixture
def crowded(start_redis: StartRedis) -> RedisServer:
    """A Redis with a million jobs in `arq:queue` and a million in `celery`; one of each by the library itself."""
    server = start_redis(slowlog_log_slower_than=str(SLOW_MICROSECONDS), slowlog_max_len=str(SLOWLOG_ENTRIES))
    client = server.client()
    first = enqueue_arq(server.url(), 1, "/nonexistent")[0]
    with celery_producer(server.url()) as hold:
        hold.apply_async(("/nonexistent",))
    due = int(first * 1000) - 2 * MILLION
    for start in range(1, MILLION, AT_ONCE):
        end = min(start + AT_ONCE, MILLION) - 1
        client.eval(ARQ_JOBS, 1, "arq:queue", str(start), str(end), str(due))
        client.eval(CELERY_TASKS, 1, "celery", str(start), str(end))
    client.set("arq:in-progress:job1", 1)
    assert client.zcard("arq:queue") == client.llen("celery") == MILLION
    return server


def key_of(command: list[bytes]) -> tuple[bytes, ...]:
    """What is the same of a command every time: its name and key; of a SCAN also the cursor and what it looks for."""
    return tuple(command) if command[0] == b"SCAN" else tuple(command[:2])


def slow_commands(client: redis.Redis) -> set[tuple[bytes, ...]]:
    """The exporter's commands in the SLOWLOG."""
    # redis-py's own slowlog_get() leaves out the client's name.
    entries = cast(list[Any], client.execute_command("SLOWLOG", "GET", "-1"))  # type: ignore[no-untyped-call]
    assert len(entries) < SLOWLOG_ENTRIES
    return {key_of(entry[3]) for entry in entries if entry[5] == b"taskqueue-exporter"}


@pytest.mark.slow
def test_a_million_jobs_are_counted_without_a_slow_command(crowded: RedisServer, start_exporter: StartExporter) -> None:
    client = crowded.client()
    slow: set[tuple[bytes, ...]] | None = None
    # A machine that is busy may suspend the server in the middle of any command: a slow one is slow in every round.
    for _ in range(ROUNDS):
        client.slowlog_reset()
        exporter = start_exporter(redis_url=crowded.url())
        for _ in range(SCRAPES):
            began = time.monotonic()
            metrics = exporter.metrics()
            took = time.monotonic() - began
            assert jobs(metrics, "arq", "arq:queue") == {"ready": MILLION - 1, "scheduled": 0, "running": 1}
            assert jobs(metrics, "celery", "celery") == {"ready": MILLION}
            assert (success(metrics, "arq"), success(metrics, "celery")) == (1, 1)
            assert oldest(metrics, "arq", "arq:queue") is not None
        assert metrics[series("taskqueue_broker_up", broker="default")] == 1
        assert took < 2.0  # only the first scrape waits for the search
        exporter.stop()
        found = slow_commands(client)
        slow = found if slow is None else slow & found
        if not slow:
            break
    assert not slow
