"""The feed `events` over gaps: what results tell of them, what is lost, and what an operator gets to know."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import BrokerError, Refused
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.model import Finished, Outcome, Unreadable
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.events import gaps
from exporter.systems.celery.events.feed import EventsFeed
from exporter.systems.celery.events.gaps import ATTEMPTS, LONG_START, PATIENCE, Gaps, Naming
from exporter.systems.celery.events.loss import BEATS, FAMILIAR_SECONDS
from exporter.systems.celery.jobs.table import CLOCKS_AGREE
from exporter.systems.celery.jobs.tasks import Tasks
from exporter.systems.celery.results.results import Results
from tests.servers import RedisServer
from tests.systems.celery_frames import WORKER, event, fields, frame
from tests.systems.celery_table import Table
from tests.systems.observing import START, Clock
from tests.systems.sinks import RecordingSink
from tests.systems.test_celery_feed import DB, Monotonic, following, publish
from tests.toys import until


@pytest.fixture
def server(redis_server: RedisServer) -> redis.Redis:
    return redis_server.client(DB)


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
async def pulls(redis_server: RedisServer) -> AsyncIterator[Pulls]:
    pulls = Pulls(Access(parse_address(redis_server.url(DB))))
    yield pulls
    await pulls.close()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for."""
    monkeypatch.setattr(gaps, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(gaps, "REPEAT_SECONDS", 0.01)


def make_feed(
    pulls: Pulls, clock: Clock, monotonic: Clock, *, results: bool = True, heard: bool = True, **more: Any
) -> EventsFeed:
    """One that `heard` of jobs before, from one worker."""
    read = Results(pulls, ["json"]) if results else None
    feed = EventsFeed(pulls.access, Turn(), clock, 3600, monotonic=monotonic, results=read, **more)
    if heard:
        feed._gaps.take(event("task-started", "long ago"))
    return feed


def stand(client: redis.Redis, uuid: str, at: float, **changes: Any) -> object:
    """A result of a job that ended then."""
    done = datetime.fromtimestamp(at, UTC).isoformat()
    value = {"status": "SUCCESS", "result": 1, "traceback": None, "date_done": done, "task_id": uuid} | changes
    return client.set(f"celery-task-meta-{uuid}", json.dumps(value))


async def after_a_gap(feed: EventsFeed, clock: Clock, sink: RecordingSink, act: Callable[[], object]) -> None:
    """The feed was connected for long; what `act` does it does not see. Then it is until all is read."""
    async with following(feed, sink):
        await until(lambda: feed._gaps._since is None)
    clock.now += 60
    act()
    async with following(feed, sink):
        await until(lambda: feed._gaps._since is None)
        feed._look_at_clock()


async def test_results_of_the_gap_are_counted_once(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic())
    stand(server, "long before", START - 100)
    stand(server, "before we came", START - 1)

    def act() -> None:
        stand(server, "a", START + 30)
        stand(server, "b", START + 30, name="charge", worker="celery@one", queue="mail")
        stand(server, "by a clock ahead", START + 60 + CLOCKS_AGREE)
        stand(server, "by another", START + 61 + CLOCKS_AGREE)
        stand(server, "not ended", START + 30, status="STARTED")
        server.set("celery-task-meta-pickled", pickle.dumps({}))

    await after_a_gap(feed, clock, sink, act)
    counted = {end.job_id: (end.queue, end.task, end.outcome) for end in sink.finished}
    assert counted == {
        "a": (UNKNOWN, UNKNOWN, Outcome.SUCCEEDED),
        "b": (UNKNOWN, "charge", Outcome.SUCCEEDED),  # nothing says that the routing key is a queue's name
        "by a clock ahead": (UNKNOWN, UNKNOWN, Outcome.SUCCEEDED),
    }
    assert sink.undecodable_by_reason == {Unreadable.ENCODING: 1}
    assert sink.received_by_kind == {"job": 4}
    assert {end.at for end in sink.finished} == {START + 30, START + 60}, "nothing is recorded for a time to come"
    await after_a_gap(feed, clock, sink, lambda: None)
    assert [end.job_id for end in sink.finished[3:]] == ["by another"], "in this gap, by its clock"
    assert sink.undecodable_by_reason == {Unreadable.ENCODING: 1}


async def test_a_routing_key_names_a_queue_that_is_known(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    async def naming() -> Naming:
        return {"mail": "shop:mail"}.get

    feed = make_feed(pulls, clock, Monotonic(), naming=naming)
    await after_a_gap(
        *(feed, clock, sink),
        lambda: (
            [stand(server, key, START + 30, queue=key, name="x", worker=WORKER) for key in ("mail", "video.high")]
            and None
        ),
    )
    assert {end.job_id: end.queue for end in sink.finished} == {"mail": "shop:mail", "video.high": UNKNOWN}


async def test_a_job_that_started_before_the_gap_ends_in_it_and_its_event_counts_nothing(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic())
    async with following(feed, sink):
        publish(server, fields("task-sent", queue="mail", name="charge", retries=0), fields("task-started"))
        await until(lambda: sink.started)
    clock.now += 60
    stand(server, "a", START + 30)
    async with following(feed, sink):
        await until(lambda: sink.finished)
        before = sink.received_by_kind["job"]
        publish(server, fields("task-succeeded", at=START + 31, runtime=30.0))
        await until(lambda: sink.received_by_kind["job"] == before + 1)
    assert sink.finished == [Finished("mail", "charge", "a", START + 30, Outcome.SUCCEEDED, run=30)]


@pytest.mark.parametrize("late", [LONG_START - 1, LONG_START])
async def test_a_first_connection_that_took_long_is_a_gap(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis, late: float
) -> None:
    feed = make_feed(pulls, clock, Monotonic())
    stand(server, "before we came", START - 1)
    stand(server, "a", START + 1)
    clock.now += late
    async with following(feed, sink):
        await until(lambda: feed._gaps._since is None)
    assert [end.job_id for end in sink.finished] == ["a"] * (late >= LONG_START)


async def test_what_ended_shortly_before_we_came_is_of_no_gap(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic())
    stand(server, "a", START - 1)
    async with following(feed, sink):
        pass
    async with following(feed, sink):
        await until(lambda: feed._gaps._since is None)
    assert not sink.finished


# -- interruptions ----------------------------------------------------------------------------------------------


class Stopping:
    """Results of which the walk stops after some, until it is let go."""

    pattern = "*"

    def __init__(self, results: Results, error: Exception | None = None) -> None:
        self.unreadable = results.unreadable
        self.try_out = results.try_out
        self.walks = 0
        self.stops = 1
        self._results, self._error = results, error

    async def walk(self) -> AsyncIterator[Any]:
        self.walks += 1
        seen = 0
        async for result in self._results.walk():
            yield result
            seen += 1
            if seen == 5 and self.walks <= self.stops:
                if self._error is not None:
                    raise self._error
                await asyncio.Event().wait()


async def test_a_walk_that_is_cut_off_begins_again_and_counts_nothing_twice(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic())
    stopping = feed._gaps._results = Stopping(Results(pulls, ["json"]))  # type: ignore[assignment]
    async with following(feed, sink):
        await until(lambda: feed._gaps._since is None)
    clock.now += 60
    for number in range(20):
        stand(server, str(number), START + 30)
    async with following(feed, sink):
        await until(lambda: stopping.walks == 1)
        publish(server, fields("task-succeeded", "19", at=START + 60))
        await until(lambda: sink.received_by_kind["job"] >= 1)
    clock.now += 60
    async with following(feed, sink):
        await until(lambda: feed._gaps._since is None)
    assert sorted(end.job_id for end in sink.finished) == sorted(str(number) for number in range(20))


async def test_a_walk_that_fails_is_tried_again(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "RETRY_SECONDS", 0.01)
    feed = make_feed(pulls, clock, Monotonic())
    feed._gaps._results = Stopping(Results(pulls, ["json"]), BrokerError("no answer"))  # type: ignore[assignment]
    await after_a_gap(feed, clock, sink, lambda: [stand(server, str(n), START + 30) for n in range(20)])
    assert len(sink.finished) == 20
    assert not feed.problems


@pytest.mark.parametrize("error", [BrokerError("no answer"), Refused("NOPERM scan"), ValueError("a fault")])
async def test_results_that_cannot_be_read_end_no_feed(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis,
    monkeypatch: pytest.MonkeyPatch, error: Exception,
) -> None:  # fmt: skip
    monkeypatch.setattr(gaps, "RETRY_SECONDS", 0.001)
    feed = make_feed(pulls, clock, Monotonic())
    stopping = feed._gaps._results = Stopping(Results(pulls, ["json"]), error)  # type: ignore[assignment]
    stopping.stops = 100
    await after_a_gap(feed, clock, sink, lambda: [stand(server, str(n), START + 30) for n in range(20)])
    assert len(feed.problems) == 1
    assert str(error) in next(iter(feed.problems))
    assert stopping.walks == (ATTEMPTS if type(error) is BrokerError else 1), "what is refused once is refused again"
    async with following(feed, sink):
        publish(server, fields("task-started"))
        await until(lambda: sink.started)


async def test_a_right_that_is_missing_is_a_problem_at_once(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink
) -> None:
    redis_server.client().acl_setuser(
        "narrow", enabled=True, passwords=["+secret"], commands=["+psubscribe", "+select", "+scan"],
        keys=["*"], channels=["*"], reset=True,
    )  # fmt: skip
    pulls = Pulls(Access(parse_address(redis_server.url(DB).replace("redis://", "redis://narrow:secret@"))))
    feed = make_feed(pulls, clock, Monotonic())
    async with following(feed, sink):
        await until(lambda: feed.problems)
    assert "getrange" in next(iter(feed.problems)).lower()
    await pulls.close()


async def test_a_walk_that_yields_keys_again_counts_nothing_twice_however_many_end(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic(), tasks=lambda workers: Tasks(workers, ended_jobs=2))
    results = Results(pulls, ["json"])
    twice = results.walk

    async def walk() -> AsyncIterator[Any]:
        for _ in range(2):
            async for result in twice():
                yield result

    results.walk = walk  # type: ignore[method-assign]
    feed._gaps._results = results
    await after_a_gap(feed, clock, sink, lambda: [stand(server, str(n), START + 30 + n) for n in range(20)])
    assert sorted(int(end.job_id) for end in sink.finished) == list(range(20))
    assert feed._tasks.ended._kept is None, "nothing more of them is kept in mind"


async def test_a_result_that_is_written_late_is_counted(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic())
    results = Results(pulls, ["json"])
    once = results.walk

    async def walk() -> AsyncIterator[Any]:
        async for result in once():
            yield result
        stand(server, "late", START + 30)

    results.walk = walk  # type: ignore[method-assign]
    feed._gaps._results = results
    await after_a_gap(feed, clock, sink, lambda: stand(server, "a", START + 30))
    assert sorted(end.job_id for end in sink.finished) == ["a", "late"]


async def test_a_result_whose_events_are_on_their_way_waits_for_them(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "SETTLE_SECONDS", 0.2)
    feed = make_feed(pulls, clock, Monotonic())
    results = Results(pulls, ["json"])
    once = results.walk

    async def walk() -> AsyncIterator[Any]:
        async for result in once():
            yield result
        publish(
            server,
            fields("task-received", at=START + 60, name="charge", retries=0),
            *(fields("task-started", at=START + 60), fields("task-succeeded", at=START + 61, runtime=0.5)),
        )

    results.walk = walk  # type: ignore[method-assign]
    feed._gaps._results = results
    await after_a_gap(feed, clock, sink, lambda: stand(server, "a", START + 61))
    assert [(end.job_id, end.task, end.run) for end in sink.finished] == [("a", "charge", 0.5)]


# -- whose results they are -------------------------------------------------------------------------------------


async def test_where_workers_tell_nothing_of_jobs_no_result_is_counted(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gaps, "PATIENCE", 0.05)
    feed = make_feed(pulls, clock, Monotonic(), heard=False)
    async with following(feed, sink):
        publish(server, fields("task-sent", "x"), fields("worker-heartbeat", active=0, freq=2.0, processed=50))
        await until(lambda: sink.received_by_kind["job"])
    await after_a_gap(feed, clock, sink, lambda: stand(server, "a", START + 30))
    assert not sink.finished
    assert not feed.problems


async def test_results_wait_for_the_first_worker_that_tells_of_a_job(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic(), heard=False)
    clock.now += LONG_START
    stand(server, "a", START + 1)
    async with following(feed, sink):
        publish(server, fields("task-received", "b", name="charge", retries=0))
        await until(lambda: feed._gaps._since is None)
    assert [end.job_id for end in sink.finished] == ["a"]


async def test_results_of_a_worker_that_tells_nothing_here_are_of_others(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic())
    feed._gaps.prefixes.add("shop:")
    feed._gaps.take(event("task-started", "x", worker="shop:celery@two"))
    for processed in (1, 2):
        feed._gaps.take(event("worker-heartbeat", worker="celery@mute", processed=processed))
    feed._tasks.take(event("task-received", "heard of", worker="celery@seen", name="charge"))

    def act() -> None:
        for uuid, worker in (("a", WORKER), ("b", "celery@two"), ("c", "celery@mute"), ("d", "celery@elsewhere")):
            stand(server, uuid, START + 30, name="charge", worker=worker)
        stand(server, "heard of", START + 30, name="charge", worker="celery@seen")

    await after_a_gap(feed, clock, sink, act)
    assert sorted(end.job_id for end in sink.finished) == ["a", "b", "heard of"]


# -- many failures at once --------------------------------------------------------------------------------------

FAILED = {"status": "FAILURE", "result": {"exc_type": "ValueError", "exc_message": ["x"]}, "traceback": "Traceback"}


async def test_failures_that_look_alike_count_each(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic())

    def act() -> None:
        for number in range(4):
            stand(server, str(number), START + 30 + number / 1000, **FAILED)

    await after_a_gap(feed, clock, sink, act)
    assert sorted(end.job_id for end in sink.finished) == ["0", "1", "2", "3"]


# -- losses -----------------------------------------------------------------------------------------------------


def beats(client: redis.Redis, processed: int, count: int = BEATS) -> None:
    for _ in range(count):
        publish(client, fields("worker-heartbeat", active=0, freq=2.0, processed=processed))


@pytest.mark.parametrize("reads", [True, False])
async def test_starts_that_no_result_tells_of_are_lost(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis, reads: bool
) -> None:
    monotonic = Monotonic()
    feed = make_feed(pulls, clock, monotonic, results=reads)
    async with following(feed, sink):
        publish(server, fields("task-started", "first"))
        beats(server, 1)
        await until(lambda: sink.received_by_kind["worker"] == BEATS)
    clock.now += 60
    for number in range(7):
        stand(server, str(number), START + 30)
    async with following(feed, sink):
        beats(server, 11)
        await until(lambda: sink.lost_events)
        await until(lambda: sink.received_by_kind["worker"] == 2 * BEATS)
    assert sink.lost_events == (3 if reads else 10)
    assert len(sink.finished) == (7 if reads else 0)


async def test_what_is_dropped_here_is_counted_once(
    pulls: Pulls, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = make_feed(pulls, clock, Monotonic())
    async with following(feed, sink):
        publish(server, fields("task-started", "first"))
        beats(server, 1)
        await until(lambda: sink.received_by_kind["worker"] == BEATS)
        feed._dropped([b"pmessage", b"", b"", frame([fields("task-started", "b")])])
    async with following(feed, sink):
        beats(server, 2)
        await until(lambda: sink.received_by_kind["worker"] == 2 * BEATS)
        feed._look_at_clock()
    assert sink.lost_events == 1


class Fixed:
    """A gap between others, without a server."""

    def __init__(self, results: Results | None = None, naming: Callable[[], Awaitable[Naming]] | None = None) -> None:
        self.table = Table()
        self.gaps = Gaps(self.table, results, START, naming)
        self.tick = 0.0

    def lose(self, starts: int, told: int) -> None:
        self.gaps.losses.unheard += starts
        self.table.filled_starts += told

    def reconnect(self, after: float) -> None:
        self.tick += after
        self.gaps.disconnected(START + self.tick, self.tick)
        self.gaps.connected(START + self.tick, self.tick)

    def lost(self) -> int:
        return self.gaps.take_losses(self.tick)


def test_losses_are_told_once_and_never_taken_back() -> None:
    one = Fixed()
    one.lose(5, 2)
    assert (one.lost(), one.lost()) == (3, 0)
    one.lose(0, 2)
    one.lose(4, 0)
    assert (one.lost(), one.lost()) == (2, 0)


def test_what_results_told_of_an_old_gap_hides_no_loss_of_a_new_one() -> None:
    one = Fixed()
    one.gaps.connected(START, 0)
    one.lose(5, 50)
    assert one.lost() == 0
    one.reconnect(FAMILIAR_SECONDS)
    one.lose(3, 0)
    assert one.lost() == 3
    one.lose(0, 1)
    one.reconnect(1)  # too soon for workers to have told of the gap before
    one.lose(1, 0)
    assert one.lost() == 0


async def test_losses_wait_for_results_but_not_for_ever(pulls: Pulls) -> None:
    one = Fixed(Results(pulls, ["json"]))
    one.gaps.connected(START, 0)
    one.reconnect(FAMILIAR_SECONDS)
    one.lose(5, 0)
    assert one.lost() == 0
    one.gaps._moved = True  # results come
    one.tick += PATIENCE
    assert one.lost() == 0
    one.tick += PATIENCE
    assert one.lost() == 5
