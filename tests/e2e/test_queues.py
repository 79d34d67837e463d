"""Queues whose jobs arq and Celery enqueued themselves, and no worker runs: depths, ages, discovery."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from tests.e2e.apps import celery_producer, enqueue_arq
from tests.e2e.reading import broker_up, jobs, oldest, progress, queue, success, unacked
from tests.servers import RedisServer, StartExporter, StartRedis, series

GATE = "/nonexistent"


def test_celery_tasks_of_four_priorities_are_counted_whole_and_apart(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    # given 50 tasks at each of 4 priorities
    with celery_producer(redis_server.url()) as hold:
        for priority in (0, 3, 6, 9):
            for _ in range(50):
                hold.apply_async((GATE,), priority=priority)
    # when an exporter knows nothing but the Redis's URL
    metrics = start_exporter(redis_url=redis_server.url()).metrics()
    # then
    assert jobs(metrics, "celery", "celery").get("ready") == 200
    found = [queue(metrics, "priority_jobs", "celery", "celery", priority=str(step)) for step in (0, 3, 6, 9)]
    assert found == [50, 50, 50, 50]
    assert unacked(metrics) == 0
    assert success(metrics, "celery") == 1


def test_priorities_between_two_steps_are_counted_at_the_step_below(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    with celery_producer(redis_server.url()) as hold:
        for priority in range(10):
            hold.apply_async((GATE,), priority=priority)
    metrics = start_exporter(redis_url=redis_server.url()).metrics()
    found = [queue(metrics, "priority_jobs", "celery", "celery", priority=str(step)) for step in (0, 3, 6, 9)]
    assert found == [3, 3, 3, 1]
    assert jobs(metrics, "celery", "celery").get("ready") == 10


def test_arq_jobs_ready_and_deferred(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    # given 100 jobs that are due and 20 that are not
    times = enqueue_arq(redis_server.url(), 100, GATE)
    enqueue_arq(redis_server.url(), 20, GATE, _defer_by=timedelta(hours=1))
    # when the exporter starts, later
    metrics = start_exporter(redis_url=redis_server.url()).metrics()
    # then
    assert jobs(metrics, "arq", "arq:queue") == {"ready": 100, "scheduled": 20, "running": 0}
    assert oldest(metrics, "arq", "arq:queue") == pytest.approx(min(times), abs=1.0)
    assert success(metrics, "arq") == 1


def test_age_of_a_deferred_arq_job_counts_from_when_it_became_due(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    # given a job enqueued now that was due an hour ago, and one that gets due in an hour
    due = time.time() - 3600
    enqueue_arq(redis_server.url(), 1, GATE, _defer_by=timedelta(hours=-1))
    enqueue_arq(redis_server.url(), 1, GATE, _defer_by=timedelta(hours=1))
    metrics = start_exporter(redis_url=redis_server.url()).metrics()
    assert oldest(metrics, "arq", "arq:queue") == pytest.approx(due, abs=1.0)


def test_a_queue_that_holds_only_deferred_jobs_has_no_oldest_ready(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    enqueue_arq(redis_server.url(), 3, GATE, _queue_name="later", _defer_by=timedelta(hours=1))
    metrics = start_exporter(redis_url=redis_server.url()).metrics()
    assert jobs(metrics, "arq", "later") == {"ready": 0, "scheduled": 3, "running": 0}
    assert oldest(metrics, "arq", "later") is None


def test_queues_that_nobody_ever_consumed_are_found_in_zero_configuration(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    # given queues of other names than the default, and keys of other programs beside them
    client = redis_server.client()
    client.zadd("leaderboard", {"anna": 1, "bert": 2})
    client.set("shop:health-check", "ok")
    client.sadd("colours", "red")
    enqueue_arq(redis_server.url(), 2, GATE, _queue_name="reports")
    with celery_producer(redis_server.url()) as hold:
        hold.apply_async((GATE,), queue="mails")
        hold.apply_async((GATE,), queue="größe/ü")
    # when
    metrics = start_exporter(redis_url=redis_server.url()).metrics()
    # then these queues are there, and nothing else is taken for one
    assert jobs(metrics, "arq", "reports")["ready"] == 2
    assert jobs(metrics, "celery", "mails").get("ready") == 1
    assert jobs(metrics, "celery", "größe/ü").get("ready") == 1
    found = {(dict(labels)["system"], dict(labels)["queue"]) for name, labels in metrics if name.endswith("queue_jobs")}
    assert found == {("arq", "reports"), ("celery", "mails"), ("celery", "größe/ü")}


def test_an_abandoned_arq_queue_whose_oldest_jobs_expired_is_found(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    # given a backlog so old that the records of its first jobs are gone (arq keeps them for a day)
    enqueue_arq(redis_server.url(), 30, GATE, _queue_name="forgotten")
    client = redis_server.client()
    for job_id in client.zrange("forgotten", 0, 9):  # type: ignore[union-attr]
        client.delete(b"arq:job:" + job_id)
    metrics = start_exporter(redis_url=redis_server.url()).metrics()
    assert jobs(metrics, "arq", "forgotten")["ready"] == 30
    assert queue(metrics, "expired_jobs", "arq", "forgotten") == 10


def test_age_of_celery_tasks_is_right_to_one_scrape(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    with celery_producer(redis_server.url()) as hold:
        # given an exporter that sees the queue empty
        hold.apply_async((GATE,))
        redis_server.client().delete("celery")
        exporter = start_exporter(redis_url=redis_server.url())
        metrics = exporter.metrics()
        assert jobs(metrics, "celery", "celery").get("ready") == 0
        assert oldest(metrics, "celery", "celery") is None
        # when tasks are enqueued between two scrapes
        before = time.time()
        hold.apply_async((GATE,))
        hold.apply_async((GATE,), priority=9)
        enqueued = time.time()
        metrics = exporter.metrics()
        # then
        seen = oldest(metrics, "celery", "celery")
        assert seen is not None
        assert before <= seen <= time.time()
        assert seen == pytest.approx(enqueued, abs=1.0)
        # and it stays so while tasks come in behind
        hold.apply_async((GATE,))
        metrics = exporter.metrics()
        assert jobs(metrics, "celery", "celery").get("ready") == 3
        assert oldest(metrics, "celery", "celery") == seen


def test_age_of_celery_tasks_enqueued_before_the_first_scrape_is_absent_and_not_zero(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    with celery_producer(redis_server.url()) as hold:
        hold.apply_async((GATE,))
        hold.apply_async((GATE,))
        exporter = start_exporter(redis_url=redis_server.url())
        metrics = exporter.metrics()
        assert jobs(metrics, "celery", "celery").get("ready") == 2
        assert oldest(metrics, "celery", "celery") is None
        # and so it is for the next one, which may have waited behind the first
        redis_server.client().rpop("celery")
        metrics = exporter.metrics()
        assert jobs(metrics, "celery", "celery").get("ready") == 1
        assert oldest(metrics, "celery", "celery") is None


def test_two_databases_are_two_brokers(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    enqueue_arq(redis_server.url(0), 1, GATE)
    enqueue_arq(redis_server.url(3), 2, GATE)
    redis_server.client(3).zadd("arq:abort", {"unknown": 1})
    with celery_producer(redis_server.url(3)) as hold:
        hold.apply_async((GATE,))
    config = f"brokers: [{{name: a, url: '{redis_server.url(0)}'}}, {{name: b, url: '{redis_server.url(3)}'}}]"
    metrics = start_exporter(config=config).metrics()
    assert jobs(metrics, "arq", "arq:queue", "a")["ready"] == 1
    assert jobs(metrics, "arq", "arq:queue", "b")["ready"] == 2
    aborts = [metrics[series("taskqueue_abort_requests", system="arq", broker=name)] for name in ("a", "b")]
    assert aborts == [0, 1]
    assert jobs(metrics, "celery", "celery", "a") == {}
    assert jobs(metrics, "celery", "celery", "b").get("ready") == 1
    assert unacked(metrics, "a") is None
    assert unacked(metrics, "b") == 0


def test_a_server_with_two_brokers_is_counted_once(
    redis_server: RedisServer, start_redis: StartRedis, start_exporter: StartExporter
) -> None:
    # given two brokers on one server, and one on another
    other = start_redis()
    urls = {"a": redis_server.url(0), "b": redis_server.url(3), "c": other.url()}
    config = "brokers: [" + ", ".join(f"{{name: {name}, url: '{url}'}}" for name, url in urls.items()) + "]"
    metrics = start_exporter(config=config).metrics()
    # then the server's memory adds up, and every broker is seen to be up
    servers = [dict(labels) for name, labels in metrics if name == "taskqueue_redis_memory_used_bytes"]
    assert [(labels["broker"], labels["server"]) for labels in servers] == [
        ("a", f"127.0.0.1:{redis_server.port}"),
        ("c", f"127.0.0.1:{other.port}"),
    ]
    assert {broker_up(metrics, name) for name in urls} == {1}
    assert {success(metrics, "redis_info", name) for name in urls} == {1}


def test_an_emptied_queue_reads_an_explicit_zero(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    # given queues with jobs, seen by the exporter
    enqueue_arq(redis_server.url(), 2, GATE)
    with celery_producer(redis_server.url()) as hold:
        hold.apply_async((GATE,), priority=3)
    exporter = start_exporter(redis_url=redis_server.url())
    before = exporter.metrics()
    assert jobs(before, "arq", "arq:queue")["ready"] == 2
    # when they are emptied
    client = redis_server.client()
    client.delete("arq:queue", "celery", "celery\x06\x163")
    # then
    metrics = exporter.metrics()
    assert jobs(metrics, "arq", "arq:queue") == {"ready": 0, "scheduled": 0, "running": 0}
    assert jobs(metrics, "celery", "celery").get("ready") == 0
    assert queue(metrics, "priority_jobs", "celery", "celery", priority="3") == 0
    assert oldest(metrics, "arq", "arq:queue") is None
    assert oldest(metrics, "celery", "celery") is None
    assert progress(metrics, "arq", "arq:queue") > progress(before, "arq", "arq:queue")
    assert progress(metrics, "celery", "celery") > progress(before, "celery", "celery")


def test_a_backlog_that_nobody_consumes_makes_no_progress_as_it_grows(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    with celery_producer(redis_server.url()) as hold:
        enqueue_arq(redis_server.url(), 2, GATE)
        hold.apply_async((GATE,))
        exporter = start_exporter(redis_url=redis_server.url())
        before = exporter.metrics()
        enqueue_arq(redis_server.url(), 2, GATE)
        hold.apply_async((GATE,))
        hold.apply_async((GATE,), priority=6)
        metrics = exporter.metrics()
        assert jobs(metrics, "arq", "arq:queue")["ready"] == 4
        assert jobs(metrics, "celery", "celery")["ready"] == 3
        assert progress(metrics, "arq", "arq:queue") == progress(before, "arq", "arq:queue")
        assert progress(metrics, "celery", "celery") == progress(before, "celery", "celery")


def test_a_redis_without_queues_says_nothing_of_queues(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    metrics = start_exporter(redis_url=redis_server.url()).metrics()
    assert not [name for name, _ in metrics if name.startswith("taskqueue_queue_")]
    assert unacked(metrics) is None
    assert metrics[series("taskqueue_broker_up", broker="default")] == 1
    assert (success(metrics, "arq"), success(metrics, "celery")) == (1, 1)
