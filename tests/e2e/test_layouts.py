"""Celery with other `broker_transport_options` than kombu's defaults: depths are whole, or said to be unknown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.apps import celery_producer
from tests.e2e.reading import jobs, queue, success, unacked
from tests.servers import RedisServer, StartExporter
from tests.systems.celery_queues import hold

GATE = "/nonexistent"
STEPS = list(range(10))


def enqueue(server: RedisServer, **options: Any) -> None:
    """Five tasks at each of ten priorities."""
    with celery_producer(server.url(), **options) as hold:
        for priority in STEPS:
            for _ in range(5):
                hold.apply_async((GATE,), priority=priority)


def test_ten_priority_steps_are_found_by_themselves(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    enqueue(redis_server, priority_steps=STEPS)
    exporter = start_exporter(redis_url=redis_server.url())
    metrics = exporter.metrics()
    assert jobs(metrics, "celery", "celery").get("ready") == 50
    assert [queue(metrics, "priority_jobs", "celery", "celery", priority=str(step)) for step in STEPS] == [5] * 10
    # and one that is emptied reads an explicit zero
    redis_server.client().delete("celery\x06\x165")
    metrics = exporter.metrics()
    assert jobs(metrics, "celery", "celery").get("ready") == 45
    assert queue(metrics, "priority_jobs", "celery", "celery", priority="5") == 0


@pytest.mark.parametrize("steps", [[0, 3, 6, 9], STEPS])
def test_a_key_prefix_is_found_by_itself(
    redis_server: RedisServer, start_exporter: StartExporter, steps: list[int]
) -> None:
    enqueue(redis_server, global_keyprefix="shop:", priority_steps=steps)
    hold(redis_server.client(), "1", prefix="shop:")
    metrics = start_exporter(redis_url=redis_server.url()).metrics()
    assert jobs(metrics, "celery", "shop:celery").get("ready") == 50
    assert unacked(metrics) == 1
    assert success(metrics, "celery") == 1


def test_another_separator_is_told_and_then_configured(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    # given a layout that cannot be guessed
    enqueue(redis_server, priority_steps=STEPS, sep=":")
    exporter = start_exporter(redis_url=redis_server.url())
    # when it is not configured, then nothing wrong is shown
    metrics = exporter.metrics()
    assert not [name for name, _ in metrics if name == "taskqueue_queue_jobs"]
    assert success(metrics, "celery") == 0
    assert "celery::celery" in exporter.log
    # and when it is, all is
    url = redis_server.url()
    config = f"brokers: [{{name: default, url: '{url}', celery: {{separator: ':', priority_steps: {STEPS}}}}}]"
    metrics = start_exporter(config=config).metrics()
    assert jobs(metrics, "celery", "celery").get("ready") == 50
    assert success(metrics, "celery") == 1
