"""Loads flat out, against a Redis with its default limits: everything is counted, nothing is lost."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import flood
from tests.e2e.apps import START_DEADLINE
from tests.e2e.truth import (
    ARQ,
    CELERY,
    SHOWN_AT_ONCE,
    Expected,
    Rules,
    connected,
    differences,
    expect,
    feed_troubles,
    total,
)
from tests.servers import Exporter, RedisServer, StartExporter, wait_until

pytestmark = pytest.mark.slow

EVENTS = 500_000
RESULTS = 50_000
PACE = 200e6
"""Bytes a second: 390,000 events, many times what producers and workers were seen to publish. Written in advance and
unpaced it is up to 2,000,000; then three processes on two processors decide by chance whether the exporter is let read
before Redis holds 32 MB for it (see `bench/feeds.py`, which is not paced)."""
DEADLINE = 180.0
FINISHED = "taskqueue_jobs_finished_total"
WRITTEN_BEFORE = replace(CELERY, waits=lambda _: False)
"""What was sent more than 5 s before it is heard of has no wait: nothing tells whether a clock is wrong."""


def watch(start_exporter: StartExporter, url: str, feed: str) -> Exporter:
    exporter = start_exporter(redis_url=url, env=SHOWN_AT_ONCE)
    wait_until(lambda: connected(exporter.metrics(), feed), START_DEADLINE)
    return exporter


def let_loose(load: Path, server: RedisServer) -> dict[str, Any]:
    """Send a load; what its sender says of it."""
    process = flood.start(load, server.port, PACE)
    try:
        assert process.wait(DEADLINE) == 0, process.log
    finally:
        process.stop()
    told: dict[str, Any] = json.loads(process.log)
    return told


def assert_counted(exporter: Exporter, expected: Expected, rules: Rules) -> None:
    """Waits until as many jobs as expected are counted."""

    def finished() -> bool:
        return total(exporter.metrics(), FINISHED, system=rules.system) >= expected.finished

    with suppress(AssertionError):  # what is missing says more than that something is
        wait_until(finished, DEADLINE, interval=0.5)
    metrics = exporter.metrics()
    assert not differences(expected, metrics, rules.system)


def test_half_a_million_celery_events_flat_out_are_all_counted(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    jobs = flood.lives(EVENTS // flood.EVENTS_PER_TASK)
    flood.write_celery(tmp_path / "events", jobs)
    exporter = watch(start_exporter, redis_server.url(), "events")
    troubles = feed_troubles(exporter.metrics())
    told = let_loose(tmp_path / "events", redis_server)
    assert told["answers"].keys() == {":1"}  # one subscriber, never cut
    assert_counted(exporter, expect(jobs, WRITTEN_BEFORE), WRITTEN_BEFORE)
    assert feed_troubles(exporter.metrics()) == troubles
    assert total(exporter.metrics(), "taskqueue_feed_events_total", feed="events", kind="job") == EVENTS


def test_fifty_thousand_arq_results_flat_out_are_all_counted(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    jobs = flood.lives(RESULTS, attempts_of=25)
    flood.write_arq(tmp_path / "results", jobs)
    exporter = watch(start_exporter, redis_server.url(), "results")
    troubles = feed_troubles(exporter.metrics())
    told = let_loose(tmp_path / "results", redis_server)
    assert told["answers"] == {"+OK": RESULTS}
    assert_counted(exporter, expect(jobs, ARQ), ARQ)
    assert feed_troubles(exporter.metrics()) == troubles
