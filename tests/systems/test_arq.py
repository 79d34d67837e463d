"""What Arq remembers of its queues from look to look."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from exporter.brokers import bounded
from exporter.brokers.errors import BrokerError
from exporter.model import JobState
from exporter.systems.arq import Arq
from tests.servers import RedisServer
from tests.systems.observing import START, Clock, state, watching

QUEUE = "arq:queue"
MS = 1000


@pytest.fixture
async def arq(redis_server: RedisServer, clock: Clock) -> AsyncIterator[Arq]:
    async with watching(Arq, redis_server, clock, QUEUE, discover=False) as system:
        yield system


def put(client: redis.Redis, *jobs: str, age: float = 60.0, queue: str = QUEUE) -> None:
    """Puts jobs into a queue, due one millisecond after the other from `age` seconds ago on."""
    client.zadd(queue, {job: (START - age) * MS + number for number, job in enumerate(jobs)})


async def test_a_job_that_gets_due_becomes_ready(arq: Arq, client: redis.Redis, clock: Clock) -> None:
    put(client, "later", age=-10.0)
    seen = state(await arq.observe(), QUEUE)
    assert (seen.jobs[JobState.READY], seen.jobs[JobState.SCHEDULED]) == (0, 1)
    clock.now = START + 10.0
    seen = state(await arq.observe(), QUEUE)
    assert (seen.jobs[JobState.READY], seen.jobs[JobState.SCHEDULED]) == (1, 0)
    assert seen.oldest_ready == START + 10.0


async def test_oldest_running_is_since_when_it_was_first_seen(arq: Arq, client: redis.Redis, clock: Clock) -> None:
    put(client, "a", "b")
    client.set("arq:in-progress:a", 1)
    assert state(await arq.observe(), QUEUE).oldest_running == START
    clock.now += 5
    client.set("arq:in-progress:b", 1)
    assert state(await arq.observe(), QUEUE).oldest_running == START
    client.zrem(QUEUE, "a")
    assert state(await arq.observe(), QUEUE).oldest_running == START + 5
    client.zrem(QUEUE, "b")
    assert state(await arq.observe(), QUEUE).oldest_running is None


async def test_an_id_that_is_used_again_runs_since_its_own_start(arq: Arq, client: redis.Redis, clock: Clock) -> None:
    client.mset({"arq:in-progress:only-one": 1, "arq:retry:only-one": 1})
    for _ in range(3):
        # given a job of that id, and from now on the next one, which is due later
        client.zadd(QUEUE, {"only-one": (clock.now - 1) * MS})
        assert state(await arq.observe(), QUEUE).oldest_running == clock.now
        clock.now += 5


async def test_an_id_at_the_head_that_is_used_again_is_progress(arq: Arq, client: redis.Redis, clock: Clock) -> None:
    put(client, "only-one", "behind")
    await arq.observe()
    clock.now += 5
    put(client, "only-one", age=50.0)
    assert state(await arq.observe(), QUEUE).last_progress == START + 5


async def test_a_job_that_starts_is_progress(arq: Arq, client: redis.Redis, clock: Clock) -> None:
    put(client, "a", "b")
    await arq.observe()
    clock.now += 5
    client.set("arq:in-progress:a", 1)
    assert state(await arq.observe(), QUEUE).last_progress == START + 5


async def test_an_empty_queue_always_makes_progress(arq: Arq, client: redis.Redis, clock: Clock) -> None:
    assert state(await arq.observe(), QUEUE).last_progress == START
    clock.now += 5
    assert state(await arq.observe(), QUEUE).last_progress == START + 5


async def test_jobs_that_come_back_from_a_lost_worker_are_no_progress(
    arq: Arq, client: redis.Redis, clock: Clock
) -> None:
    put(client, "a", "b", "c")
    client.set("arq:in-progress:a", 1)
    await arq.observe()
    clock.now += 300
    client.delete("arq:in-progress:a")
    seen = state(await arq.observe(), QUEUE)
    assert seen.jobs[JobState.READY] == 3
    assert seen.last_progress == START


async def test_an_aborted_job_that_comes_in_front_is_no_progress_and_has_no_age(
    arq: Arq, client: redis.Redis, clock: Clock
) -> None:
    put(client, "a")
    put(client, "later", age=-3600.0)
    await arq.observe()
    clock.now += 5
    client.zadd(QUEUE, {"later": 1})
    seen = state(await arq.observe(), QUEUE)
    assert seen.jobs[JobState.READY] == 2
    assert seen.last_progress == START
    assert seen.oldest_ready == START - 60.0


async def test_what_runs_is_unknown_where_its_marks_cannot_be_read(arq: Arq, client: redis.Redis, clock: Clock) -> None:
    put(client, "a", "b")
    client.set("arq:in-progress:a", 1)
    await arq.observe()
    client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=["-mget"], keys=["*"])
    clock.now += 5
    seen = await arq.observe()
    assert state(seen, QUEUE).jobs == {JobState.SCHEDULED: 0}
    assert state(seen, QUEUE).oldest_running is None
    assert len(seen.problems) == 1
    # and what was known before is known again
    client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], keys=["*"])
    assert state(await arq.observe(), QUEUE).oldest_running == START


async def test_a_redis_that_is_gone_is_noticed_though_no_queue_is_known(
    redis_server: RedisServer, clock: Clock
) -> None:
    async with watching(Arq, redis_server, clock, discover=True) as arq:
        assert not (await arq.observe()).queues
        redis_server.stop()
        with pytest.raises(BrokerError):
            await arq.observe()


async def test_job_ids_and_queues_of_any_bytes(redis_server: RedisServer, clock: Clock) -> None:
    client = redis_server.client()
    queue, job = b"q\xff\n\x00", b"job\xfe\r\n"
    client.zadd(queue, {job: (START - 1) * MS})
    client.set(b"arq:job:" + job, "x")
    client.set(b"arq:in-progress:" + job, "1")
    async with watching(Arq, redis_server, clock, discover=True) as arq:
        (seen,) = (await arq.observe()).queues
    assert seen.queue.encode("utf-8", "surrogateescape") == queue
    assert seen.jobs[JobState.RUNNING] == 1


async def test_the_search_takes_only_arq_queues(redis_server: RedisServer, clock: Clock) -> None:
    client = redis_server.client()
    put(client, "1", queue="found")
    client.set("arq:job:1", "x")
    put(client, "x", queue=QUEUE)  # its jobs' records expired, but there is no doubt about the name
    put(client, "1", "2", queue="arq:abort")
    put(client, "nobody", queue="leaderboard")
    client.set("worked:health-check", "Nov-21 22:09:01 j_complete=1 j_failed=0 j_retried=0 j_ongoing=0 queued=0")
    client.set("shop:health-check", "ok")
    client.hset("shop", "a", "b")
    async with watching(Arq, redis_server, clock, discover=True) as arq:
        seen = await arq.observe()
    assert {state.queue for state in seen.queues} == {"found", QUEUE, "worked"}
    assert not seen.problems


async def test_a_search_that_may_not_look_for_jobs_says_so(redis_server: RedisServer, clock: Clock) -> None:
    client = redis_server.client()
    put(client, "1", queue="queue")
    client.set("arq:job:1", "x")
    client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=["-exists"], keys=["*"])
    async with watching(Arq, redis_server, clock, "mine", discover=True) as arq:
        seen = await arq.observe()
    assert [state.queue for state in seen.queues] == ["mine"]
    assert "search for queues failed" in "".join(seen.problems)


async def test_jobs_that_run_behind_a_page_of_ready_ones_are_remembered(
    arq: Arq, client: redis.Redis, clock: Clock
) -> None:
    # given jobs that run, and then more ready ones in front than a page holds: a lost fleet's jobs came back
    put(client, "run1", "run2", "ended")
    client.mset({f"arq:in-progress:{job}": 1 for job in ("run1", "run2", "ended")})
    assert state(await arq.observe(), QUEUE).jobs[JobState.RUNNING] == 3
    put(client, *(f"back{number}" for number in range(150)), age=600.0)
    client.zrem(QUEUE, "ended")
    seen = state(await arq.observe(), QUEUE)
    assert seen.jobs == {JobState.READY: 150, JobState.RUNNING: 2, JobState.SCHEDULED: 0}
    # and when they end, they are forgotten
    client.delete("arq:in-progress:run1")
    client.zrem(QUEUE, "run2")
    seen = state(await arq.observe(), QUEUE)
    assert seen.jobs == {JobState.READY: 151, JobState.RUNNING: 0, JobState.SCHEDULED: 0}


async def test_of_jobs_that_ran_only_those_are_recalled_that_run(arq: Arq, client: redis.Redis, clock: Clock) -> None:
    # given jobs that ran, and more ready ones in front of them than a page holds
    ran = ["runs", "started-again", "to-be-tried-later", "cron-job-that-ended"]
    put(client, *ran)
    client.mset({f"arq:{key}:{job}": 1 for job in ran for key in ("in-progress", "retry")})
    assert state(await arq.observe(), QUEUE).jobs[JobState.RUNNING] == 4
    put(client, *(f"back{number}" for number in range(150)), age=600.0)
    # when of all but one the score changes: ids are used again, and one is deferred
    clock.now += 10
    put(client, "started-again", "cron-job-that-ended", age=30.0)
    put(client, "to-be-tried-later", age=-300.0)
    client.set("arq:in-progress:cron-job-that-ended", 1, px=59_000)
    client.delete("arq:retry:cron-job-that-ended")
    # then
    seen = state(await arq.observe(), QUEUE)
    assert seen.jobs == {JobState.READY: 151, JobState.RUNNING: 2, JobState.SCHEDULED: 1}
    assert seen.oldest_running == START
    client.zrem(QUEUE, "runs")
    assert state(await arq.observe(), QUEUE).oldest_running == START + 10


async def test_what_runs_is_said_to_be_unknown_where_it_cannot_be_recalled(
    arq: Arq, client: redis.Redis, clock: Clock
) -> None:
    put(client, "run")
    client.set("arq:in-progress:run", 1)
    await arq.observe()
    put(client, *(f"back{number}" for number in range(150)), age=600.0)
    client.acl_setuser("default", enabled=True, nopass=True, categories=["+@all"], commands=["-zscore"], keys=["*"])
    seen = await arq.observe()
    assert state(seen, QUEUE).jobs == {JobState.SCHEDULED: 0}
    assert len(seen.problems) == 1


async def test_sorted_sets_of_others_with_huge_members_do_not_end_the_search(
    redis_server: RedisServer, clock: Clock
) -> None:
    client = redis_server.client()
    for name in ("documents", "pictures"):
        client.zadd(name, {f"{number}" * 1_000_000: number for number in range(10)})
    put(client, "a", queue="reports")
    client.set("arq:job:a", "x")
    async with watching(Arq, redis_server, clock, discover=True) as system:
        seen = await system.observe()
    assert [queue.queue for queue in seen.queues] == ["reports"]
    assert list(seen.problems) == []


@pytest.fixture
def of_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies to one round trip may have 20,000 bytes."""
    monkeypatch.setattr(bounded, "REPLY_BYTES", 20_000)


