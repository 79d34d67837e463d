"""What is told of jobs that arq itself enqueued: which tasks run, which definitions have expired, what is to abort."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis
from arq import ArqRedis, Retry, Worker, create_pool, cron
from arq.connections import RedisSettings

from exporter.model import JobState, Observation
from exporter.systems.arq import Arq
from exporter.systems.arq.queues.front import PAGE
from tests.servers import RedisServer
from tests.systems.observing import between, state, state_when, watching

QUEUE = "reports:daily [eu]"
"""Of characters that are special in a pattern."""


@asynccontextmanager
async def producer(server: RedisServer, **settings: Any) -> AsyncIterator[ArqRedis]:
    pool = await create_pool(RedisSettings(port=server.port), default_queue_name=QUEUE, **settings)
    try:
        yield pool
    finally:
        await pool.aclose()


@pytest.fixture
async def pool(redis_server: RedisServer) -> AsyncIterator[ArqRedis]:
    async with producer(redis_server) as pool:
        yield pool


@pytest.fixture
async def arq(redis_server: RedisServer) -> AsyncIterator[Arq]:
    async with watching(Arq, redis_server, time.time, QUEUE, discover=False) as system:
        yield system


async def enqueue(pool: ArqRedis, *tasks: str, **options: Any) -> list[str]:
    """Enqueues jobs, due as long ago as one second; gives their ids."""
    jobs = [await pool.enqueue_job(task, 1, _defer_by=timedelta(seconds=-1), **options) for task in tasks]
    return [job.job_id for job in jobs if job is not None]


def start(client: redis.Redis, ids: Iterable[str]) -> None:
    """As workers do when they take jobs."""
    client.mset({f"arq:{key}:{job_id}": 1 for job_id in ids for key in ("in-progress", "retry")})


def finish(client: redis.Redis, job_id: str) -> None:
    """As arq's `finish_job` does with a function that keeps no result."""
    with client.pipeline(transaction=True) as pipeline:
        pipeline.zrem("arq:abort", job_id)
        pipeline.zrem(QUEUE, job_id)
        pipeline.delete(f"arq:in-progress:{job_id}", f"arq:retry:{job_id}", f"arq:job:{job_id}")
        pipeline.execute()


def restrict(client: redis.Redis, denied: str) -> None:
    """Takes a command away from everybody."""
    client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=[denied] * bool(denied))


def jobs(seen: Observation) -> tuple[int | None, int | None]:
    """How many are ready and how many run."""
    found = state(seen, QUEUE).jobs
    return found.get(JobState.READY), found.get(JobState.RUNNING)


# -- running ----------------------------------------------------------------------------------------------------


async def test_running_jobs_over_several_pages_are_told_by_task(arq: Arq, pool: ArqRedis, client: redis.Redis) -> None:
    ids = await enqueue(pool, *["send"] * (2 * PAGE), *["resize"] * 20, *["bill"] * 30)
    start(client, ids[: 2 * PAGE + 20])
    seen = await arq.observe()
    assert jobs(seen) == (30, 2 * PAGE + 20)
    assert seen.running == {"send": 2 * PAGE, "resize": 20}
    # when one ends, one is lost with its worker, and one starts
    finish(client, ids[0])
    client.delete(f"arq:in-progress:{ids[1]}")
    start(client, ids[-1:])
    seen = await arq.observe()
    assert jobs(seen) == (30, 2 * PAGE + 19)
    assert seen.running == {"send": 2 * PAGE - 2, "resize": 20, "bill": 1}
    assert not seen.problems


