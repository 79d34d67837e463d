"""ARQ's health record: when it was written, and what it says where one worker owns it."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from arq import Retry, Worker, create_pool, func
from arq.connections import RedisSettings

from exporter.systems.arq import Arq
from exporter.systems.arq.queues.front import MAX_PAGES, PAGE, Front
from exporter.systems.arq.queues.health import Health, Jobs, Look, Record, parse
from exporter.systems.arq.queues.watched import Watched
from tests.servers import RedisServer
from tests.systems.observing import START, state_when, watching

INTERVAL = 3600.0
SCRAPES = 15.0


@dataclass(frozen=True)
class Written:
    """One write of a record, as arq does it."""

    at: float
    succeeded: int = 0
    running: int = 0
    interval: float = INTERVAL
    zone: float = 0.0  # hours

    @property
    def text(self) -> bytes:
        local = datetime.datetime.fromtimestamp(self.at + self.zone * 3600, datetime.UTC)
        counts = f"j_complete={self.succeeded} j_failed=1 j_retried=0 j_ongoing={self.running} queued=7"
        return f"{local:%b-%d %H:%M:%S} {counts}".encode()

    def seen(self, at: float) -> Look:
        """A look at the key while this is the last write."""
        left = self.at + self.interval + 1 - at
        return Look(self.text, round(left * 1000), at, at) if left > 0 else Look(b"", -2, at, at)


def every(interval: float, count: int, first: float = START, **more: int) -> list[Written]:
    """The writes of one worker that ends a job in each interval."""
    return [Written(first + number * interval, succeeded=number, interval=interval, **more) for number in range(count)]


def walked(running: int, first: int = 0) -> Front:
    """A queue that has been walked over, in which so many jobs run."""
    front = Front("q")
    front.due = running
    while front.wants_page:
        ids = range(first, first + running)[: PAGE * MAX_PAGES]
        _, _, start, stop, _ = front.page_command()
        page = [part for number in ids[int(start) : int(stop) + 1] for part in (b"%d" % number, b"1000")]
        front.take_page(page, START * 1000)
        front.take_marks([b"1"] * len(page), len(front.page))
    return front


def watched(writes: Iterable[Written], scrapes: float = SCRAPES, until: float = 0.0) -> Health:
    """What is known at the end, by scrapes from shortly before the first write to shortly after the last."""
    health = Health()
    writes = sorted(writes, key=lambda written: written.at)
    end, at = max(until, writes[-1].at + scrapes), writes[0].at - 0.3
    while at <= end:
        before = [written for written in writes if written.at <= at]
        health.note(before[-1].seen(at) if before else Look(b"", -2, at, at))
        at += scrapes
    return health


# -- the text ---------------------------------------------------------------------------------------------------


def test_the_text_is_read() -> None:
    text = b"Nov-21 22:49:01 j_complete=2 j_failed=3 j_retried=4 j_ongoing=5 queued=6"
    assert parse(text) == Record(second=4 * 60 + 1, succeeded=2, failed=3, retried=4, running=5)
    assert parse("d\u00e9c.-21 22:49:01".encode() + text[15:]) == parse(text)  # another locale


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"ok",
        b"Nov-21 22:49:01 j_complete=2 j_failed=3 j_retried=4 j_ongoing=5",
        b"Nov-21 22:49:01 j_complete=-2 j_failed=3 j_retried=4 j_ongoing=5 queued=6",
        b"Nov-21 22:49:01 j_complete=" + b"9" * 16 + b" j_failed=3 j_retried=4 j_ongoing=5 queued=6",
        b"Nov-21 22:49:01 j_complete=2 j_failed=3 j_retried=4 j_ongoing=5 queued=6\nmore",
        b"x" * 41 + b" 22:49:01 j_complete=2 j_failed=3 j_retried=4 j_ongoing=5 queued=6",
    ],
)
def test_other_text_is_not(text: bytes) -> None:
    assert parse(text) is None
    health = Health()
    health.note(Look(text, 1000, START, START))
    assert (health.written_at, health.reported) == (None, None)


# -- when it was written ----------------------------------------------------------------------------------------


def test_a_record_that_stood_there_has_no_known_time() -> None:
    health, written = Health(), Written(START)
    for at in (START + 100, START + 115):
        health.note(written.seen(at))
    assert health.written_at is None
    # and the next write has one
    health.note(Written(START + INTERVAL).seen(START + INTERVAL + 10))
    assert health.written_at == START + INTERVAL
    # which stays known when the record is gone
    health.note(Look(b"", -2, START + INTERVAL + 20, START + INTERVAL + 20))
    assert health.written_at == START + INTERVAL


@pytest.mark.parametrize("zone", [-8.0, 5.75, 0.0, 14.0])
def test_the_time_is_right_to_the_second_in_every_time_zone(zone: float) -> None:
    health = watched([Written(START + 0.7, zone=zone)])
    assert health.written_at == START


@pytest.mark.parametrize("wrong", [-100.0, +100.0, +20.0])
def test_where_the_workers_clock_is_wrong_it_is_the_time_of_the_scrape(wrong: float) -> None:
    told = Written(START + wrong)
    seen = Look(told.text, 3_591_000, START + 10, START + 10)
    health = Health()
    health.note(Look(b"", -2, START - 5, START - 5))
    health.note(seen)
    assert health.written_at == START + 10


@pytest.mark.parametrize("step", [0.3, 10.0, -10.0])
def test_a_step_of_our_clock_is_no_write(step: float) -> None:
    health, written = watched([Written(START)]), Written(START)
    assert health.written_at == START
    for at in (START + 30, START + 45):
        seen = written.seen(at)
        health.note(replace(seen, began=at + step, ended=at + step))
    assert health.written_at == START


# -- whose it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [30.0, 60.0, 3600.0])
def test_three_writes_at_the_interval_are_one_workers(interval: float) -> None:
    # given one that is late now and then, as a worker looks at the clock only when it polls
    writes = [replace(written, at=written.at + 0.4 * number) for number, written in enumerate(every(interval, 3))]
    assert watched(writes[:2]).reported is None
    record = watched(writes).reported
    assert record is not None
    assert record.by_outcome == {"succeeded": 2, "failed": 1, "retried": 0}


@pytest.mark.parametrize("behind", [20.0, 600.0, 1800.0, 3500.0])
def test_two_workers_never_seem_one(behind: float) -> None:
    others = every(INTERVAL, 6, START + behind)
    writes = sorted([*every(INTERVAL, 6), *others], key=lambda written: written.at)
    for number in range(3, len(writes)):
        assert watched(writes[:number]).reported is None


@pytest.mark.parametrize(
    "contrary",
    [
        Written(START + 5 * INTERVAL, succeeded=0),  # it started anew
        Written(START + 4.5 * INTERVAL, succeeded=5),  # too early
        Written(START + 5 * INTERVAL + 40, succeeded=5),  # too late
        Written(START + 5 * INTERVAL, succeeded=5, interval=1800.0),  # set up otherwise
    ],
)
def test_one_contrary_write_takes_the_numbers_away_until_there_is_evidence_again(contrary: Written) -> None:
    writes = every(INTERVAL, 5)
    assert watched(writes).reported is not None
    health = watched([*writes, contrary])
    assert health.reported is None
    after = [
        replace(contrary, at=contrary.at + number * contrary.interval, succeeded=contrary.succeeded + number)
        for number in (1, 2)
    ]
    assert watched([*writes, contrary, after[0]]).reported is None
    assert watched([*writes, contrary, *after]).reported is not None


def test_scrapes_as_rare_as_writes_tell_nothing_of_others() -> None:
    assert watched(every(15.0, 20), scrapes=15.0).reported is None


def test_the_numbers_go_with_the_record() -> None:
    writes = every(INTERVAL, 5)
    assert watched(writes, until=writes[-1].at + INTERVAL).reported is not None
    assert watched(writes, until=writes[-1].at + INTERVAL + 20).reported is None


def test_the_numbers_go_when_the_record_cannot_be_read_any_more() -> None:
    writes, now = every(INTERVAL, 6), START - 15
    memory = Watched(now)

    def scrape(until: float, readable: bool = True) -> Record | None:
        nonlocal now
        while now < until:
            now += SCRAPES
            before = [written for written in writes if written.at <= now]
            look = before[-1].seen(now) if before else Look(b"", -2, now, now)
            memory.note(Front("q"), look if readable else None, now, ended=0)
        return memory.health.reported

    assert scrape(writes[2].at + 15) is not None
    assert scrape(now + 15, readable=False) is None
    assert memory.health.written_at == writes[2].at, "that stays known"
    # and as nobody knows what was written meanwhile, the evidence begins anew
    assert scrape(now + 15) is None
    assert scrape(writes[4].at - 15) is None
    assert scrape(writes[4].at + 15) is not None


def test_workers_that_write_the_same_in_one_second_are_told_apart_by_the_life_of_the_record() -> None:
    writes = every(60.0, 3)
    health, other = watched(writes, scrapes=0.25), replace(writes[-1], at=writes[-1].at + 0.6)
    assert health.reported is not None
    assert other.text == writes[-1].text
    health.note(other.seen(other.at + 0.1))
    assert health.reported is None


def test_writes_whose_intervals_differ_a_little_are_not_one_workers() -> None:
    writes = every(60.0, 3)
    other = replace(writes[2], interval=60.8)
    assert watched(writes, scrapes=0.1).reported is not None
    assert watched([*writes[:2], other], scrapes=0.1).reported is None


def after_three_writes() -> Health:
    """One worker's, of which the last has 2 attempts more than the first."""
    return watched(every(60.0, 3))


