"""A Redis that hangs, dies, restarts, refuses or was never there: one broker's trouble, and only while it lasts."""

from __future__ import annotations

import os
import signal
import time
from urllib.parse import quote

from tests.e2e.apps import enqueue_arq
from tests.e2e.reading import Metrics, broker_up, families_of, jobs, success
from tests.servers import Exporter, RedisServer, StartExporter, StartRedis, parse_metrics, series, wait_until

GATE = "/nonexistent"
DEADLINE = {"X-Prometheus-Scrape-Timeout-Seconds": "2"}
ABOUT_THE_BROKER = {"taskqueue_broker_up", "taskqueue_collector_success", "taskqueue_collector_duration_seconds"}


def two_brokers(a: RedisServer, b: RedisServer) -> str:
    """A configuration of the brokers `a` and `b`."""
    return f"brokers: [{{name: a, url: '{a.url()}'}}, {{name: b, url: '{b.url()}'}}]"


def timely_metrics(exporter: Exporter) -> Metrics:
    """A scrape that Prometheus gives up after 2 s."""
    began = time.monotonic()
    response = exporter.get("/metrics", DEADLINE)
    took = time.monotonic() - began
    assert response.status == 200
    assert took < 2.0
    return parse_metrics(response.text)


def assert_down(metrics: Metrics, broker: str) -> None:
    """Nothing is told of the broker but that it is down: nothing stale, and no zeros."""
    assert broker_up(metrics, broker) == 0
    assert families_of(metrics, broker) == ABOUT_THE_BROKER
    assert [success(metrics, name, broker) for name in ("arq", "celery", "redis_info")] == [0, 0, 0]


def test_a_hanging_redis_costs_its_own_gauges_only(start_redis: StartRedis, start_exporter: StartExporter) -> None:
    # given two brokers, both seen well
    a, b = start_redis(), start_redis()
    enqueue_arq(a.url(), 5, GATE)
    enqueue_arq(b.url(), 5, GATE)
    exporter = start_exporter("--collector.host", config=two_brokers(a, b))
    metrics = timely_metrics(exporter)
    assert (jobs(metrics, "arq", "arq:queue", "a")["ready"], jobs(metrics, "arq", "arq:queue", "b")["ready"]) == (5, 5)
    # when one hangs, and the other one's queue changes
    a.pause()
    b_client = b.client()
    for count in (4, 3, 2):
        b_client.zpopmin("arq:queue")
        # then
        metrics = timely_metrics(exporter)
        assert_down(metrics, "a")
        assert broker_up(metrics, "b") == 1
        assert jobs(metrics, "arq", "arq:queue", "b")["ready"] == count
        assert series("taskqueue_redis_uptime_in_seconds", broker="b", server=f"127.0.0.1:{b.port}") in metrics
        assert any(name == "taskqueue_host_memory_total_bytes" for name, _ in metrics)
    assert exporter.get("/-/healthy").status == 200
    # when it goes on, then it is back within two scrapes
    a.resume()
    timely_metrics(exporter)
    metrics = timely_metrics(exporter)
    assert broker_up(metrics, "a") == 1
    assert jobs(metrics, "arq", "arq:queue", "a")["ready"] == 5
    assert [success(metrics, name, "a") for name in ("arq", "celery", "redis_info")] == [1, 1, 1]


def test_redis_absent_at_start(start_redis: StartRedis, start_exporter: StartExporter) -> None:
    # given a port where nothing listens
    server = start_redis()
    server.stop()
    # when
    exporter = start_exporter(redis_url=server.url())
    # then it serves, and says so
    assert exporter.get("/-/healthy").status == 200
    assert_down(timely_metrics(exporter), "default")
    wait_until(lambda: exporter.get("/-/ready").status == 200)
    # and when Redis starts, it recovers by itself
    server.restart()
    enqueue_arq(server.url(), 2, GATE)
    timely_metrics(exporter)
    metrics = timely_metrics(exporter)
    assert broker_up(metrics) == 1
    assert jobs(metrics, "arq", "arq:queue")["ready"] == 2


