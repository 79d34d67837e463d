"""A small ARQ application and a small Celery application: jobs enqueued, and workers run, by the real libraries.

The worker processes learn from the environment which Redis they belong to.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import celery
import psutil
from arq import create_pool
from arq.connections import RedisSettings
from arq.cron import CronJob, cron

from tests.servers import ROOT, Process

WORKER_URL = "E2E_WORKER_URL"
START_DEADLINE = 30.0

# -- ARQ --------------------------------------------------------------------------------------------------------


async def hold(_: dict[Any, Any], gate: str) -> None:
    """Runs until the file `gate` is there."""
    while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240  only the test can tell when
        await asyncio.sleep(0.02)


async def tick(ctx: dict[Any, Any]) -> None:
    """A cron job."""


class ArqWorker:
    """Settings of a worker with three slots."""

    functions: ClassVar[list[Any]] = [hold]
    redis_settings = RedisSettings.from_dsn(os.environ.get(WORKER_URL, "redis://"))
    max_jobs = 3
    poll_delay = 0.05
    job_completion_wait = 0


class ArqCronWorker:
    """Settings of a worker that runs one cron job, when it starts. (arq reads no inherited settings.)"""

    redis_settings = ArqWorker.redis_settings
    poll_delay = 0.05
    queue_name = "arq:cron"
    cron_jobs: ClassVar[list[CronJob]] = [cron(tick, month=1, day=1, run_at_startup=True)]


def enqueue_arq(url: str, count: int, *args: object, **options: Any) -> list[float]:
    """Enqueues `hold` jobs by `create_pool().enqueue_job`; gives the enqueue times that arq recorded."""

    async def enqueue() -> list[float]:
        pool = await create_pool(RedisSettings.from_dsn(url))
        try:
            jobs = [await pool.enqueue_job("hold", *args, **options) for _ in range(count)]
            infos = [await job.info() for job in jobs if job is not None]
            return [info.enqueue_time.timestamp() for info in infos if info is not None]
        finally:
            await pool.aclose()

    return asyncio.run(enqueue())


# -- Celery -----------------------------------------------------------------------------------------------------


def make_celery(url: str, **transport_options: Any) -> Any:
    """A Celery application with one task, `hold`, which runs until the file `gate` is there."""
    app = celery.Celery("e2e", broker=url, set_as_current=False)
    # Acknowledged late, one message a slot: what is unacknowledged is what runs.
    app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True)
    app.conf.broker_connection_retry_on_startup = True
    app.conf.broker_transport_options = transport_options

    @app.task(name="hold")  # type: ignore[untyped-decorator]
    def hold_gate(gate: str) -> None:
        while not Path(gate).exists():
            time.sleep(0.02)

    return app


celery_worker = make_celery(os.environ.get(WORKER_URL, "redis://"))


@contextmanager
def celery_producer(url: str, **transport_options: Any) -> Iterator[Any]:
    """The task `hold` of an application that only sends."""
    app = make_celery(url, **transport_options)
    try:
        yield app.tasks["hold"]
    finally:
        app.close()


# -- workers ----------------------------------------------------------------------------------------------------


@contextmanager
def worker(directory: Path, url: str, *command: str) -> Iterator[Process]:
    """A worker process; killed in the end, as one that waits for its jobs would wait for ever."""
    log = directory / f"{command[0]}-{time.monotonic_ns()}.log"
    process = Process([sys.executable, "-m", *command], log, cwd=ROOT, env=os.environ | {WORKER_URL: url})
    try:
        yield process
    finally:
        kill(process)


def kill(process: Process) -> None:
    """Kills a worker and its children, as the kernel does when memory is short. Harmless when it ended before."""
    children = psutil.Process(process.pid).children(recursive=True) if process.running else []
    process.signal(signal.SIGKILL)
    process.wait()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


ARQ_WORKER = ("arq", "tests.e2e.apps.ArqWorker")
ARQ_CRON_WORKER = ("arq", "tests.e2e.apps.ArqCronWorker")
CELERY_WORKER = (
    *("celery", "--app", "tests.e2e.apps:celery_worker", "worker", "--pool", "prefork", "--concurrency", "2"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "info"),
)
