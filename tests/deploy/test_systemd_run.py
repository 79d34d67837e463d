"""deploy/systemd: what the unit starts does its work under what the unit forbids."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from exporter.config import load
from tests.deploy.confined import LIBRARY, OLD_KERNEL
from tests.deploy.unit import CONFIG, UNIT, value, values
from tests.servers import (
    LOOPBACK,
    ROOT,
    Process,
    RedisServer,
    ServerFailed,
    StartRedis,
    exporter_environment,
    free_port,
    parse_metrics,
    series,
    wait_until,
)


def loopback() -> str:
    """That of IPv6, as the other one is used everywhere else; where there is none, that of IPv4."""
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        return LOOPBACK
    return "[::1]"


def settings(config: str, url_file: Path, directory: Path) -> Path:
    """The shipped configuration, with the credential elsewhere."""
    (broker,) = yaml.safe_load(config)["brokers"]
    file = directory / "exporter.yml"
    file.write_text(config.replace(broker["url_file"], str(url_file)))
    return file


def test_the_configuration_is_good_also_with_its_examples(tmp_path: Path) -> None:
    secret = tmp_path / "redis-url"
    secret.write_text("redis://exporter:password@redis:6379/0\n")
    shown = re.sub(r"^# (?=processes:|  )", "", CONFIG.read_text(), flags=re.MULTILINE)

    assert [broker.name for broker in load(settings(CONFIG.read_text(), secret, tmp_path)).brokers] == ["main"]
    assert shown != CONFIG.read_text()
    assert yaml.safe_load(shown)["processes"]["groups"]
    load(settings(shown, secret, tmp_path))


@dataclass
class Started:
    """What a unit starts, from here, confined as the unit says."""

    process: Process
    config: Path
    base: str

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.base}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def sample(self, name: str, **labels: str) -> float:
        return parse_metrics(httpx.get(f"{self.base}/metrics").text)[series(name, **labels)]

    def does_its_work(self) -> bool:
        try:
            self.process.wait_until_ready(self.ready, 20)
        except ServerFailed:
            if self.process.stop() == OLD_KERNEL:
                pytest.skip("the kernel has no PR_SET_MDWE")
            return False
        return self.sample("taskqueue_broker_up", broker="main") == 1


def start(config: Path, directory: Path, unit: str) -> Started:
    base = f"{loopback()}:{free_port()}"
    _, *arguments = shlex.split(value("ExecStart", unit))
    arguments[arguments.index("--config.file") + 1] = str(config)
    environment = dict(pair.split("=", 1) for pair in values("Environment", unit))
    environment["TASKQUEUE_EXPORTER_WEB_LISTEN_ADDRESS"] = base
    file = directory / "unit"
    file.write_text(unit)
    command = [sys.executable, "-m", "tests.deploy.confined", str(file)]
    command += [sys.executable, "-m", "exporter.cli", *arguments]
    process = Process(command, directory / "log", cwd=ROOT, env=exporter_environment(environment))
    return Started(process, config, f"http://{base}")


@pytest.fixture
def redis_on_a_socket(start_redis: StartRedis, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of one that is reached by a Unix socket."""
    file = tmp_path_factory.mktemp("run") / "redis.sock"
    start_redis(unixsocket=str(file))
    return f"unix://{file}?db=0"


def confined(url: str, directory: Path, unit: str) -> Iterator[Started]:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        assert os.environ.get("CI") != "true", LIBRARY
        pytest.skip(f"{LIBRARY} is not installed")
    secret = directory / "redis-url"
    secret.write_text(url + "\n")
    started = start(settings(CONFIG.read_text(), secret, directory), directory, unit)
    try:
        yield started
    finally:
        started.process.stop()


@pytest.fixture(params=["TCP", "Unix"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Started]:
    """The unit's command with the shipped configuration, to which Redis is by TCP or by a Unix socket."""
    if request.param == "TCP":
        redis: RedisServer = request.getfixturevalue("redis_server")
        yield from confined(redis.url(), tmp_path, UNIT.read_text())
    else:
        yield from confined(request.getfixturevalue("redis_on_a_socket"), tmp_path, UNIT.read_text())


@pytest.mark.needs("systemd-analyze", "redis-server")
def test_what_the_unit_starts_works_reloads_and_ends_under_what_it_forbids(running: Started) -> None:
    assert running.does_its_work(), running.process.log
    assert httpx.get(f"{running.base}/-/healthy").status_code == 200
    assert "not permitted" not in running.process.log
    # when its configuration is made bad, and it is told as the unit tells it
    running.config.write_text("nonsense: 1\n")
    reload = value("ExecReload").replace("$MAINPID", str(running.process.pid))
    subprocess.run(shlex.split(reload), check=True, timeout=10)
    # then it has looked, goes on, and ends when it is told to
    wait_until(lambda: running.sample("taskqueue_exporter_config_last_reload_successful") == 0)
    assert running.sample("taskqueue_broker_up", broker="main") == 1
    assert running.process.stop() == 0


@pytest.mark.needs("systemd-analyze")
@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("SystemCallFilter=~@privileged @resources", "SystemCallFilter=~@privileged @resources @network-io"),
        ("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "RestrictAddressFamilies=AF_INET"),
    ],
)
def test_a_unit_that_forbids_too_much_is_told(redis_on_a_socket: str, tmp_path: Path, line: str, instead: str) -> None:
    text = UNIT.read_text()
    assert f"\n{line}\n" in text
    for started in confined(redis_on_a_socket, tmp_path, text.replace(line, instead)):
        assert not started.does_its_work()
        assert "Traceback" not in started.process.log, "it was not even confined"


def test_systemd_does_not_restart_what_is_badly_configured(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yml"
    file.write_text("nonsense: 1\n")

    command = [sys.executable, "-m", "exporter.cli", "serve", "--config.file", str(file)]
    code = Process(command, tmp_path / "log", cwd=ROOT, env=exporter_environment()).wait()

    assert str(code) in value("RestartPreventExitStatus").split()
    assert value("Restart") == "on-failure"
