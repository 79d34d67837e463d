"""An ARQ application whose jobs end in every way there is, and results as arq's own function writes them."""

from __future__ import annotations

import asyncio
import enum
import functools
import pickle
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from arq import create_pool, func
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job, serialize_result
from arq.worker import Worker

from exporter.model import Outcome, Unreadable
from exporter.systems.arq.records.fields import HEAD_BYTES, RESULT, TAIL_BYTES, UnreadableResult, is_cut
from exporter.systems.arq.records.results import NO_TASK, Result, Serializer, read_result
from tests.safe.hostile import nothing_runs

QUEUE = "arq:reports"
HUGE = 200_000
ET, ST, FT = 1_700_000_000_000, 1_700_000_001_000, 1_700_000_003_500
Serialize = Callable[[dict[str, Any]], bytes]


def read_whole(value: bytes, serializer: Serializer = Serializer.AUTO) -> Result:
    """As a feed reads it: the head, and the tail where the head was cut."""
    head = value[:HEAD_BYTES]
    return read_result(head, value[-TAIL_BYTES:] if is_cut(head) else b"", serializer)


class Tasks(enum.StrEnum):
    """Names of tasks, as some applications keep them."""

    SEND = "send"


class ShopError(Exception):
    """An exception of the user's own, which pickles by keyword."""

    def __init__(self, *, order: int) -> None:
        super().__init__(order)
        self.order = order

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(ShopError, order=self.order), ()


class Stage:
    """An ARQ application, and what its jobs record of themselves."""

    def __init__(self, pool: ArqRedis, client: redis.Redis, serializer: Serializer = Serializer.PICKLE) -> None:
        self.pool = pool
        self.client = client
        self.serializer = serializer
        self.began: dict[str, list[float]] = {}  # by job id, one for each attempt
        self.ended: dict[str, float] = {}
        self.running = asyncio.Event()

    def task(self, body: Callable[..., Any], name: str = "task", **options: Any) -> Any:
        """A function of the application: `body` gets the number of the attempt and the arguments."""

        async def run(ctx: dict[str, Any], *arguments: Any) -> Any:
            self.began.setdefault(ctx["job_id"], []).append(time.time())
            self.running.set()
            try:
                result = body(ctx["job_try"], *arguments)
                return await result if asyncio.iscoroutine(result) else result
            finally:
                self.ended[ctx["job_id"]] = time.time()

        return func(run, name=name, **options)

    async def enqueue(self, *arguments: Any, task: str = "task", **options: Any) -> Job:
        job = await self.pool.enqueue_job(task, *arguments, _queue_name=QUEUE, **options)
        assert job is not None
        return job

    async def work(self, *functions: Any, **options: Any) -> None:
        """A worker runs until the queue is empty."""
        options = {"poll_delay": 0.01, "max_tries": 3, "allow_abort_jobs": True} | options
        worker = Worker(
            functions, queue_name=QUEUE, redis_pool=self.pool, burst=True, handle_signals=False,
            job_serializer=self.pool.job_serializer, job_deserializer=self.pool.job_deserializer, **options,
        )  # fmt: skip
        await worker.async_run()

    async def result(self, job: Job) -> Result:
        """What is read of a job's result. Wherever arq tells a thing itself, it must be the same."""
        value = self.client.get(f"arq:result:{job.job_id}")
        assert isinstance(value, bytes)
        with nothing_runs():
            result = read_whole(value, self.serializer)
            assert result == read_whole(value)
        told = await job.result_info()
        assert told is not None
        assert result.queue == told.queue_name == QUEUE
        assert (result.task or NO_TASK) == told.function
        assert result.tries == told.job_try
        assert (result.enqueued or 0) == told.enqueue_time.timestamp()
        assert (result.outcome is Outcome.SUCCEEDED) is told.success
        assert result.finished == told.finish_time.timestamp()
        assert result.started in (None, told.start_time.timestamp())
        return result

    def check_run(self, job: Job, result: Result) -> None:
        """Started and finished enclose the last attempt (arq rounds to milliseconds)."""
        assert result.started is not None
        assert result.finished is not None
        assert result.started - 0.001 <= self.began[job.job_id][-1]
        assert all(began <= result.started + 0.001 for began in self.began[job.job_id][:-1])
        assert self.ended[job.job_id] <= result.finished + 0.001

    def check_no_run(self, job: Job, result: Result, attempts: int = 0) -> None:
        assert len(self.began.get(job.job_id, [])) == attempts
        assert result.started is None
        assert result.finished is not None


@asynccontextmanager
async def stage_on(
    url: str,
    client: redis.Redis,
    serializer: Serializer = Serializer.PICKLE,
    serialize: Serialize | None = None,
    deserialize: Callable[[bytes], dict[str, Any]] | None = None,
) -> AsyncIterator[Stage]:
    """An application that encodes its jobs and results so; by pickle unless told otherwise."""
    pool = await create_pool(
        RedisSettings.from_dsn(url), job_serializer=serialize, job_deserializer=deserialize
    )  # fmt: skip
    try:
        yield Stage(pool, client, serializer)
    finally:
        await pool.aclose()


def raiser(error: Exception) -> Callable[..., None]:
    def body(*_: Any) -> None:
        raise error

    return body


def shortened(value: object) -> str:
    return f"{value!r:.20}"


def written(protocol: int = 4, serialize: Serialize | None = None, **changes: Any) -> bytes:
    """A result as arq serializes it; `changes` by the names of its dict."""
    values: dict[str, Any] = {
        "t": 1, "f": "f", "a": (), "k": {}, "et": ET, "s": True, "r": None, "st": ST, "ft": FT, "q": QUEUE, "id": "id",
    } | changes  # fmt: skip
    t, f, a, k, et, s, r, st, ft, q, job_id = (values[field] for field in RESULT)
    serializer = serialize or functools.partial(pickle.dumps, protocol=protocol)
    value = serialize_result(f, a, k, t, et, s, r, st, ft, "ref", q, job_id, serializer=serializer)
    assert value is not None
    return value


def refused(value: bytes) -> Unreadable:
    with pytest.raises(UnreadableResult) as caught:
        read_whole(value)
    return caught.value.reason
