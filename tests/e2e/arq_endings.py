"""An ARQ application in which jobs end in every way there is, with results kept and with none; see `truth_acts`.

Two workers, of which one keeps results and one does not, have the same functions, of which one keeps its results, one
does not, and one leaves that to the worker. Runs under every version of arq: it imports nothing else that is installed.

    python -m tests.e2e.arq_endings enqueue                       before the workers come
    python -m tests.e2e.arq_endings keeping plain|hooked          a worker, as it is or instrumented
    python -m tests.e2e.arq_endings forgetting plain|hooked       the other
    python -m tests.e2e.arq_endings ... plain|hooked shared       one of two that share a queue
    python -m tests.e2e.arq_endings again                         jobs while they run
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, ClassVar
from uuid import uuid4

from arq import ArqRedis, create_pool, cron, func, run_worker
from arq.connections import RedisSettings
from arq.constants import job_key_prefix, result_key_prefix
from arq.cron import CronJob
from arq.jobs import Job

from tests.e2e.truth_acts import TIMEOUT, ask_for_abort, perform
from tests.e2e.truth_record import HOOKED, PLAIN, UNKNOWN, Recorder, recorder

URL = "E2E_ENDINGS_URL"
"""The environment variable that says in which Redis."""
KEEP = 3600
KEEPING, FORGETTING = "arq:keeping", "arq:forgetting"
QUEUES = {KEEPING: KEEP, FORGETTING: 0}
"""For how long the worker of a queue keeps results."""
FUNCTIONS = {"settle": None, "archive": KEEP, "ping": 0}
"""For how long a function keeps its results, unless that is left to the worker."""
STRANGER = "nobody_knows"
"""A function that no worker has."""
MAX_TRIES = 3
SLOTS = 200
FEW_SLOTS = 8
"""Of a worker that shares its queue: the first to come shall not take most jobs."""
BEAT = 1.0
POLL = 0.1
EXPIRES = 1.0
"""Long enough for an exporter to learn which job it is that expires."""
LATER = 3.0
"""The delay of jobs that are still scheduled when the workers come."""

_record = recorder()


# -- workers ----------------------------------------------------------------------------------------------------


async def _tick(ctx: dict[str, Any], task: str, queue: str, plan: list[str]) -> None:
    """A cron job: its worker enqueued it, and alone knows when it was due."""
    _record.enqueued(ctx["job_id"], task, queue, at=ctx["score"] / 1000)
    await perform(ctx, plan)


def _cron(name: str, *plan: str, queue: str, at_startup: bool, **options: Any) -> CronJob:
    """A cron job that runs once, when the worker starts. No two have a name in common, so no two an id."""
    task = f"cron:{name} of {queue}"

    async def tick(ctx: dict[str, Any]) -> None:
        await _tick(ctx, task, queue, list(plan))

    # By the hour: arq 0.25 fails where the next time is in another month.
    in_half_a_day = (datetime.now().hour + 12) % 24
    return cron(tick, name=task, hour=in_half_a_day, minute=0, run_at_startup=at_startup, **options)


CRON_KEEPS = {"nightly": 0, "weekly": KEEP, "everywhere": 0, "by name": 0, "broken": 0, "broken but kept": KEEP}


def _crons(queue: str, *, at_startup: bool = True) -> list[CronJob]:
    job = partial(_cron, queue=queue, at_startup=at_startup)
    return [
        job("nightly", "succeed"),
        job("weekly", "succeed", keep_result=KEEP),
        job("everywhere", "succeed", unique=False),
        job("by name", "succeed", job_id=f"by name of {queue}"),
        job("broken", "fail ValueError"),
        job("broken but kept", "fail ValueError", keep_result=KEEP),
    ]


_functions = [func(perform, name=name, keep_result=keep, max_tries=MAX_TRIES) for name, keep in FUNCTIONS.items()]


class Keeping:
    redis_settings = RedisSettings.from_dsn(os.environ.get(URL, "redis://"))
    functions: ClassVar[list[Any]] = _functions
    queue_name, keep_result = KEEPING, KEEP
    cron_jobs: ClassVar[list[CronJob]] = _crons(queue_name)
    job_timeout = TIMEOUT
    max_jobs = SLOTS
    poll_delay = POLL
    allow_abort_jobs = True


class Forgetting:
    """The same beside the other queue. (arq reads no inherited settings.)"""

    redis_settings = Keeping.redis_settings
    functions: ClassVar[list[Any]] = _functions
    queue_name, keep_result = FORGETTING, 0
    cron_jobs: ClassVar[list[CronJob]] = _crons(queue_name)
    job_timeout = TIMEOUT
    max_jobs = SLOTS
    poll_delay = POLL
    allow_abort_jobs = True


WORKERS = {"keeping": Keeping, "forgetting": Forgetting}


def run(worker: str, kind: str, shared: str | None = None) -> None:
    """Runs a worker until a signal ends it. Of two that share a queue only the instrumented one starts cron jobs."""
    settings: Any = WORKERS[worker]
    options: dict[str, Any] = {"max_jobs": FEW_SLOTS} if shared else {}
    if shared and kind == PLAIN:
        options["cron_jobs"] = _crons(settings.queue_name, at_startup=False)
    if kind == HOOKED:
        from taskqueue_hooks import instrument

        settings = instrument(settings, beat=BEAT)
    run_worker(settings, **options)


def keeps(task: str, queue: str, *, early: bool) -> bool:
    """Whether a job's result is kept. What ends before it runs, arq keeps as the worker keeps, not as the function."""
    if task.startswith("cron:"):
        return bool(CRON_KEEPS[task.removeprefix("cron:").removesuffix(f" of {queue}")])
    by_function = None if early else FUNCTIONS.get(task)
    return bool(QUEUES[queue] if by_function is None else by_function)


