"""The feed `results` and time: clocks that are set or wrong, long gaps, and what may be forgotten when."""

from __future__ import annotations

import time
from collections import Counter

import pytest
import redis

from exporter.systems.arq.feed import feed
from exporter.systems.arq.feed.memory import Memory
from tests.servers import RedisServer
from tests.systems.arq_results import Following, following, names, result, write

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_a_hurry")]

MODES = ("tracking", "keyspace", "scan")
DAY = 86400.0


async def clock_set(followed: Following, by: float) -> None:
    """Sets our clock, so much ahead of the right time, and waits until that was noticed."""
    followed.clocks.set_by = by
    memory = followed.feed.tally.memory
    # and a little longer: results hold milliseconds
    await followed.until(lambda: 0.01 < followed.clocks.wall() - memory.horizon < 60)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("by", [DAY, -DAY, 400.0, -400.0])
async def test_our_clock_is_set_wrong_and_right_again(
    redis_server: RedisServer, client: redis.Redis, mode: str, by: float
) -> None:
    async with following(redis_server.url(), mode) as followed:
        await followed.until_connected()
        before, after = names("before", 20), names("after", 20)
        write(client, *before)
        await followed.until_counted(before)
        await clock_set(followed, by)
        await followed.until_watched()
        await clock_set(followed, 0.0)
        # then what ends is counted at once, once, also when it is told again or found after a gap
        write(client, *after)
        await followed.until_counted(after)
        await followed.until_watched()
        for job in (*before, *after):
            client.pexpire(f"arq:result:{job}", 3_000_000)
        write(client, "marker")
        await followed.until_counted(["marker"])
        await followed.restart()
        write(client, "last")
        await followed.until_counted(["last"])
        assert followed.counted == Counter([*before, *after, "marker", "last"])
        assert not followed.feed.problems


@pytest.mark.parametrize("mode", MODES)
async def test_the_clocks_of_the_whole_fleet_are_set_back(
    redis_server: RedisServer, client: redis.Redis, mode: str
) -> None:
    async with following(redis_server.url(), mode) as followed:
        await followed.until_connected()
        jobs = names("before", 20)
        write(client, *jobs)
        await followed.until_counted(jobs)
        await clock_set(followed, -7200.0)
        for part in ("first", "second"):
            after = names(part, 20)
            write(client, *after, finished=followed.clocks.wall())
            await followed.until_counted(after)
            jobs += after
            await followed.restart()
        write(client, "last", finished=followed.clocks.wall())
        await followed.until_counted(["last"])
        assert followed.counted == Counter([*jobs, "last"])


async def test_a_small_step_counts_nothing_again(redis_server: RedisServer, client: redis.Redis) -> None:
    async with following(redis_server.url(), "scan") as followed:
        await followed.until_connected()
        jobs = names("job", 20)
        write(client, *jobs)
        await followed.until_counted(jobs)
        # given a clock that is ahead for a while, so that they are forgotten too soon
        followed.clocks.passed = 400.0
        followed.clocks.set_by = 290.0
        await followed.until(lambda: not len(followed.feed.tally.memory))
        followed.clocks.set_by = 0.0
        for marker in names("marker", 3):
            write(client, marker, finished=followed.clocks.wall())
            await followed.until_counted([marker])
        assert followed.counted == Counter([*jobs, *names("marker", 3)])


@pytest.mark.parametrize("when", ["searching", "between"])
async def test_a_clock_that_gets_right_only_after_the_first_search_was_cut(
    redis_server: RedisServer, client: redis.Redis, when: str
) -> None:
    standing = names("standing", 20)
    write(client, *standing, finished=time.time() - 5)
    async with following(redis_server.url(), start=False) as followed:
        followed.clocks.set_by = -time.time()  # a machine without a battery begins in 1970
        async with followed.searches_held(where="start") as reached:
            followed.start()
            await followed.until(reached.is_set)
            await followed.stop()
            if when == "searching":
                reached.clear()
                followed.start()
                await followed.until(reached.is_set)
            followed.clocks.set_by = 0.0
            await followed.until_watched() if when == "searching" else None
        if when == "between":
            followed.start()
        await followed.until(lambda: followed.feed.seeded)
        write(client, "marker")
        await followed.until_counted(["marker"])
        assert followed.counted == {"marker": 1}


async def test_progress_does_not_stay_in_a_future_that_was_none(redis_server: RedisServer, client: redis.Redis) -> None:
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        await clock_set(followed, DAY)
        write(client, "ahead", queue="q", finished=followed.clocks.wall())
        await followed.until_counted(["ahead"])
        await clock_set(followed, 0.0)
        assert followed.feed.tally.progress["q"] <= time.time()


@pytest.mark.parametrize("mode", MODES)
async def test_a_long_gap_is_no_step(redis_server: RedisServer, client: redis.Redis, mode: str) -> None:
    async with following(redis_server.url(), mode) as followed:
        await followed.until_connected()
        await followed.stop()
        write(client, "in the gap", finished=time.time() + 3600)
        followed.clocks.passed = 7200.0
        await followed.restart()
        await followed.until_counted(["in the gap"])
        assert followed.counted == {"in the gap": 1}


