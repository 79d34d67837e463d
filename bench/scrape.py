"""What a scrape costs with ten jobs and with a million, in one ARQ and one Celery queue, side by side in one run.

Of the million ARQ jobs a few run, and 100,000 results stand beside them; ten stand beside the ten.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import redis
from arq.jobs import serialize_job

from bench.standing import fill_results, results_read
from tests.servers import Exporter, RedisServer, wait_until

FEW, MANY = 10, 1_000_000
RUNNING = 5
MOST_RESULTS = 100_000
SCRAPES = 200
CHUNK = 50_000
DEADLINE = 120.0

# Jobs as arq and kombu leave them, written inside the server: a million over the wire would take minutes.
_FILL_ARQ = """
for i = ARGV[1], ARGV[2] do
    redis.call('ZADD', KEYS[1], 1700000000000 + i, 'job' .. i)
    redis.call('SET', 'arq:job:job' .. i, ARGV[3], 'PX', 86400000)
end"""
_FILL_CELERY = """
for i = ARGV[1], ARGV[2] do redis.call('LPUSH', KEYS[1], string.rep('m', 800) .. i) end"""
_HEALTH = "Nov-21 22:09:01 j_complete=7 j_failed=1 j_retried=0 j_ongoing=5 queued=10"


@dataclass(frozen=True, slots=True)
class Watched:
    """An exporter beside a Redis of its own."""

    exporter: Exporter
    server: RedisServer


class Cpu(msgspec.Struct, frozen=True):
    """CPU seconds, until now or between two moments."""

    exporter: float
    server: float


def main() -> None:
    with _watched(FEW) as few, _watched(MANY) as many:
        both = {FEW: few, MANY: many}
        # In turns, so that what else the machine does meets both alike.
        times: dict[int, list[float]] = {FEW: [], MANY: []}
        before = {number: _cpu(watched) for number, watched in both.items()}
        for _ in range(SCRAPES):
            for number, watched in both.items():
                times[number].append(_scrape(watched.exporter, number))
        for number, watched in both.items():
            _report(number, times[number], before[number], _cpu(watched), _rss(watched.exporter))
        ratio = statistics.median(times[MANY]) / statistics.median(times[FEW])
        print(f"ratio of the medians: {ratio:.2f}")


def _report(number: int, times: list[float], before: Cpu, after: Cpu, rss: int) -> None:
    cuts = statistics.quantiles(times, n=20)
    print(
        f"{number:>9} jobs a queue: p50 {cuts[9] * 1e3:5.1f} ms  p95 {cuts[18] * 1e3:5.1f} ms  "
        f"CPU {(after.exporter - before.exporter) / SCRAPES * 1e3:4.1f} ms a scrape, "
        f"of Redis {(after.server - before.server) / SCRAPES * 1e3:4.2f} ms  RSS {rss / 1e6:.0f} MB"
    )


@contextmanager
def _watched(number: int) -> Iterator[Watched]:
    """Of a Redis that holds `number` jobs in each queue; from when the feed has read what stands there."""
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory), slowlog_log_slower_than="5000")
        exporter = None
        try:
            client = server.client()
            _fill(client, number)
            results = min(number, MOST_RESULTS)
            fill_results(client, results)
            client.slowlog_reset()
            exporter = Exporter(Path(directory), redis_url=server.url())
            wait_until(lambda: results_read(client) >= results, DEADLINE)
            _scrape(exporter, number)  # the first one waits until the queues are found
            yield Watched(exporter, server)
            print(f"{number:>9} jobs a queue: {_slow_commands(client)} of our commands in SLOWLOG (5 ms)")
        finally:
            if exporter is not None:
                exporter.stop()
            server.stop()


def _fill(client: redis.Redis, number: int) -> None:
    definition: Any = serialize_job("send", (1,), {}, None, int(time.time() * 1000))
    client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
    for first in range(1, number + 1, CHUNK):
        last = min(first + CHUNK - 1, number)
        client.eval(_FILL_ARQ, 1, "arq:queue", str(first), str(last), definition)
        client.eval(_FILL_CELERY, 1, "celery", str(first), str(last))
    for job in range(1, RUNNING + 1):
        client.set(f"arq:in-progress:job{job}", "1", ex=3600)
    client.zadd("arq:abort", {"job1": 1})
    client.set("arq:queue:health-check", _HEALTH, ex=3600)


def _slow_commands(client: redis.Redis) -> int:
    entries: Any = client.slowlog_get(128)
    return sum(entry.get("client_name") == b"taskqueue-exporter" for entry in entries)


def _scrape(exporter: Exporter, number: int) -> float:
    began = time.perf_counter()
    text = exporter.get("/metrics").text
    took = time.perf_counter() - began
    assert f"}} {float(number)!r}".replace("1000000.0", "1e+06") in text, "the depth is wrong"
    return took


def _cpu(watched: Watched) -> Cpu:
    exporter, server = (psutil.Process(pid).cpu_times() for pid in (watched.exporter.pid, watched.server.pid))
    return Cpu(exporter.user + exporter.system, server.user + server.system)


def _rss(exporter: Exporter) -> int:
    return int(psutil.Process(exporter.pid).memory_info().rss)
