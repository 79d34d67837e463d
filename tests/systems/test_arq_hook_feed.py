"""The feed `hook` on a real Redis: each record once, whatever becomes of the connection, the stream or the server."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, cast

import pytest
import redis

from exporter.brokers.access import CLIENT_NAME
from exporter.brokers.errors import Refused
from exporter.brokers.push import PushConnection
from exporter.brokers.turn import Turn
from exporter.model import Finished, Outcome, Retried, Unreadable
from exporter.systems.arq.ends import ends
from exporter.systems.arq.hook import feed as hook_feed
from exporter.systems.arq.hook.reading import read_index, read_last_ids
from exporter.systems.arq.hook.streams import STEP
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
        # when the server is flushed
        worker.beat()
        await followed.until(lambda: followed.feed.workers())
        client.flushall()
        await followed.until(lambda: not followed.feed.workers())
        await followed.until_looked()
        assert followed.feed.workers() is None
        # then what waits for records does not wait, though there are none to be read
        caught_up = time.monotonic()
        read: list[float] = []
        followed.ends.release = read.append  # type: ignore[method-assign, assignment]
        await followed.until(lambda: read and read[-1] > caught_up)


async def test_an_end_counts_once_that_came_while_the_feed_began(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = HookedWorker(client, "w")
    worker.beat()
    async with following(redis_server) as followed:
        followed.ends.alone = False

        async def read(*arguments: Any) -> Any:
            last_ids = await read_last_ids(*arguments)
            if not worker.n:  # its result is read now, its record later
                ended = Finished(QUEUE, "send", "a", time.time(), Outcome.UNKNOWN)
                followed.ends.vanished(ended, followed.sink)
                worker.end("a")
            return last_ids

        monkeypatch.setattr(hook_feed, "read_last_ids", read)
        await followed.until_connected()
        worker.end("b")
        await followed.until_counted("a", "b")
        assert {event.outcome for event in followed.sink.finished} == {Outcome.SUCCEEDED}


async def test_a_slow_look_does_not_keep_ends_waiting(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_feed, "BUSY_SHARE", 0.01)
    monkeypatch.setattr(hook_feed, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(ends, "LEAST_HOLD", 0.1)
    slow = asyncio.Event()

    async def read(*arguments: Any) -> Any:
        if not slow.is_set():
            await asyncio.sleep(0.5)  # the server is busy, or we are: this share of the time would be a pause of 50 s
            slow.set()
        return await read_index(*arguments)

    async with following(redis_server) as followed:
        await followed.until_connected()
        monkeypatch.setattr(hook_feed, "read_index", read)
        await slow.wait()
        # when a job ends that no record tells of, after that look
        followed.ends.vanished(Finished(QUEUE, "send", "a", time.time(), Outcome.UNKNOWN), followed.sink)
        # then it is counted as soon as all records are read that were written by then
        await followed.until_counted("a")


async def test_many_streams_are_read_to_their_ends(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_feed, "ENTRIES", 20)  # in place of 500, as of 20 queues in place of 500
    queues = [f"q{number}" for number in range(20)]
    client.zadd(QUEUES, dict.fromkeys(queues, time.time()))
    async with following(redis_server) as followed:
        await followed.until_connected()
        await followed.stop()
        connection = await PushConnection.open(followed.pulls.access, Turn())
        workers = [HookedWorker(client, queue, queue) for queue in queues[:3]]
        # when there is one entry each in a few, and more in another, all of them are read at once
        workers[0].end("a")
        workers[1].end("b")
        workers[2].end(*(hot := [f"hot {number}" for number in range(15)]))
        assert await followed.feed._read_once(connection, block=None)
        assert followed.counted == Counter(["a", "b", *hot])
        # when one has still more, it says so, and is read on
        workers[2].end(*(hotter := [f"hotter {number}" for number in range(30)]))
        assert not await followed.feed._read_once(connection, block=None)
        assert followed.sink.received_by_kind["job"] == 17 + hook_feed.FEWEST + 20
        assert await followed.feed._read_once(connection, block=None)
        assert followed.counted == Counter(["a", "b", *hot, *hotter])
        await connection.close()


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
        # and one that told others before us, but could not reach the server as we came
        away = HookedWorker(client, "away", started=time.time() - 3600)
        away.n = 10
        away.end("away")
        await followed.until(lambda: followed.sink.lost_events >= 6)
        # when some are written again, and some were dropped from the buffer
        new.n -= 1
        new.end("new")
        new.n += 3
        new.end("later")
        await followed.until_counted("old", "new", "brief", "away", "later")
        await followed.until_looked()
        assert followed.sink.lost_events == 4 + 2 + 3
        # when the stream is trimmed while nobody reads
        await followed.stop()
        new.end("trimmed 1", "trimmed 2", "stays")
        client.xtrim(events_key(), maxlen=1, approximate=False)
        followed.start()
        await followed.until_counted("old", "new", "brief", "away", "later", "stays")
        assert followed.sink.lost_events == 4 + 2 + 3 + 2


async def test_no_number_is_taken_that_a_worker_cannot_have_reached(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    worker, busy = HookedWorker(client, "w"), HookedWorker(client, "busy")
    busy.n = 5 * STEP
    busy.beat()
    async with following(redis_server) as followed:
        await followed.until_connected()
        # when somebody writes an entry in its name, and in one's that nobody knows
        for name in (worker.id, "nobody:0000abcd"):
            client.xadd(events_key(), fields(name, 10**12))  # type: ignore[arg-type]
        worker.end("a", "b")
        # then the worker's own count, also those of one that has made many, and has left
        busy.beat()
        await followed.stop()
        busy.end("c")
        busy.leave()
        followed.start()
        await followed.until_counted("a", "b", "c")
        await followed.until_looked()
        assert followed.sink.lost_events == 0
        assert followed.sink.undecodable_by_reason == {Unreadable.MALFORMED: 2}


async def test_a_stream_that_begins_anew_is_read_from_its_start(redis_server: RedisServer, client: redis.Redis) -> None:
    worker = HookedWorker(client, "w")
    other = HookedWorker(client, "dead")
    other.end("before us", end=time.time() - 60, start=time.time() - 61)
    async with following(redis_server) as followed:
        await followed.until_connected()
        worker.end("a")
        await followed.until_counted("a")
        # when everything goes, and ids begin at 1: by an older clock, with what stood there before we came, and what
        # ended before, but was written later
        times = {"end": time.time() - 60, "start": time.time() - 61}
        old = fields(other.id, 1, job="before us", **times)
        late = fields("late:0000abcd", 1, job="late", **times, written=time.time())
        with client.pipeline() as replacing:
            replacing.flushall()
            replacing.zadd(QUEUES, {QUEUE: time.time()})
            for number, entry in enumerate(
                [old, late, fields(worker.id, 1, job="a"), fields(worker.id, 2, job="b")], 1
            ):
                replacing.xadd(events_key(), entry, id=f"{number}-1")  # type: ignore[arg-type]
            replacing.execute()
        # then each counts once
        await followed.until_counted("a", "b", "late")
        worker.n = 2
        # when it happens while we are cut off
        await followed.stop()
        client.flushall()
        worker.end("c")
        followed.start()
        await followed.until_counted("a", "b", "late", "c")
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
        # then it costs the connection once, and itself, also if it is the last one
        await followed.until_connected(2)
        client.xadd(events_key(), {"job": LARGE}, id=f"{moment}-4")
        await followed.until_connected(3)
        worker.end("c")
        await followed.until_counted("a", "b", "c")
        assert reasons == {Unreadable.BOUNDS: 3, Unreadable.MALFORMED: 1}
        assert len(followed.problems) == 2
        assert followed.sink.lost_events == 0
        # when a key becomes a stream, and one that was is none
        client.delete(events_key("bad"))
        client.xadd(events_key("bad"), fields("bad:0000abcd", 1, job="d"))  # type: ignore[arg-type]
        await followed.until_counted("a", "b", "c", "d")
        assert not followed.feed.problems
        client.delete(events_key())
        client.set(events_key(), "text")
        await followed.until(lambda: followed.feed.problems)
        assert len(followed.problems) == 2
        # then it is no hurry to ask again: whoever writes such keys may go on
        began = time.monotonic()
        await followed.feed._take_refusal("WRONGTYPE of one", ("XREAD",))
        assert time.monotonic() - began >= hook_feed.BLOCK
        # when nobody has the queue any more
        client.zrem(QUEUES, QUEUE)
        await followed.until(lambda: not followed.feed.problems)


@pytest.mark.parametrize("denied", ["zrange", "hmget", "hstrlen", "xinfo|stream", "xread"])
async def test_a_right_that_is_denied_is_named(redis_server: RedisServer, client: redis.Redis, denied: str) -> None:
    worker = HookedWorker(client, "w")
    worker.end("a")
    client.execute_command("ACL", "SETUSER", "reader", "on", ">x", "~*", "+@all", f"-{denied}")  # type: ignore[no-untyped-call]
    url = redis_server.url().replace("redis://", "redis://reader:x@")
    async with following(url) as followed:
        await followed.until(lambda: followed.problems)
        worker.end("b")
        tries = len(followed.problems)
        await followed.until(lambda: len(followed.problems) >= tries + 2)
        assert isinstance(followed.problems[0], Refused)
        assert denied.partition("|")[0] in str(followed.problems[0]).lower()
        assert not followed.sink.modes
        assert followed.ends._hooked is None  # no end waits for records that nobody reads
        # when it is given
        client.execute_command("ACL", "SETUSER", "reader", f"+{denied}")  # type: ignore[no-untyped-call]
        await followed.until_connected()
        # then what was written before then does not count: it did by its result
        worker.end("c")
        await followed.until_counted("c")
        assert followed.sink.lost_events == 0


async def test_little_is_asked_where_nobody_has_the_hook(redis_server: RedisServer, client: redis.Redis) -> None:
    async with following(redis_server) as followed:
        await followed.until_connected()
        before: Any = client.info("commandstats")
        await followed.until_looked()
        after: Any = client.info("commandstats")
        calls = {name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after}
        asked = {name for name, number in calls.items() if number} - {"cmdstat_info", "cmdstat_ping"}
        assert asked == {"cmdstat_zrange"}  # of both indexes, at each look