async def test_workers_whose_clock_is_wrong_are_spoken_of(redis_server: RedisServer, client: redis.Redis) -> None:
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        write(client, "late", finished=time.time() - 400)
        await followed.until_counted(["late"])
        write(client, *names("job", 9), finished=time.time() - 671)
        write(client, "marker")
        await followed.until_counted(["marker"])
        assert not followed.feed.problems
        write(client, *names("job", 10), finished=time.time() - 671)
        await followed.until(lambda: followed.feed.problems)
        (problem,) = followed.feed.problems
        assert problem.startswith("results are told that ended 67")
        assert problem.endswith(" s ago: a clock is wrong, of the workers or of this machine; they are not counted")
        write(client, "right")
        await followed.until_counted(["right"])
        assert not followed.feed.problems
        assert followed.counted == Counter(["late", "marker", "right"])


async def test_no_event_is_of_the_future(redis_server: RedisServer, client: redis.Redis) -> None:
    write(client, "stood", task="other", finished=time.time() + 3600)
    async with following(redis_server.url()) as followed:
        await followed.until(lambda: followed.sink.known)
        write(client, "ahead", finished=time.time() + 30 * 365 * DAY)
        await followed.until_counted(["ahead"])
        (event,), (known,) = followed.sink.finished, followed.sink.known
        assert event.at <= time.time()
        assert known.at is not None
        assert known.at <= time.time()


# -- since when something may have been missed ------------------------------------------------------------------


async def test_what_was_missed_in_a_gap_is_found_by_the_second_search_if_the_first_was_cut(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        await followed.until(lambda: followed.feed.seeded)
        await followed.stop()
        write(client, "in the gap", finished=time.time() + 30)
        followed.clocks.passed = 1200.0
        async with followed.searches_held(where="start") as reached:
            await followed.restart()
            await followed.until(reached.is_set)
            await followed.until_watched()
            await followed.stop()
        await followed.restart()
        await followed.until_counted(["in the gap"])
        assert followed.counted == {"in the gap": 1}


async def test_what_was_missed_during_a_search_is_found_by_the_next(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PENDING", 2)
    async with following(redis_server.url()) as followed:
        await followed.until_connected()
        await followed.until(lambda: followed.feed.seeded)
        jobs = names("job", 50)
        async with followed.searches_held(where="end") as reached:
            client.flushall()  # makes it search
            await followed.until(reached.is_set)
            with client.pipeline() as pipeline:  # one transaction, one push: more than can wait
                for job in jobs:
                    pipeline.set(f"arq:result:{job}", result(job, finished=time.time() + 30))
                pipeline.execute()
            followed.clocks.passed = 1200.0
            await followed.until_watched()
        await followed.until_counted(jobs)
        assert followed.counted == Counter(jobs)


async def test_what_comes_up_behind_a_long_search_is_found_by_the_next(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    async with following(redis_server.url(), "scan") as followed:
        await followed.until_connected()
        async with followed.searches_held(where="end") as reached:
            await followed.until(reached.is_set)
            write(client, "behind", finished=time.time() + 30)
            followed.clocks.passed = 1200.0
            await followed.until_watched()
        await followed.until_counted(["behind"])
        assert followed.counted == {"behind": 1}


@pytest.mark.parametrize("mode", MODES)
async def test_what_ended_long_before_a_gap_is_not_counted(
    redis_server: RedisServer, client: redis.Redis, mode: str
) -> None:
    async with following(redis_server.url(), mode) as followed:
        await followed.until_connected()
        write(client, "first")
        await followed.until_counted(["first"])
        followed.clocks.passed = 1800.0
        await followed.until_watched()
        # then all that is older than the margin was forgotten
        await followed.until(lambda: not len(followed.feed.tally.memory))
        await followed.stop()
        write(client, "restored", finished=time.time() + 60)
        await followed.restart()
        write(client, "marker", finished=followed.clocks.wall())
        await followed.until_counted(["marker"])
        await followed.until_watched()
        assert followed.counted == Counter(["first", "marker"])


@pytest.mark.parametrize("mode", MODES)
async def test_more_than_is_remembered_is_not_counted_again(
    redis_server: RedisServer, client: redis.Redis, mode: str
) -> None:
    async with following(redis_server.url(), mode) as followed:
        followed.feed.tally.memory = Memory(limit=10)
        await followed.until_connected()
        now, jobs = time.time(), []
        for minutes in (0, 2, 4, 6):
            new = names(f"{minutes}-", 5)
            write(client, *new, finished=now + 60 * minutes)
            await followed.until_counted(new)
            jobs += new
        for times in (1, 2):
            await followed.restart()
            write(client, f"marker{times}", finished=now + 500)
            await followed.until_counted([f"marker{times}"])
        await followed.until_watched()
        assert followed.counted == Counter([*jobs, "marker1", "marker2"])
