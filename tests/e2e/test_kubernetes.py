"""The pod of deploy/kubernetes without a cluster: its arguments, its files and its probes, with a real Redis."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.manifests import BASE, container, pod
from tests.servers import (
    EXPORTER_PYTHON,
    LOOPBACK,
    ROOT,
    Process,
    RedisServer,
    exporter_environment,
    free_port,
    parse_metrics,
    series,
    wait_until,
)

PORT: Final = 10177
GRACE: Final = pod()["spec"]["terminationGracePeriodSeconds"]
IN_A_POD: Final = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


class Pod:
    """The container's process, with what is mounted below a directory, at another port of the loopback."""

    def __init__(self, directory: Path, secret: str) -> None:
        self.port = free_port()
        config, secrets = (directory / "config", directory / "secrets")
        mounts = {one["name"]: one["mountPath"] for one in container(pod())["volumeMounts"]}
        places = {mounts["config"]: str(config), mounts["redis"]: str(secrets)}
        for path in (config, secrets):
            path.mkdir()
        (config / "exporter.yml").write_text(_moved((BASE / "exporter.yml").read_text(), places))
        (secrets / "main").write_text(secret)
        places[f"=:{PORT}"] = f"={LOOPBACK}:{self.port}"
        args = [_moved(argument, places) for argument in container(pod())["args"]]
        command = [EXPORTER_PYTHON, "-m", "exporter.cli", *args]
        self.process = Process(command, directory / "log", ROOT, exporter_environment(IN_A_POD))

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of a GET; status 0 while nothing listens."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def probed(self, name: str) -> bool:
        """Whether a probe of the container is content."""
        probe: dict[str, Any] = container(pod())[name]
        return self.process.running and self.ask(probe["httpGet"]["path"])[0] == 200


def _moved(text: str, places: dict[str, str]) -> str:
    for old, new in places.items():
        text = text.replace(old, new)
    return text


@pytest.fixture
def running(redis_server: RedisServer, tmp_path: Path) -> Iterator[Pod]:
    """A pod that watches a Redis."""
    made = Pod(tmp_path, f"{redis_server.url()}\n")
    yield made
    made.process.stop()


def test_a_pod_becomes_ready_and_watches_the_redis_of_the_secret(running: Pod) -> None:
    wait_until(lambda: running.probed("startupProbe"))
    assert running.probed("readinessProbe")
    assert running.probed("livenessProbe")
    assert parse_metrics(running.ask("/metrics")[1])[series("taskqueue_broker_up", broker="main")] == 1


def test_a_redis_that_is_down_makes_no_pod_unready(running: Pod, redis_server: RedisServer) -> None:
    wait_until(lambda: running.probed("startupProbe"))
    redis_server.stop()
    down = series("taskqueue_broker_up", broker="main")
    wait_until(lambda: parse_metrics(running.ask("/metrics")[1])[down] == 0)
    assert running.probed("readinessProbe")
    assert running.probed("livenessProbe")


def test_a_pod_ends_within_its_grace(running: Pod) -> None:
    wait_until(lambda: running.probed("startupProbe"))
    running.process.signal(signal.SIGTERM)
    assert running.process.wait(GRACE) == 0


def test_a_pod_of_a_redis_that_was_never_there_starts(tmp_path: Path) -> None:
    made = Pod(tmp_path, f"redis://{LOOPBACK}:{free_port()}/0")
    try:
        wait_until(lambda: made.probed("startupProbe"))
    finally:
        made.process.stop()
