"""Names without number: series stay at the cap, totals stay exact, memory stays flat, and no counter ever falls."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import psutil
import pytest
import redis

from tests.e2e.pushing import NeverFalls, celery_job, feed, finished, publish, raw_events, until_connected
from tests.e2e.truth import SHOWN_AT_ONCE
from tests.servers import RedisServer, StartExporter, series, wait_until
from tests.systems.celery_frames import channel, envelope, fields
from tests.thorough import THOROUGH

NAMES = 1_000_000 if THOROUGH else 150_000
AT_ONCE = 20_000
TASK_QUEUES = 100
SCRAPED_EVERY = 5
"""Workers that come, or go, from one scrape to the next."""
WORKER_UP = "taskqueue_worker_up"
WORKERS = series("taskqueue_workers", system="celery", broker="default")
ONE_JOB = [fields("task-received", "@", name="task-@"), fields("task-succeeded", "@", runtime=0.1)]


@pytest.mark.slow
def test_more_task_names_than_can_be_kept(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    config = f"brokers: [{{name: default, url: '{redis_server.url()}'}}]\nlimits: {{task_queues: {TASK_QUEUES}}}"
    exporter = start_exporter(config=config, env=SHOWN_AT_ONCE)
    until_connected(exporter)
    client = redis_server.client()
    process = psutil.Process(exporter.pid)

    memory = []
    for start in range(0, NAMES, AT_ONCE):
        send(client, range(start, start + AT_ONCE))
        # What waits to be decoded takes memory too: on a slow machine a million at once would tell of nothing else.
        wait_until(lambda: finished(exporter.metrics(), "celery") == start + AT_ONCE, 120)  # noqa: B023
        memory.append(process.memory_info().rss)

    metrics = exporter.metrics()
    tasks = {dict(labels)["task"] for name, labels in metrics if name == "taskqueue_jobs_finished_total"}
    assert len(tasks) == TASK_QUEUES + 1
    assert metrics[series("taskqueue_exporter_series_folded_total", label="task")] >= NAMES - TASK_QUEUES
    assert metrics[series("taskqueue_exporter_series")] < 60 * TASK_QUEUES
    assert memory[-1] - memory[len(memory) // 2] < 20e6  # the tables fill up to their bounds first
    assert feed(metrics, "lost_events_total", "celery") == feed(metrics, "reconnects_total", "celery") == 0


def send(client: redis.Redis, numbers: Iterable[int]) -> None:
    """Publishes a job of a task of its own for each number."""
    pipeline = client.pipeline(transaction=False)
    for body in raw_events(ONE_JOB, map(str, numbers)):
        pipeline.publish(channel("task-multi"), envelope(base64.b64encode(body).decode()))
        if len(pipeline) >= 500:
            pipeline.execute()
    pipeline.execute()


@pytest.mark.slow
def test_workers_that_come_and_go_take_no_counter_along(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(redis_url=redis_server.url(), env=SHOWN_AT_ONCE)
    until_connected(exporter)
    client = redis_server.client()
    watch = NeverFalls(exporter)

    pods = [f"celery@pod-{number}" for number in range(500)]

    for number, pod in enumerate(pods):
        publish(client, [worker_event("online", pod)])
        publish(client, celery_job(f"early-{number}", f"task-{number % 7}", worker=pod))
        if number % SCRAPED_EVERY == 0:
            watch.scrape()

    def all_up() -> bool:
        publish(client, (worker_event("heartbeat", pod) for pod in pods))
        shown = watch.scrape()
        up = {dict(labels)["worker"] for (name, labels), value in shown.items() if name == WORKER_UP and value == 1}
        return up == set(pods) and shown.get(WORKERS) == 500

    wait_until(all_up, 30)
    for number, pod in enumerate(pods):
        publish(client, [worker_event("offline", pod)])
        publish(client, celery_job(f"late-{number}", f"task-{number % 7}", worker=pod))  # in a pool of threads
        if number % SCRAPED_EVERY == 0:
            watch.scrape()

    wait_until(lambda: finished(watch.scrape(), "celery") == 1000)
    wait_until(lambda: watch.scrape().get(WORKERS) == 0)
    assert not [name for name, _ in watch.scrape() if name == WORKER_UP], "those that said goodbye are gone"


def worker_event(kind: str, worker: str) -> dict[str, Any]:
    return fields(f"worker-{kind}", worker=worker, freq=2.0, active=0, processed=1, sw_ver="5.6.3")