QUEUES = ("a", "b", "c", "d", "e")


@pytest.fixture
async def several(redis_server: RedisServer, clock: Clock) -> AsyncIterator[Arq]:
    async with watching(Arq, redis_server, clock, *QUEUES, discover=False) as system:
        yield system


async def test_queues_whose_pages_together_are_too_large(
    several: Arq, client: redis.Redis, clock: Clock, of_few_bytes: None
) -> None:
    for queue in QUEUES:
        put(client, *(f"{number:080}" for number in range(100)), queue=queue)
    seen = await several.observe()
    assert {queue.queue: queue.jobs[JobState.READY] for queue in seen.queues} == dict.fromkeys(QUEUES, 100)
    assert not seen.problems


async def test_a_queue_whose_page_alone_is_too_large_is_lost_alone(
    several: Arq, client: redis.Redis, clock: Clock, of_few_bytes: None
) -> None:
    for queue in QUEUES:
        put(client, "job", queue=queue)
    put(client, *(f"{number:01000}" for number in range(100)), queue="d")
    seen = await several.observe()
    assert {queue.queue: queue.jobs.get(JobState.READY) for queue in seen.queues} == {
        **dict.fromkeys(QUEUES, 1),
        "d": None,
    }
    assert state(seen, "d").jobs == {JobState.SCHEDULED: 0}
    assert list(seen.problems) == ["queue 'd': running: reply larger than 8388608 bytes"]


async def test_a_queue_whose_marks_are_too_large_is_lost_alone(
    several: Arq, client: redis.Redis, clock: Clock, of_few_bytes: None
) -> None:
    for queue in QUEUES:
        put(client, f"job-of-{queue}", queue=queue)
    client.set("arq:in-progress:job-of-b", "x" * 30_000)
    seen = await several.observe()
    assert [queue.queue for queue in seen.queues if JobState.READY in queue.jobs] == ["a", "c", "d", "e"]
    assert ["queue 'b'" in problem for problem in seen.problems] == [True]
