"""The feed `results` on a real Redis: what is counted, in every mode."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import Counter
from typing import cast

import pytest
import redis

from exporter.model import Outcome, Unreadable
from exporter.systems.arq.ends import ends
from exporter.systems.arq.ends.witnesses import Told
from exporter.systems.arq.feed import feed
from tests.servers import RedisServer, StartRedis
from tests.systems.arq_results import QUEUE, TTL_MS, following, names, result, write

MODES = ("tracking", "keyspace", "scan")


@pytest.fixture
def client(server: RedisServer) -> redis.Redis:
    return server.client()


@pytest.fixture(autouse=True)
def _search_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "SCAN_INTERVAL", 0.05)
    monkeypatch.setattr(feed, "BUSY_SHARE", 1.0)


@pytest.mark.parametrize("mode", MODES)
async def test_every_result_is_counted_once_while_many_write(server: RedisServer, mode: str) -> None:
    async with following(server.url(), mode) as followed:
        await followed.until_connected()
        groups = [names(f"{letter}-", 1250) for letter in "abcd"]
        await asyncio.gather(*(asyncio.to_thread(write, server.client(), *group, task=group[0]) for group in groups))
        jobs = [job for group in groups for job in group]
        await followed.until_counted(jobs)
        assert followed.sink.modes == [mode]
        assert followed.counted == Counter(jobs)
        assert followed.sink.received_by_kind == {"job": 5000}
        assert Counter(event.task for event in followed.sink.finished) == {group[0]: 1250 for group in groups}


@pytest.mark.parametrize("mode", MODES)
async def test_what_stood_there_before_is_known_and_never_counted(
    server: RedisServer, client: redis.Redis, mode: str
) -> None:
    now = time.time()
    write(client, "old", finished=now - 1800)
    write(client, "new", finished=now - 5)
    write(client, "bad", task="parse", queue="other", success=False, value=ValueError("no"))
    async with following(server.url(), mode) as followed:
        await followed.until(lambda: len(followed.sink.known) == 2)
        known = {(event.queue, event.task, event.outcome): event.at for event in followed.sink.known}
        assert known[QUEUE, "send", Outcome.SUCCEEDED] == pytest.approx(now - 5, abs=0.002)
        assert ("other", "parse", Outcome.FAILED) in known
        await followed.until_connected()
        write(client, "later")
        await followed.until_counted(["later"])
        assert followed.counted == {"later": 1}
        assert followed.sink.received_by_kind == {"job": 1}


@pytest.mark.parametrize("mode", ["tracking", "keyspace"])
@pytest.mark.parametrize("attempt", range(5))
async def test_what_is_written_while_the_first_search_goes_on_is_counted(
    server: RedisServer, client: redis.Redis, mode: str, attempt: int
) -> None:
    # given more results than a few pages hold
    standing = names("standing", 2000)
    with client.pipeline(transaction=False) as pipeline:
        for job in standing:
            pipeline.set(f"arq:result:{job}", result(job))
        pipeline.execute()
    marked: list[str] = []
    stop = False

    def keep_writing(writer: redis.Redis) -> list[str]:
        written: list[str] = []
        while not stop:
            job = f"live{len(written)}"
            armed = bool(followed.sink.modes)
            write(writer, job)
            written.append(job)
            if armed:
                marked.append(job)
        return written

    async with following(server.url(), mode, start=False) as followed:
        writing = asyncio.create_task(asyncio.to_thread(keep_writing, server.client()))
        followed.start()
        # when it connects and searches under way
        await followed.until(lambda: len(marked) > 500)
        stop = True
        written = await writing
        await followed.until_counted(marked)
        # then each that was written since is counted once, and what stood there never
        assert max(followed.counted.values()) == 1
        counted = set(followed.counted)
        assert not counted & set(standing)
        assert counted <= set(written)


@pytest.mark.parametrize("mode", MODES)
async def test_a_job_id_that_is_used_again_is_counted_again(
    server: RedisServer, client: redis.Redis, mode: str
) -> None:
    async with following(server.url(), mode) as followed:
        await followed.until_connected()
        now = time.time()
        for times in (1, 2, 3):
            write(client, "job", finished=now + times)
            await followed.until_total(times)
            assert followed.counted["job"] == times


async def test_the_same_end_is_counted_once_however_often_it_is_pushed(
    server: RedisServer, client: redis.Redis
) -> None:
    value = result("job")
    async with following(server.url()) as followed:
        await followed.until_connected()
        for marker in names("marker", 3):
            client.set("arq:result:job", value)
            client.pexpire("arq:result:job", TTL_MS)
            write(client, marker)
            await followed.until_counted([marker])
        assert followed.counted["job"] == 1


@pytest.mark.parametrize("mode", ["tracking", "keyspace"])
async def test_expiry_deletion_and_flush_count_nothing(server: RedisServer, client: redis.Redis, mode: str) -> None:
    async with following(server.url(), mode) as followed:
        await followed.until_connected()
        write(client, "a", "b", "c")
        await followed.until_counted("abc")
        client.delete("arq:result:a")
        client.pexpire("arq:result:b", 1)
        await followed.until(lambda: not client.exists("arq:result:b"))
        client.flushall()
        write(client, "marker")
        await followed.until_counted(["marker"])
        assert followed.counted == Counter(["a", "b", "c", "marker"])
        assert not followed.sink.undecodable_by_reason
        assert not followed.problems


@pytest.mark.parametrize("mode", MODES)
async def test_results_of_other_databases_are_not_counted(server: RedisServer, client: redis.Redis, mode: str) -> None:
    async with following(server.url(), mode) as followed, following(server.url(2), mode) as other:
        await followed.until_connected()
        await other.until_connected()
        write(server.client(2), "there")
        write(client, "here")
        await followed.until_counted(["here"])
        await other.until_counted(["there"])
        assert (followed.counted, other.counted) == ({"here": 1}, {"there": 1})


@pytest.mark.parametrize("mode", ["tracking", "keyspace"])
async def test_a_push_for_a_result_that_stands_there_counts_nothing(
    server: RedisServer, client: redis.Redis, mode: str
) -> None:
    now = time.time()
    for job, age in (("nightly", 1800), ("hourly", 500)):
        write(client, job, finished=now - age)
    async with following(server.url(), mode) as followed:
        await followed.until(lambda: followed.feed.seeded)
        # a push of tracking does not tell which database, nor whether the value has changed
        for job in ("nightly", "hourly"):
            write(server.client(1), job)
            client.pexpire(f"arq:result:{job}", TTL_MS)
        write(client, "marker")
        await followed.until_counted(["marker"])
        assert followed.counted == {"marker": 1}


# -- modes ------------------------------------------------------------------------------------------------------


def allow(client: redis.Redis, *commands: str) -> None:
    """A user `limited` who may do everything but these commands."""
    client.acl_setuser(
        "limited", enabled=True, nopass=True, categories=["+@all"], commands=list(commands), keys=["*"], channels=["*"]
    )


def limited(server: RedisServer) -> str:
    return server.url().replace("redis://", "redis://limited:x@")


@pytest.mark.parametrize(
    ("events", "denied", "mode"),
    [
        ("KA", [], "tracking"),
        ("", [], "tracking"),
        ("KA", ["-client|tracking"], "keyspace"),
        ("K$", ["-client|id"], "keyspace"),
        ("EA", ["-client|tracking"], "scan"),
        ("Kx", ["-client|tracking"], "scan"),
        ("", ["-client|tracking"], "scan"),
        ("KA", ["-client|tracking", "-config|get"], "scan"),
        ("KA", ["-subscribe", "-psubscribe"], "scan"),
    ],
)
async def test_the_best_mode_that_the_server_allows_is_taken(
    start_redis: StartRedis, events: str, denied: list[str], mode: str
) -> None:
    server = start_redis(notify_keyspace_events=events)
    allow(server.client(), *denied)
    async with following(limited(server)) as followed:
        await followed.until_connected()
        write(server.client(), "job")
        await followed.until_counted(["job"])
        assert followed.sink.modes == [mode]
        assert not followed.problems
    # and the server's configuration is as it was
    setting = cast(dict[str, str], server.client().config_get("notify-keyspace-events"))
    assert set(setting["notify-keyspace-events"]) == set(events)


@pytest.mark.parametrize(("mode", "denied"), [("tracking", "-client|tracking"), ("keyspace", "-config|get")])
async def test_a_mode_asked_for_by_name_is_not_replaced(
    server: RedisServer, client: redis.Redis, mode: str, denied: str
) -> None:
    allow(client, denied)
    async with following(limited(server), mode) as followed:
        await followed.until(lambda: followed.problems)
        assert followed.problems[0].startswith(f"{mode} refused by the server: ")
        assert not followed.sink.modes
        # and once it is allowed, it is there
        allow(client)
        await followed.until_connected()
        assert followed.sink.modes == [mode]


async def test_results_that_may_not_be_read_end_the_feed_and_are_counted_once_they_may(
    server: RedisServer, client: redis.Redis
) -> None:
    allow(client)
    async with following(limited(server)) as followed:
        await followed.until_connected()
        allow(client, "-getrange")
        write(client, "job")
        await followed.until(lambda: followed.problems)
        assert "results cannot be read" in followed.problems[0]
        allow(client)
        await followed.until_counted(["job"])
        assert followed.counted == {"job": 1}
        assert not followed.sink.undecodable_by_reason


# -- what cannot be read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_bad_values_are_counted_as_such_and_do_the_good_ones_no_harm(
    server: RedisServer, client: redis.Redis, mode: str
) -> None:
    client.set("arq:result:stood", b"\x80\x04junk")
    async with following(server.url(), mode) as followed:
        await followed.until_connected()
        good = names("good", 20)
        for job in good:
            write(client, job)
            client.set(f"arq:result:bad-{job}", b"\x80\x04" + job.encode())
        client.set("arq:result:zipped", zlib.compress(result("zipped")))
        client.hset("arq:result:hash", "a", "b")
        client.set(b"arq:result:" + b"x" * 2000, result("long"))
        client.set(b"arq:result:\xff\n", result("odd"))
        await followed.until_counted([*good, "\udcff\n"])
        bad = followed.sink.undecodable_by_reason
        # A hash gives no notification for strings.
        expected = 22 - (mode == "keyspace")
        await followed.until(lambda: bad.total() == expected + 1)
        assert bad[Unreadable.BOUNDS] == 1
        assert bad[Unreadable.ENCODING] == 1
        # and no more, though in scan mode they are met again and again
        write(client, "marker")
        await followed.until_counted(["marker"])
        assert bad.total() == expected + 1
        assert max(followed.counted.values()) == 1
        assert followed.sink.received_by_kind["job"] == 22 + expected + 1
        assert not followed.problems


@pytest.mark.parametrize("mode", MODES)
async def test_a_large_result_is_counted_by_its_ends(server: RedisServer, client: redis.Redis, mode: str) -> None:
    async with following(server.url(), mode) as followed:
        await followed.until_connected()
        write(client, "large", task="export", queue="big", value="x" * 300_000)
        write(client, "huge", task="export", queue="big", value=list(range(200_000)))
        await followed.until_counted(["large", "huge"])
        for event in followed.sink.finished:
            assert (event.task, event.queue, event.outcome) == ("export", "big", Outcome.SUCCEEDED)
            assert event.run == pytest.approx(0.25)


# -- what an event tells ----------------------------------------------------------------------------------------


async def test_what_an_event_tells(server: RedisServer, client: redis.Redis) -> None:
    now = round(time.time(), 3)
    async with following(server.url()) as followed:
        await followed.until_connected()
        write(client, "a", task="t", queue="q", finished=now, ran=2.5, waited=4.0)
        write(client, "b", tries=3, success=False, value=KeyError("x"))
        await followed.until_counted("ab")
    events = {event.job_id: event for event in followed.sink.finished}
    a, b = events["a"], events["b"]
    assert (a.queue, a.task, a.outcome, a.exception) == ("q", "t", Outcome.SUCCEEDED, None)
    assert (a.at, a.run, a.wait) == pytest.approx((now, 2.5, 4.0))
    assert (a.attempt, a.retried) == (1, 0)
    assert (b.outcome, b.exception, b.attempt, b.retried) == (Outcome.FAILED, "KeyError", 3, 2)
    assert b.wait is None  # its first start is not known
    assert followed.feed.tally.progress["q"] == pytest.approx(now)


async def test_the_wait_of_a_deferred_job_begins_when_it_is_due(server: RedisServer, client: redis.Redis) -> None:
    async with following(server.url(), queues=[QUEUE, "own"]) as followed:
        await followed.until_connected()
        for queue, job in ((QUEUE, "a"), ("own", "b"), ("learned", "c")):
            if queue == "learned":
                write(client, "first", queue=queue)
                await followed.until_counted(["first"])
            enqueued = time.time()
            due = enqueued + 1.0
            # given a job deferred by a second, seen by the look ahead
            client.zadd(queue, {job: round(due * 1000)})
            await followed.until_seen_ahead(job)
            # when it started half a second late and ended
            client.zrem(queue, job)
            started = due + 0.5
            write(client, job, queue=queue, finished=started + 0.1, ran=0.1, waited=started - enqueued)
            await followed.until_counted([job])
            (event,) = [event for event in followed.sink.finished if event.job_id == job]
            assert event.wait == pytest.approx(0.5, abs=0.01)
            assert job.encode() not in followed.feed.tally.ahead


async def test_a_record_of_the_hook_waits_for_the_search_that_finds_its_result(
    server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The record alone would be counted after 1 s, the search comes after 3: both with a second to spare.
    monkeypatch.setattr(feed, "SCAN_INTERVAL", 3.0)
    monkeypatch.setattr(ends, "LEAST_HOLD", 1.0)
    async with following(server.url(), "scan") as followed:
        await followed.until_connected()
        counting = followed.feed.tally.ends
        counting.watch([QUEUE], 1.0)
        now = time.time()
        told = {"queue": QUEUE, "task": "send", "exception": None, "attempt": 1, "due": None}
        times = {"start": now - 0.2, "end": now - 0.1, "written": now, "kept": True}
        for job_id in names("job", 5):
            write(client, job_id, success=False, value=ValueError("no repr"), finished=now)
            counting.told(Told(job_id=job_id, outcome=Outcome.SUCCEEDED, **told, **times), followed.sink)  # type: ignore[arg-type]
            counting.release(time.monotonic())
        await followed.until(
            lambda: counting.release(time.monotonic()) or len(followed.sink.finished) == 5  # type: ignore[func-returns-value]
        )
        assert {event.outcome for event in followed.sink.finished} == {Outcome.FAILED}
