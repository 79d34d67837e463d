"""Very many jobs in a queue and many results: the numbers are right, and no command of ours is slow for the server."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Any, cast

import psutil
import pytest
import redis
from arq.jobs import serialize_result

from tests.e2e.apps import celery_producer, enqueue_arq
from tests.e2e.reading import Metrics, jobs, oldest, queue, success
from tests.servers import Exporter, RedisServer, StartExporter, StartRedis, series, wait_until
from tests.thorough import THOROUGH

MANY = 1_000_000 if THOROUGH else 300_000
RESULTS = 100_000
DEFINITIONS = 60_000  # read by the search for jobs that keep no result; all 200,000 that are held take 5 s more
AT_ONCE = 50_000  # the server answers nobody while a script runs
SLOW_SECONDS = 0.005
SLOWLOG_ENTRIES = 20_000
ATTEMPTS = 5
SCRAPES = 20
LONGEST_SEARCH = 60.0

UNKEPT = """
brokers:
  - name: default
    url: {url}
    arq: {{unkept: on, discover: false, queues: ["arq:queue"]}}
    celery: {{enabled: false}}
"""
"""What the default configuration does too is left out, but results: it would only take time."""

ARQ_JOBS = """
local job = redis.call('GET', KEYS[2])
local members = {}
for number = ARGV[1], ARGV[2] do
    members[#members + 1] = ARGV[3] + number
    members[#members + 1] = 'job' .. number
    redis.call('SET', 'arq:job:job' .. number, job, 'PX', 86400000)
    if #members == 2000 or number == tonumber(ARGV[2]) then
        redis.call('ZADD', KEYS[1], unpack(members))
        members = {}
    end
end
"""
ARQ_RESULTS = """
local result = redis.call('GET', KEYS[1])
for number = ARGV[1], ARGV[2] do redis.call('SET', KEYS[1] .. number, result, 'PX', 3600000) end
"""
CELERY_TASKS = """
local tasks = {}
for place = 1, 100 do tasks[place] = redis.call('LINDEX', KEYS[1], 0) end
for _ = 1, ARGV[1], 100 do redis.call('LPUSH', KEYS[1], unpack(tasks)) end
"""


@pytest.fixture
def crowded(start_redis: StartRedis) -> RedisServer:
    """A Redis with `MANY` jobs in `arq:queue`, of which one runs, and as many in `celery`, one of each by the
    library itself; and with results of jobs that ended before."""
    slow = str(int(SLOW_SECONDS * 1e6))
    server = start_redis(slowlog_log_slower_than=slow, slowlog_max_len=str(SLOWLOG_ENTRIES))
    client = server.client()
    now = int(enqueue_arq(server.url(), 1, "/nonexistent")[0] * 1000)
    with celery_producer(server.url()) as hold:
        hold.apply_async(("/nonexistent",))
    (job,) = cast(list[bytes], client.keys("arq:job:*"))
    for start in range(1, MANY, AT_ONCE):
        end = min(start + AT_ONCE, MANY) - 1
        client.eval(ARQ_JOBS, 2, "arq:queue", job.decode(), str(start), str(end), str(now - 2 * MANY))
    client.eval(CELERY_TASKS, 1, "celery", str(MANY))
    client.ltrim("celery", 0, MANY - 1)
    result = serialize_result("hold", ("",), {}, 1, now, True, None, now, now, "", "arq:queue", "")
    assert result is not None
    client.set("arq:result:done", result, ex=3600)
    client.eval(ARQ_RESULTS, 1, "arq:result:done", "1", str(RESULTS - 1))
    client.set("arq:in-progress:job1", 1)
    assert client.zcard("arq:queue") == client.llen("celery") == MANY
    client.slowlog_reset()
    client.config_resetstat()
    return server


def slow_commands(server: RedisServer) -> list[list[bytes]]:
    """The exporter's commands in the SLOWLOG that are slow: a machine that is busy may suspend the server in the middle
    of any, but not each time that it is sent again."""
    # redis-py's own slowlog_get() leaves out the client's name.
    entries = cast(list[Any], server.client().execute_command("SLOWLOG", "GET", "-1"))  # type: ignore[no-untyped-call]
    assert len(entries) < SLOWLOG_ENTRIES
    ours = {tuple(entry[3]) for entry in entries if entry[5] == b"taskqueue-exporter"}
    return [command for command in map(whole, ours) if is_slow(server, command)]


def whole(command: tuple[bytes, ...]) -> list[bytes]:
    """A command of the SLOWLOG, as long as it was: of many arguments that holds the first ones and how many more there
    were, in place of which the last one is repeated."""
    left_out = re.fullmatch(rb"\.\.\. \((\d+) more arguments\)", command[-1])
    return [*command[:-1], *[command[-2]] * int(left_out[1])] if left_out else [*command]


def is_slow(server: RedisServer, command: list[bytes]) -> bool:
    with redis.Redis.from_url(server.url()) as client:  # one of its own: SUBSCRIBE changes what a connection is
        return all(duration(client, command) > SLOW_SECONDS for _ in range(ATTEMPTS))


def duration(client: redis.Redis, command: list[bytes]) -> float:
    began = time.monotonic()
    with suppress(redis.ResponseError):  # CLIENT TRACKING names a connection that is gone
        client.execute_command(*command)  # type: ignore[no-untyped-call]
    return time.monotonic() - began


def values_read(client: redis.Redis) -> int:
    """How many results and definitions were read of the server."""
    stats = cast(dict[str, Any], client.info("commandstats"))
    return int(stats.get("cmdstat_getrange", {}).get("calls", 0))


def kept(metrics: Metrics) -> float | None:
    return queue(metrics, "kept_results", "arq", "arq:queue", state="completed")


@pytest.mark.slow
def test_many_jobs_are_counted_without_a_slow_command(crowded: RedisServer, start_exporter: StartExporter) -> None:
    client = crowded.client()
    default = start_exporter(redis_url=crowded.url())
    unkept = start_exporter(config=UNKEPT.format(url=crowded.url()))
    wait_until(lambda: kept(default.metrics()) == RESULTS, LONGEST_SEARCH, interval=0.2)
    assert memory(default) < 120e6
    for _ in range(SCRAPES):
        began = time.monotonic()
        metrics = default.metrics()
        took = time.monotonic() - began
        check_arq(metrics)
        assert success(metrics, "celery") == 1
        assert jobs(metrics, "celery", "celery").get("ready") == MANY
        assert metrics[series("taskqueue_broker_up", broker="default")] == 1
        assert took < 2.0
    default.stop()
    wait_until(lambda: kept(unkept.metrics()) == RESULTS, LONGEST_SEARCH, interval=0.2)
    wait_until(lambda: values_read(client) >= 2 * RESULTS + DEFINITIONS, LONGEST_SEARCH, interval=0.2)
    assert memory(unkept) < 150e6
    for _ in range(SCRAPES):
        check_arq(unkept.metrics())
    unkept.stop()
    assert slow_commands(crowded) == []


def check_arq(metrics: Metrics) -> None:
    assert success(metrics, "arq") == 1
    assert jobs(metrics, "arq", "arq:queue") == {"ready": MANY - 1, "scheduled": 0, "running": 1}
    assert oldest(metrics, "arq", "arq:queue") is not None
    assert kept(metrics) == RESULTS


def memory(exporter: Exporter) -> int:
    """Bytes in use."""
    return int(psutil.Process(exporter.pid).memory_info().rss)