def test_jobs_that_the_record_does_not_know_are_another_workers() -> None:
    third = Written(START + 120, succeeded=2, interval=60.0)
    fourth = Written(START + 180, succeeded=3, running=1, interval=60.0)

    def note(left: int = 0, lasting: int = 0, ended: int = 0) -> Health:
        health = after_three_writes()
        health.note(third.seen(START + 150.0), Jobs(left=left, ended=ended))
        health.note(third.seen(START + 165.0), Jobs(left=9, ended=9))  # perhaps after a write that the next look sees
        health.note(fourth.seen(START + 181), Jobs(left=9, ended=9, lasting=lasting))
        return health

    assert note(left=3, lasting=1).reported is not None
    assert note(left=3, lasting=2).reported is None, "two jobs ran when it told of one"
    assert note(ended=3).reported is not None
    assert note(left=4).reported is None, "four had ended when it told of three"
    assert note(ended=4).reported is None, "four had ended when it told of three"


@pytest.mark.parametrize(("ends", "reported"), [(1, True), (2, False)])
def test_workers_that_write_at_the_same_time_are_told_apart_by_the_jobs_that_end(ends: int, reported: bool) -> None:
    # given a record that tells of one job ended in a minute, and a feed that sees so many end
    watched, now = Watched(START - 15), START - 15.0
    for written in every(60.0, 10):
        while now < written.at + 60:
            front = Front("q")
            front.due = 0
            look = written.seen(now) if now >= written.at else None
            watched.note(front, look, now, ended=int((now - START) / 60 * ends))
            now += 15
    assert (watched.health.reported is not None) == reported


