"""The feed `results` where a server or a connection does the unexpected, step by step."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import redis

from exporter.brokers import push
from exporter.brokers.access import Access
from exporter.brokers.errors import ReplyTooLarge
from exporter.brokers.push import PushConnection
from exporter.brokers.turn import SLICE_SECONDS, Turn
from exporter.systems.arq.feed import ahead, feed, modes
from exporter.systems.arq.feed.modes import FeedMode, Line
from exporter.systems.arq.feed.reading import Value, decode
from tests.servers import RedisServer, StartRedis
from tests.systems.arq_results import QUEUE, following, names, result, write
from tests.systems.test_arq_feed_cuts import cut_reader

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_a_hurry")]

TOO_LONG = b"arq:result:" + b"x" * (9 << 20)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    """The connections that feeds make, in their order."""
    made: list[Line] = []

    @asynccontextmanager
    async def connect(
        access: Access, turn: Turn, wanted: FeedMode, scope: modes.Scope, on_push: Callable[..., None]
    ) -> AsyncIterator[Line]:
        async with modes.connect(access, turn, wanted, scope, on_push) as line:
            made.append(line)
            yield line

    monkeypatch.setattr(feed, "connect", connect)
    return made


class Held:
    """Holds up the next page of pushed results before it is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self._next = True
        monkeypatch.setattr(feed, "decode", self._decode)

    async def _decode(self, *arguments: Any) -> None:
        if self._next:
            self._next = False
            self.reached.set()
            await self.go.wait()
        await decode(*arguments)


