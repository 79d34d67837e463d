"""Feeds that are cut in every way while results are being written: noticed, told, and every result counted once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import redis

from tests.e2e.pushing import (
    FEEDS,
    FINISHED,
    NeverFalls,
    celery_job,
    feed,
    finished,
    publish,
    stand,
    until_connected,
    writing_results,
)
from tests.e2e.reading import queue
from tests.e2e.truth import SHOWN_AT_ONCE, total
from tests.namespaces import Namespace, needs_namespace
from tests.servers import Exporter, RedisServer, StartExporter, StartRedis, wait_until
from tests.thorough import THOROUGH

TWO_BEATS = 10.0
SLACK = 5.0  # for a busy machine
QUEUE = "arq:queue"
STANDING = 200_000 if THOROUGH else 30_000
STOOD = "stood"
"""The task of jobs that had ended before the exporter came."""
SOON = {"X-Prometheus-Scrape-Timeout-Seconds": "1"}

Cut = Callable[[redis.Redis], None]


def rows(client: redis.Redis) -> list[dict[str, str]]:
    """The connections of the server."""
    return cast(list[dict[str, str]], client.client_list())


def cut_subscribers(client: redis.Redis) -> None:
    assert client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]


def cut_tracking(client: redis.Redis) -> None:
    (tracking,) = [row for row in rows(client) if "t" in row["flags"]]
    client.client_kill_filter(_id=tracking["id"])


def cut_all(client: redis.Redis) -> None:
    for row in rows(client):
        if row["name"] == "taskqueue-exporter":
            client.client_kill_filter(_id=row["id"])


@pytest.mark.slow
@pytest.mark.parametrize(("cut", "standing"), [(cut_subscribers, 0), (cut_tracking, 0), (cut_all, STANDING)])
def test_every_result_is_counted_once_though_the_feed_is_cut(
    cut: Cut, standing: int, redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    client = redis_server.client()
    stand(client, standing, STOOD)
    config = f"brokers: [{{name: default, url: '{redis_server.url()}', arq: {{queues: ['{QUEUE}']}}}}]"
    exporter = start_exporter(config=config, env=SHOWN_AT_ONCE)
    until_connected(exporter)
    watch = NeverFalls(exporter)

    with writing_results(redis_server.client()):
        for cuts in range(1, 5):
            seen = finished(watch.scrape(), "arq")
            wait_until(lambda seen=seen: finished(watch.scrape(), "arq") > seen + 100)  # type: ignore[misc]
            if cuts == 3:  # the first ones in the midst of a search, the others after it
                wait_until(lambda: queue(watch.scrape(), "kept_results", "arq", QUEUE, state="completed"), 60.0)
            cut(client)
            wait_until(lambda cuts=cuts: feed(watch.scrape(), "reconnects_total") == cuts, TWO_BEATS + SLACK)  # type: ignore[misc]

    all_results_are_counted(watch, client, standing)
    metrics = watch.scrape()
    assert total(metrics, FINISHED, task=STOOD) == 0
    assert 0 < feed(metrics, "gap_seconds_total") < 4 * TWO_BEATS
    assert feed(metrics, "connected") == 1
    events_arrive(watch, client)


@pytest.mark.slow
def test_a_server_that_comes_back_with_its_data(start_redis: StartRedis, start_exporter: StartExporter) -> None:
    server = start_redis(appendonly="yes", appendfsync="always")
    exporter = start_exporter(redis_url=server.url(), env=SHOWN_AT_ONCE)
    until_connected(exporter)
    watch = NeverFalls(exporter)

    # A client of its own: the server's are closed when it stops, also in the middle of a command of another thread.
    with redis.Redis.from_url(server.url()) as own, writing_results(own):
        wait_until(lambda: finished(watch.scrape(), "arq") > 100)
        server.restart()
        wait_until(lambda: feed(watch.scrape(), "reconnects_total") == 1, TWO_BEATS + SLACK)
        seen = finished(watch.scrape(), "arq")
        wait_until(lambda: finished(watch.scrape(), "arq") > seen + 100)

    client = server.client()
    all_results_are_counted(watch, client)
    assert feed(watch.scrape(), "gap_seconds_total") > 0
    events_arrive(watch, client)


@pytest.mark.slow
@needs_namespace
def test_a_silent_cut_is_noticed_within_two_beats(
    namespace: Namespace, start_redis: StartRedis, start_exporter: StartExporter, tmp_path: Path
) -> None:
    # given an exporter whose connections can be black-holed, and a way around that for the test
    path = str(tmp_path / "redis.sock")
    server = namespace.inside(lambda: start_redis(unixsocket=path))
    exporter = namespace.inside(lambda: start_exporter(redis_url=server.url(), env=SHOWN_AT_ONCE))
    around = redis.Redis(unix_socket_path=path)
    watch = InNamespace(namespace, exporter)
    wait_until(lambda: feed(watch.scrape(), "connected") == feed(watch.scrape(), "connected", "celery") == 1)

    with writing_results(redis.Redis(unix_socket_path=path)):
        wait_until(lambda: finished(watch.scrape(), "arq") > 100)
        # when
        namespace.black_hole(server.port)
        began = time.monotonic()
        # then all feeds say so
        for of in FEEDS:
            wait_until(lambda of=of: feed(watch.scrape(), "connected", of) == 0, TWO_BEATS + SLACK)  # type: ignore[misc]
        noticed = time.monotonic() - began
        gap = feed(watch.scrape(), "gap_seconds_total")
        assert gap > noticed - 2.0, "the gap began with the silence, not when that was noticed"
        wait_until(lambda: feed(watch.scrape(), "gap_seconds_total") > gap)
        # and when it is over
        namespace.heal()
        wait_until(lambda: feed(watch.scrape(), "connected") == 1, TWO_BEATS + SLACK)

    all_results_are_counted(watch, around)
    wait_until(lambda: all(feed(watch.scrape(), "connected", of) for of in FEEDS), TWO_BEATS + SLACK)
    events_arrive(watch, around)
    around.close()


class InNamespace(NeverFalls):
    """Scrapes an exporter that is in a namespace."""

    def __init__(self, namespace: Namespace, exporter: Exporter) -> None:
        super().__init__(exporter, **SOON)
        self._namespace = namespace

    def scrape(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return self._namespace.inside(super().scrape)


def all_results_are_counted(watch: NeverFalls, client: redis.Redis, before: int = 0) -> None:
    """As many jobs have ended as results stand, no more and no fewer, but for those that stood `before` we came."""
    written = sum(1 for _ in client.scan_iter("arq:result:*", count=1000)) - before
    wait_until(lambda: finished(watch.scrape(), "arq") >= written, 60.0)
    time.sleep(1.0)  # one counted twice would come late
    assert finished(watch.scrape(), "arq") == written


def events_arrive(watch: NeverFalls, client: redis.Redis) -> None:
    """Celery's events are counted as before."""
    seen = finished(watch.scrape(), "celery")
    publish(client, [event for n in range(100) for event in celery_job(f"after-{n}", "work")])
    wait_until(lambda: finished(watch.scrape(), "celery") == seen + 100)
