"""What the exporter counts of Celery's tasks is what these tasks recorded themselves, each under its right queue."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e import truth_celery
from tests.e2e.apps import START_DEADLINE, worker
from tests.e2e.reading import jobs
from tests.e2e.truth import CELERY, SHOWN_AT_ONCE, Watched, connected, read, total
from tests.e2e.truth_celery import QUEUES, QUICK, Sender, sender, worker_command
from tests.e2e.truth_record import UNKNOWN, Recorder
from tests.servers import Exporter, RedisServer, StartExporter, wait_until
from tests.thorough import THOROUGH

pytestmark = pytest.mark.slow

TASKS = 1200
BACKLOG = 15_000 if THOROUGH else 3_000
IN_FLIGHT = 12_000 if THOROUGH else 3_000
"""Thoroughly, both are more than the 10,000 tasks that Celery's own State remembers, and those who build on it."""
DEADLINE = 120.0
WAITS = ("job_wait_seconds_sum",)
"""Tasks that do nothing but record it run for so short a time that what the worker adds to it is most of it."""


def watch(start_exporter: StartExporter, url: str) -> Exporter:
    """An exporter that hears events."""
    exporter = start_exporter(redis_url=url, env=SHOWN_AT_ONCE)
    wait_until(lambda: connected(exporter.metrics(), "events"), START_DEADLINE)
    return exporter


def workers_up(exporter: Exporter) -> float:
    return total(exporter.metrics(), "taskqueue_worker_up", system="celery")


def terminate_some(tasks: Sender, record: Path) -> None:
    """End one running task of each queue."""
    lingering = truth_celery.send_lingering(tasks)
    wait_until(lambda: all(read(record)[job_id].starts for job_id in lingering), START_DEADLINE)
    tasks.terminate(*lingering)


def enqueued(exporter: Exporter, queue: str) -> float:
    return total(exporter.metrics(), "taskqueue_jobs_enqueued_total", system="celery", queue=queue)


def assert_nothing_is_unknown(exporter: Exporter) -> None:
    assert not [key for key in exporter.metrics() if UNKNOWN in dict(key[1]).values()]


def test_tasks_of_all_kinds_are_counted_as_they_ended_twice_in_a_row(
    redis_server: RedisServer, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    url = redis_server.url()
    exporter = watch(start_exporter, url)
    watched = Watched(exporter, record, CELERY)
    with ExitStack() as stack:
        for command in truth_celery.WORKERS:
            stack.enter_context(worker(tmp_path, url, *command))
        wait_until(lambda: workers_up(exporter) == 2, START_DEADLINE)
        tasks = stack.enter_context(sender(url, Recorder(record)))
        for _ in range(2):
            truth_celery.send(tasks, TASKS - len(QUEUES))
            terminate_some(tasks, record)
            watched.assert_tells_the_truth()
    assert_nothing_is_unknown(exporter)


def test_tasks_keep_their_queue_and_wait_when_thousands_wait_before_them(
    redis_server: RedisServer, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    url = redis_server.url()
    exporter = watch(start_exporter, url)
    with sender(url, Recorder(record)) as tasks:
        # given
        for _ in range(BACKLOG):
            tasks.send(QUICK, QUEUES[1])
        for number in range(500):
            tasks.send(QUICK, QUEUES[number % 2 * 2])
    wait_until(lambda: enqueued(exporter, QUEUES[1]) == BACKLOG, START_DEADLINE)
    assert jobs(exporter.metrics(), "celery", QUEUES[1]).get("ready") == BACKLOG
    # when
    with ExitStack() as stack:
        for name in ("first", "second"):
            command = worker_command(name, "--prefetch-multiplier", "64", concurrency=2)
            stack.enter_context(worker(tmp_path, url, *command))
        # then
        Watched(exporter, record, CELERY, WAITS).assert_tells_the_truth(DEADLINE)
    assert_nothing_is_unknown(exporter)


def test_thousands_of_tasks_in_flight_keep_their_names_and_queues(
    redis_server: RedisServer, start_exporter: StartExporter, record: Path, tmp_path: Path
) -> None:
    url, gate, client = redis_server.url(), tmp_path / "gate", redis_server.client()
    exporter = watch(start_exporter, url)
    # given a worker that takes all it can get, and whose slots are all held
    command = worker_command("greedy", "--prefetch-multiplier", str(IN_FLIGHT), concurrency=2)
    with worker(tmp_path, url, *command), sender(url, Recorder(record)) as tasks:
        holds = [tasks.send(truth_celery.HOLD, QUEUES[0], str(gate)) for _ in range(2)]
        wait_until(lambda: all(read(record)[job_id].starts for job_id in holds), START_DEADLINE)
        for number in range(IN_FLIGHT):
            tasks.send(QUICK, QUEUES[number % len(QUEUES)])
        wait_until(lambda: client.hlen("unacked") == IN_FLIGHT, DEADLINE)
        # when
        gate.touch()
        # then
        Watched(exporter, record, CELERY, WAITS).assert_tells_the_truth(DEADLINE)
    assert_nothing_is_unknown(exporter)
