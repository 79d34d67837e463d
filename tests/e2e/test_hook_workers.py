"""Instrumented ARQ workers come and go: alive, lost and gone as they are, and how busy they are."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.apps import START_DEADLINE, kill, worker
from tests.e2e.hook_apps import (
    BEAT,
    LONG,
    LONG_BEAT,
    SHORT,
    TAKEN,
    Taken,
    arq_worker,
    enqueue,
    own_gate,
    taken,
    worker_name,
)
from tests.e2e.reading import Metrics, queue
from tests.e2e.truth import SHOWN_AT_ONCE
from tests.servers import Process, RedisServer, StartExporter, series, wait_until

SLACK = 5.0  # for a busy machine: seconds, far less than three of the longer beats
ROUNDED = 1e-3
WRITTEN_LATE = 0.1
"""Seconds between a look of a worker at its clock and its write, on a busy machine: its clock is taken to be late."""
FLEET = {"arq:first": (24, 2), "arq:second": (16, 3), "arq:third": (10, 4)}
"""How many workers a queue has, and how many slots each of them: fifty in all."""
TAKING = {"arq:first": 30, "arq:second": 7, "arq:third": 0}
"""How many jobs occupy a slot."""
REPORTING = 3
"""And how many more, all of the second queue, say how far they are."""


def of_worker(metrics: Metrics, family: str, name: str) -> float | None:
    """The value of `taskqueue_worker_<family>`; None where it is absent."""
    return metrics.get(series(f"taskqueue_worker_{family}", system="arq", broker="default", worker=name))


def name_of(process: Process) -> str:
    """What the hook calls a worker that has no other name."""
    return f"{socket.gethostname()}:{process.pid}"


def test_a_killed_worker_is_lost_and_one_that_ends_is_gone_at_once(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    url = redis_server.url()
    with ExitStack() as stack:
        killed, other = (stack.enter_context(worker(tmp_path, url, *arq_worker("short"))) for _ in range(2))
        ended = stack.enter_context(worker(tmp_path, url, *arq_worker("long")))
        exporter = start_exporter(redis_url=url, env=SHOWN_AT_ONCE)
        # given two workers of one queue, and one of another
        for process in (killed, other, ended):
            wait_until(lambda process=process: of_worker(exporter.metrics(), "up", name_of(process)), START_DEADLINE)  # type: ignore[misc]
        wait_until(lambda: queue(exporter.metrics(), "workers", "arq", SHORT) == 2, START_DEADLINE)
        assert queue(exporter.metrics(), "workers", "arq", LONG) == 1

        # when one ends of itself, then it is gone before its next beat, without ever being called lost
        ended.signal(signal.SIGTERM)
        began = time.monotonic()
        seen: list[float | None] = []
        while seen[-1:] != [None]:
            seen.append(of_worker(exporter.metrics(), "up", name_of(ended)))
            assert time.monotonic() - began < LONG_BEAT
        assert set(seen) <= {1.0, None}
        assert queue(exporter.metrics(), "workers", "arq", LONG) == 0

        # when one is killed, then it is lost within three beats and a scrape, and not before it is silent
        kill(killed)
        wait_until(
            lambda: of_worker(exporter.metrics(), "up", name_of(killed)) == 0, 3 * BEAT + SLACK, interval=BEAT / 10
        )
        metrics, now = exporter.metrics(), time.time()
        last = of_worker(metrics, "last_heartbeat_timestamp_seconds", name_of(killed))
        assert last is not None
        assert now - last >= 2 * BEAT
        assert of_worker(metrics, "up", name_of(other)) == 1
        assert queue(metrics, "workers", "arq", SHORT) == 1

        # and an exporter that comes later says the same of all three
        later = start_exporter(redis_url=url, env=SHOWN_AT_ONCE)
        wait_until(lambda: queue(later.metrics(), "workers", "arq", LONG) == 0, START_DEADLINE)
        wait_until(lambda: queue(later.metrics(), "workers", "arq", SHORT) == 1, START_DEADLINE)
        metrics = later.metrics()
        found = [of_worker(metrics, "up", name_of(process)) for process in (killed, other, ended)]
        assert found == [0, 1, None]


def test_fifty_workers_of_three_queues(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, gate, file = redis_server.url(), tmp_path / "gate", tmp_path / "taken"
    file.touch()
    monkeypatch.setenv(TAKEN, str(file))
    exporter = start_exporter(redis_url=url, env=SHOWN_AT_ONCE)
    with ExitStack() as stack:
        # given fifty workers, some of whose slots are taken
        for name, (count, slots) in FLEET.items():
            command = ("tests.e2e.hook_apps", "fleet", name, str(count), str(slots))
            stack.enter_context(worker(tmp_path, url, *command))
        for name, count in TAKING.items():
            asyncio.run(enqueue(url, name, count, "take", str(gate)))
        wait_until(lambda: len(taken(file)) == sum(TAKING.values()), START_DEADLINE)
        for number in range(1, REPORTING + 1):  # one after the other: no two at the same time
            asyncio.run(enqueue(url, "arq:second", 1, "report", str(gate)))
            wait_until(lambda number=number: len(reports(file)) == number, START_DEADLINE)  # type: ignore[misc]

        # then each is told of, and how busy it is
        wait_until(lambda: told(exporter.metrics()) == truth(taken(file)), START_DEADLINE)
        metrics = exporter.metrics()
        assert metrics[series("taskqueue_workers", system="arq", broker="default")] == 50
        assert queue(metrics, "progress_jobs", "arq", "arq:second") == REPORTING

        # and which of the jobs that say how far they are said so longest ago
        first, second, _ = reports(file)
        wait_until(lambda: is_oldest(first, exporter.metrics()), START_DEADLINE)
        Path(own_gate(str(gate), first.job)).touch()
        wait_until(lambda: is_oldest(second, exporter.metrics()), START_DEADLINE)

        # when all have ended, then nobody is busy, and nobody reports
        for one in reports(file):
            Path(own_gate(str(gate), one.job)).touch()
        gate.touch()
        wait_until(lambda: told(exporter.metrics()) == truth([]), START_DEADLINE)
        metrics = exporter.metrics()
        assert not queue(metrics, "progress_jobs", "arq", "arq:second")
        assert oldest_report(metrics) is None


def reports(file: Path) -> list[Taken]:
    """The first report of each job that reports, the first one first."""
    return [one for one in taken(file) if one.before is not None][:REPORTING]


def is_oldest(report: Taken, metrics: Metrics) -> bool:
    """Whether it is the one that the exporter gives for the oldest."""
    told = oldest_report(metrics)
    assert told is not None
    assert report.after is not None
    assert report.before is not None
    return report.after - ROUNDED <= told <= report.before + WRITTEN_LATE


def oldest_report(metrics: Metrics) -> float | None:
    return queue(metrics, "oldest_progress_timestamp_seconds", "arq", "arq:second")


def truth(jobs: list[Taken]) -> dict[str, tuple[float | None, ...]]:
    """What must be told of each queue (workers, slots, busy) and each worker (up, slots, busy) while these jobs run."""
    by_queue, by_worker = Counter(job.queue for job in jobs), Counter(job.worker for job in jobs)
    expected: dict[str, tuple[float | None, ...]] = {}
    for name, (count, slots) in FLEET.items():
        expected[name] = (count, count * slots, by_queue[name])
        members = (worker_name(name, number) for number in range(count))
        expected |= {member: (1, slots, by_worker[member]) for member in members}
    return expected


def told(metrics: Metrics) -> dict[str, tuple[float | None, ...]]:
    """The same, as the exporter has it."""
    found: dict[str, tuple[float | None, ...]] = {}
    for name, (count, _) in FLEET.items():
        found[name] = tuple(queue(metrics, family, "arq", name) for family in ("workers", "slots", "busy_slots"))
        for member in (worker_name(name, number) for number in range(count)):
            found[member] = tuple(of_worker(metrics, family, member) for family in ("up", "slots", "busy_slots"))
    return found
