"""The built wheel of hooks/, in workers of the oldest and of the newest arq, each on the Python that goes with it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.stage import decoded
from tests.servers import ROOT, RedisServer
from tests.thorough import THOROUGH

pytestmark = pytest.mark.slow

STACKS = {"hooks-oldest": ("3.8", "3.9", "3.10"), "stack-arq": ("3.13", "3.12")}
"""Pinned requirements, and the Pythons to run them on: the first that is at hand, else that of the tests."""

WORKER = """
import asyncio, sys, time
import taskqueue_hooks
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import func, run_worker
from taskqueue_hooks import instrument, progress

redis = RedisSettings(port=int(sys.argv[1]))

async def add(ctx, one, other):
    progress(ctx, 1, 2, "half")
    return one + other

async def swallows(ctx):
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "not I"

async def turns(ctx):
    try:
        await asyncio.sleep(60)
    finally:
        raise LookupError

async def blocks(ctx):
    time.sleep(0.2)

late = [func(job, timeout=0.1) for job in (swallows, turns, blocks)]

@instrument(name="of the wheel")
class WorkerSettings:
    functions = [add, *late]
    redis_settings = redis
    burst = True
    poll_delay = 0.01

async def enqueue():
    pool = await create_pool(redis)
    await pool.enqueue_job("add", 1, other=2, _job_id="one")
    for function in late:
        await pool.enqueue_job(function.name)

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(enqueue())
worker = run_worker(WorkerSettings)
print(taskqueue_hooks.__file__)
print("arq:", worker.jobs_complete, worker.jobs_failed)
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


@pytest.mark.parametrize("stack", STACKS if THOROUGH else ["hooks-oldest"])
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
    entries: Any = redis_server.client().xrange("taskqueue:arq:events:arq:queue")
    ends = {end["task"]: end for end in (decoded(fields) for _, fields in entries)}
    assert ends["add"].items() >= {"v": "1", "job": "one", "outcome": "succeeded"}.items()
    assert {end["n"] for end in ends.values()} == {"1", "2", "3", "4"}
    # and what is made of jobs that do not mind their time-outs is what that arq makes of them, on that Python
    outcomes = Counter(end["outcome"] for end in ends.values())
    assert f"arq: {outcomes['succeeded']} {outcomes['failed']}\n" in said
    assert ends["blocks"]["outcome"] == "succeeded"
