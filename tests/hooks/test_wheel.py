"""The built wheel of hooks/, in workers of the oldest and of the newest arq, each on the Python that goes with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.hooks.stage import decoded
from tests.servers import ROOT, RedisServer

pytestmark = pytest.mark.slow

STACKS = {"hooks-oldest": ("3.8", "3.9", "3.10"), "stack-arq": ("3.13", "3.12")}
"""Pinned requirements, and the Pythons to run them on: the first that is at hand, else that of the tests."""

WORKER = """
import asyncio, sys
import taskqueue_hooks
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import run_worker
from taskqueue_hooks import instrument, progress

redis = RedisSettings(port=int(sys.argv[1]))

async def add(ctx, one, other):
    progress(ctx, 1, 2, "half")
    return one + other

@instrument(name="of the wheel")
class WorkerSettings:
    functions = [add]
    redis_settings = redis
    burst = True
    poll_delay = 0.01

async def enqueue():
    pool = await create_pool(redis)
    await pool.enqueue_job("add", 1, other=2, _job_id="one")

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(enqueue())
worker = run_worker(WorkerSettings)
assert worker.jobs_complete == 1
print(taskqueue_hooks.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output and error of a command; AssertionError with both if it fails."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def pip(python: str | Path, *arguments: str | Path, cwd: Path) -> None:
    run(python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments, cwd=cwd)


def first_python(versions: Sequence[str]) -> str:
    for version in versions:
        found = subprocess.run([ROOT / "scripts" / "find-python", version], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.strip()
    return sys.executable


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    built = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, ROOT / "hooks")
    pip(sys.executable, *built, cwd=directory)
    (found,) = directory.glob("*.whl")
    return found


@pytest.mark.parametrize("stack", STACKS)
def test_a_worker_with_the_wheel(stack: str, wheel: Path, redis_server: RedisServer, tmp_path: Path) -> None:
    run(first_python(STACKS[stack]), "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    requirements = ROOT / "requirements" / f"{stack}.txt"
    pip(python, "install", "--quiet", "--no-compile", "--require-hashes", "-r", requirements, cwd=tmp_path)
    pip(python, "install", "--quiet", "--no-deps", wheel, cwd=tmp_path)
    (tmp_path / "worker.py").write_text(WORKER)

    said = run(python, "-W", "ignore", "worker.py", str(redis_server.port), cwd=tmp_path)

    assert str(tmp_path / "venv") in said
    assert "failed, jobs go on" not in said
    ((_, fields),) = redis_server.client().xrange("taskqueue:arq:events:arq:queue")  # type: ignore[misc]
    assert decoded(fields).items() >= {"v": "1", "n": "1", "job": "one", "task": "add", "outcome": "succeeded"}.items()
