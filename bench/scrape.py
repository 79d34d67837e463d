"""What a scrape costs with ten jobs and with a million, in one ARQ and one Celery queue, side by side in one run."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis

from tests.servers import Exporter, RedisServer

FEW, MANY = 10, 1_000_000
SCRAPES = 200
CHUNK = 50_000

# Jobs as arq and kombu leave them, written inside the server: a million over the wire would take minutes.
_FILL_ARQ = """
for i = ARGV[1], ARGV[2] do
    redis.call('ZADD', KEYS[1], 1700000000000 + i, 'job' .. i)
    redis.call('SET', 'arq:job:job' .. i, 'x')
end"""
_FILL_CELERY = """
for i = ARGV[1], ARGV[2] do redis.call('LPUSH', KEYS[1], string.rep('m', 800) .. i) end"""


def main() -> None:
    with _watched(FEW) as few, _watched(MANY) as many:
        # In turns, so that what else the machine does meets both alike.
        times: dict[int, list[float]] = {FEW: [], MANY: []}
        cpu = {FEW: _cpu(few), MANY: _cpu(many)}
        for _ in range(SCRAPES):
            for number, exporter in ((FEW, few), (MANY, many)):
                times[number].append(_scrape(exporter, number))
        for number, exporter in ((FEW, few), (MANY, many)):
            each = (_cpu(exporter) - cpu[number]) / SCRAPES
            cuts = statistics.quantiles(times[number], n=20)
            rss = psutil.Process(exporter.pid).memory_info().rss
            print(
                f"{number:>9} jobs a queue: p50 {cuts[9] * 1e3:5.1f} ms  p95 {cuts[18] * 1e3:5.1f} ms  "
                f"CPU {each * 1e3:4.1f} ms a scrape  RSS {rss / 1e6:.0f} MB"
            )
        ratio = statistics.median(times[MANY]) / statistics.median(times[FEW])
        print(f"ratio of the medians: {ratio:.2f}")


@contextmanager
def _watched(number: int) -> Iterator[Exporter]:
    """An exporter beside a Redis of its own that holds `number` jobs in each queue."""
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory), slowlog_log_slower_than="5000")
        exporter = None
        try:
            _fill(server.client(), number)
            exporter = Exporter(Path(directory), redis_url=server.url())
            yield exporter
            print(f"{number:>9} jobs a queue: {_slow_commands(server.client())} of our commands in SLOWLOG (5 ms)")
        finally:
            if exporter is not None:
                exporter.stop()
            server.stop()


def _fill(client: redis.Redis, number: int) -> None:
    client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
    for first in range(1, number + 1, CHUNK):
        last = min(first + CHUNK - 1, number)
        client.eval(_FILL_ARQ, 1, "arq:queue", str(first), str(last))
        client.eval(_FILL_CELERY, 1, "celery", str(first), str(last))
    client.slowlog_reset()


def _slow_commands(client: redis.Redis) -> int:
    entries: Any = client.slowlog_get(128)
    return sum(entry.get("client_name") == b"taskqueue-exporter" for entry in entries)


def _scrape(exporter: Exporter, number: int) -> float:
    began = time.perf_counter()
    text = exporter.get("/metrics").text
    took = time.perf_counter() - began
    assert f"}} {float(number)!r}".replace("1000000.0", "1e+06") in text, "the depth is wrong"
    return took


def _cpu(exporter: Exporter) -> float:
    times = psutil.Process(exporter.pid).cpu_times()
    return float(times.user + times.system)
