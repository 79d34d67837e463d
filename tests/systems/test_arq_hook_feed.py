"""The feed `hook` on a real Redis: each record once, whatever becomes of the connection, the stream or the server."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, cast

import pytest
import redis

from exporter.brokers.pulls import CLIENT_NAME, Refused
from exporter.model import Outcome, Retried, Unreadable
from exporter.systems.arq.hook import feed as hook_feed
from tests.servers import RedisServer
from tests.systems.hook_following import following, look_often
from tests.systems.hook_records import QUEUE, QUEUES, WORKERS, HookedWorker, events_key, fields, worker_key

LARGE = "x" * (9 << 20)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    look_often(monkeypatch)


def cut(client: redis.Redis) -> None:
    """Ends the connection that reads the streams."""
    for one in cast(list[dict[str, str]], client.client_list()):
        if one["name"] == CLIENT_NAME and one["cmd"] == "xread":
            client.client_kill_filter(_id=one["id"])


# -- what counts ------------------------------------------------------------------------------------------------


async def test_records_are_counted_from_when_we_came(redis_server: RedisServer, client: redis.Redis) -> None:
    # given a record that stood there
    first, second = HookedWorker(client, "first"), HookedWorker(client, "second", "other")
    first.end("before")
    async with following(redis_server) as followed:
        await followed.until_connected()
        # when jobs end, also in a queue that is new
        first.end("a", "b", outcome="failed", exception="KeyError")
        second.end("c", outcome="retried", exception="", **{"try": 1})
        second.end("c", outcome="succeeded", **{"try": 2})
        # then
        await followed.until_counted("a", "b", "c")
        sink = followed.sink
        assert sink.modes == ["stream"]
        assert [(event.queue, event.outcome, event.exception) for event in sink.finished if event.job_id != "c"] == [
            (QUEUE, Outcome.FAILED, "KeyError")
        ] * 2
        (done,) = [event for event in sink.finished if event.job_id == "c"]
        assert (done.queue, done.outcome, done.attempt) == ("other", Outcome.SUCCEEDED, 2)
        (retried,) = [event for event in sink.events if isinstance(event, Retried)]
        assert retried.wait == pytest.approx(1, abs=0.01)
        await followed.until_looked()
        assert (sink.received_by_kind["job"], sink.lost_events, sink.undecodable_by_reason) == (4, 0, Counter())
        assert 2 <= sink.received_by_kind["worker"] <= 4
        # when only one queue is ours
    async with following(redis_server, only=[QUEUE]) as followed:
        await followed.until_connected()
        second.end("theirs")
        first.end("ours")
        await followed.until_counted("ours")
        assert [state.worker for state in followed.feed.workers() or ()] == ["first"]
        assert [*followed.feed.queues] == [QUEUE]


async def test_what_is_said_to_be_read_was_told(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_feed, "ENTRIES", 1)
    written: dict[str, float] = {}
    untold: list[str] = []
    caught_up = [0.0]
    async with following(redis_server) as followed:

        def release(until_then: float) -> None:
            caught_up.append(until_then)
            untold.extend(job for job, at in written.items() if at < until_then and job not in followed.counted)

        followed.ends.release = release  # type: ignore[method-assign, assignment]
        await followed.until_connected()
        # when records come in, of old queues and new ones
        workers = [HookedWorker(client, f"w{place}", f"q{place}") for place in range(10)]
        for place in range(40):
            workers[min(place // 3, place % 10)].end(*(jobs := [f"{place}a", f"{place}b", f"{place}c"]))
            written |= dict.fromkeys(jobs, time.monotonic())
            await asyncio.sleep(0.005)
        await followed.until(lambda: caught_up[-1] > max(written.values()))
        # then at no time was one of them still to be read
        assert caught_up == sorted(caught_up)
        assert not untold
        assert len(followed.counted) == 120


async def test_without_any_hook_nothing_is_known(redis_server: RedisServer, client: redis.Redis) -> None:
    async with following(redis_server) as followed:
        await followed.until_connected()
        await followed.until_looked()
        assert followed.feed.workers() is None
        assert followed.feed.queue(QUEUE).workers is None
        # when a worker comes, and goes
        worker = HookedWorker(client, "w")
        worker.beat()
        await followed.until(lambda: followed.feed.queue(QUEUE).workers == 1)
        worker.leave()
        await followed.until(lambda: followed.feed.queue(QUEUE).workers == 0)
        assert followed.feed.workers() == []
        # when a job ends that no record tells of
        followed.ends.last_untold[QUEUE] = time.monotonic()
        assert followed.feed.queue(QUEUE).workers is None


# -- what may go wrong ------------------------------------------------------------------------------------------


async def test_a_cut_loses_nothing(redis_server: RedisServer, client: redis.Redis) -> None:
    worker = HookedWorker(client, "w")
    worker.beat()
    async with following(redis_server) as followed:
        await followed.until_connected()
        jobs: list[str] = []
        for time_ in range(1, 4):  # while more than one page comes in
            new = [f"{time_}-{number}" for number in range(700)]
            worker.end(*new)
            cut(client)
            jobs += new
            await followed.until_connected(time_ + 1)
            assert followed.feed.workers()
        worker.end("last")
        await followed.until_counted(*jobs, "last")
        assert followed.sink.lost_events == 0
        assert followed.sink.received_by_kind["job"] == len(jobs) + 1


async def test_what_is_missing_is_counted_and_what_comes_twice_is_not(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    old = HookedWorker(client, "old")
    old.n = 100
    old.beat()
    async with following(redis_server) as followed:
        await followed.until_connected()
        # given a worker that has told others, and two that came after us and lost their first records
        new, brief = HookedWorker(client, "new"), HookedWorker(client, "brief")
        old.end("old")
        new.n = 4
        new.end("new")
        brief.n = 2
        brief.end("brief")
        brief.leave()
        await followed.until(lambda: followed.sink.lost_events >= 6)
        # when some are written again, and some were dropped from the buffer
        new.n -= 1
        new.end("new")
        new.n += 3
        new.end("later")
        await followed.until_counted("old", "new", "brief", "later")
        assert followed.sink.lost_events == 4 + 2 + 3
        # when the stream is trimmed while nobody reads
        await followed.stop()
        new.end("trimmed 1", "trimmed 2", "stays")
        client.xtrim(events_key(), maxlen=1, approximate=False)
        followed.start()
        await followed.until_counted("old", "new", "brief", "later", "stays")
        assert followed.sink.lost_events == 4 + 2 + 3 + 2


async def test_a_stream_that_begins_anew_is_read_from_its_start(redis_server: RedisServer, client: redis.Redis) -> None:
    worker = HookedWorker(client, "w")
    other = HookedWorker(client, "dead")
    other.end("before us", end=time.time() - 60, start=time.time() - 61)
    async with following(redis_server) as followed:
        await followed.until_connected()
        worker.end("a")
        await followed.until_counted("a")
        # when everything goes, and ids begin at 1: by an older clock, with what stood there before we came
        old = fields(other.id, 1, job="before us", end=time.time() - 60, start=time.time() - 61)
        with client.pipeline() as replacing:
            replacing.flushall()
            replacing.zadd(QUEUES, {QUEUE: time.time()})
            for number, entry in enumerate([old, fields(worker.id, 1, job="a"), fields(worker.id, 2, job="b")], 1):
                replacing.xadd(events_key(), entry, id=f"{number}-1")  # type: ignore[arg-type]
            replacing.execute()
        # then each counts once
        await followed.until_counted("a", "b")
        worker.n = 2
        # when it happens while we are cut off
        await followed.stop()
        client.flushall()
        worker.end("c")
        followed.start()
        await followed.until_counted("a", "b", "c")
        assert followed.sink.lost_events == 0
        assert not followed.problems


async def test_what_is_too_long_or_no_stream_stops_nothing(redis_server: RedisServer, client: redis.Redis) -> None:
    worker = HookedWorker(client, "w")
    worker.beat()
    # given keys of other types, of queues that the index names, an index with a name that is too long
    client.set(events_key("bad"), "text")
    client.zadd(QUEUES, {"bad": 1, LARGE: 2})
    client.zadd(WORKERS, {LARGE: 2, "large:0000abcd": 3, "wrong:0000abcd": 4})
    client.hset(worker_key("large:0000abcd"), mapping={"v": "1", "queue": LARGE})
    client.set(worker_key("wrong:0000abcd"), "text")
    async with following(redis_server) as followed:
        await followed.until_connected()
        assert [state.worker for state in followed.feed.workers() or ()] == ["w"]
        reasons = followed.sink.undecodable_by_reason
        assert reasons == {Unreadable.BOUNDS: 1, Unreadable.MALFORMED: 1}
        assert "another type" in next(iter(followed.feed.problems))
        # when an entry comes that is longer than any reply may be, between others of the same moment
        with client.pipeline() as write:
            moment = int(time.time() * 1000) + 1000
            write.xadd(events_key(), fields(worker.id, 1, job="a"), id=f"{moment}-1")  # type: ignore[arg-type]
            write.xadd(events_key(), {"job": LARGE}, id=f"{moment}-2")
            write.xadd(events_key(), fields(worker.id, 2, job="b"), id=f"{moment}-3")  # type: ignore[arg-type]
            write.execute()
        worker.n = 2
        # then it costs the connection once, and itself
        await followed.until_connected(2)
        worker.end("c")
        await followed.until_counted("a", "b", "c")
        assert reasons == {Unreadable.BOUNDS: 2, Unreadable.MALFORMED: 1}
        assert len(followed.problems) == 1
        assert followed.sink.lost_events == 0
        # when a key becomes a stream, and one that was is none
        client.delete(events_key("bad"))
        client.xadd(events_key("bad"), fields("bad:0000abcd", 1, job="d"))  # type: ignore[arg-type]
        await followed.until_counted("a", "b", "c", "d")
        assert not followed.feed.problems
        client.delete(events_key())
        client.set(events_key(), "text")
        await followed.until(lambda: followed.feed.problems)
        assert len(followed.problems) == 1


@pytest.mark.parametrize("denied", ["zrange", "hmget", "hstrlen", "xinfo|stream", "xread"])
async def test_a_right_that_is_denied_is_named(redis_server: RedisServer, client: redis.Redis, denied: str) -> None:
    HookedWorker(client, "w").end("a")
    client.execute_command("ACL", "SETUSER", "reader", "on", ">x", "~*", "+@all", f"-{denied}")  # type: ignore[no-untyped-call]
    url = redis_server.url().replace("redis://", "redis://reader:x@")
    async with following(url) as followed:
        await followed.until(lambda: followed.problems)
        assert isinstance(followed.problems[0], Refused)
        assert denied.partition("|")[0] in str(followed.problems[0]).lower()
        assert not followed.sink.modes
        assert followed.ends._hooked is None  # no end waits for records that nobody reads
        # when it is given
        client.execute_command("ACL", "SETUSER", "reader", f"+{denied}")  # type: ignore[no-untyped-call]
        await followed.until_connected()


async def test_little_is_asked_where_nobody_has_the_hook(redis_server: RedisServer, client: redis.Redis) -> None:
    async with following(redis_server) as followed:
        await followed.until_connected()
        before: Any = client.info("commandstats")
        await followed.until_looked()
        after: Any = client.info("commandstats")
        calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
        asked = {name for name, number in calls.items() if number} - {"cmdstat_info", "cmdstat_ping"}
        assert asked == {"cmdstat_zrange"}  # of both indexes, at each look
