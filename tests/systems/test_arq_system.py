"""Arq as the engine sees it: its options, its feed, what both need of the server, and progress."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import redis

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.pulls import Pulls
from exporter.config import Config, ConfigError, load
from exporter.model import Outcome, Permissions
from exporter.systems.arq import Arq
from exporter.systems.arq.feed.modes import FeedMode
from exporter.systems.arq.feed.unkept import Unkept
from exporter.systems.arq.options import ArqOptions
from exporter.systems.arq.records.serializers import Serializer
from exporter.systems.base import Discovery
from tests.servers import RedisServer, StartRedis
from tests.systems.arq_results import QUEUE, following, write
from tests.systems.observing import START, Clock, state, watching
from tests.systems.sinks import RecordingSink
from tests.toys import until


def loaded(directory: Path, option: str) -> Config:
    file = directory / "config.yml"
    file.write_text(f"brokers: [{{name: main, url: 'redis://127.0.0.1/0', arq: {{{option}}}}}]\n")
    return load(file)


@pytest.mark.parametrize("feed", ["auto", "tracking", "keyspace", "scan", "off", '"off"'])
def test_the_mode_is_an_option(tmp_path: Path, feed: str) -> None:
    options = loaded(tmp_path, f"feed: {feed}").brokers[0].systems["arq"]
    assert isinstance(options, ArqOptions)
    assert options.feed_mode == FeedMode(feed.strip('"'))


def test_serializers_and_what_keeps_no_result_are_options(tmp_path: Path) -> None:
    def read(text: str) -> tuple[Serializer, Unkept]:
        options = loaded(tmp_path, text).brokers[0].systems["arq"]
        assert isinstance(options, ArqOptions)
        return options.job_serializer, options.unkept_mode

    assert read("") == (Serializer.AUTO, Unkept.AUTO)
    assert read("serializer: msgpack, unkept: on") == (Serializer.MSGPACK, Unkept.ON)
    assert read("serializer: json, unkept: off") == (Serializer.JSON, Unkept.OFF)
    assert read("serializer: pickle, unkept: auto") == (Serializer.PICKLE, Unkept.AUTO)


def test_a_feed_cannot_be_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="feed: found True, wanted one of auto, "):
        loaded(tmp_path, "feed: on")


@pytest.mark.parametrize("value", ["ON!", "trackin", "''", "3", "[scan]"])
@pytest.mark.parametrize("option", ["feed", "serializer", "unkept"])
def test_other_values_are_refused(tmp_path: Path, option: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"brokers\[0\]\.arq\.{option}: found .*, wanted ") as error:
        loaded(tmp_path, f"{option}: {value}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("feed", [True, False])
@pytest.mark.parametrize("hook", [True, False])
async def test_two_feeds_unless_they_are_off(redis_server: RedisServer, feed: bool, hook: bool) -> None:
    pulls = Pulls(Access(parse_address(redis_server.url())))
    system = Arq(pulls, ArqOptions(feed="auto" if feed else "off", hook=hook))
    assert [feed.name for feed in system.feeds] == [*["results"] * feed, *["hook"] * hook]
    assert list(system.feeds) == list(system.feeds)
    features = {needed.feature for needed in system.permissions()}
    assert ("results" in features, "hook" in features) == (feed, hook)
    assert Outcome.REJECTED not in Arq.outcomes
    await pulls.close()


def grant(client: redis.Redis, *several: Permissions) -> None:
    client.execute_command(  # type: ignore[no-untyped-call]
        *("ACL", "SETUSER", "reader", "reset", "on", "nopass", "-@all"),
        *(f"+{command}" for needed in several for command in needed.commands),
        *(f"%R~{key}" for needed in several for key in needed.keys),
        *(f"&{channel}" for needed in several for channel in needed.channels),
    )


@pytest.mark.parametrize("mode", ["tracking", "keyspace", "scan", "auto"])
async def test_the_permissions_it_asks_for_suffice(start_redis: StartRedis, mode: str) -> None:
    server = start_redis(notify_keyspace_events="KA")
    client = server.client(3)
    pulls = Pulls(Access(parse_address(server.url(3))))
    arq = Arq(pulls, ArqOptions(feed=mode, queues=("mine",), discover=False))
    needed = [needed for needed in arq.permissions() if needed.feature in ("results", "due times")]
    grant(client, *needed, *pulls.permissions())
    url = server.url(3).replace("redis://", "redis://reader:x@")
    async with following(url, mode, queues=["mine"]) as followed:
        await followed.until_connected()
        client.zadd("mine", {"job": round(time.time() * 1000) + 1500})
        await followed.until_seen_ahead("job")
        write(client, "job", queue="mine")
        await followed.until_counted(["job"])
        assert followed.sink.modes == ["tracking" if mode == "auto" else mode]
        assert not followed.problems
    assert not client.acl_log()
    await pulls.close()


async def test_the_newest_end_of_a_job_is_progress(
    redis_server: RedisServer, client: redis.Redis, clock: Clock
) -> None:
    # given a queue in which a ready job stands and does not move
    client.zadd(QUEUE, {"stuck": (START - 60) * 1000})
    async with watching(Arq, redis_server, clock, QUEUE, discover=False) as arq:
        await arq.observe()
        clock.now += 60
        feed, _ = arq.feeds
        sink = RecordingSink()
        following = asyncio.create_task(feed.follow(sink))
        await until(lambda: sink.modes)
        write(client, "ended", finished=START + 50)
        write(client, "ahead", queue="other", finished=START + 500)
        await until(lambda: len(sink.finished) == 2)
        assert state(await arq.observe(), QUEUE).last_progress == START + 50
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_what_the_feed_cannot_count_is_a_problem_of_the_observation(
    redis_server: RedisServer, client: redis.Redis, clock: Clock
) -> None:
    async with watching(Arq, redis_server, clock, QUEUE, discover=False) as arq:
        feed, _ = arq.feeds
        sink = RecordingSink()
        following = asyncio.create_task(feed.follow(sink))
        await until(lambda: sink.modes)
        assert not (await arq.observe()).problems
        for number in range(10):
            write(client, f"late{number}", finished=START - 700)
        problems: list[str] = []
        while not problems:
            problems = list((await arq.observe()).problems)
        assert "results are told that ended 700 s ago" in problems[0]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.mark.parametrize("discover", [True, False])
async def test_a_queue_that_only_results_tell_of(
    redis_server: RedisServer, client: redis.Redis, discover: bool
) -> None:
    write(client, "done", queue="arq:idle")
    pulls = Pulls(Access(parse_address(redis_server.url())))
    system = Arq(pulls, ArqOptions(queues=(QUEUE,), discover=discover))
    feed, _ = system.feeds
    task = asyncio.create_task(feed.follow(RecordingSink()))
    try:
        await until(lambda: system._results.seeded)
        queues = {state.queue: state for state in (await system.observe()).queues}
        assert queues.keys() == ({QUEUE, "arq:idle"} if discover else {QUEUE})
        if discover:
            assert queues["arq:idle"].jobs == {"ready": 0, "scheduled": 0, "running": 0}
            assert queues["arq:idle"].kept_results == {"completed": 1, "failed": 0}
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await system.close()
        await pulls.close()


async def test_a_queue_that_only_results_tell_of_is_forgotten_when_they_are_old(
    redis_server: RedisServer, client: redis.Redis, clock: Clock
) -> None:
    # given a queue that the search does not find, in which a job runs
    client.zadd("arq:idle", {"job": (START - 60) * 1000})
    client.mset({"arq:in-progress:job": 1, "arq:retry:job": 1})
    async with watching(Arq, redis_server, clock, discover=True) as arq:
        progress = arq._results.tally.progress
        progress["arq:idle"] = START
        assert state(await arq.observe(), "arq:idle").oldest_running == START
        # when no job of it has ended for an hour
        clock.now = START + Discovery.MEMORY
        assert state(await arq.observe(), "arq:idle").oldest_running == START
        clock.now += 1
        # then it is known no more
        assert not (await arq.observe()).queues
        # and what was remembered of it is forgotten
        progress["arq:idle"] = clock.now
        assert state(await arq.observe(), "arq:idle").oldest_running == clock.now