# -- pushes that come late --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["tracking", "keyspace"])
async def test_a_search_waits_for_the_pushes_of_what_it_has_read(
    redis_server: RedisServer, client: redis.Redis, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    received = PushConnection.buffer_updated

    def late(connection: PushConnection, data: bytes) -> None:
        connection._buffer[: len(data)] = data
        received(connection, len(data))

    def delayed(connection: PushConnection, nbytes: int) -> None:
        if connection._on_push is push._ignore:
            received(connection, nbytes)
        else:
            data = bytes(connection._buffer[:nbytes])
            connection._loop.call_later(0.2, late, connection, data)

    monkeypatch.setattr(PushConnection, "buffer_updated", delayed)
    standing, live = names("standing", 200), names("live", 100)
    write(client, *standing)
    async with following(redis_server.url(), mode, start=False) as followed:
        async with followed.searches_held(where="start") as reached:
            followed.start()
            await followed.until(reached.is_set)
            write(client, *live)
        await followed.until_counted(live)
        await followed.until(lambda: followed.feed.seeded)
        write(client, "marker")
        await followed.until_counted(["marker"])
        assert followed.counted == Counter([*live, "marker"])


async def test_what_a_silent_subscriber_was_not_told_was_not_seen(
    redis_server: RedisServer, client: redis.Redis, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    received, silent = PushConnection.buffer_updated, set[PushConnection | None]()

    def dropped(connection: PushConnection, nbytes: int) -> None:
        if connection not in silent:
            received(connection, nbytes)

    beat = PushConnection._beat
    monkeypatch.setattr(PushConnection, "buffer_updated", dropped)
    monkeypatch.setattr(PushConnection, "_beat", lambda connection, interval: beat(connection, 1.0))
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        await followed.until(lambda: followed.feed.seeded)
        await followed.until_watched()
        silent.add(lines[0].sub)
        followed.clocks.passed = 1200.0
        write(client, "untold", finished=time.time() + 30)
        await followed.until_problems(1)
        await followed.until_counted(["untold"])
        assert followed.counted == {"untold": 1}


async def test_a_lost_reader_is_noticed_at_once(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "interval", lambda queues: 3600.0)  # nothing else is asked of it
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        await followed.until(lambda: followed.feed.seeded)
        cut_reader(client)
        await followed.until_connected(2)
        write(client, "job")
        await followed.until_counted(["job"])


async def test_a_replica_that_gets_a_whole_new_copy_is_searched(
    start_redis: StartRedis, redis_server: RedisServer
) -> None:
    other = start_redis(repl_diskless_sync_delay="0")
    jobs = names("job", 20)
    write(other.client(), *jobs)
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        await followed.until(lambda: followed.feed.seeded)
        host, port = "127.0.0.1", other.client().connection_pool.connection_kwargs["port"]
        redis_server.client().replicaof(host, port)
        await followed.until_counted(jobs)
        assert followed.counted == Counter(jobs)
        assert not followed.problems


# -- what is being read when something happens ------------------------------------------------------------------


async def test_what_was_being_read_when_cut_is_read_again(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        await followed.until(lambda: followed.feed.seeded)
        held = Held(monkeypatch)
        write(client, "ahead", finished=time.time() + 7000)  # which no search would count
        await followed.until(held.reached.is_set)
        await followed.restart()
        write(client, "marker")
        await followed.until_counted(["ahead", "marker"])
        assert followed.counted == Counter(["ahead", "marker"])


async def test_what_is_being_read_when_a_search_begins_is_left_to_that(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        await followed.until(lambda: followed.feed.seeded)
        held = Held(monkeypatch)
        write(client, "ahead", finished=time.time() + 7000)  # which no search would count
        await followed.until(held.reached.is_set)
        async with followed.searches_held(where="end") as reached:
            monkeypatch.setattr(feed, "PENDING", 1)
            with client.pipeline() as pipeline:  # more than can wait makes it search
                for job in names("job", 3):
                    pipeline.set(f"arq:result:{job}", result(job))
                pipeline.execute()
            await followed.until(reached.is_set)
            held.go.set()
            await followed.until_counted(["ahead"])
        await followed.until_counted(names("job", 3))
        assert followed.counted == Counter(["ahead", *names("job", 3)])


async def test_of_what_could_not_wait_during_the_first_search_the_clocks_tell_what_is_new(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PENDING", 5)
    standing, live = names("standing", 20), names("live", 50)
    write(client, *standing, finished=time.time() - 60)
    async with following(redis_server.url(), start=False) as followed:
        async with followed.searches_held(where="start") as reached:
            followed.start()
            await followed.until(reached.is_set)
            for jobs in (live[:6], live[6:]):  # the second push comes when no more can be noted
                with client.pipeline() as pipeline:  # one transaction, one push
                    for job in jobs:
                        pipeline.set(f"arq:result:{job}", result(job, finished=time.time() + 1))
                    pipeline.execute()
            await followed.until_more(5)
        await followed.until_counted(live)
        assert followed.counted == Counter(live)


async def test_decoding_that_is_cancelled_takes_no_more() -> None:
    taken: list[Value] = []

    def take(value: Value) -> None:
        taken.append(value)
        time.sleep(SLICE_SECONDS)  # so that there is another slice
        decoding.cancel()

    decoding = asyncio.create_task(decode(Turn(), [Value(b"a", b""), Value(b"b", b""), Value(b"c", b"")], take))
    await asyncio.gather(decoding, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(taken) == 1


async def test_a_due_time_from_before_the_enqueuing_is_of_another_job(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        due = time.time() + 1
        client.zadd(QUEUE, {"job": round(due * 1000)})
        await followed.until_seen_ahead("job")
        write(client, "job", finished=due + 6, ran=0.5, waited=1.5)  # enqueued 4 s after that
        await followed.until_counted(["job"])
        (event,) = followed.sink.finished
        assert event.wait == pytest.approx(1.5, abs=0.01)


# -- a key too long for a reply ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["tracking", "keyspace"])
async def test_pushes_are_counted_beside_a_key_that_no_search_gets_past(
    redis_server: RedisServer, client: redis.Redis, mode: str
) -> None:
    client.set(TOO_LONG, b"1")
    async with following(redis_server.url(), mode) as followed:
        await followed.until(lambda: followed.feed.problems)
        assert "a key may be too long: reply larger than" in next(iter(followed.feed.problems))
        jobs = names("job", 200)
        write(client, *jobs)
        await followed.until_counted(jobs)
        assert not followed.problems
        # and what came up in a gap once the key is gone
        await followed.stop()
        write(client, "in the gap")
        followed.start()
        await followed.until_connected(2)
        client.unlink(TOO_LONG)
        await followed.until(lambda: not followed.feed.problems)
        write(client, "marker")
        await followed.until_counted(["marker"])
        assert max(followed.counted.values()) == 1
        assert set(followed.counted) - {"in the gap"} == {*jobs, "marker"}


async def test_scan_mode_sees_nothing_past_such_a_key_and_says_so(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    client.set(TOO_LONG, b"1")
    async with following(redis_server.url(), "scan") as followed:
        await followed.until(lambda: followed.feed.problems)
        assert not followed.sink.modes
        assert not followed.problems
        client.unlink(TOO_LONG)
        await followed.until_connected()
        assert not followed.feed.problems


async def test_a_search_that_was_given_up_is_tried_again(redis_server: RedisServer) -> None:
    async with following(redis_server.url(), start=False) as followed:
        scan, failures = followed.pulls.scan, [1, 2]

        async def failing(*arguments: str) -> AsyncIterator[list[bytes]]:
            if failures:
                raise ReplyTooLarge(f"failure {failures.pop()}")
            async for keys in scan(*arguments):
                yield keys

        followed.pulls.scan = failing  # type: ignore[method-assign]
        followed.start()
        await followed.until(lambda: followed.feed.seeded)
        assert (len(followed.sink.modes), followed.problems, list(followed.feed.problems)) == (1, [], [])


async def test_searches_that_fail_come_ever_more_seldom(redis_server: RedisServer) -> None:
    async with following(redis_server.url(), start=False) as followed:
        pauses = []
        for times in (0, 1, 2, 5, 2000):
            followed.feed._given_up = times
            pauses.append(followed.feed._pause(time.monotonic()))
        assert pauses == pytest.approx([0.05, 0.1, 0.2, 1.6, 300.0])


async def test_what_is_remembered_while_no_search_succeeds_is_bounded_in_time(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    client.set(TOO_LONG, b"1")
    async with following(redis_server.url()) as followed:
        await followed.until(lambda: followed.feed.problems)
        write(client, "job")
        await followed.until_counted(["job"])
        assert len(followed.feed.tally.memory) == 1
        followed.clocks.passed = 7200.0
        await followed.until(lambda: not len(followed.feed.tally.memory))


# -- a mode that ends without a word ----------------------------------------------------------------------------


async def test_tracking_that_was_turned_off_is_noticed(
    redis_server: RedisServer, client: redis.Redis, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "CHECK_INTERVAL", 0.0)
    async with following(redis_server.url(), "tracking") as followed:
        await followed.until_connected()
        await followed.until_watched()
        assert not followed.problems
        await lines[0].data.command("CLIENT", "TRACKING", "OFF")
        write(client, "unseen")
        await followed.until_connected(2)
        await followed.until_counted(["unseen"])
        assert followed.problems == ["tracking has ended: CLIENT TRACKINGINFO says [b'off']"]


async def test_notifications_that_were_turned_off_are_noticed(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "CHECK_INTERVAL", 0.0)
    async with following(redis_server.url(), "keyspace") as followed:
        await followed.until_connected()
        await followed.until_watched()
        assert not followed.problems
        client.config_set("notify-keyspace-events", "")
        write(client, "unseen")
        await followed.until_problems(1)
        assert followed.problems[0].startswith("keyspace notifications have ended: notify-keyspace-events is ''")
        client.config_set("notify-keyspace-events", "KA")
        await followed.until_counted(["unseen"])


async def test_where_it_may_not_look_it_looks_once(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "CHECK_INTERVAL", 0.0)
    client.acl_setuser(
        *("limited", True, True),
        categories=["+@all"], commands=["-client|trackinginfo"], keys=["*"], channels=["*"],
    )  # fmt: skip
    async with following(redis_server.url().replace("redis://", "redis://limited:x@"), "tracking") as followed:
        await followed.until_connected()
        await followed.until_watched()
        await followed.until_watched()
        assert not followed.problems
        (entry,) = cast(list[dict[str, object]], client.acl_log())
        assert entry["count"] == 1
