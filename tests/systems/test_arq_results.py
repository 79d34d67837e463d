"""What ARQ results say: every ending of a real worker, told as it really was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
from arq import Retry
from arq.jobs import DeserializationError, Job, SerializationError
from arq.worker import JobExecutionFailed

from exporter.model import Outcome
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.records.endings import MAX_TRIES
from exporter.systems.arq.records.results import Result
from tests.servers import RedisServer
from tests.systems.arq_stage import HUGE, QUEUE, ShopError, Stage, Tasks, raiser, read_whole, shortened, stage_on


@pytest.fixture
async def stage(redis_server: RedisServer, client: redis.Redis) -> AsyncIterator[Stage]:
    async with stage_on(redis_server.url(), client) as stage:
        yield stage


@pytest.mark.parametrize(
    "returned",
    [None, "text", "x" * HUGE, list(range(HUGE)), [7] * 10_000, {"st": 1, "ft": 2, "q": 3}, ["st", "ft", "q"]],
    ids=shortened,
)
@pytest.mark.parametrize(
    "argument", [None, "x" * HUGE, [["s", "r"]] * 2, list(range(HUGE)), [7] * 10_000, {"et": 1, "s": 0}], ids=shortened
)
async def test_success(stage: Stage, argument: Any, returned: Any) -> None:
    job = await stage.enqueue(argument)
    await stage.work(stage.task(lambda *_: returned))
    result = await told_or_unknown(stage, job, argument, returned)

    if result.outcome is Outcome.SUCCEEDED:
        assert (result.task, result.exception, result.retried) == ("task", None, 0)
        stage.check_run(job, result)


async def told_or_unknown(stage: Stage, job: Job, argument: Any, returned: Any) -> Result:
    """Only where both are too long, nobody can tell the outcome: `s` stands between them."""
    if not is_small(argument) and not is_small(returned):
        value = stage.client.get(f"arq:result:{job.job_id}")
        assert isinstance(value, bytes)
        result = read_whole(value)
        assert (result.outcome, result.task, result.queue) == (Outcome.UNKNOWN, "task", QUEUE)
        stage.check_run(job, result)
        return result
    return await stage.result(job)


def is_small(value: Any) -> bool:
    return value is None or len(value) < 1000


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("bad"), "ValueError"),
        (ValueError("x" * HUGE), "ValueError"),
        (KeyError([1] * HUGE), "KeyError"),
        (KeyError(), "KeyError"),
        (ShopError(order=1), "partial of ShopError"),
        (OSError(2, "no such file", "name"), "FileNotFoundError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "UnicodeDecodeError"),
        (ExceptionGroup("several", [ValueError(), KeyError()]), "ExceptionGroup"),
        (TypeError(ValueError), "TypeError"),
        # raised by a job that waited for the result of another
        (JobExecutionFailed("job expired"), "JobExecutionFailed"),
        (JobExecutionFailed("max 5 retries exceeded"), "JobExecutionFailed"),
        (JobExecutionFailed("function 'other' not found"), "JobExecutionFailed"),
        (JobExecutionFailed(), "JobExecutionFailed"),
        (DeserializationError("unable to deserialize job"), "DeserializationError"),
    ],
)
async def test_failure(stage: Stage, error: Exception, name: str) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(raiser(error)))
    result = await stage.result(job)

    assert (result.outcome, result.exception, result.retried) == (Outcome.FAILED, name.rpartition(" ")[2], 0)
    stage.check_run(job, result)


async def test_failure_with_long_arguments(stage: Stage) -> None:
    job = await stage.enqueue("x" * HUGE)
    await stage.work(stage.task(raiser(ValueError("bad"))))
    result = await stage.result(job)

    assert (result.outcome, result.exception) == (Outcome.FAILED, "ValueError")
    stage.check_run(job, result)


async def test_retries_and_then_success(stage: Stage) -> None:
    def body(attempt: int) -> None:
        if attempt < 3:
            raise Retry

    job = await stage.enqueue()
    await stage.work(stage.task(body))
    result = await stage.result(job)

    assert (result.outcome, result.tries, result.retried) == (Outcome.SUCCEEDED, 3, 2)
    assert len(stage.began[job.job_id]) == 3
    stage.check_run(job, result)


async def test_tries_used_up(stage: Stage) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(raiser(Retry())))
    result = await stage.result(job)

    assert (result.outcome, result.exception, result.retried) == (Outcome.FAILED, MAX_TRIES, 3)
    stage.check_no_run(job, result, attempts=3)


async def test_retry_where_the_worker_does_not_retry(stage: Stage) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(raiser(Retry(defer=1))), retry_jobs=False)
    result = await stage.result(job)

    assert (result.outcome, result.exception, result.retried) == (Outcome.FAILED, "Retry", 0)
    stage.check_run(job, result)


async def test_timeout(stage: Stage) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(lambda _: asyncio.Event().wait(), timeout=0.05))
    result = await stage.result(job)

    assert (result.outcome, result.exception) == (Outcome.FAILED, "TimeoutError")
    stage.check_run(job, result)


async def test_not_found(stage: Stage) -> None:
    job = await stage.enqueue(task="nobody's")
    await stage.work(stage.task(print))
    result = await stage.result(job)

    assert (result.outcome, result.task, result.exception) == (Outcome.NOT_FOUND, "nobody's", None)
    stage.check_no_run(job, result)


async def test_expired(stage: Stage) -> None:
    job = await stage.enqueue()
    stage.client.delete(f"arq:job:{job.job_id}")
    await stage.work(stage.task(print))
    result = await stage.result(job)

    assert (result.outcome, result.task, result.enqueued, result.exception) == (Outcome.EXPIRED, None, None, None)
    stage.check_no_run(job, result)


async def test_a_job_that_cannot_be_decoded(stage: Stage) -> None:
    job = await stage.enqueue()
    stage.client.set(f"arq:job:{job.job_id}", b"\x80\x04cut")
    await stage.work(stage.task(print))
    result = await stage.result(job)

    assert (result.outcome, result.task, result.enqueued) == (Outcome.UNDECODABLE, None, None)
    stage.check_no_run(job, result)


async def test_aborted_before_it_started(stage: Stage) -> None:
    job = await stage.enqueue()
    stage.client.zadd("arq:abort", {job.job_id: time.time() * 1000})
    await stage.work(stage.task(print))
    result = await stage.result(job)

    assert (result.outcome, result.task, result.exception) == (Outcome.ABORTED, "task", None)
    stage.check_no_run(job, result)


async def test_aborted_while_it_ran(stage: Stage) -> None:
    job = await stage.enqueue()
    worker = asyncio.create_task(stage.work(stage.task(lambda _: asyncio.Event().wait())))
    await stage.running.wait()
    assert await job.abort(poll_delay=0.01, timeout=10)
    await worker
    result = await stage.result(job)

    assert (result.outcome, result.task, result.exception) == (Outcome.ABORTED, "task", None)


async def test_a_result_that_cannot_be_pickled(stage: Stage) -> None:
    job = await stage.enqueue()
    await stage.work(stage.task(lambda *_: lambda: None))
    result = await stage.result(job)

    with pytest.raises(SerializationError):  # arq takes it for a failure, too
        await job.result()
    assert (result.outcome, result.exception) == (Outcome.FAILED, UNKNOWN)
    stage.check_run(job, result)


async def test_a_task_named_by_an_enum(stage: Stage) -> None:
    job = await stage.enqueue(task=Tasks.SEND)
    missing = await stage.enqueue(task=Tasks.SEND, _job_id="missing")
    await stage.work(stage.task(lambda *_: None, "send"), max_burst_jobs=1)
    await stage.work(stage.task(print, "other"))

    results = [await stage.result(job), await stage.result(missing)]
    assert [(result.task, result.outcome) for result in results] == [
        ("send", Outcome.SUCCEEDED),
        ("send", Outcome.NOT_FOUND),
    ]


async def test_an_attempt_given_by_the_producer(stage: Stage) -> None:
    job = await stage.enqueue(_job_try=2)
    await stage.work(stage.task(lambda *_: None))

    assert (await stage.result(job)).tries == 2
