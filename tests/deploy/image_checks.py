"""What the built images do when they are run as they are to be run. Not collected: scripts/image-check calls it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from exporter.demo.queues import REDIS_URL_VARIABLE
from tests.deploy.containers import (
    ADDRESS,
    HARDENED,
    HEALTHCHECK,
    IMAGE,
    OF_THE_ENGINE,
    SAMPLE,
    SHELLS,
    URL,
    USER,
    Container,
    podman,
)
from tests.servers import LOOPBACK, RedisServer, free_port, parse_metrics, series, wait_until

Run = Callable[..., Container]


@pytest.fixture
def run() -> Iterator[Run]:
    """Start containers: `run(IMAGE, "arguments", options=("--network=none",), env={})`."""
    with ExitStack() as stack:

        def start(*arguments: str, options: tuple[str, ...] = ("--network=none",), **env: str) -> Container:
            container = Container(*arguments, options=options, env=env)
            stack.callback(container.remove)
            return container

        yield start


@pytest.fixture
def exporter(run: Run) -> Container:
    """The exporter as the image has it but for the Redis, where nothing answers."""
    container = run(IMAGE, **{URL: "redis://127.0.0.1:1/0"})
    container.wait_until_healthy()
    return container


def test_it_runs_as_nobody_and_may_nothing(exporter: Container) -> None:
    status = dict(re.findall(r"^(\w+):\s+(.*)$", exporter.proc("status"), re.MULTILINE))

    assert status["Uid"].split() == status["Gid"].split() == [str(USER)] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


WRITABLE = """
import os
for folder, folders, files in os.walk("/"):
    if folder in ("/proc", "/sys"):
        folders.clear()
        continue
    for path in [folder, *(os.path.join(folder, name) for name in files)]:
        if not os.path.islink(path) and os.access(path, os.W_OK):
            print(path)
"""


def test_it_can_write_nowhere_and_leaves_nothing_where_it_could(exporter: Container) -> None:
    root = next(line.split() for line in exporter.proc("mounts").splitlines() if line.split()[1] == "/")
    folders = {path for path in exporter.python(WRITABLE) if not re.fullmatch(r"/dev/(?!shm|mqueue)[\w/]+", path)}

    assert "ro" in root[3].split(",")
    assert folders - SHELLS == OF_THE_ENGINE
    assert exporter.python("import os; print(*os.listdir('/dev/shm'))") == [""]


def test_without_read_only_its_user_still_owns_and_can_write_nothing_of_the_image() -> None:
    checked = podman("run", "--rm", "--network=none", "--entrypoint=python", IMAGE, "-c", WRITABLE)
    allowed = re.compile(r"/(dev|tmp|var/tmp|run/lock|var/lock|usr/share/zoneinfo/\.\w+)\b.*")

    assert checked.returncode == 0, checked.stderr
    assert {path for path in checked.stdout.splitlines() if not allowed.fullmatch(path)} == set()


def test_no_shell_is_needed(exporter: Container) -> None:
    assert exporter.run("sh", "-c", "true").returncode != 0  # there is none
    assert exporter.proc("comm").strip() == "taskqueue-expor"  # the kernel keeps 15 characters
    assert podman("top", exporter.name, "pid").stdout.split() == ["PID", "1"]


def test_its_health_check_says_yes_and_no(exporter: Container) -> None:
    assert podman("healthcheck", "run", exporter.name).returncode == 0

    elsewhere = exporter.run(*HEALTHCHECK, **{ADDRESS: ":1"})
    podman("kill", "--signal=STOP", exporter.name)
    stands_still = podman("healthcheck", "run", exporter.name)
    podman("kill", "--signal=CONT", exporter.name)

    assert elsewhere.returncode == 1
    assert re.fullmatch(r"taskqueue-exporter: unhealthy: .*refused\n", elsewhere.stderr)
    assert stands_still.returncode == 1


def test_it_tells_of_a_real_redis(run: Run, redis_server: RedisServer) -> None:
    address = f"{LOOPBACK}:{free_port()}"
    container = run(IMAGE, options=("--network=host",), **{URL: redis_server.url(), ADDRESS: address})
    container.wait_until_healthy()

    def metrics() -> dict[Any, float]:
        get = f"import urllib.request as r; print(r.urlopen('http://{address}/metrics').read().decode(), end='')"
        return parse_metrics("\n".join(container.python(get)) + "\n")

    wait_until(lambda: metrics().get(series("taskqueue_broker_up", broker="default")) == 1)


def test_it_stops_at_once_and_well(exporter: Container) -> None:
    start = time.monotonic()
    podman("stop", "--time=20", exporter.name)
    took = time.monotonic() - start

    assert exporter.state["ExitCode"] == 0, exporter.logs
    assert took < 3, f"{took:.1f} s"


def test_a_bad_configuration_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "config.yml"
    file.write_text("brokers: nonsense\n")
    ended = podman("run", "--rm", *HARDENED, f"--volume={file}:/config.yml:ro", IMAGE, "--config.file=/config.yml")
    lines = [line for line in ended.stderr.splitlines() if "level=error" not in line]  # podman's own, without systemd

    assert ended.returncode == 2
    assert len(lines) == 1
    assert lines[0].startswith("taskqueue-exporter: error: /config.yml")


def test_nothing_is_compiled_when_it_serves(run: Run) -> None:
    container = run(IMAGE, **{URL: "redis://127.0.0.1:1/0", "PYTHONVERBOSE": "1"})
    # Some modules are loaded once it listens: they are there when it has answered.
    wait_until(lambda: container.run(*HEALTHCHECK, PYTHONVERBOSE="").returncode == 0, deadline=30, interval=0.5)
    loaded = re.findall(r"^# code object from '?([^'\n]+)", container.logs, re.MULTILINE)

    assert len(loaded) > 200
    assert [path for path in loaded if not path.endswith(".pyc")] == []


@pytest.mark.parametrize(
    ("worker", "asked"),
    [
        (
            ("arq", "exporter.demo.apps.arq_app.GENERAL"),
            ("arq", "--check", "exporter.demo.apps.arq_app.GENERAL"),
        ),
        (
            ("celery", "-A", "exporter.demo.apps.celery_app", "worker", "--concurrency=2", "--hostname=sample@test"),
            ("celery", "-A", "exporter.demo.apps.celery_app", "inspect", "ping", "--destination=sample@test"),
        ),
    ],
    ids=["arq", "celery"],
)
def test_the_sample_works(run: Run, redis_server: RedisServer, worker: tuple[str, ...], asked: tuple[str, ...]) -> None:
    container = run(
        SAMPLE, *worker, options=("--network=host", "--passwd=false"), **{REDIS_URL_VARIABLE: redis_server.url()}
    )

    wait_until(lambda: container.run(*asked).returncode == 0, deadline=40, interval=0.5)

    assert f"{USER}\t{USER}" in container.proc("status")
    assert container.run("celery", "-A", "exporter.demo.apps.celery_app", "report").returncode == 0
