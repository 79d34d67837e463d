"""How an attempt ended, against what arq's own worker made of it."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import pytest
from arq.constants import abort_jobs_ss, result_key_prefix
from arq.worker import Retry, RetryJob, Worker, func

from taskqueue_hooks import instrument
from taskqueue_hooks._jobs import KEY
from taskqueue_hooks._outcome import outcome_of
from tests.hooks.stage import Stage

pytestmark = pytest.mark.usefixtures("all_is_well")

Ctx = dict[Any, Any]
SHORT = 0.05
"""A time-out, in seconds."""


class OwnError(Exception):
    """Of the user's."""


async def works(ctx: Ctx) -> str:
    return "done"


async def raises(ctx: Ctx) -> None:
    raise OwnError("no")


async def wants_an_argument(ctx: Ctx, number: int) -> None:
    """Called without it."""


async def sleeps(ctx: Ctx) -> None:
    await asyncio.sleep(60)


async def swallows(ctx: Ctx) -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "not I"
    return "slept"


async def turns(ctx: Ctx) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise OwnError("instead") from None


async def tidies(ctx: Ctx) -> None:
    """Still tidies up when its time-out comes."""
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(6 * SHORT)


async def cancels_itself(ctx: Ctx) -> None:
    if ctx["job_try"] == 1:
        raise asyncio.CancelledError


async def asks_again(ctx: Ctx) -> None:
    if ctx["job_try"] == 1:
        raise Retry


async def asks_for_a_job_again(ctx: Ctx) -> None:
    if ctx["job_try"] == 1:
        raise RetryJob


async def started(stage: Stage, worker: Worker, jobs: int) -> asyncio.Task[None]:
    """Run a worker until so many jobs run: a job that is cancelled before its first step is never called."""
    run = asyncio.create_task(worker.async_run())
    await stage.until(lambda: len(worker.job_tasks) == jobs)
    await asyncio.sleep(0)
    return run


def counted(worker: Worker) -> dict[str, int]:
    """Attempts as arq counts them."""
    return {"complete": worker.jobs_complete, "failed": worker.jobs_failed, "retried": worker.jobs_retried}


def told(stage: Stage) -> dict[str, int]:
    """The same by our records."""
    outcomes = [end["outcome"] for end in stage.ends()]
    return {
        "complete": outcomes.count("succeeded"),
        "failed": outcomes.count("failed") + outcomes.count("aborted"),
        "retried": outcomes.count("retried"),
    }


async def test_what_jobs_return_and_raise(stage: Stage) -> None:
    worker = await stage.run_jobs(works, raises, wants_an_argument, cancels_itself, asks_again, asks_for_a_job_again)
    assert stage.outcomes() == [
        ("asks_again", "retried", ""),
        ("asks_again", "succeeded", ""),
        ("asks_for_a_job_again", "retried", ""),
        ("asks_for_a_job_again", "succeeded", ""),
        ("cancels_itself", "retried", ""),
        ("cancels_itself", "succeeded", ""),
        ("raises", "failed", "OwnError"),
        ("wants_an_argument", "failed", "TypeError"),
        ("works", "succeeded", ""),
    ]
    assert told(stage) == counted(worker)
    assert sorted(end["try"] for end in stage.ends() if end["task"] == "asks_again") == ["1", "2"]


async def test_without_retries(stage: Stage) -> None:
    worker = await stage.run_jobs(cancels_itself, asks_again, asks_for_a_job_again, retry_jobs=False)
    assert stage.outcomes() == [
        ("asks_again", "failed", "Retry"),
        ("asks_for_a_job_again", "failed", "RetryJob"),
        ("cancels_itself", "aborted", ""),
    ]
    assert told(stage) == counted(worker)


async def test_time_outs(stage: Stage) -> None:
    """Of the function, else of the worker; whatever the function makes of it, as arq sees it."""
    own = func(sleeps, name="own", timeout=SHORT)
    worker = await stage.run_jobs(sleeps, swallows, turns, own, job_timeout=2 * SHORT)
    assert stage.outcomes() == [
        ("own", "failed", "TimeoutError"),
        ("sleeps", "failed", "TimeoutError"),
        ("swallows", "succeeded", ""),
        ("turns", "failed", "OwnError"),
    ]
    assert told(stage) == counted(worker)


async def test_aborts(stage: Stage) -> None:
    settings = instrument({"functions": [sleeps, swallows, turns], "allow_abort_jobs": True})
    worker = stage.worker(settings)
    names = ("sleeps", "swallows", "turns")
    await stage.enqueue(*names)
    run = await started(stage, worker, jobs=3)
    for name in names:
        await stage.pool.zadd(abort_jobs_ss, {f"{name}-1": 1})  # as Job.abort() does, which would wait for the result
    await run
    await worker.close()
    assert stage.outcomes() == [
        ("sleeps", "aborted", ""),
        ("swallows", "succeeded", ""),
        ("turns", "failed", "OwnError"),
    ]
    assert told(stage) == counted(worker)


