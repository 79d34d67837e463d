"""What it costs to watch jobs that keep no result: the commands of arq at 1,000 jobs a second, once for each setting.

Without an exporter, with one that follows results only (`unkept: off`), and with one that watches all jobs (`on`).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import msgspec
import psutil
import redis
from arq.jobs import serialize_job

from tests.e2e.truth import SHOWN_AT_ONCE, connected, total
from tests.servers import Exporter, RedisServer, wait_until

JOBS_A_SECOND, SECONDS, RUNS = 1000, 10, 3
TICK = 0.02
SETTINGS = (None, "off", "on")
QUEUE = "arq:queue"


class Measured(msgspec.Struct, frozen=True):
    """CPU seconds for 100,000 jobs."""

    server: float
    exporter: float
    counted: float
    """The share of the jobs whose end was counted, by function."""


def main() -> None:
    runs: dict[str | None, list[Measured]] = {setting: [] for setting in SETTINGS}
    for _ in range(RUNS):  # in turns, so that what else the machine does meets all alike
        for setting, measured in runs.items():
            measured.append(_run(setting))
    alone = statistics.median(run.server for run in runs[None])
    for setting, measured in runs.items():
        server = statistics.median(run.server for run in measured)
        exporter = statistics.median(run.exporter for run in measured)
        counted = min(run.counted for run in measured)
        name = "no exporter" if setting is None else f"unkept: {setting}"
        print(
            f"{name:12} Redis {server:5.2f} CPU s per 100,000 jobs "
            f"({server / alone:.2f} of that without), exporter {exporter:5.2f}, counted by function {counted:.1%}"
        )


def _run(setting: str | None) -> Measured:
    with tempfile.TemporaryDirectory() as name:
        server = RedisServer(Path(name))
        exporter = None
        try:
            if setting is not None:
                config = f"brokers: [{{name: default, url: '{server.url()}', arq: {{unkept: {setting}}}}}]"
                exporter = Exporter(Path(name), config=config, env=SHOWN_AT_ONCE)
                wait_until(lambda: connected(exporter.metrics(), "results"))
            return _measure(server, exporter)
        finally:
            if exporter is not None:
                exporter.stop()
            server.stop()


def _measure(server: RedisServer, exporter: Exporter | None) -> Measured:
    client = server.client()
    jobs = JOBS_A_SECOND * SECONDS
    before = _cpu(server.pid), _cpu(exporter.pid) if exporter else 0.0
    _load(client)
    time.sleep(1)
    after = _cpu(server.pid), _cpu(exporter.pid) if exporter else 0.0
    counted = 0.0
    if exporter is not None:
        counted = total(exporter.metrics(), "taskqueue_jobs_finished_total", outcome="unknown", task="send")
    scale = 100_000 / jobs
    return Measured((after[0] - before[0]) * scale, (after[1] - before[1]) * scale, counted / jobs)


def _load(client: redis.Redis) -> None:
    """Jobs that come, start and end, each in transactions of its own as arq makes them, paced by the tick."""
    definition = serialize_job("send", (1,), {}, None, int(time.time() * 1000))
    each = int(JOBS_A_SECOND * TICK)
    ticks = int(SECONDS / TICK)
    began = time.monotonic()
    for tick in range(ticks + 2):
        if tick >= 2:
            _end(client, range((tick - 2) * each, (tick - 1) * each))
        if 1 <= tick <= ticks:
            _start(client, range((tick - 1) * each, tick * each))
        if tick < ticks:
            _put(client, range(tick * each, (tick + 1) * each), definition)
        time.sleep(max(0.0, began + (tick + 1) * TICK - time.monotonic()))


def _put(client: redis.Redis, jobs: range, definition: bytes) -> None:
    now = int(time.time() * 1000)
    for job in jobs:
        with client.pipeline() as pipe:
            pipe.psetex(f"arq:job:{job}", 86_400_000, definition)
            pipe.zadd(QUEUE, {str(job): now})
            pipe.execute()


def _start(client: redis.Redis, jobs: range) -> None:
    for job in jobs:
        with client.pipeline() as pipe:
            pipe.psetex(f"arq:in-progress:{job}", 310_000, b"1")
            pipe.execute()
        with client.pipeline() as pipe:
            pipe.get(f"arq:job:{job}")
            pipe.incr(f"arq:retry:{job}")
            pipe.expire(f"arq:retry:{job}", 88_400)
            pipe.execute()


def _end(client: redis.Redis, jobs: range) -> None:
    for job in jobs:
        with client.pipeline() as pipe:
            pipe.zrem("arq:abort", str(job))
            pipe.zrem(QUEUE, str(job))
            pipe.delete(f"arq:in-progress:{job}", f"arq:retry:{job}", f"arq:job:{job}")
            pipe.execute()


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
