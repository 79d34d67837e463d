"""What must not be taken for an end without a result, and what becomes of ends when not all is told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from functools import partial

import pytest
import redis
from arq.jobs import serialize_job

from exporter.model import Outcome
from exporter.systems.arq.feed import ahead, feed, glances, looks, unended, unkept
from tests.servers import RedisServer, StartRedis
from tests.systems.arq_results import QUEUE, TTL_MS, following, names, result, write
from tests.systems.test_arq_unkept import LAPSE_MS, by_hand, end, until_ends, until_watched

pytestmark = pytest.mark.slow

SEND, CHARGE = (QUEUE, "send", Outcome.UNKNOWN), (QUEUE, "charge", Outcome.UNKNOWN)


@pytest.fixture
def client(server: RedisServer) -> redis.Redis:
    return server.client()


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (feed, "SCAN_INTERVAL", 0.05),
        (feed, "LEARN_INTERVAL", 0.05),
        (feed, "CHECK_INTERVAL", 0.1),
        (ahead, "INTERVAL", 0.1),
        (unkept, "CHECK_INTERVAL", 0.1),
        (unkept, "SEARCH_PAUSE", 0.05),
        (unkept, "TRIAL", 0.1),
    ):
        monkeypatch.setattr(module, name, value)


def put_and_end(client: redis.Redis, job_id: str, task: str = "send") -> None:
    by_hand(client, job_id, task)
    end(client, job_id)


# -- the server loses its data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("refill", [False, True])
async def test_a_flush_ends_no_job(server: RedisServer, client: redis.Redis, refill: bool) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        for job_id in names("lost", 100):
            by_hand(client, job_id, "send")
        by_hand(client, "ended", "send")
        await followed.until_watched()
        end(client, "ended")
        client.flushdb()
        if refill:
            by_hand(client, "next", "send")
        await until_ends(followed, Counter([SEND]))
        await followed.until(lambda: len(followed.feed._unkept._jobs) == refill)
        by_hand(client, "later", "send")
        await followed.until_watched()
        end(client, "later")
        await until_ends(followed, Counter({SEND: 2}))


async def test_another_databases_flush_costs_no_end(server: RedisServer, client: redis.Redis) -> None:
    server.client(db=1).set("other", 1)
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        for job_id in names("job", 100):
            by_hand(client, job_id, "send")
        await followed.until_watched()
        end(client, *names("job", 60))
        server.client(db=1).flushdb()
        await followed.until_watched()
        end(client, *names("job", 100)[60:])
        await until_ends(followed, Counter({SEND: 100}))


async def test_a_server_that_comes_back_empty_ended_no_job(server: RedisServer, client: redis.Redis) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        for job_id in names("lost", 100):
            by_hand(client, job_id, "send")
        await followed.until_watched()
        await asyncio.to_thread(server.restart)
        by_hand(server.client(), "next", "send")
        await followed.until_connected(2)
        await until_ends(followed, Counter())
        assert followed.sink.lost_events == 100


async def test_a_flush_while_nobody_looked_ends_no_job(server: RedisServer, client: redis.Redis) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        by_hand(client, "lost", "send")
        await followed.until(lambda: followed.sink.known)
        await followed.stop()
        client.flushdb()
        await followed.restart()
        await until_ends(followed, Counter())


async def test_more_is_told_than_there_is_room_for(
    server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.set("other", 1)
    jobs = names("job", 100)
    for job_id in jobs:
        by_hand(client, job_id, "send")
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        await followed.until(lambda: len(followed.feed._unkept._jobs) == 100)
        monkeypatch.setattr(looks, "PENDING", 5)
        with client.pipeline() as pipe:
            pipe.delete(*(f"arq:job:{job_id}" for job_id in jobs))
            pipe.zrem(QUEUE, *jobs)
            pipe.execute()
        await until_ends(followed, Counter({SEND: 100}))


async def test_what_is_needed_is_read_as_soon_as_it_is(
    server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unkept, "TRIAL", 60)
    monkeypatch.setattr(unkept, "FRONT", 10)
    monkeypatch.setattr(looks, "FRONT_PAGE", 10)
    monkeypatch.setattr(looks, "OVERLAP", 1)
    for place, job_id in enumerate(names("job", 50)):
        by_hand(client, job_id, "send", score=place)
    async with following(server.url(), unkept="auto") as followed:
        await until_watched(followed)
        known = followed.feed._unkept._jobs
        assert len(known) < 30
        end(client, "job0")
        await followed.until(lambda: len(known) == 49)
        assert QUEUE in followed.feed.tally.progress
        by_hand(client, "due", "send", score=int(time.time() * 1000))
        await followed.until_seen_ahead("due")
        end(client, "due")
        await followed.until_counted(["due"])
        assert b"due" not in followed.feed.tally.ahead


async def test_a_flush_that_is_not_told(
    server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "HOPE_INTERVAL", 0.3)
    async with following(server.url(), "keyspace", unkept="on") as followed:
        await until_watched(followed)
        write(client, *names("kept", 50))
        by_hand(client, "lost", "send")
        await followed.until_counted(names("kept", 50))
        await followed.until(lambda: followed.feed.tally.kept.of(QUEUE) == {"completed": 50, "failed": 0})
        client.flushdb()
        await followed.until(lambda: followed.feed.tally.kept.of(QUEUE) == {"completed": 0, "failed": 0})
        await until_ends(followed, Counter({(QUEUE, "send", Outcome.SUCCEEDED): 50}))


# -- ids that are used again ------------------------------------------------------------------------------------


async def test_an_id_that_is_used_again_in_a_gap(server: RedisServer, client: redis.Redis) -> None:
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        by_hand(client, "again", "send")
        await followed.until(lambda: followed.sink.known)
        await followed.stop()
        end(client, "again")
        definition = serialize_job("charge", (), {}, None, 1_700_000_001_000)
        assert definition is not None
        with client.pipeline() as pipe:
            pipe.psetex("arq:job:again", LAPSE_MS, definition)
            pipe.zadd(QUEUE, {"again": 1})
            pipe.execute()
        await followed.restart()
        await until_ends(followed, Counter([SEND]))
        end(client, "again")
        await until_ends(followed, Counter([SEND, CHARGE]))


@pytest.mark.parametrize("mode", ["tracking", "keyspace"])
async def test_every_life_of_an_id_counts(server: RedisServer, client: redis.Redis, mode: str) -> None:
    async with following(server.url(), mode, unkept="on") as followed:
        await until_watched(followed)
        known = followed.feed._unkept._jobs
        for _ in range(300):  # as fast as a client can
            put_and_end(client, "one")
            put_and_end(client, "two")
        for place in range(20):  # seen, and ended
            by_hand(client, f"seen{place}", "send")
            await followed.until(partial(known.__contains__, f"seen{place}".encode()))
            end(client, f"seen{place}")
            put_and_end(client, f"seen{place}")
        await followed.until_total(640)
        await followed.until_watched()
        assert len(followed.sink.finished) == 640


async def test_a_kept_result_of_a_watched_job_counts_once_though_it_expires(
    server: RedisServer, client: redis.Redis
) -> None:
    client.set("other", 1)
    by_hand(client, "job", "send")
    async with following(server.url(), unkept="auto") as followed:
        await followed.until(lambda: followed.sink.known)
        await followed.until_connected(2)  # all jobs were tried, and cron jobs are watched now
        with client.pipeline() as pipe:
            pipe.delete("arq:job:job")
            pipe.zrem(QUEUE, "job")
            pipe.set("arq:result:job", result("job"), px=TTL_MS)
            pipe.execute()
        await followed.until_counted(["job"])
        client.delete("arq:result:job")
        await followed.restart()
        await until_ends(followed, Counter([(QUEUE, "send", Outcome.SUCCEEDED)]))


# -- more than is remembered ------------------------------------------------------------------------------------


async def test_a_backlog_is_read_from_its_front_as_it_shrinks(
    server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unended, "LIMIT", 300)
    monkeypatch.setattr(unkept, "LIMIT", 300)
    monkeypatch.setattr(unkept, "FRONT", 100)
    monkeypatch.setattr(looks, "FRONT_PAGE", 60)
    monkeypatch.setattr(looks, "OVERLAP", 20)
    jobs = names("job", 2000)
    for place, job_id in enumerate(jobs):
        by_hand(client, job_id, "send", score=place)
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        known = followed.feed._unkept._jobs
        for start in range(0, 2000, 20):  # without a mark of progress: nothing but the front tells of them in time
            for job_id in jobs[start : start + 20]:
                await followed.until(partial(known.__contains__, job_id.encode()))
            end(client, *jobs[start : start + 20])
            assert len(known) <= 300
        await until_ends(followed, Counter({SEND: 2000}))


async def test_a_need_behind_a_backlog_is_noticed(server: RedisServer, client: redis.Redis) -> None:
    async with following(server.url(), unkept="auto") as followed:
        await followed.until_connected(2)
        await followed.until_watched()
        now = int(time.time() * 1000)
        jobs = names("job", 3000)
        definition = serialize_job("send", (), {}, None, now)
        with client.pipeline() as pipe:
            for job_id in jobs:
                pipe.set(f"arq:job:{job_id}", definition or b"")
            pipe.zadd(QUEUE, dict.fromkeys(jobs, now))
            pipe.execute()
        await followed.until_seen_ahead(jobs[-1])
        end(client, *jobs[:500])
        await followed.until_connected(3)


# -- what is denied, too large, or told no more -----------------------------------------------------------------


async def test_a_queue_that_may_not_be_read_costs_no_other(server: RedisServer, client: redis.Redis) -> None:
    client.acl_setuser(
        "limited", enabled=True, passwords=["+secret"], keys=["arq:*"], channels=["*"], commands=["+@all"]
    )
    async with following(server.url().replace("//", "//limited:secret@"), unkept="on") as followed:
        await until_watched(followed)
        write(client, "kept", queue="other:queue")
        await followed.until_counted(["kept"])
        by_hand(client, "job", "send")
        await followed.until(lambda: any(known.queue == QUEUE for known in followed.sink.known))
        end(client, "job")
        await until_ends(followed, Counter([SEND, ("other:queue", "send", Outcome.SUCCEEDED)]))


async def test_members_of_many_megabytes(server: RedisServer, client: redis.Redis) -> None:
    client.zadd("arq:odd", {b"x" * (9 << 20): 1})
    async with following(server.url(), unkept="on", queues=["arq:odd", QUEUE]) as followed:
        await followed.until(lambda: followed.feed.problems)
        assert "jobs that wait are not read: reply larger than" in next(iter(followed.feed.problems))
        by_hand(client, "job", "send")
        await followed.until(lambda: followed.sink.known)
        end(client, "job")
        await until_ends(followed, Counter([SEND]))


async def test_notifications_that_become_fewer(server: RedisServer, client: redis.Redis) -> None:
    async with following(server.url(), "keyspace", unkept="on") as followed:
        await until_watched(followed)
        client.config_set("notify-keyspace-events", "K$")
        await followed.until_problems(1)
        assert "keyspace notifications were" in followed.problems[0]
        await followed.until(lambda: any("tells of no jobs" in problem for problem in followed.feed.problems))


@pytest.mark.parametrize("notified", ["K$gx", "K$ge", "K$xe"])
async def test_keys_go_in_ways_of_which_each_has_its_own_notifications(start_redis: StartRedis, notified: str) -> None:
    server = start_redis(notify_keyspace_events=notified)
    async with following(server.url(), "keyspace", unkept="on") as followed:
        await followed.until(lambda: followed.feed.seeded)
        await followed.until(lambda: followed.feed.problems)
        assert followed.feed.tally.kept.of(QUEUE) == {}


async def test_what_was_being_looked_at_when_the_connection_was_cut(
    server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go = asyncio.Event(), asyncio.Event()
    look = glances.look

    async def held(*arguments: object) -> object:
        if client.exists("hold"):
            reached.set()
            await go.wait()
        return await look(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(looks, "look", held)
    async with following(server.url(), unkept="on") as followed:
        await until_watched(followed)
        client.set("hold", 1)
        with client.pipeline() as pipe:  # known by its pushes only
            pipe.psetex("arq:job:quick", LAPSE_MS, b"x")
            pipe.delete("arq:job:quick")
            pipe.execute()
        await followed.until(reached.is_set)
        await followed.stop()
        client.delete("hold")
        go.set()
        await followed.restart()
        await followed.until_total(1)
        await followed.until_watched()
        assert [event.job_id for event in followed.sink.finished] == ["quick"]


async def test_kept_results_are_right_though_a_search_begins_amid_pushes(
    server: RedisServer, client: redis.Redis
) -> None:
    other = server.client(db=1)
    other.set("other", 1)
    async with following(server.url()) as followed:
        await until_watched(followed)
        with client.pipeline(transaction=False) as pipe:
            for job_id in names("kept", 5000):
                pipe.set(f"arq:result:{job_id}", result(job_id), px=TTL_MS)
            writing = asyncio.create_task(asyncio.to_thread(pipe.execute))
            await followed.until_total(1000)
            other.flushdb()  # so that it searches
            await writing
        await followed.until_total(5000)
        await followed.until_watched()
        await followed.until(lambda: followed.feed.tally.kept.of(QUEUE) == {"completed": 5000, "failed": 0}, deadline=5)
