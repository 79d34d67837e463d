"""Brokers that Prometheus finds at `/sd` and scrapes at `/probe`, each for itself."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.e2e.prometheus import Prometheus
from tests.servers import LOOPBACK, RedisServer, StartExporter, wait_until

CONFIG = """
brokers:
- {{name: main, url: "{server}/0"}}
- {{name: one, url: "{server}/1", probe: true}}
- {{name: two, url: "{server}/2", probe: true}}
"""
DISCOVERY = """
  - job_name: probes
    http_sd_configs: [{{url: "{url}/sd", refresh_interval: 1s}}]
"""


@pytest.mark.needs("prometheus")
def test_prometheus_scrapes_each_broker_for_itself(
    redis_server: RedisServer, start_exporter: StartExporter, tmp_path: Path
) -> None:
    # given three databases of one server, two of them probed
    for db in range(3):
        redis_server.client(db).lpush("celery", *["task"] * (db + 1))
        redis_server.client(db).sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
    exporter = start_exporter(config=CONFIG.format(server=redis_server.url().removesuffix("/0")))
    prometheus = Prometheus(tmp_path, exporter.port, DISCOVERY.format(url=exporter.url))
    try:
        # when Prometheus has scraped them
        wait_until(lambda: prometheus.value("count(up == 1)") == 3, 30)
        ready = 'taskqueue_queue_jobs{{state="ready", broker="{}"}}'
        depths = [ready.format(broker) for broker in ("main", "one", "two")]
        wait_until(lambda: None not in [prometheus.value(depth) for depth in depths], 10)
        # then each broker stands in one target, and what they share in one
        assert [prometheus.value(depth) for depth in depths] == [1, 2, 3]
        assert prometheus.value(f'up{{instance="{LOOPBACK}:{exporter.port}/two", job="probes"}}') == 1
        assert prometheus.value('count(taskqueue_broker_up{job="probes"})') == 2
        assert prometheus.value("count(taskqueue_redis_instance_info)") == 1
        assert prometheus.value('count(taskqueue_redis_instance_info{broker="main", job="taskqueue"})') == 1
    finally:
        prometheus.stop()


def test_what_is_not_configured_is_not_connected_to(redis_server: RedisServer, start_exporter: StartExporter) -> None:
    exporter = start_exporter(redis_url=redis_server.url())
    with socket.create_server((LOOPBACK, 0)) as listener:
        listener.setblocking(False)
        url = f"redis://{LOOPBACK}:{listener.getsockname()[1]}/0"

        answers = [exporter.get(f"/probe?{name}={url}").status for name in ("broker", "target")]

        assert answers == [404, 400]
        with pytest.raises(BlockingIOError):
            listener.accept()