def test_jobs_that_run_on_beyond_those_of_the_record_are_another_workers() -> None:
    def reported(running: int) -> Record | None:
        """Where two jobs run all the time, and the record tells of so many."""
        memory, now, writes = Watched(START - 15), START - 15.0, every(60.0, 5, running=running)
        while now < writes[-1].at + 15:
            now += 15
            before = [written for written in writes if written.at <= now]
            memory.note(walked(2), before[-1].seen(now), now, ended=0)
        return memory.health.reported

    assert reported(running=2) is not None
    assert reported(running=1) is None


def test_jobs_out_of_sight_have_not_ended() -> None:
    memory = Watched(START)
    memory.note(walked(PAGE * MAX_PAGES + 1), None, START, ended=0)
    assert memory._left == 0
    memory.note(walked(1), None, START + 15, ended=0)
    assert memory._left == PAGE * MAX_PAGES - 1
    memory.note(walked(PAGE * MAX_PAGES + 1, first=10), None, START + 30, ended=0)
    assert memory._left == PAGE * MAX_PAGES - 1


# -- real workers -----------------------------------------------------------------------------------------------


async def works(ctx: object) -> None:
    pass


async def fails(ctx: object) -> None:
    raise ValueError


async def retries(ctx: dict[str, int]) -> None:
    if ctx["job_try"] == 1:
        raise Retry


@asynccontextmanager
async def worker(server: RedisServer) -> AsyncIterator[None]:
    """One on the queue `mine`, here in this process."""
    keep_none = [func(function, keep_result=0) for function in (works, fails, retries)]
    running = Worker(
        keep_none,
        queue_name="mine",
        redis_settings=RedisSettings(port=server.port),
        handle_signals=False,
        poll_delay=0.05,
        health_check_interval=1,
    )
    task = asyncio.create_task(running.async_run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await running.close()


async def test_one_worker_is_told_from_two(redis_server: RedisServer) -> None:
    pool = await create_pool(RedisSettings(port=redis_server.port), default_queue_name="mine")
    for name in ("works", "works", "fails", "retries"):
        await pool.enqueue_job(name)
    async with watching(Arq, redis_server, time.time, "mine", discover=False) as arq, worker(redis_server):
        # when one worker works
        seen = await state_when(arq, "mine", lambda seen: seen.reported_jobs)
        # then its numbers are given
        assert seen.reported_jobs == {"succeeded": 3, "failed": 1, "retried": 1}
        assert seen.reported_running == 0
        assert seen.health_at == pytest.approx(time.time(), abs=3)
        async with worker(redis_server):
            # when another joins it, then they are gone
            await state_when(arq, "mine", lambda seen: not seen.reported_jobs and seen.reported_running is None)
        # and when that stops, which takes the record away, then they come back
        seen = await state_when(arq, "mine", lambda seen: seen.reported_jobs)
        assert seen.reported_jobs == {"succeeded": 3, "failed": 1, "retried": 1}
    await pool.aclose()
