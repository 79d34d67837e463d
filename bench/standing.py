"""What it costs to come upon results that stand there: 100,000 and 1,000,000, read once when the feed starts."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import redis
from arq.jobs import serialize_result

from tests.e2e.truth import total
from tests.servers import Exporter, RedisServer, wait_until

SIZES = (100_000, 1_000_000)
CHUNK = 50_000
DEADLINE = 300.0

_FILL = """
for i = ARGV[1], ARGV[2] do redis.call('SET', 'arq:result:done' .. i, ARGV[3], 'PX', 3600000) end"""


def main() -> None:
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            server = RedisServer(Path(name))
            try:
                client = server.client()
                fill_results(client, size)
                _measure(Path(name), server, client, size)
            finally:
                server.stop()


def _measure(directory: Path, server: RedisServer, client: redis.Redis, size: int) -> None:
    before = _cpu(server.pid)
    exporter = Exporter(directory, redis_url=server.url())
    try:
        idle, began = _rss(exporter.pid), time.monotonic()
        wait_until(lambda: results_read(client) >= size, DEADLINE, interval=0.2)
        took = time.monotonic() - began
        time.sleep(1)  # the last page is decoded
        kept = total(exporter.metrics(), "taskqueue_queue_kept_results")
        print(
            f"{size:>9} standing results: read in {took:5.1f} s, CPU {_cpu(exporter.pid):5.1f} s, of Redis "
            f"{_cpu(server.pid) - before:4.1f} s; RSS {_rss(exporter.pid) / 1e6:.0f} MB, at most "
            f"{_peak(exporter.pid) / 1e6:.0f} MB (at the start {idle / 1e6:.0f} MB); kept results {kept:g}"
        )
    finally:
        exporter.stop()


def fill_results(client: redis.Redis, number: int) -> None:
    """Writes `number` results as arq leaves them, inside the server."""
    now = int(time.time() * 1000)
    result: Any = serialize_result("send", (1,), {}, 1, now, True, None, now, now, "job", "arq:queue", "job")
    for first in range(1, number + 1, CHUNK):
        client.eval(_FILL, 0, str(first), str(min(first + CHUNK - 1, number)), result)


def results_read(client: redis.Redis) -> int:
    """How many values were read of the server since it started."""
    stats: Any = client.info("commandstats")
    return int(stats.get("cmdstat_getrange", {}).get("calls", 0))


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _rss(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def _peak(pid: int) -> int:
    """Bytes, by Linux's /proc/PID/status."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
