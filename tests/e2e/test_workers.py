"""Queues with real ARQ and Celery workers on them, whose jobs run until the test lets them end."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.apps import (
    ARQ_CRON_WORKER,
    ARQ_WORKER,
    CELERY_WORKER,
    START_DEADLINE,
    celery_producer,
    enqueue_arq,
    kill,
    worker,
)
from tests.e2e.reading import Metrics, jobs, oldest, progress, queue, unacked
from tests.servers import Exporter, RedisServer, StartExporter, series, wait_until

IN_PROGRESS = "arq:in-progress:*"


def metrics_when(exporter: Exporter, condition: Callable[[Metrics], Any]) -> Metrics:
    """The first answer that meets the condition."""

    def ask() -> Metrics | None:
        metrics = exporter.metrics()
        return metrics if condition(metrics) else None

    found = wait_until(ask, START_DEADLINE)
    assert found is not None
    return found


def running(metrics: Metrics, task: str) -> float | None:
    """ARQ's running jobs of one task."""
    return metrics.get(series("taskqueue_task_running_jobs", system="arq", broker="default", task=task))


def test_running_arq_jobs_are_not_ready(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    client, gate = redis_server.client(), tmp_path / "gate"
    times = enqueue_arq(redis_server.url(), 10, str(gate))
    exporter = start_exporter(redis_url=redis_server.url())
    with worker(tmp_path, redis_server.url(), *ARQ_WORKER):
        # when a worker of three slots runs three of ten
        wait_until(lambda: len(client.keys(IN_PROGRESS)) == 3, START_DEADLINE)  # type: ignore[arg-type]
        seen = time.time()
        metrics = exporter.metrics()
        # then
        assert jobs(metrics, "arq", "arq:queue") == {"ready": 7, "scheduled": 0, "running": 3}
        assert running(metrics, "hold") == 3
        assert oldest(metrics, "arq", "arq:queue") == pytest.approx(times[3], abs=1.0)
        since = queue(metrics, "oldest_running_timestamp_seconds", "arq", "arq:queue")
        assert since is not None
        assert times[0] <= since <= time.time()
        # and the time since when they run stands still while they run
        again = exporter.metrics()
        assert queue(again, "oldest_running_timestamp_seconds", "arq", "arq:queue") == since
        # when all may end
        gate.touch()
        metrics = metrics_when(exporter, lambda now: jobs(now, "arq", "arq:queue")["ready"] == 0)
        metrics = metrics_when(exporter, lambda now: jobs(now, "arq", "arq:queue")["running"] == 0)
        assert progress(metrics, "arq", "arq:queue") > seen
        assert running(metrics, "hold") == 0
        assert queue(metrics, "oldest_running_timestamp_seconds", "arq", "arq:queue") is None
        assert oldest(metrics, "arq", "arq:queue") is None


def test_lingering_in_progress_keys_of_ended_jobs_do_not_count(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    # given a cron job that ended, whose key arq keeps for a minute, and the keys of jobs long gone
    client = redis_server.client()
    with worker(tmp_path, redis_server.url(), *ARQ_CRON_WORKER):
        wait_until(lambda: client.exists("arq:cron:health-check"), START_DEADLINE)
        wait_until(lambda: client.keys(IN_PROGRESS) and not client.zcard("arq:cron"), START_DEADLINE)
        for number in range(20):
            client.set(f"arq:in-progress:gone{number}", 1)
        enqueue_arq(redis_server.url(), 2, "/nonexistent")
        # then the queue that a worker's health key names is there, and nothing runs
        metrics = start_exporter(redis_url=redis_server.url()).metrics()
        assert client.keys("arq:in-progress:cron:*")
        assert jobs(metrics, "arq", "arq:cron") == {"ready": 0, "scheduled": 0, "running": 0}
        assert running(metrics, "cron:tick") is None
        assert jobs(metrics, "arq", "arq:queue") == {"ready": 2, "scheduled": 0, "running": 0}


def test_arq_progress_moves_while_a_worker_consumes_and_stands_still_without_it(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    client, gate, closed = redis_server.client(), tmp_path / "gate", tmp_path / "closed"
    enqueue_arq(redis_server.url(), 2, str(gate))
    enqueue_arq(redis_server.url(), 8, str(closed))
    exporter = start_exporter(redis_url=redis_server.url())
    with worker(tmp_path, redis_server.url(), *ARQ_WORKER) as process:
        started = metrics_when(exporter, lambda now: jobs(now, "arq", "arq:queue")["running"] == 3)
        # when two jobs end and their slots take the next
        gate.touch()
        moved = metrics_when(exporter, lambda now: jobs(now, "arq", "arq:queue")["ready"] == 5)
        assert progress(moved, "arq", "arq:queue") > progress(started, "arq", "arq:queue")
        # when the worker is lost
        before = metrics_when(exporter, lambda now: jobs(now, "arq", "arq:queue")["running"] == 3)
        kill(process)
    lost = exporter.metrics()
    # then its jobs run on, as far as anybody can tell, ever longer
    assert jobs(lost, "arq", "arq:queue") == {"ready": 5, "scheduled": 0, "running": 3}
    assert running(lost, "hold") == 3
    since = queue(lost, "oldest_running_timestamp_seconds", "arq", "arq:queue")
    assert since == queue(before, "oldest_running_timestamp_seconds", "arq", "arq:queue") is not None
    # until their keys lapse, here at once: they are ready again, and nothing has moved
    keys = client.keys(IN_PROGRESS)
    assert all(300_000 < client.pttl(key) <= 310_000 for key in keys)  # type: ignore[union-attr, operator]
    for key in keys:  # type: ignore[union-attr]
        client.pexpire(key, 1)
    after = metrics_when(exporter, lambda now: jobs(now, "arq", "arq:queue")["running"] == 0)
    assert jobs(after, "arq", "arq:queue") == {"ready": 8, "scheduled": 0, "running": 0}
    assert running(after, "hold") == 0
    assert queue(after, "oldest_running_timestamp_seconds", "arq", "arq:queue") is None
    assert progress(after, "arq", "arq:queue") == progress(lost, "arq", "arq:queue")


def test_unacked_celery_tasks_equal_what_the_worker_holds(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    gate, began = tmp_path / "gate", time.time()
    with (
        celery_producer(redis_server.url()) as hold,
        worker(tmp_path, redis_server.url(), *CELERY_WORKER) as process,
    ):
        # given three tasks that the worker keeps until they are due, and ten for its two slots
        for _ in range(3):
            hold.apply_async((str(gate),), countdown=timedelta(hours=1).total_seconds())
        client = redis_server.client()
        wait_until(lambda: client.hlen("unacked") == 3, START_DEADLINE)
        for _ in range(10):
            hold.apply_async((str(gate),))
        wait_until(lambda: client.hlen("unacked") == 5, START_DEADLINE)
        # when
        exporter = start_exporter(redis_url=redis_server.url())
        metrics = exporter.metrics()
        # then
        assert unacked(metrics) == 5
        assert jobs(metrics, "celery", "celery").get("ready") == 8
        since = next(value for (name, _), value in metrics.items() if name.startswith("taskqueue_oldest_unacked"))
        assert began <= since <= time.time()
        # when all that is due ends
        seen = time.time()
        gate.touch()
        done = metrics_when(exporter, lambda now: jobs(now, "celery", "celery").get("ready") == 0 and unacked(now) == 3)
        assert progress(done, "celery", "celery") > seen
        assert process.running


def test_celery_progress_stands_still_once_the_worker_is_gone(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    gate, closed = tmp_path / "gate", tmp_path / "closed"
    with celery_producer(redis_server.url()) as hold:
        for _ in range(2):
            hold.apply_async((str(gate),))
        for _ in range(6):
            hold.apply_async((str(closed),))
        exporter = start_exporter(redis_url=redis_server.url())
        idle = exporter.metrics()
        with worker(tmp_path, redis_server.url(), *CELERY_WORKER) as process:
            taken = metrics_when(exporter, lambda now: jobs(now, "celery", "celery").get("ready") == 6)
            assert progress(taken, "celery", "celery") > progress(idle, "celery", "celery")
            gate.touch()
            moved = metrics_when(exporter, lambda now: jobs(now, "celery", "celery").get("ready") == 4)
            assert progress(moved, "celery", "celery") > progress(taken, "celery", "celery")
            kill(process)
        hold.apply_async((str(closed),))
        after = exporter.metrics()
        assert jobs(after, "celery", "celery").get("ready") == 5
        assert progress(after, "celery", "celery") == progress(moved, "celery", "celery")
