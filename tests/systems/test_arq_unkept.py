"""Jobs that end and leave no result, counted by function: real arq workers, with `keep_result=0`, and cron jobs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
import redis
from arq import Retry, create_pool, cron, func
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import serialize_job
from arq.worker import Worker

from exporter.model import Finished, Outcome
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.feed import ahead, feed, looks, unended, unkept
from tests.servers import RedisServer, StartRedis, wait_until
from tests.systems.arq_results import QUEUE, Following, following, write

LETTERS = "arq:letters"
LAPSE_MS = 86_400_000


@pytest.fixture
def client(server: RedisServer) -> redis.Redis:
    return server.client()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SCAN_INTERVAL", 0.05)
    monkeypatch.setattr(feed, "LEARN_INTERVAL", 0.05)
    monkeypatch.setattr(ahead, "INTERVAL", 0.1)
    monkeypatch.setattr(unkept, "CHECK_INTERVAL", 0.1)
    monkeypatch.setattr(unkept, "SEARCH_PAUSE", 0.05)
    monkeypatch.setattr(unkept, "TRIAL", 0.1)


# -- an application ---------------------------------------------------------------------------------------------


class Application:
    """Functions that keep no result beside one that does, and what its jobs did."""

    def __init__(self, pool: ArqRedis) -> None:
        self.pool = pool
        self.ended: Counter[tuple[str, str, Outcome]] = Counter()
        """Ends by queue, function and what is to be known of them."""

    def function(self, name: str, body: Callable[[dict[str, Any]], None] | None = None, *, keep: bool = False) -> Any:
        async def run(ctx: dict[str, Any], queue: str, seconds: float = 0.0) -> None:
            await asyncio.sleep(seconds)
            if body is not None:
                body(ctx)
            self.ended[queue, name, Outcome.SUCCEEDED if keep else Outcome.UNKNOWN] += 1

        return func(run, name=name, keep_result=60 if keep else 0)

    async def put(self, task: str, queue: str = QUEUE, *arguments: object, **options: Any) -> str:
        job = await self.pool.enqueue_job(task, queue, *arguments, _queue_name=queue, **options)
        assert job is not None
        return job.job_id

    async def work(self, *functions: Any, queue: str = QUEUE, **options: Any) -> None:
        """A worker runs until its queue is empty."""
        await self.worker(*functions, queue=queue, burst=True, **options).async_run()

    def worker(self, *functions: Any, queue: str = QUEUE, **options: Any) -> Worker:
        options = {"poll_delay": 0.01, "max_tries": 3} | options
        return Worker(functions, queue_name=queue, redis_pool=self.pool, handle_signals=False, **options)


async def nightly(ctx: dict[str, Any]) -> None:
    """A cron job."""


@pytest.fixture
async def shop(server: RedisServer) -> AsyncIterator[Application]:
    pool = await create_pool(RedisSettings.from_dsn(server.url()))
    yield Application(pool)
    await pool.aclose()


@asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[None]:
    """A worker that runs until the end of the block."""
    task = asyncio.create_task(worker.async_run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def ends(followed: Following) -> Counter[tuple[str, str, Outcome]]:
    return Counter((event.queue, event.task, event.outcome) for event in followed.sink.finished)


async def until_watched(followed: Following) -> None:
    """Returns once what stands was searched, and changes are told."""
    await followed.until_connected()
    await followed.until_watched()


async def until_tried(followed: Following) -> None:
    """Returns once it was found that not all jobs need to be watched."""
    await followed.until_connected(2)
    await followed.until_watched()


async def until_ends(followed: Following, wanted: Counter[tuple[str, str, Outcome]]) -> None:
    """Returns when the feed has counted these ends, and no others a while later."""
    try:
        await followed.until(lambda: ends(followed) == wanted, deadline=10)
    except AssertionError:
        assert ends(followed) == wanted
    await followed.until_watched()
    assert ends(followed) == wanted


def again(ctx: dict[str, Any]) -> None:
    if ctx["job_try"] == 1:
        raise Retry


def by_hand(client: redis.Redis, job_id: str, task: str, queue: str = QUEUE, score: int = 1) -> None:
    """Puts a job into a queue as arq does."""
    definition = serialize_job(task, (), {}, None, 1_700_000_000_000)
    assert definition is not None
    with client.pipeline() as pipe:
        pipe.psetex(f"arq:job:{job_id}", LAPSE_MS, definition)
        pipe.zadd(queue, {job_id: score})
        pipe.execute()


def end(client: redis.Redis, *job_ids: str, queue: str = QUEUE) -> None:
    """Ends jobs as arq does that keep no result."""
    for job_id in job_ids:
        with client.pipeline() as pipe:
            pipe.delete(f"arq:in-progress:{job_id}", f"arq:retry:{job_id}", f"arq:job:{job_id}")
            pipe.zrem(queue, job_id)
            pipe.execute()


# -- counted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["tracking", "keyspace"])
async def test_every_end_is_counted_by_function(server: RedisServer, shop: Application, mode: str) -> None:
    # given jobs that wait before anyone looks, and others that come
    functions = [shop.function("send"), shop.function("retry", again), shop.function("keep", keep=True)]
    for _ in range(100):
        await shop.put("send")
        await shop.put("send", LETTERS)
    async with following(server.url(), mode, unkept="on", queues=[QUEUE, LETTERS]) as followed:
        await until_watched(followed)
        # when
        workers = [shop.worker(*functions, queue=queue, max_jobs=50) for queue in (QUEUE, LETTERS)]
        async with at_work(workers[0]), at_work(workers[1]):
            for place in range(150):
                await shop.put("send" if place % 3 else "retry", QUEUE, 0.001 * (place % 5))
                await shop.put("keep", LETTERS)
            await asyncio.to_thread(wait_until, lambda: shop.ended.total() == 500)
        # then
        await until_ends(followed, shop.ended)
        assert followed.sink.received_by_kind == {"job": 500}
        told = {(event.queue, event.task) for event in followed.sink.known}
        assert told == {(queue, task) for queue, task, _ in shop.ended}
        assert all(event.wait is None and event.run is None for event in followed.sink.finished if event.task != "keep")


async def test_cron_jobs_are_counted_without_being_asked_for(
    server: RedisServer, client: redis.Redis, shop: Application
) -> None:
    async with following(server.url(), unkept="auto") as followed:
        await until_tried(followed)
        # when
        await shop.work(cron_jobs=[cron(nightly, month=1, day=1, run_at_startup=True)])
        # then
        wanted = Counter([(QUEUE, "cron:nightly", Outcome.UNKNOWN)])
        await until_ends(followed, wanted)
        # and its mark of progress, which arq leaves for a minute, tells nothing new when it goes
        (mark,) = cast(list[bytes], client.keys("arq:in-progress:*"))
        client.pexpire(mark, 1)
        await asyncio.to_thread(wait_until, lambda: not client.exists(mark))
        await until_ends(followed, wanted)
        assert len(followed.sink.modes) == 2


async def test_all_jobs_are_watched_once_one_is_seen_to_end_so(server: RedisServer, shop: Application) -> None:
    send = shop.function("send")
    async with following(server.url(), unkept="auto") as followed:
        await until_tried(followed)
        # given a job that was seen in its queue, and ended without a trace
        job_id = await shop.put("send")
        await followed.until_seen_ahead(job_id)
        await shop.work(send)
        await followed.until_connected(3)
        await followed.until_watched()
        shop.ended.clear()
        # when
        for _ in range(20):
            await shop.put("send")
        await shop.work(send)
        # then
        await until_ends(followed, shop.ended)
        assert not followed.problems  # it was no lost connection


async def test_at_first_all_are_watched_and_on_where_it_is_needed(
    server: RedisServer, shop: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unkept, "TRIAL", 1.0)
    for _ in range(20):
        await shop.put("send")
    async with following(server.url(), unkept="auto") as followed:
        await until_watched(followed)
        await shop.work(shop.function("send"))
        await until_ends(followed, shop.ended)
        await asyncio.sleep(unkept.TRIAL)
        await shop.put("send")
        await followed.until_watched()
        await shop.work(shop.function("send"))
        await until_ends(followed, shop.ended)
        assert followed.sink.modes == ["tracking"]


async def test_jobs_that_keep_results_do_not_make_it_watch_all(server: RedisServer, shop: Application) -> None:
    keep = shop.function("keep", keep=True)
    async with following(server.url(), unkept="auto") as followed:
        await until_tried(followed)
        for _ in range(5):
            job_id = await shop.put("keep")
            await followed.until_seen_ahead(job_id)
            await shop.work(keep)
        await until_ends(followed, shop.ended)
        assert len(followed.sink.modes) == 2


async def test_jobs_that_end_while_the_connection_is_cut(server: RedisServer, shop: Application) -> None:
    send, keep = shop.function("send"), shop.function("keep", keep=True)
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        for _ in range(4):
            for _ in range(50):
                await shop.put("send")
                await shop.put("keep")
            await followed.until_watched()
            await followed.stop()
            await shop.work(send, keep)
            await followed.restart()
        await until_ends(followed, shop.ended)


async def test_jobs_beyond_what_is_remembered(
    server: RedisServer, shop: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unended, "LIMIT", 20)
    monkeypatch.setattr(unkept, "LIMIT", 20)
    for _ in range(100):
        await shop.put("send", QUEUE, 0.1)
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        await shop.work(shop.function("send"), max_jobs=10)
        await until_ends(followed, shop.ended)


async def test_many_queues(server: RedisServer, shop: Application) -> None:
    queues = [f"arq:q{place}" for place in range(3 * looks.QUEUES_AT_ONCE)]
    send = shop.function("send")
    async with following(server.url(), unkept="on", queues=queues) as followed:
        await until_watched(followed)
        for queue in queues:
            await shop.put("send", queue)
        await followed.until(lambda: len(followed.sink.known) == len(queues))
        for queue in queues:
            await shop.work(send, queue=queue)
        await until_ends(followed, shop.ended)


# -- one by one -------------------------------------------------------------------------------------------------


def one(followed: Following) -> Finished:
    (finished,) = followed.sink.finished
    return finished


async def test_a_job_too_short_to_be_looked_at_is_counted_without_its_name(
    server: RedisServer, client: redis.Redis
) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        client.set("mine", 1)
        with client.pipeline() as pipe:  # as the server sees it: come and gone at once
            pipe.psetex("arq:job:quick", LAPSE_MS, b"x")
            pipe.delete("arq:job:quick")
            pipe.execute()
        await until_ends(followed, Counter([(UNKNOWN, UNKNOWN, Outcome.UNKNOWN)]))
        assert one(followed).job_id == "quick"


async def test_jobs_of_another_database_are_not_counted(server: RedisServer, client: redis.Redis) -> None:
    other = server.client(db=1)
    by_hand(client, "ours", "send")
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        by_hand(other, "first", "send")
        by_hand(other, "second", "send")
        end(other, "first")
        with other.pipeline() as pipe:
            pipe.psetex("arq:job:quick", LAPSE_MS, b"x")
            pipe.delete("arq:job:quick")
            pipe.execute()
        end(client, "ours")
        await until_ends(followed, Counter([(QUEUE, "send", Outcome.UNKNOWN)]))


async def test_an_id_that_is_used_again_at_once(server: RedisServer, client: redis.Redis) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        by_hand(client, "again", "send")
        await followed.until(lambda: followed.sink.known)
        with client.pipeline() as pipe:  # ended and put anew, before anyone could look
            pipe.delete("arq:job:again")
            pipe.psetex("arq:job:again", LAPSE_MS, serialize_job("charge", (), {}, None, 1_700_000_001_000) or b"")
            pipe.execute()
        await until_ends(followed, Counter([(QUEUE, "send", Outcome.UNKNOWN)]))
        end(client, "again")
        await until_ends(followed, Counter([(QUEUE, "send", Outcome.UNKNOWN), (QUEUE, "charge", Outcome.UNKNOWN)]))
        by_hand(client, "again", "send")
        await followed.until_watched()
        end(client, "again")
        await until_ends(
            followed, Counter({(QUEUE, "send", Outcome.UNKNOWN): 2, (QUEUE, "charge", Outcome.UNKNOWN): 1})
        )


async def test_a_definition_that_expires_is_no_end_while_its_job_is_queued(
    server: RedisServer, client: redis.Redis, shop: Application
) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        by_hand(client, "late", "send")
        await followed.until(lambda: followed.sink.known)
        client.pexpire("arq:job:late", 1)
        await asyncio.to_thread(wait_until, lambda: not client.exists("arq:job:late"))
        await until_ends(followed, Counter())
        # when a worker that keeps nothing finds that it has expired
        await shop.work(shop.function("send"), keep_result=0)
        await until_ends(followed, Counter([(QUEUE, "send", Outcome.UNKNOWN)]))


@pytest.mark.parametrize("definition", [b"", b"x", b"\x80\x05garbage", b"a" * 10_000, b"{" * 2000])
async def test_a_definition_that_cannot_be_read(server: RedisServer, client: redis.Redis, definition: bytes) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        by_hand(client, "odd", "send")
        client.set("arq:job:odd", definition)
        by_hand(client, "good", "send")
        await followed.until(lambda: followed.sink.known)
        end(client, "good", "odd")
        await followed.until_total(2)
        assert {event.task for event in followed.sink.finished} <= {"send", UNKNOWN}


async def test_keys_that_are_no_jobs(server: RedisServer, client: redis.Redis) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        client.lpush("arq:job:list", "x")
        client.set("arq:job:", "x")
        client.set("arq:job:" + "x" * 5000, "x")
        client.publish("__redis__:invalidate", "arq:job:fake")
        by_hand(client, "good", "send")
        await followed.until_watched()
        end(client, "good")
        await until_ends(followed, Counter([(QUEUE, "send", Outcome.UNKNOWN)]))
        assert not followed.problems


# -- where it cannot be known -----------------------------------------------------------------------------------


async def problems_of(followed: Following) -> Iterable[str]:
    await followed.until(lambda: followed.feed.problems)
    return followed.feed.problems


@pytest.mark.parametrize(("mode", "notified"), [("scan", "KA"), ("keyspace", "K$")])
async def test_a_mode_that_tells_of_no_jobs(start_redis: StartRedis, mode: str, notified: str) -> None:
    server = start_redis(notify_keyspace_events=notified)
    client = server.client()
    async with following(server.url(), mode, unkept="on") as followed:
        assert await problems_of(followed) == [
            f"jobs that keep no result are not counted: the server tells of no jobs (mode {mode})"
        ]
        await followed.until_connected()
        by_hand(client, "lost", "send")
        end(client, "lost")
        write(client, "kept")
        await followed.until_counted(["kept"])
        assert len(followed.sink.finished) == 1


async def test_a_mode_that_tells_of_no_jobs_is_a_problem_when_it_is_needed(
    server: RedisServer, client: redis.Redis, shop: Application
) -> None:
    async with following(server.url(), "scan", unkept="auto") as followed:
        await until_watched(followed)
        job_id = await shop.put("keep")
        await followed.until_seen_ahead(job_id)
        await shop.work(shop.function("keep", keep=True))
        await followed.until_counted([job_id])
        assert not followed.feed.problems
        job_id = await shop.put("send", _job_id="cron:send:1700000000000")
        await followed.until_seen_ahead(job_id)
        await shop.work(shop.function("send"))
        assert "(mode scan)" in next(iter(await problems_of(followed)))


@pytest.mark.parametrize("missing", ["exists", "zscore", "info"])
async def test_what_is_denied_costs_these_ends_only(server: RedisServer, client: redis.Redis, missing: str) -> None:
    client.acl_setuser(
        "limited", enabled=True, passwords=["+secret"], keys=["*"], channels=["*"], commands=["+@all", f"-{missing}"]
    )
    url = server.url().replace("//", "//limited:secret@")
    async with following(url, unkept="on") as followed:
        await followed.until_connected()
        by_hand(client, "job", "send")
        (problem,) = await problems_of(followed)
        assert problem.startswith("jobs that keep no result are not watched: NOPERM")
        assert missing in problem
        write(client, "kept")
        await followed.until_counted(["kept"])
        assert not followed.problems


async def test_what_is_allowed_later_is_noticed(
    server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unkept, "DENIED_PAUSE", 0.1)
    monkeypatch.setattr(feed, "HOPE_INTERVAL", 0.1)
    client.config_set("notify-keyspace-events", "")

    def allow(*but: str) -> None:
        client.acl_setuser(
            "limited", enabled=True, passwords=["+secret"], keys=["*"], channels=["*"], commands=["+@all", *but]
        )

    allow("-info", "-client|tracking")
    async with following(server.url().replace("//", "//limited:secret@"), unkept="on") as followed:
        await problems_of(followed)
        await followed.until(lambda: followed.sink.modes == ["scan"])
        allow("-info")
        await followed.until(lambda: followed.sink.modes[-1] == "tracking")
        await followed.until(lambda: "NOPERM" in "".join(followed.feed.problems))
        allow()
        await followed.until(lambda: not followed.feed.problems)
        by_hand(client, "job", "send")
        await followed.until(lambda: followed.sink.known)
        end(client, "job")
        await until_ends(followed, Counter([(QUEUE, "send", Outcome.UNKNOWN)]))
        assert not followed.problems  # no connection was lost for it


async def test_a_queue_that_is_found_after_its_jobs_were_put_into_it(server: RedisServer, client: redis.Redis) -> None:
    queues: list[str] = []
    async with following(server.url(), unkept="on", queues=queues) as followed:
        await until_watched(followed)
        by_hand(client, "job", "send", queue=LETTERS)
        await followed.until_watched()
        assert not followed.sink.known
        queues.append(LETTERS)
        await followed.until(lambda: followed.sink.known)
        end(client, "job", queue=LETTERS)
        await until_ends(followed, Counter([(LETTERS, "send", Outcome.UNKNOWN)]))


async def test_switched_off_it_asks_for_nothing(server: RedisServer, client: redis.Redis) -> None:
    client.config_resetstat()
    async with following(server.url(), unkept="off") as followed:
        await until_watched(followed)
        by_hand(client, "cron:tick:1700000000000", "cron:tick")
        end(client, "cron:tick:1700000000000")
        await until_ends(followed, Counter())
        assert not {"cmdstat_exists", "cmdstat_zscore"} & cast(dict[str, object], client.info("commandstats")).keys()


async def test_a_definition_that_is_written_over_with_what_cannot_be_read(
    server: RedisServer, client: redis.Redis
) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        by_hand(client, "spoilt", "send")
        await followed.until(lambda: followed.sink.known)
        client.set("arq:job:spoilt", b"by another program")
        await until_ends(followed, Counter())
        end(client, "spoilt")
        await until_ends(followed, Counter([(QUEUE, "send", Outcome.UNKNOWN)]))
