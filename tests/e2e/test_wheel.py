"""The built wheel, as a user installs it: in a fresh environment of each stack, far from the checkout."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import exporter
from tests.servers import ROOT, Exporter, RedisServer, exporter_environment, series

pytestmark = pytest.mark.slow

STACKS = ("stack-arq", "stack-celery57")
READY = {"arq": ("arq:queue", 3), "celery": ("celery", 2)}
"""What `fill()` leaves ready, by system: queue and number of jobs."""


def run(command: Sequence[str | Path], cwd: Path) -> str:
    """Standard output and error of a command; AssertionError with both if it fails."""
    # PYTHONPATH and the like would let the checkout in.
    env = {name: value for name, value in exporter_environment().items() if not name.startswith("PYTHON")}
    done = subprocess.run(  # a hanging index shall not hang the suite
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def make_venv(directory: Path) -> Path:
    """A fresh virtual environment's `bin`."""
    run([sys.executable, "-m", "venv", directory], cwd=directory.parent)
    return directory / "bin"


def pip(bin_directory: Path, *arguments: str | Path) -> str:
    command = [bin_directory / "python", "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    return run(command, cwd=bin_directory.parent)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    pip(Path(sys.executable).parent, "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, ROOT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module", params=STACKS)
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment with one stack as pinned and the wheel."""
    bin_directory = make_venv(tmp_path_factory.mktemp(request.param) / "venv")
    # Bytecode is made of what is used.
    stack = ("--no-compile", "--require-hashes", "-r", ROOT / "requirements" / f"{request.param}.txt")
    pip(bin_directory, "install", "--quiet", *stack)
    pip(bin_directory, "install", "--quiet", "--no-deps", wheel)
    return bin_directory


def fill(server: RedisServer) -> None:
    """Leave in Redis what arq and Celery leave there when jobs are enqueued and no worker runs."""
    client = server.client()
    now = int(time.time() * 1000)
    queue, jobs = READY["arq"]
    for number in range(jobs):
        job: dict[str, object] = {"t": None, "f": "send_email", "a": (), "k": {}, "et": now - 1000}
        client.set(f"arq:job:{number}", pickle.dumps(job))
        client.zadd(queue, {str(number): now - 1000})
    queue, jobs = READY["celery"]
    for number in range(jobs):
        client.lpush(queue, celery_message(str(number)))
    client.sadd(f"_kombu.binding.{queue}", f"{queue}\x06\x16\x06\x16{queue}")


def celery_message(task_id: str) -> str:
    """A task as kombu's Redis transport writes it into a queue's list (protocol 2)."""
    return json.dumps(
        {
            "body": "W1tdLCB7fSwge31d",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": "tasks.add", "id": task_id, "root_id": task_id, "retries": 0},
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "celery"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": task_id,
            },
        }
    )


def test_dependencies_agree(installed: Path) -> None:
    assert "No broken requirements" in pip(installed, "check")


def test_console_script_tells_its_version(installed: Path, tmp_path: Path) -> None:
    assert exporter.__version__ in run([installed / "taskqueue-exporter", "--version"], cwd=tmp_path)


@pytest.mark.parametrize("package", ["tests", "prometheus", "grafana", "bench", "hooks"])
def test_nothing_stray_is_importable(installed: Path, tmp_path: Path, package: str) -> None:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is not None)"
    run([installed / "python", "-c", code], cwd=tmp_path)


def test_serves_the_queues_of_a_redis(installed: Path, tmp_path: Path, redis_server: RedisServer) -> None:
    fill(redis_server)
    command = [os.fspath(installed / "taskqueue-exporter")]
    served = Exporter(tmp_path, redis_url=redis_server.url(), command=command, cwd=tmp_path)
    try:
        found = served.metrics()
    finally:
        served.stop()
    for system, (queue, jobs) in READY.items():
        labels = {"system": system, "broker": "default", "queue": queue, "state": "ready"}
        assert found[series("taskqueue_queue_jobs", **labels)] == jobs


def test_plain_install_resolves_at_the_first_try(tmp_path: Path) -> None:
    said = pip(make_venv(tmp_path / "venv"), "install", "--dry-run", ROOT)
    assert "Would install" in said
    assert "looking at multiple versions" not in said
    # It follows workers of any version, and is of none.
    assert not {"celery", "kombu", "arq"} & {word.rpartition("-")[0] for word in said.split()}
