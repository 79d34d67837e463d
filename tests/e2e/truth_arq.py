"""An ARQ application whose jobs record what happens to them, for two workers with a queue each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from itertools import islice
from typing import Any, ClassVar
from uuid import uuid4

from arq import ArqRedis, create_pool, func
from arq.connections import RedisSettings

from tests.e2e.apps import WORKER_URL
from tests.e2e.truth_acts import TIMEOUT, ask_for_abort, perform
from tests.e2e.truth_record import Recorder

QUEUES = ("arq:queue", "arq:letters")
FUNCTIONS = ("deliver", "charge", "synchronize", "render")
STRANGER = "nobody_knows"
"""A function that no worker has."""
MAX_TRIES = 3
SLOTS = 25
AT_ONCE = 50

_functions = [func(perform, name=name, max_tries=MAX_TRIES) for name in FUNCTIONS]


class FirstWorker:
    redis_settings = RedisSettings.from_dsn(os.environ.get(WORKER_URL, "redis://"))
    functions: ClassVar[list[Any]] = _functions
    queue_name = QUEUES[0]
    job_timeout = TIMEOUT
    max_jobs = SLOTS
    poll_delay = 0.05
    allow_abort_jobs = True


class SecondWorker:
    """The same beside the other queue. (arq reads no inherited settings.)"""

    redis_settings = FirstWorker.redis_settings
    functions: ClassVar[list[Any]] = _functions
    queue_name = QUEUES[1]
    job_timeout = TIMEOUT
    max_jobs = SLOTS
    poll_delay = 0.05
    allow_abort_jobs = True


WORKERS = (("arq", "tests.e2e.truth_arq.FirstWorker"), ("arq", "tests.e2e.truth_arq.SecondWorker"))


# -- enqueuing --------------------------------------------------------------------------------------------------

Enqueue = Callable[[ArqRedis, Recorder, str, str], Awaitable[object]]


def planned(
    *plan: str, fate: str | None = None, delay: float = 0.0, expires: float | None = None, job_id: str | None = None
) -> Enqueue:
    """A job that does as planned, or meets its fate."""

    async def enqueue(pool: ArqRedis, record: Recorder, task: str, queue: str) -> None:
        job_id = uuid4().hex
        record.enqueued(job_id, task, queue, delay=delay, fate=fate)
        options: dict[str, Any] = {
            "_job_id": job_id,
            "_queue_name": queue,
            "_defer_by": delay or None,
            "_expires": expires,
        }
        assert await pool.enqueue_job(task, list(plan), **options) is not None

    return enqueue


async def _aborted_early(pool: ArqRedis, record: Recorder, task: str, queue: str) -> None:
    """Its worker is asked for the abort before it can start."""
    job_id = uuid4().hex
    await ask_for_abort(pool, job_id)
    await planned("never runs", fate="aborted", job_id=job_id)(pool, record, task, queue)


async def _unknown(pool: ArqRedis, record: Recorder, task: str, queue: str) -> None:
    await planned("never runs", fate="not_found")(pool, record, STRANGER, queue)


KINDS: tuple[Enqueue, ...] = (
    *[planned("succeed")] * 7,
    planned("fail ValueError"),
    planned("fail KeyError"),
    planned("fail Refused"),
    planned("retry", "succeed"),
    planned("retry 0.2", "retry", "fail ValueError"),
    planned("hang"),
    planned("abort"),
    _aborted_early,
    planned("succeed", delay=1.5),
    planned("succeed", delay=3.0),
    planned("never runs", delay=0.5, expires=0.2, fate="expired"),
    _unknown,
    planned("retry", fate="failed/MaxTriesExceeded"),
)
"""What becomes of twenty jobs."""


async def enqueue(url: str, record: Recorder, count: int) -> None:
    """Enqueue `count` jobs: each kind with each function into each queue, in turn."""
    pool = await create_pool(RedisSettings.from_dsn(url))
    try:
        jobs = _jobs(pool, record, count)
        while batch := list(islice(jobs, AT_ONCE)):
            await asyncio.gather(*batch)
    finally:
        await pool.aclose()


def _jobs(pool: ArqRedis, record: Recorder, count: int) -> Iterator[Awaitable[object]]:
    for number in range(count):
        round_number, kind = divmod(number, len(KINDS))
        function, queue = round_number % len(FUNCTIONS), round_number // len(FUNCTIONS) % len(QUEUES)
        yield KINDS[kind](pool, record, FUNCTIONS[function], QUEUES[queue])
