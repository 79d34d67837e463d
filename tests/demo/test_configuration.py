"""What the demo tells its exporter to show."""

import sys
from pathlib import Path

import pytest

from exporter.collectors.processes.options import ProcessesOptions
from exporter.collectors.redis_info.collector import RedisInfoOptions
from exporter.config import load
from exporter.demo import roles
from exporter.demo.configuration import write_configuration
from exporter.demo.processes import pid_file

URL = "redis://127.0.0.1:1/0"


def test_every_collector_is_on(tmp_path: Path) -> None:
    config = load(write_configuration(tmp_path, URL, roles.worker_roles()))

    (broker,) = config.brokers
    assert broker.name == "default"
    assert set(broker.systems) == {"arq", "celery"}
    redis_info = broker.collectors["redis_info"]
    assert isinstance(redis_info, RedisInfoOptions)
    assert redis_info.latency_percentiles
    linux = {"cgroup", "processes"} if sys.platform == "linux" else set()
    assert set(config.host_collectors) == {"host", "filesystem"} | linux


@pytest.mark.skipif(sys.platform != "linux", reason="groups of processes are read from /proc")
def test_groups_are_of_the_demos_own_processes(tmp_path: Path) -> None:
    workers = roles.worker_roles()

    processes = load(write_configuration(tmp_path, URL, workers)).host_collectors["processes"]

    assert isinstance(processes, ProcessesOptions)
    assert {group.name: group.pid_file for group in processes.groups} == {
        worker.name: str(pid_file(tmp_path, worker)) for worker in workers
    }
