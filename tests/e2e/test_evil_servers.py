"""A broker that answers with nonsense, too much or nothing: the answer comes in time, and memory stays bounded."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e import evil
from tests.e2e.apps import enqueue_arq
from tests.e2e.reading import broker_up, families_of, feeds_connected, jobs, success
from tests.servers import Exporter, RedisServer, StartExporter, wait_until

DEADLINE = {"X-Prometheus-Scrape-Timeout-Seconds": "2"}
MEMORY = 192 * 1024 * 1024
"""A reply of 8 MiB on each of a dozen connections, twice: in hiredis' buffer and as an object. Unbounded, the worst of
these servers make it several times as much."""
ABOUT_THE_BROKER = {"taskqueue_broker_up", "taskqueue_collector_success", "taskqueue_collector_duration_seconds"}


def peak_memory(exporter: Exporter) -> int:
    """The most that was ever resident, in bytes."""
    lines = Path(f"/proc/{exporter.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The peak memory of an exporter that watches no broker."""
    exporter = Exporter(tmp_path_factory.mktemp("usual"), config="brokers: []")
    try:
        exporter.metrics()
        return peak_memory(exporter)
    finally:
        exporter.stop()


@pytest.mark.parametrize(
    "behave",
    [
        evil.huge_string,
        evil.long_string,
        evil.endless_line,
        evil.many_strings,
        evil.huge_array,
        evil.nested_array,
        evil.garbage,
        evil.wrong_types,
        evil.silence,
        evil.trickle,
        evil.hang_up,
    ],
)
def test_an_evil_broker_spoils_nothing_but_itself(
    behave: evil.Behaviour, usual: int, redis_server: RedisServer, start_exporter: StartExporter
) -> None:
    enqueue_arq(redis_server.url(), 3, "/nonexistent")
    with evil.evil_server(behave) as url:
        # given a configured queue, so that commands in pipelines are sent from the start
        config = (
            f"brokers: [{{name: evil, url: '{url}', arq: {{queues: [a, b, c]}}, celery: {{queues: [a, b, c]}}}}, "
            f"{{name: good, url: '{redis_server.url()}'}}]"
        )
        exporter = start_exporter(config=config)
        for _ in range(2):
            # when
            began = time.monotonic()
            metrics = exporter.metrics(headers=DEADLINE)
            # then
            assert time.monotonic() - began < 2.0
            assert broker_up(metrics, "evil") == 0
            assert success(metrics, "arq", "evil") == 0
            assert success(metrics, "celery", "evil") == 0
            assert families_of(metrics, "evil") == ABOUT_THE_BROKER
            assert feeds_connected(metrics, "evil") == {"results": 0, "hook": 0, "events": 0}
            assert broker_up(metrics, "good") == 1
            assert jobs(metrics, "arq", "arq:queue", "good")["ready"] == 3
        assert peak_memory(exporter) - usual < MEMORY
        assert "Traceback" not in exporter.log


def test_a_password_that_the_server_repeats_is_not_shown(start_exporter: StartExporter) -> None:
    password = "c4n@ry/%:s3cret"
    with evil.evil_server(evil.parrot) as url:
        exporter = start_exporter(redis_url=url.replace("//", f"//:{quote(password, safe='')}@"))
        assert broker_up(exporter.metrics()) == 0
        wait_until(lambda: "unknown command" in exporter.log)
        shown = exporter.log + exporter.get("/").text + exporter.get("/metrics").text
        assert password not in shown
        assert quote(password, safe="") not in shown