# -- enqueuing --------------------------------------------------------------------------------------------------


class Producer:
    """Gives jobs away, and records that."""

    def __init__(self, pool: ArqRedis, record: Recorder) -> None:
        self._pool = pool
        self._record = record
        self._expiring: list[str] = []
        self._spoilt: list[str] = []

    async def enqueue(self) -> None:
        """Jobs of every kind. Returns when those that are to expire have."""
        for job in self._jobs():  # one at a time, else arq notes much later that it enqueues it than we do
            await job
        for job_id in self._expiring:
            while await self._pool.exists(job_key_prefix + job_id):  # noqa: ASYNC110  only Redis can tell
                await asyncio.sleep(0.02)
        for job_id in self._spoilt:
            await self._pool.set(job_key_prefix + job_id, b"\x80\x04no pickle", keepttl=True)

    async def again(self) -> None:
        """The jobs with ids of their own once more, where no result stands in the way; and one at a time."""
        for task, queue in _everywhere():
            job_id = _own_id(task, queue)
            while await self._pool.exists(job_key_prefix + job_id):  # noqa: ASYNC110  only Redis can tell
                await asyncio.sleep(0.02)
            if not await self._pool.exists(result_key_prefix + job_id):
                await self._give(task, queue, "succeed", job_id=job_id)
            await self._give(task, queue, "succeed")

    def _jobs(self) -> Iterator[Awaitable[object]]:
        for queue in QUEUES:
            yield self._give(STRANGER, queue, fate="not_found")
            yield self._scribble(queue)
        for task, queue in _everywhere():
            for plan in PLANS:
                yield self._give(task, queue, *plan)
            yield self._give(task, queue, "succeed", job_id=_own_id(task, queue))
            yield self._give(task, queue, "succeed", delay=LATER)
            yield self._give(task, queue, "retry", fate="failed/MaxTriesExceeded")
            for special in (self._expire, self._spoil, self._abort_queued, self._abort_scheduled):
                yield special(task, queue)

    async def _give(
        self,
        task: str,
        queue: str,
        *plan: str,
        job_id: str | None = None,
        delay: float = 0.0,
        fate: str | None = None,
        expires: float | None = None,
    ) -> str:
        """Enqueues a job; its id."""
        job_id, life = job_id or uuid4().hex, uuid4().hex
        self._record.enqueued(life, task, queue, delay=delay, fate=fate)
        options: dict[str, Any] = {"_job_id": job_id, "_queue_name": queue, "_defer_by": delay or None}
        job = await self._pool.enqueue_job(task, list(plan), life, _expires=expires, **options)
        assert job is not None
        return job_id

    async def _expire(self, task: str, queue: str) -> None:
        self._expiring.append(await self._give(task, queue, fate="expired", expires=EXPIRES))

    async def _spoil(self, task: str, queue: str) -> None:
        """Its definition is overwritten."""
        self._spoilt.append(await self._give(task, queue, fate="undecodable"))

    async def _scribble(self, queue: str) -> None:
        """A job that never had a definition that could be read: nobody knows its task."""
        job_id = uuid4().hex
        self._record.enqueued(job_id, UNKNOWN, queue, fate="undecodable")
        async with self._pool.pipeline(transaction=True) as pipe:
            pipe.set(job_key_prefix + job_id, b"by another serializer", px=KEEP * 1000)
            pipe.zadd(queue, {job_id: 1})
            await pipe.execute()

    async def _abort_queued(self, task: str, queue: str) -> None:
        await ask_for_abort(self._pool, await self._give(task, queue, fate="aborted"))

    async def _abort_scheduled(self, task: str, queue: str) -> None:
        """Which then ends at once, or in older versions of arq when it gets due."""
        job_id = await self._give(task, queue, delay=LATER, fate="aborted")
        with suppress(asyncio.TimeoutError):
            await Job(job_id, self._pool, _queue_name=queue).abort(timeout=0, poll_delay=0.01)


PLANS = (
    ("succeed",),
    ("fail ValueError",),
    ("fail KeyError",),
    ("fail Refused",),
    ("long",),
    ("fail long",),
    ("unpicklable",),
    ("hang",),
    ("abort",),
    ("retry", "succeed"),
    ("retry 0.2", "retry", "fail ValueError"),
)


def _everywhere() -> Iterator[tuple[str, str]]:
    return ((task, queue) for queue in QUEUES for task in FUNCTIONS)


def _own_id(task: str, queue: str) -> str:
    return f"the one {task} of {queue}"


async def _produce(what: Callable[[Producer], Awaitable[None]]) -> None:
    async with await create_pool(Keeping.redis_settings) as pool:
        await what(Producer(pool, _record))


PRODUCERS = {"enqueue": Producer.enqueue, "again": Producer.again}


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role in WORKERS:
        run(role, *rest)
    else:
        asyncio.run(_produce(PRODUCERS[role]))