def test_ready_where_redis_hangs_from_the_start(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    redis_server.pause()
    exporter = start_exporter(redis_url=redis_server.url())
    assert exporter.get("/-/ready").status == 503
    assert_down(timely_metrics(exporter), "default")
    # then it is ready once its own time limit ended the first collection
    wait_until(lambda: exporter.get("/-/ready").status == 200)
    # all its collections waited at the same time, and its feeds
    lines = [line for line in exporter.log.splitlines() if "Timeout" in line]
    assert len(lines) == 4 + 3


def test_redis_killed_and_restarted(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    enqueue_arq(redis_server.url(), 3, GATE)
    exporter = start_exporter(redis_url=redis_server.url())
    assert jobs(timely_metrics(exporter), "arq", "arq:queue")["ready"] == 3
    # when it dies
    os.kill(redis_server.pid, signal.SIGKILL)
    assert_down(timely_metrics(exporter), "default")
    # and comes back, empty: then the queue known before is empty, and says so
    redis_server.restart()
    timely_metrics(exporter)
    metrics = timely_metrics(exporter)
    assert broker_up(metrics) == 1
    assert jobs(metrics, "arq", "arq:queue") == {"ready": 0, "scheduled": 0, "running": 0}


def test_redis_restarted_between_two_scrapes(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    exporter = start_exporter(redis_url=redis_server.url())
    timely_metrics(exporter)
    redis_server.restart()
    # then nobody notices
    metrics = timely_metrics(exporter)
    assert broker_up(metrics) == 1
    assert [success(metrics, name) for name in ("arq", "celery", "redis_info")] == [1, 1, 1]


def test_wrong_password(start_redis: StartRedis, start_exporter: StartExporter) -> None:
    server = start_redis(requirepass="right")
    wrong = "wr0ng/@%:canary"
    url = f"redis://:{quote(wrong, safe='')}@127.0.0.1:{server.port}/0"
    exporter = start_exporter(redis_url=url)
    # when scraped again and again
    for _ in range(5):
        assert_down(timely_metrics(exporter), "default")
    # then each collector's failure is logged, in one line and once
    lines = [line for line in exporter.log.splitlines() if "collector failed" in line]
    assert len(lines) == 4
    assert all("WRONGPASS: " in line and "invalid username-password pair" in line for line in lines)
    shown = exporter.log + exporter.get("/").text + exporter.get("/metrics").text
    assert wrong not in shown
    assert quote(wrong, safe="") not in shown


def test_right_password_with_characters_that_a_url_must_escape(
    start_redis: StartRedis, start_exporter: StartExporter
) -> None:
    password = "p@ss/w:rd%?#[é"
    server = start_redis(requirepass=password)
    exporter = start_exporter(redis_url=server.url())
    assert broker_up(timely_metrics(exporter)) == 1
    shown = exporter.log + exporter.get("/").text + exporter.get("/metrics").text
    assert password not in shown
    assert quote(password, safe="") not in shown


def test_a_redis_that_loads_its_data_is_down_until_it_has(
    start_redis: StartRedis, start_exporter: StartExporter
) -> None:
    # given a server with a dump that takes long to load
    server = start_redis(enable_debug_command="yes", key_load_delay="100", loading_process_events_interval_bytes="1024")
    client = server.client()
    enqueue_arq(server.url(), 2, GATE)
    exporter = start_exporter(redis_url=server.url())
    assert jobs(timely_metrics(exporter), "arq", "arq:queue")["ready"] == 2
    client.execute_command("DEBUG", "POPULATE", "50000", "k", "10")  # type: ignore[no-untyped-call]
    client.save()
    # when it starts again
    server.restart()
    timely_metrics(exporter)
    metrics = timely_metrics(exporter)
    # then it is down, though INFO answers
    assert broker_up(metrics) == 0
    assert jobs(metrics, "arq", "arq:queue") == {}
    assert "LOADING" in exporter.log or "loading" in exporter.log
    # and up when it has loaded
    server.client().config_set("key-load-delay", "0")
    wait_until(lambda: broker_up(timely_metrics(exporter)) == 1, 30)
    wait_until(lambda: jobs(timely_metrics(exporter), "arq", "arq:queue").get("ready") == 2)


def test_a_key_of_the_wrong_type_is_that_queues_problem_only(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    # given a text where a queue should be
    redis_server.client().set("bad", "text")
    enqueue_arq(redis_server.url(), 2, GATE)
    redis_server.client().lpush("good", "task")
    config = (
        f"brokers: [{{name: default, url: '{redis_server.url()}', "
        "arq: {queues: ['arq:queue', bad]}, celery: {queues: [bad, good]}}]"
    )
    exporter = start_exporter(config=config)
    metrics = timely_metrics(exporter)
    # then only it is absent, and the collectors say that something is wrong
    assert (success(metrics, "arq"), success(metrics, "celery")) == (0, 0)
    assert jobs(metrics, "arq", "arq:queue")["ready"] == 2
    assert jobs(metrics, "celery", "good").get("ready") == 1
    assert not [labels for _, labels in metrics if ("queue", "bad") in labels]
    assert broker_up(metrics) == 1
    assert "bad" in exporter.log
    assert "WRONGTYPE" in exporter.log


def test_queues_configured_are_read_where_the_search_is_forbidden(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    # given a user who may not SCAN
    client = redis_server.client()
    client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=["-scan"], keys=["*"])
    enqueue_arq(redis_server.url(), 2, GATE)
    config = f"brokers: [{{name: default, url: '{redis_server.url()}', arq: {{queues: ['arq:queue']}}}}]"
    exporter = start_exporter(config=config)
    metrics = timely_metrics(exporter)
    assert jobs(metrics, "arq", "arq:queue")["ready"] == 2
    assert success(metrics, "arq") == 0
    assert "NOPERM" in exporter.log or "no permissions" in exporter.log


def test_running_and_ready_are_absent_where_the_marks_may_not_be_read(
    redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    # given a user who may read the queue, but not who runs what
    enqueue_arq(redis_server.url(), 2, GATE)
    enqueue_arq(redis_server.url(), 1, GATE, _defer_by=3600)
    client = redis_server.client()
    client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=["-mget"], keys=["*"])
    metrics = timely_metrics(start_exporter(redis_url=redis_server.url()))
    assert jobs(metrics, "arq", "arq:queue") == {"scheduled": 1}
    assert success(metrics, "arq") == 0
