"""One scrape of Redis and host, beside redis_exporter and node_exporter: the same server, the same machine, one run.

node_exporter runs with the collectors that ours has, as its other forty would not be a fair part of the sum.
"""

from __future__ import annotations

import http.client
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.servers import LOOPBACK, Exporter, Process, RedisServer, free_port, wait_until

SCRAPES = 500
WARM_UP = 20
OURS = ("redis_info", "host", "filesystem")
NOT_OURS = ("arq", "celery")
NODE_COLLECTORS = (
    *("cpu", "loadavg", "meminfo", "stat", "filesystem", "diskstats", "netdev", "pressure", "vmstat", "filefd"),
)


@dataclass(slots=True)
class Scraped:
    """An exporter over a kept connection, and what its scrapes took."""

    pid: int
    connection: http.client.HTTPConnection
    times: list[float] = field(default_factory=list)
    cpu: float = 0.0
    lines: int = 0

    def scrape(self) -> None:
        began = time.perf_counter()
        self.connection.request("GET", "/metrics")
        body = self.connection.getresponse().read()
        self.times.append(time.perf_counter() - began)
        self.lines = sum(not line.startswith(b"#") for line in body.splitlines())

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def start(self) -> None:
        self.times.clear()
        self.cpu = self.cpu_seconds()


def main() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = RedisServer(directory)
        stack.callback(server.stop)
        exporters = {
            "taskqueue-exporter": stack.enter_context(_ours(directory, server)),
            "redis_exporter": stack.enter_context(_redis_exporter(directory, server)),
            "node_exporter": stack.enter_context(_node_exporter(directory)),
        }
        # In turns, so that what else the machine does meets all alike.
        for _ in range(WARM_UP):
            for exporter in exporters.values():
                exporter.scrape()
        for exporter in exporters.values():
            exporter.start()
        for _ in range(SCRAPES):
            for exporter in exporters.values():
                exporter.scrape()
        _report(exporters)


def _report(exporters: dict[str, Scraped]) -> None:
    medians = {name: statistics.median(exporter.times) for name, exporter in exporters.items()}
    for name, exporter in exporters.items():
        cuts = statistics.quantiles(exporter.times, n=20)
        cpu = (exporter.cpu_seconds() - exporter.cpu) / SCRAPES
        rss = psutil.Process(exporter.pid).memory_info().rss
        print(
            f"{name:>18}: {exporter.lines:4} series  p50 {cuts[9] * 1e3:5.2f} ms  p95 {cuts[18] * 1e3:5.2f} ms  "
            f"CPU {cpu * 1e3:5.2f} ms a scrape  RSS {rss / 1e6:3.0f} MB"
        )
    ours, *others = medians.values()
    print(f"ratio of our median to the sum of theirs: {ours / sum(others):.2f}")


@contextmanager
def _ours(directory: Path, server: RedisServer) -> Iterator[Scraped]:
    flags = [f"--collector.{name}" for name in OURS] + [f"--no-collector.{name}" for name in NOT_OURS]
    exporter = Exporter(directory, *flags, redis_url=server.url())
    try:
        yield Scraped(exporter.pid, http.client.HTTPConnection(LOOPBACK, exporter.port, timeout=10))
    finally:
        exporter.stop()


def _redis_exporter(directory: Path, server: RedisServer) -> AbstractContextManager[Scraped]:
    return _theirs(directory, "prometheus-redis-exporter", f"-redis.addr={server.url()}", "-web.listen-address={}")


def _node_exporter(directory: Path) -> AbstractContextManager[Scraped]:
    collectors = [f"--collector.{name}" for name in NODE_COLLECTORS]
    return _theirs(
        directory, "prometheus-node-exporter", "--collector.disable-defaults", *collectors, "--web.listen-address={}"
    )


@contextmanager
def _theirs(directory: Path, command: str, *flags: str) -> Iterator[Scraped]:
    port = free_port()
    arguments = [flag.format(f"{LOOPBACK}:{port}") for flag in flags]
    process = Process([command, *arguments], directory / f"{command}.log", cwd=directory)
    try:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=10)
        wait_until(lambda: _answers(connection))
        yield Scraped(process.pid, connection)
    finally:
        process.stop()


def _answers(connection: http.client.HTTPConnection) -> bool:
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read() != b""
    except OSError:
        connection.close()
        return False
