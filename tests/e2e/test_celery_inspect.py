"""What asking the workers costs them and Redis, and that it can be left."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.apps import START_DEADLINE, celery_producer, worker
from tests.e2e.reading import success
from tests.e2e.test_celery_workers import FIRST, INTERVAL, command, configuration, of_worker, staff, when
from tests.e2e.truth import SHOWN_AT_ONCE, total
from tests.servers import Exporter, RedisServer, StartExporter, wait_until

OVER = "that is all"
WRITING = {"PUBLISH", "SADD", "SREM", "DEL", "UNLINK", "LPUSH", "RPUSH", "PEXPIRE", "EXPIRE", "LPOP", "SET", "BRPOP"}


@contextmanager
def monitored(server: RedisServer) -> Iterator[list[dict[str, Any]]]:
    """Gathers every command that the server gets, until the end of the block."""
    seen: list[dict[str, Any]] = []
    started = threading.Event()

    def watch() -> None:
        with server.client().monitor() as monitor:  # type: ignore[no-untyped-call]
            started.set()
            while True:
                command = monitor.next_command()
                if OVER in command["command"]:
                    return
                seen.append(command)

    thread = threading.Thread(target=watch)
    thread.start()
    started.wait(10)
    try:
        yield seen
    finally:
        server.client().echo(OVER)
        thread.join(30)


def questions(seen: list[dict[str, Any]]) -> int:
    return sum(entry["command"].startswith("PUBLISH /0.celery.pidbox") for entry in seen)


def of_exporter(seen: list[dict[str, Any]]) -> list[str]:
    """The commands that came over connections that the exporter opened meanwhile."""
    ours = {
        (entry["client_address"], entry["client_port"])
        for entry in seen
        if entry["command"].upper().startswith("CLIENT SETNAME TASKQUEUE-EXPORTER")
    }
    return [entry["command"] for entry in seen if (entry["client_address"], entry["client_port"]) in ours]


def scrape_for(exporter: Exporter, seconds: float, per_second: int = 50) -> int:
    """Scrapes so often at once; how often."""
    end = time.monotonic() + seconds
    count = 0
    with ThreadPoolExecutor(8) as pool:
        while time.monotonic() < end:
            began = time.monotonic()
            count += len(list(pool.map(lambda _: exporter.metrics(), range(per_second // 10))))
            time.sleep(max(0.0, began + 0.1 - time.monotonic()))
    return count


def test_one_question_in_an_interval_whatever_the_number_of_scrapes(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    # given a worker that tells what it is asked
    exporter = start_exporter(config=configuration(redis_server))
    debug = ("--heartbeat-interval", "1", "--loglevel", "debug")
    with worker(tmp_path, redis_server.url(), *command(FIRST, "mail", *debug)) as process:
        when(exporter, lambda seen: staff(seen, "mail")[0] == 1)
        # when it is scraped for six intervals
        asked_before = process.log.count("pidbox received method")
        with monitored(redis_server) as seen:
            scrapes = scrape_for(exporter, 6 * INTERVAL)
        # then Redis and the worker saw one question in each
        assert scrapes > 50
        assert 5 <= questions(seen) <= 7
        wait_until(lambda: 5 <= process.log.count("pidbox received method") - asked_before <= 8)
        assert "ERROR/" not in process.log


def test_without_inspect_nothing_is_written_at_all(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    with worker(tmp_path, redis_server.url(), *command(FIRST, "mail")), monitored(redis_server) as seen:
        exporter = start_exporter(config=configuration(redis_server, inspect=False))
        metrics = when(exporter, lambda metrics: of_worker(metrics, "up", FIRST) == 1)
        scrape_for(exporter, 3 * INTERVAL)
        exporter.stop()
    sent = {command.split(maxsplit=1)[0].upper() for command in of_exporter(seen)}
    assert {"LLEN", "PSUBSCRIBE"} <= sent
    assert not sent & WRITING
    # and what only the workers know is absent
    assert staff(metrics, "mail") == (None, None, None)
    assert success(metrics, "celery") == 1


def test_with_inspect_nothing_is_left_in_redis(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    client = redis_server.client()
    with worker(tmp_path, redis_server.url(), *command(FIRST, "mail")):
        exporter = start_exporter(config=configuration(redis_server))
        when(exporter, lambda metrics: staff(metrics, "mail")[0] == 1)
        exporter.stop()
        assert not client.smembers("_kombu.binding.reply.celery.pidbox")
        wait_until(lambda: not list(client.scan_iter("taskqueue-exporter*")), 10)


@pytest.mark.parametrize("enabled", [True, False])
def test_workers_are_told_to_send_events_only_where_that_is_wanted(
    redis_server: RedisServer,
    start_exporter: StartExporter,
    tmp_path: Path,
    enabled: bool,
) -> None:
    quiet = [word for word in command(FIRST, "mail") if word != "--task-events"]
    config = configuration(redis_server, enable_events=enabled)
    exporter = start_exporter(config=config, env=SHOWN_AT_ONCE)
    with (
        worker(tmp_path, redis_server.url(), *quiet) as process,
        celery_producer(redis_server.url()) as hold,
    ):
        when(exporter, lambda seen: staff(seen, "mail")[0] == 1)
        seen = when(exporter, lambda seen: of_worker(seen, "registered_tasks", FIRST) == 1)
        if enabled:
            wait_until(lambda: "Events of group {task} enabled by remote" in process.log, START_DEADLINE)
        hold.apply_async((str(tmp_path),), queue="mail")
        wait_until(lambda: "succeeded" in process.log, START_DEADLINE)
        if enabled:
            seen = when(exporter, lambda seen: total(seen, "taskqueue_jobs_finished_total", task="hold") == 1)
        else:
            scrape_for(exporter, 1.0)
            assert total(exporter.metrics(), "taskqueue_jobs_finished_total", task="hold") == 0
            assert "enabled by remote" not in process.log
        assert success(seen, "celery") == 1