async def test_a_stop(stage: Stage) -> None:
    """A worker that gets SIGTERM cancels its jobs and runs them again: the goodbye still writes how they ended."""
    tidying = func(tidies, name="tidies", timeout=2 * SHORT)
    functions = [sleeps, swallows, turns, tidying]
    # Else close() would cancel the jobs a second time.
    worker = stage.worker(instrument({"functions": functions}), handle_signals=True)
    await stage.enqueue("sleeps", "swallows", "turns", "tidies")
    run = await started(stage, worker, jobs=4)
    worker.handle_sig(signal.SIGTERM)
    with pytest.raises(asyncio.CancelledError):
        await run
    await worker.close()
    assert told(stage) == counted(worker)
    outcomes = {end["task"]: end["outcome"] for end in stage.ends()}
    assert outcomes["sleeps"] == outcomes["tidies"] == "retried"
    assert outcomes["swallows"] == ("retried" if sys.version_info < (3, 12) else "succeeded")


class Lost(BaseException):
    """Ends the process, as SystemExit does; asyncio lets those two through to the loop itself."""


async def test_what_ends_the_process_ends_no_job(stage: Stage) -> None:
    async def exits(ctx: Ctx) -> None:
        raise Lost

    worker = stage.worker(instrument({"functions": [func(exits, name="exits")]}, beat=60))
    await stage.enqueue("exits")
    with pytest.raises(Lost):
        await worker.async_run()
    reporter = vars(worker)[KEY]
    await stage.until(lambda: not reporter.reports)
    assert not reporter.running
    assert stage.ends() == []
    worker.tasks.clear()


async def test_what_is_kept(stage: Stage) -> None:
    """By the function's settings, else the worker's, and never of a retry; against the results that arq wrote."""
    functions = [
        func(works, name="of_the_worker"),
        func(works, name="nothing", keep_result=0),
        func(works, name="a_while", keep_result=60),
        func(works, name="for_ever", keep_result=0, keep_result_forever=True),
        func(raises, name="a_failure", keep_result=60),
        asks_again,
    ]
    for keep_result in (0, 60):
        stage.client.flushdb()
        await stage.run_jobs(*functions, keep_result=keep_result)
        ends = stage.ends()
        results = {
            key.decode().removeprefix(result_key_prefix) for key in stage.client.scan_iter(result_key_prefix + "*")
        }
        assert {end["job"] for end in ends if end["kept"] == "1"} == results
        assert {end["kept"] for end in ends if end["outcome"] == "retried"} == {"0"}
        assert ("of_the_worker-1" in results) is (keep_result > 0)


@pytest.mark.parametrize(
    ("elapsed", "limit", "told"),
    [
        (0.9, 1.0, ("retried", "")),
        (0.995, 1.0, ("failed", "TimeoutError")),  # a timer may be a little early
        (9e9, None, ("retried", "")),
        (0.0, 0.0, ("failed", "TimeoutError")),
    ],
)
async def test_a_cancelled_job_timed_out_if_it_ran_so_long(
    stage: Stage, elapsed: float, limit: float | None, told: tuple[str, str]
) -> None:
    worker = stage.worker({"functions": [works]})
    assert outcome_of(asyncio.CancelledError(), worker, "1", elapsed, limit) == told


async def test_a_time_out_of_nothing(stage: Stage) -> None:
    """Of the function, though the worker's is longer. Such a job has not even a first step, but by a direct call."""
    worker = await stage.run_jobs(func(sleeps, name="at_once", timeout=0))
    assert worker.jobs_failed == 1
    told = [("at_once", "failed", "TimeoutError")]
    assert stage.outcomes() == []

    worker = await stage.start(instrument({"functions": [func(cancels_itself, name="at_once", timeout=0)]}))
    with pytest.raises(asyncio.CancelledError):
        await worker.functions["at_once"].coroutine({"job_id": "1", "job_try": 1, "score": 1000})
    await stage.until(lambda: stage.outcomes()[-1:] == told)


async def test_exceptions_pass_unchanged(stage: Stage) -> None:
    error = OwnError("the same")

    async def breaks(ctx: Ctx) -> None:
        raise error

    worker = await stage.start(instrument({"functions": [func(breaks, name="breaks")]}))
    job = {"job_id": "1", "job_try": 1, "score": 1000}
    with pytest.raises(OwnError) as raised:
        await worker.functions["breaks"].coroutine({**worker.ctx, **job})
    assert raised.value is error
    assert error.__cause__ is error.__context__ is None
    assert raised.traceback[-1].name == "breaks"
    await stage.until(lambda: stage.outcomes() == [("breaks", "failed", "OwnError")])


async def test_an_abort_of_a_job_with_a_long_id(stage: Stage) -> None:
    """arq knows the job by its whole id, however much of it is written."""
    await stage.start(instrument({"functions": [sleeps], "allow_abort_jobs": True}, beat=0.05))
    job = await stage.pool.enqueue_job("sleeps", _job_id="x" * 600)
    assert job is not None
    await stage.until(stage.running)
    assert await job.abort(timeout=10)
    (end,) = await stage.until(stage.ends)
    assert (end["outcome"], end["job"]) == ("aborted", "x" * 512)
