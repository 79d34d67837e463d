"""The demo and a second exporter of its Redis, watched by a Prometheus with the project's rules.

The exporters are scraped under several jobs, as if each were an installation of its own: one exporter that sees both
systems, one that sees ARQ alone, one that sees Celery alone, and two that see the same.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, Final

import psutil

from tests.e2e.alerting import JOB, run_prometheus
from tests.e2e.prometheus import PrometheusServer
from tests.servers import LOOPBACK, ROOT, Process, RedisServer, free_port, wait_until

PAIR: Final = "pair"
"""The job of two replicas."""
ALONE: Final = {"arq": "celery", "celery": "arq"}
"""Jobs that are called by the one system that is to be seen in them, and which is not."""
DEADLINE: Final = 60.0
REAL_SECONDS: Final = os.environ.get("TEST_DEMO_SECONDS")
"""How long the demo runs with rules that are not hastened."""
FACTOR: Final = 1.0 if REAL_SECONDS else 10.0
SECONDS: Final = float(REAL_SECONDS or 70)
NUMBERS: Final = {"stalled_seconds": 300 / FACTOR, "unstaffed_seconds": 180 / FACTOR, "failures": 3}
"""What the rules compare with where they are hastened: fewer jobs fail in a minute than in ten."""


@dataclass(slots=True)
class Watched:
    """What a Prometheus saw of a demo, from one Unix time to another."""

    prometheus: PrometheusServer
    began: float
    ended: float
    broken_rules: list[tuple[str, str]] = field(default_factory=list)

    def fired(self) -> list[dict[str, str]]:
        """The labels of all that fired at any time about the job that sees all."""
        window = f"{int(self.ended - self.began) + 60}s"
        fired = f'last_over_time(ALERTS{{alertstate="firing", job=~"|{JOB}"}}[{window}])'
        return [labels for labels, _ in self.prometheus.vector(fired, self.ended)]


class Demo:
    """A running demo; beside the exporter that it starts itself a second of the same configuration, which watches from
    before the first job, too; and a replica of its Redis."""

    def __init__(self, directory: Path) -> None:
        self.instance, self.second = (f"{LOOPBACK}:{free_port()}" for _ in range(2))
        port = self.instance.rpartition(":")[2]
        command = [sys.executable, "-m", "exporter.cli", "demo", "--port", port]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self._demo = Process(command, directory / "demo.log", cwd=ROOT, env=environment)
        self._twin: Process | None = None
        self._replica: RedisServer | None = None
        try:
            wait_until(self._exporters, DEADLINE, 0.01)
            # It waits, before it starts workers and workload, until both see what these do.
            self._demo.pause()
            (first,) = self._exporters()
            self._twin = self._second_of(first, directory)
            self._twin.wait_until_ready(lambda: answers(self.second), DEADLINE)
            self._demo.resume()
            self._replica = self._replica_of(wait_until(self._redis_port, DEADLINE), directory)
        except BaseException:
            self.end()
            self.wait()
            raise

    @property
    def running(self) -> bool:
        return self._demo.running and self._twin is not None and self._twin.running

    @property
    def log(self) -> str:
        return self._demo.log + (self._twin.log if self._twin else "")

    def end(self) -> None:
        """Asks it to end, as Ctrl-C does: then it takes its processes with it."""
        self._demo.resume()
        self._demo.signal(signal.SIGINT)
        if self._twin is not None:
            self._twin.signal(signal.SIGTERM)

    def wait(self) -> None:
        """Until all has ended."""
        for beside in (self._twin, self._replica):
            if beside is not None:
                beside.stop()
        try:
            self._demo.wait(DEADLINE)
        except TimeoutExpired:
            self._demo.stop()
            raise

    def _exporters(self) -> list[psutil.Process]:
        """The demo's own exporter, once it runs."""
        assert self._demo.running, self._demo.log
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._demo.pid).children()
            return [child for child in children if {"exporter.cli", "serve"} <= set(child.cmdline())]
        return []

    def _second_of(self, first: psutil.Process, directory: Path) -> Process:
        command = [self.second if part == self.instance else part for part in first.cmdline()]
        return Process(command, directory / "second.log", cwd=Path(first.cwd()), env=first.environ())

    def _redis_port(self) -> int:
        """0 as long as the demo has not told it."""
        assert self._demo.running, self._demo.log
        found = re.search(rf"^  redis +pid \d+ +{LOOPBACK}:(\d+),", self._demo.log, re.MULTILINE)
        return int(found[1]) if found else 0

    def _replica_of(self, port: int, directory: Path) -> RedisServer:
        replica = RedisServer(directory)
        replica.client().replicaof(LOOPBACK, port)
        return replica


def answers(instance: str) -> bool:
    """Whether an exporter has told what it sees."""
    connection = http.client.HTTPConnection(instance, timeout=DEADLINE)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def scraped(demo: Demo) -> Iterator[dict[str, Any]]:
    """Further `scrape_configs`: of the pair, and of each system alone."""
    yield {"job_name": PAIR, "static_configs": [{"targets": [demo.instance, demo.second]}]}
    for system, other in ALONE.items():
        # Where one exporter serves one system, the metrics of the other are not there.
        drop = {"source_labels": ["system"], "regex": other, "action": "drop"}
        target = {"targets": [demo.instance]}
        yield {"job_name": system, "static_configs": [target], "metric_relabel_configs": [drop]}


@contextmanager
def watch(directory: Path) -> Iterator[Watched]:
    """A demo that was watched for as long as it takes. Who asks what it was like need not wait until it has ended."""
    with ExitStack() as stack:
        demo = Demo(directory)
        stack.callback(demo.wait)
        stack.callback(demo.end)
        numbers = {} if REAL_SECONDS else NUMBERS
        prometheus = run_prometheus(directory, [demo.instance], FACTOR, numbers, more=scraped(demo))
        stack.callback(prometheus.stop)
        wait_until(lambda: len(prometheus.vector("up == 1")) == 5, DEADLINE)
        began = time.time()
        wait_until(lambda: not demo.running or time.time() - began > SECONDS, SECONDS + DEADLINE, 1.0)
        assert demo.running, demo.log
        watched = Watched(prometheus, began, time.time(), prometheus.broken_rules())
        demo.end()
        yield watched