async def test_a_task_is_asked_for_once(
    arq: Arq, pool: ArqRedis, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await enqueue(pool, "send", "resize")
    start(client, ids[:1])
    assert (await arq.observe()).running == {"send": 1}
    asked: list[str] = []
    between(arq, monkeypatch, "GETRANGE", lambda: asked.append("again"))
    assert (await arq.observe()).running == {"send": 1}
    assert not asked
    start(client, ids[1:])
    assert (await arq.observe()).running == {"send": 1, "resize": 1}
    assert asked


async def test_a_running_job_whose_definition_is_gone(
    arq: Arq, pool: ArqRedis, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given one that outlives its definition, and one that ends while we look
    expired, ends = await enqueue(pool, "send", "resize")
    start(client, [expired, ends])
    client.delete(f"arq:job:{expired}")
    between(arq, monkeypatch, "GETRANGE", lambda: finish(client, ends))
    assert (await arq.observe()).running == {"__unknown__": 1}


async def test_lingering_keys_of_jobs_that_ended_do_not_count(arq: Arq, pool: ArqRedis, client: redis.Redis) -> None:
    (job,) = await enqueue(pool, "send")
    start(client, [job, "cron:tick:1700000000000", "crashed"])
    assert (await arq.observe()).running == {"send": 1}
    finish(client, job)
    start(client, [job])
    seen = await arq.observe()
    assert jobs(seen) == (0, 0)
    assert seen.running == {}


async def test_tasks_are_not_told_where_it_is_not_known_what_runs(
    arq: Arq, pool: ArqRedis, client: redis.Redis
) -> None:
    start(client, await enqueue(pool, "send"))
    client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=["-mget"], keys=["*"])
    seen = await arq.observe()
    assert jobs(seen) == (None, None)
    assert seen.running is None


async def test_a_key_that_is_no_queue_costs_nothing_but_itself(
    redis_server: RedisServer, pool: ArqRedis, client: redis.Redis
) -> None:
    start(client, await enqueue(pool, "send"))
    client.set("other", "text")
    async with watching(Arq, redis_server, time.time, QUEUE, "other", discover=False) as arq:
        seen = await arq.observe()
    assert [found.queue for found in seen.queues] == [QUEUE]
    assert seen.running == {"send": 1}
    assert len(seen.problems) == 1


async def test_tasks_in_json(redis_server: RedisServer, client: redis.Redis) -> None:
    def dumps(value: object) -> bytes:
        return json.dumps(value).encode()

    async with (
        producer(redis_server, job_serializer=dumps, job_deserializer=json.loads) as pool,
        watching(Arq, redis_server, time.time, QUEUE, discover=False) as auto,
        watching(Arq, redis_server, time.time, QUEUE, discover=False, serializer="json") as right,
        watching(Arq, redis_server, time.time, QUEUE, discover=False, serializer="pickle") as wrong,
    ):
        start(client, await enqueue(pool, "send", "send"))
        assert (await auto.observe()).running == (await right.observe()).running == {"send": 2}
        assert (await wrong.observe()).running == {"__unknown__": 2}


async def test_a_task_is_that_of_the_job_that_has_the_id_now(arq: Arq, pool: ArqRedis, client: redis.Redis) -> None:
    for task, age in ("send", 5), ("bill", 4):
        await pool.enqueue_job(task, _job_id="only-one", _defer_by=timedelta(seconds=-age))
        start(client, ["only-one"])
        assert (await arq.observe()).running == {task: 1}
        finish(client, "only-one")


async def test_a_task_is_forgotten_when_its_job_has_ended(arq: Arq, pool: ArqRedis, client: redis.Redis) -> None:
    # given an id that is used again with the due time of the job before
    due = timedelta(seconds=-5)
    for task in "send", "bill":
        await pool.enqueue_job(task, _job_id="only-one", _defer_by=due)
        client.zadd(QUEUE, {"only-one": 1_700_000_000_000})
        start(client, ["only-one"])
        assert (await arq.observe()).running == {task: 1}
        finish(client, "only-one")
        assert (await arq.observe()).running == {}


# -- between the reads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("denied", ["", "-exists"])
@pytest.mark.parametrize("marks", [["in-progress", "retry"], ["in-progress"]])
@pytest.mark.parametrize("before", ["MGET", "PTTL", "EXISTS"])
async def test_a_job_that_ends_while_we_look_is_never_ready(
    arq: Arq,
    pool: ArqRedis,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    marks: list[str],
    denied: str,
) -> None:
    # given one that runs, or has just been taken, and another one
    (ends, runs), long_ago = await enqueue(pool, "send", "send"), 1_700_000_000_000
    client.zadd(QUEUE, {ends: long_ago})
    client.mset({f"arq:{key}:{ends}": 1 for key in marks})
    start(client, [runs])
    restrict(client, denied)
    between(arq, monkeypatch, before, lambda: finish(client, ends))
    seen = await arq.observe()
    assert state(seen, QUEUE).jobs[JobState.READY] == 0
    assert state(seen, QUEUE).oldest_ready is None
    assert len(seen.problems) == (1 if denied else 0)


@pytest.mark.parametrize("denied", ["", "-exists"])
async def test_a_job_that_is_to_be_tried_again_later_is_never_ready(
    arq: Arq, pool: ArqRedis, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, denied: str
) -> None:
    (retried,) = await enqueue(pool, "send")
    start(client, [retried])
    await arq.observe()

    def defer() -> None:
        client.delete(f"arq:in-progress:{retried}")
        client.zincrby(QUEUE, 300_000, retried)

    restrict(client, denied)
    between(arq, monkeypatch, "MGET", defer)
    seen = await arq.observe()
    assert state(seen, QUEUE).jobs[JobState.READY] == 0
    assert state(seen, QUEUE).oldest_ready is None


async def test_ready_jobs_stay_so_though_there_is_a_doubt(
    arq: Arq, pool: ArqRedis, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a job that ends while we look, one that its worker lost, and two that wait
    ends, lost, *_ = await enqueue(pool, *["send"] * 4)
    client.zadd(QUEUE, {lost: 1_700_000_001_000})
    start(client, [ends, lost])
    assert jobs(await arq.observe()) == (2, 2)
    client.delete(f"arq:in-progress:{lost}")
    between(arq, monkeypatch, "MGET", lambda: finish(client, ends))
    seen = await arq.observe()
    assert jobs(seen) == (3, 0)
    assert state(seen, QUEUE).oldest_ready == 1_700_000_001


# -- marks that are left behind ---------------------------------------------------------------------------------


@asynccontextmanager
async def working(server: RedisServer, job: Any) -> AsyncIterator[None]:
    """A worker that has this cron job, here in this process."""
    worker = Worker(
        (),
        cron_jobs=[job],
        queue_name=QUEUE,
        redis_settings=RedisSettings(port=server.port),
        handle_signals=False,
        poll_delay=0.05,
    )
    task = asyncio.create_task(worker.async_run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await worker.close()


async def test_a_cron_job_that_ran_does_not_make_the_next_one_of_its_id_run(
    redis_server: RedisServer, arq: Arq
) -> None:
    may_end = asyncio.Event()

    async def tick(ctx: object) -> None:
        await may_end.wait()

    async with working(redis_server, cron(tick, second=set(range(60)), job_id="tick", run_at_startup=True)):
        # while it runs, it runs
        seen = await state_when(arq, QUEUE, lambda seen: seen.jobs[JobState.RUNNING])
        assert seen.jobs[JobState.READY] == 0
        # and when the next is put there, which arq's own mark keeps from running for a minute, then that is ready
        may_end.set()
        seen = await state_when(arq, QUEUE, lambda seen: seen.jobs[JobState.READY])
        assert seen.jobs == {JobState.READY: 1, JobState.SCHEDULED: 0, JobState.RUNNING: 0}


async def test_a_cron_job_that_is_to_be_tried_again_later_is_scheduled(redis_server: RedisServer, arq: Arq) -> None:
    may_end = asyncio.Event()

    async def tick(ctx: object) -> None:
        await may_end.wait()
        raise Retry(defer=300)

    async with working(redis_server, cron(tick, hour=0, minute=0, run_at_startup=True)):
        await state_when(arq, QUEUE, lambda seen: seen.jobs[JobState.RUNNING])
        may_end.set()
        seen = await state_when(arq, QUEUE, lambda seen: seen.jobs[JobState.SCHEDULED])
        assert seen.jobs[JobState.READY] == 0
        seen = state(await arq.observe(), QUEUE)
        assert seen.jobs == {JobState.READY: 0, JobState.SCHEDULED: 1, JobState.RUNNING: 0}


# -- expired ----------------------------------------------------------------------------------------------------


async def test_due_jobs_whose_definition_has_expired(arq: Arq, pool: ArqRedis, client: redis.Redis) -> None:
    ids = await enqueue(pool, *["send"] * 6)
    await enqueue(pool, "send", _expires=timedelta(milliseconds=1))
    later = await pool.enqueue_job("send", _defer_by=timedelta(hours=1))
    assert later is not None
    # given three that expired, one while it runs and one before it is due
    client.delete(f"arq:job:{ids[0]}", f"arq:job:{ids[1]}", f"arq:job:{later.job_id}")
    start(client, [ids[0], ids[2]])
    seen = await arq.observe()
    assert jobs(seen) == (5, 2)
    assert state(seen, QUEUE).expired_jobs == 2
    # when a worker takes one
    finish(client, ids[1])
    assert state(await arq.observe(), QUEUE).expired_jobs == 1
    assert not seen.problems


async def test_expired_jobs_beyond_the_first_page_are_not_looked_for(
    arq: Arq, pool: ArqRedis, client: redis.Redis
) -> None:
    ids = await enqueue(pool, *["send"] * (PAGE + 10))
    order = [member.decode() for member in client.zrange(QUEUE, 0, -1)]  # type: ignore[union-attr]
    client.delete(*(f"arq:job:{job_id}" for job_id in order[-15:]))
    assert state(await arq.observe(), QUEUE).expired_jobs == 5
    # but those behind a page of running ones are
    start(client, order[:PAGE])
    assert state(await arq.observe(), QUEUE).expired_jobs == 10
    assert len(ids) == len(order)


@pytest.mark.parametrize("before", ["MGET", "EXISTS"])
async def test_a_job_that_ends_between_the_reads_has_not_expired(
    arq: Arq, pool: ArqRedis, client: redis.Redis, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    ends, expired, _ = await enqueue(pool, "send", "send", "send")
    client.delete(f"arq:job:{expired}")
    between(arq, monkeypatch, before, lambda: finish(client, ends))
    assert state(await arq.observe(), QUEUE).expired_jobs == 1


# -- to abort ---------------------------------------------------------------------------------------------------


async def test_requests_to_abort(redis_server: RedisServer, pool: ArqRedis, client: redis.Redis) -> None:
    async with (
        watching(Arq, redis_server, time.time, QUEUE, discover=False) as arq,
        watching(Arq, redis_server, time.time, discover=True) as bare,
    ):
        assert (await arq.observe()).abort_requests == 0
        assert (await bare.observe()).abort_requests is None, "no ARQ is there"
        # given two for jobs, and one that arq leaves for ever as its job is not there
        client.zadd("arq:abort", dict.fromkeys([*await enqueue(pool, "send", "send"), "never-was"], 1))
        assert (await arq.observe()).abort_requests == 3
        assert (await bare.observe()).abort_requests == 3
