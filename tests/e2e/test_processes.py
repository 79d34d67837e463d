"""The real exporter beside real workers of arq and Celery, which are killed and replaced."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from exporter import catalogue as c
from exporter.catalogue import Family
from tests.e2e.apps import ARQ_WORKER, CELERY_WORKER, WORKER_URL, kill
from tests.servers import ROOT, Exporter, Process, RedisServer, Series, StartExporter, series, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
MARK = f"tqe-{os.getpid()}"
"""In the command lines of this test's workers alone: others run beside it."""
START_DEADLINE = 30.0


@contextmanager
def worker(directory: Path, url: str, *command: str) -> Iterator[Process]:
    interpreter = [sys.executable, "-X", MARK, "-m"]
    log = directory / f"{command[0]}-{len(list(directory.iterdir()))}.log"
    process = Process([*interpreter, *command], log, cwd=ROOT, env=os.environ | {WORKER_URL: url})
    try:
        yield process
    finally:
        kill(process)


class Scrapes:
    """One scrape after the other: the groups' counters must never fall, and the collector must succeed."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._before: dict[Series, float] = {}

    def take(self) -> dict[Series, float]:
        found = self._exporter.metrics(("collect[]", "processes"))
        assert found[series("taskqueue_collector_success", collector="processes", broker="")] == 1, self._exporter.log
        counted = {
            key: value
            for key, value in found.items()
            if key[0].startswith("taskqueue_process_") and key[0].endswith("_total")
        }
        assert self._before.keys() <= counted.keys()
        for key, value in self._before.items():
            assert counted[key] >= value, key
        self._before = counted
        return found

    def until(self, family: Family, group: str, value: float) -> dict[Series, float]:
        """The first scrape in which a group has the value."""
        last: list[dict[Series, float]] = []

        def reached() -> bool:
            last[:] = [self.take()]
            return last[0][series(family.name, group=group)] == value

        wait_until(reached, START_DEADLINE)
        return last[0]


def of(found: dict[Series, float], family: Family, group: str, **labels: str) -> float:
    return found[series(family.name, group=group, **labels)]


def cpu(found: dict[Series, float], group: str) -> float:
    return sum(of(found, c.PROCESS_CPU, group, mode=mode) for mode in ("user", "system"))


def used(*processes: psutil.Process) -> float:
    return sum(one.cpu_times().user + one.cpu_times().system for one in processes)


def config(url: str, pid_file: Path) -> str:
    return f"""
brokers: [{{name: main, url: "{url}"}}]
processes:
  groups:
    - {{name: arq, command: "{MARK} -m arq .*ArqWorker"}}
    - {{name: celery, pid_file: "{pid_file}"}}
    - {{name: all, command: "{MARK} "}}
"""


def test_workers_that_are_killed_and_replaced(
    tmp_path: Path, redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    url, pid_file = redis_server.url(), tmp_path / "celery.pid"
    scrapes = Scrapes(start_exporter(config=config(url, pid_file)))
    assert of(scrapes.take(), c.PROCESS_MEMBERS, "celery") == 0

    with worker(tmp_path, url, *CELERY_WORKER, "--pidfile", str(pid_file)) as celery:
        with worker(tmp_path, url, *ARQ_WORKER) as arq:
            found = scrapes.until(c.PROCESS_MEMBERS, "celery", 3)  # a master and two children
            found = scrapes.until(c.PROCESS_MEMBERS, "arq", 1)
            assert of(found, c.PROCESS_MEMBERS, "all") == 4
            assert of(found, c.PROCESS_STARTS, "all") == 4
            check_against_psutil(scrapes, "arq", psutil.Process(arq.pid))
            master = psutil.Process(celery.pid)
            check_against_psutil(scrapes, "celery", master, *master.children())
            before = scrapes.take()
        # The one of arq was killed.
        left = scrapes.take()
        assert of(left, c.PROCESS_MEMBERS, "arq") == 0
        assert cpu(left, "arq") >= cpu(before, "arq") > 0

        with worker(tmp_path, url, *ARQ_WORKER) as another:
            scrapes.until(c.PROCESS_STARTS, "arq", 2)
            lower = used(psutil.Process(another.pid))
            replaced = scrapes.take()
            upper = used(psutil.Process(another.pid))
            # What the first used is there still, and what the second used is there, too.
            assert lower - 0.03 <= cpu(replaced, "arq") - cpu(left, "arq") <= upper + 0.03
            assert of(replaced, c.PROCESS_OLDEST, "arq") > of(before, c.PROCESS_OLDEST, "arq")

            psutil.Process(celery.pid).children()[0].kill()
            scrapes.until(c.PROCESS_STARTS, "celery", 4)  # its master forks another
            found = scrapes.until(c.PROCESS_MEMBERS, "celery", 3)
            assert of(found, c.PROCESS_NEWEST, "celery") > of(before, c.PROCESS_NEWEST, "celery")
            assert of(found, c.PROCESS_OLDEST, "celery") == of(before, c.PROCESS_OLDEST, "celery")

        celery.signal(signal.SIGTERM)
        celery.wait(START_DEADLINE)
        stopped = scrapes.take()
        assert of(stopped, c.PROCESS_MEMBERS, "celery") == of(stopped, c.PROCESS_MEMBERS, "all") == 0
        assert cpu(stopped, "celery") >= cpu(found, "celery") > 0


def check_against_psutil(scrapes: Scrapes, group: str, *members: psutil.Process) -> None:
    """What a group tells is between what psutil says before and after."""

    def agrees() -> bool:
        threads = sum(one.num_threads() for one in members)
        lower, found, upper = used(*members), scrapes.take(), used(*members)
        return (
            of(found, c.PROCESS_THREADS, group) == threads
            and of(found, c.PROCESS_FDS, group) == sum(one.num_fds() for one in members)
            and lower - 0.02 * len(members) <= cpu(found, group) <= upper + 0.02 * len(members)
            and of(found, c.PROCESS_RESIDENT, group)
            == pytest.approx(sum(one.memory_info().rss for one in members), rel=0.05)
            and of(found, c.PROCESS_OLDEST, group) == pytest.approx(min(one.create_time() for one in members), abs=1.5)
        )

    wait_until(agrees, START_DEADLINE)  # a worker that starts opens files and makes threads meanwhile
