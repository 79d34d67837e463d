"""The feed `events` on a real Redis, with messages as kombu publishes them."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import celery as celery_library
import msgspec
import pytest
import redis

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import BrokerError
from exporter.brokers.pulls import Pulls
from exporter.brokers.turn import Turn
from exporter.model import Enqueued, Finished, Outcome, Permissions, Started, Unreadable, WorkerState
from exporter.safe.text import UNKNOWN
from exporter.systems.celery import Celery
from exporter.systems.celery.events.feed import EventsFeed
from exporter.systems.celery.events.frames import Event, read_frame
from exporter.systems.celery.jobs.holding import JOBS_AT_ONCE
from exporter.systems.celery.jobs.tasks import Tasks
from exporter.systems.celery.options import CeleryOptions
from exporter.systems.celery.workers.worker import FREQ, STALE_BEATS
from tests.servers import RedisServer
from tests.systems.celery_frames import WORKER, channel, fields, frame, raw_frame
from tests.systems.observing import START, Clock, state
from tests.systems.sinks import RecordingSink
from tests.toys import until

DB = 3
STALE = FREQ * STALE_BEATS


class Monotonic(Clock):
    """The other clock."""


@pytest.fixture
def server(redis_server: RedisServer) -> redis.Redis:
    return redis_server.client(DB)


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
async def feed(redis_server: RedisServer, clock: Clock) -> EventsFeed:
    return EventsFeed(Access(parse_address(redis_server.url(DB))), Turn(), clock, 3600, monotonic=Monotonic())


@asynccontextmanager
async def following(feed: EventsFeed, sink: RecordingSink) -> AsyncIterator[asyncio.Task[None]]:
    """The feed, connected."""
    before = len(sink.modes)
    task = asyncio.create_task(feed.follow(sink))
    try:
        await until(lambda: task.done() or len(sink.modes) > before)
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, BrokerError):
            await task


def seen(feed: EventsFeed) -> tuple[Collection[WorkerState] | None, Mapping[str, int] | None]:
    """The workers, and what runs by task."""
    look = feed.look()
    running = look.running()
    return look.states(), None if running is None else running.tasks


def publish(client: redis.Redis, *events: dict[str, Any], prefix: str = "", **changes: Any) -> None:
    """One message, of one event or of many."""
    kind = events[0]["type"] if len(events) == 1 else "task-multi"
    body = events[0] if len(events) == 1 else list(events)
    client.publish(channel(kind, DB, prefix), frame(body, **changes))


SENT = fields("task-sent", worker="1@producer", queue="mail", name="charge", retries=0)
STARTED = fields("task-started", at=START + 2)
SUCCEEDED = fields("task-succeeded", at=START + 3, runtime=0.9)


# -- following --------------------------------------------------------------------------------------------------


async def test_events_become_job_events(
    feed: EventsFeed, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    clock.now += 3
    async with following(feed, sink):
        publish(server, SENT)
        publish(server, fields("worker-heartbeat", active=0, freq=2.0))
        publish(server, fields("task-received", name="charge", retries=0), STARTED, SUCCEEDED)
        await until(lambda: sink.finished)
    assert sink.modes == ["pubsub"]
    assert sink.events == [
        Enqueued("mail", "charge", "a", START),
        Started("mail", "charge", "a", START + 2, wait=2),
        Finished("mail", "charge", "a", START + 3, Outcome.SUCCEEDED, run=0.9),
    ]
    assert sink.received_by_kind == {"job": 4, "worker": 1}
    assert not sink.undecodable_by_reason


async def test_prefixes_are_of_the_queue_and_other_databases_of_no_concern(
    feed: EventsFeed, sink: RecordingSink, server: redis.Redis
) -> None:
    async with following(feed, sink):
        server.publish(channel("task-sent", 0), frame(SENT))
        publish(server, SENT, prefix="shop:")
        await until(lambda: sink.events)
    assert [event.queue for event in sink.enqueued] == ["shop:mail"]


async def test_what_cannot_be_read_is_counted_and_the_rest_goes_on(
    feed: EventsFeed, sink: RecordingSink, server: redis.Redis
) -> None:
    async with following(feed, sink):
        publish(server, SENT, **{"content-type": "application/x-python-serialize"})
        server.publish(channel("worker-heartbeat", DB), raw_frame(pickle.dumps({})))
        publish(server, STARTED | {"uuid": ""}, SUCCEEDED | {"runtime": "long"}, SENT)
        publish(server, fields("shop-opened"))
        publish(server, fields("worker-heartbeat", worker=""))
        await until(lambda: sink.received_by_kind["worker"] == 2)
    assert sink.undecodable_by_reason == {Unreadable.ENCODING: 1, Unreadable.MALFORMED: 4}
    assert sink.received_by_kind == {"job": 5, "worker": 2}
    assert len(sink.events) == 1


async def test_what_is_held_is_let_go_by_the_clock(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    monotonic = Monotonic()
    feed = EventsFeed(Access(parse_address(redis_server.url(DB))), Turn(), clock, 3600, monotonic=monotonic)
    async with following(feed, sink):
        publish(server, SENT)
        publish(server, STARTED | {"uuid": "b"})
        await until(lambda: sink.received_by_kind["job"] == 2)
        assert not sink.started
        monotonic.now += 3
        await until(lambda: sink.started)
    assert sink.started[0].queue == UNKNOWN


async def test_what_is_held_is_let_go_at_the_end(feed: EventsFeed, sink: RecordingSink, server: redis.Redis) -> None:
    async with following(feed, sink):
        publish(server, SENT)
        publish(server, STARTED | {"uuid": "b"}, SUCCEEDED | {"uuid": "b"})
        await until(lambda: sink.received_by_kind["job"] == 3)
        assert not sink.started
    assert [type(event) for event in sink.of("b")] == [Started, Finished]


async def test_the_table_outlives_the_connection(feed: EventsFeed, sink: RecordingSink, server: redis.Redis) -> None:
    async with following(feed, sink) as task:
        publish(server, SENT)
        await until(lambda: sink.enqueued)
        server.client_kill_filter(_type="pubsub")
        await until(task.done)
        assert isinstance(task.exception(), BrokerError)
        assert feed.look().states() is None
    async with following(feed, sink):
        publish(server, STARTED, SUCCEEDED)
        await until(lambda: sink.finished)
    assert sink.modes == ["pubsub"] * 2
    assert sink.finished[0].queue == "mail"


async def test_a_server_that_does_not_answer_is_a_broker_error(sink: RecordingSink) -> None:
    feed = EventsFeed(Access(parse_address("redis://127.0.0.1:1/0")), Turn(), time.time, 3600)
    with pytest.raises(BrokerError):
        await feed.follow(sink)
    assert sink.log == []


async def test_dropped_messages_are_counted_as_lost_events_and_leave_workers_unknown_for_a_while(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    monotonic = Monotonic()
    feed = EventsFeed(Access(parse_address(redis_server.url(DB))), Turn(), clock, 3600, monotonic=monotonic)
    async with following(feed, sink):
        monotonic.now += STALE
        feed.workers.hearing.anybody = True
        assert seen(feed) == ([], {})
        feed._dropped([b"pmessage", b"", b"", frame([SENT, STARTED, SUCCEEDED])])
        assert seen(feed) == (None, None)
        monotonic.now += STALE
        assert seen(feed) == ([], {})
    assert sink.lost_events == 3


async def test_lost_workers_are_forgotten_after_the_time_that_was_asked_for(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    monotonic = Monotonic()
    feed = EventsFeed(Access(parse_address(redis_server.url(DB))), Turn(), clock, 60, monotonic=monotonic)
    async with following(feed, sink):
        publish(server, fields("worker-heartbeat", active=0, freq=2.0))
        await until(lambda: feed.workers.hearing.anybody)
        monotonic.now += 60
        assert [worker.up for worker in feed.look().states() or ()] == [False]
        monotonic.now += 1
        await until(lambda: feed.look().states() == [])


async def test_jobs_forgotten_are_told(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    feed = EventsFeed(
        Access(parse_address(redis_server.url(DB))), Turn(), clock, 3600, tasks=lambda workers: Tasks(workers, jobs=2)
    )
    async with following(feed, sink):
        for uuid in "abcde":
            publish(server, SENT | {"uuid": uuid})
        await until(lambda: len(sink.enqueued) == 5)
    assert sink.forgotten_jobs == 3


async def test_an_event_of_a_task_without_a_worker_is_malformed(
    feed: EventsFeed, sink: RecordingSink, server: redis.Redis
) -> None:
    async with following(feed, sink):
        publish(server, STARTED | {"hostname": ""}, fields("task-rated", "", worker=""), SENT | {"hostname": ""})
        await until(lambda: sink.enqueued)
    assert sink.undecodable_by_reason == {Unreadable.MALFORMED: 1}
    assert not sink.started


async def test_all_that_is_held_by_many_jobs_is_let_go(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    monotonic = Monotonic()
    feed = EventsFeed(Access(parse_address(redis_server.url(DB))), Turn(), clock, 3600, monotonic=monotonic)
    jobs = 3 * JOBS_AT_ONCE
    async with following(feed, sink):
        for begin in (0, jobs):
            publish(server, SENT)
            for start in range(begin, begin + jobs, 100):
                publish(server, *(STARTED | {"uuid": str(number)} for number in range(start, start + 100)))
            await until(lambda last=begin + jobs: sink.received_by_kind["job"] >= last)  # type: ignore[misc]
            if not begin:
                assert not sink.started
                monotonic.now += 3
                await until(lambda: len(sink.started) == jobs)
    assert len(sink.started) == 2 * jobs


async def test_thousands_of_jobs_at_once(feed: EventsFeed, sink: RecordingSink, server: redis.Redis) -> None:
    jobs = 5000
    async with following(feed, sink):
        for number in range(jobs):
            publish(server, SENT | {"uuid": str(number)})
        events = [event | {"uuid": str(number)} for number in range(jobs) for event in (STARTED, SUCCEEDED)]
        for start in range(0, len(events), 24):
            publish(server, *events[start : start + 24])
        await until(lambda: len(sink.finished) == jobs)
    assert {(event.queue, event.task) for event in sink.started} == {("mail", "charge")}
    assert {(event.queue, event.task) for event in sink.finished} == {("mail", "charge")}
    assert len(sink.enqueued) == len(sink.started) == jobs
    assert sum(event.wait is not None for event in sink.started) == jobs


# -- the format, by those who write it --------------------------------------------------------------------------


@pytest.fixture
def spy(redis_server: RedisServer) -> redis.client.PubSub:
    pubsub: redis.client.PubSub = redis_server.client(DB).pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    pubsub.psubscribe("*")  # type: ignore[no-untyped-call]
    pubsub.get_message(timeout=5)
    return pubsub


def heard(spy: redis.client.PubSub) -> tuple[str, bytes]:
    """The channel and the payload of the next message."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if message := spy.get_message(timeout=1):
            return message["channel"].decode(), message["data"]
    raise AssertionError("no message")


@pytest.mark.parametrize("prefix", ["", "shop:"])
def test_kombu_publishes_as_the_tests_do(redis_server: RedisServer, spy: redis.client.PubSub, prefix: str) -> None:
    app = celery_library.Celery(broker=redis_server.url(DB), set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": prefix} if prefix else {}
    app.conf.task_send_sent_event = True
    try:
        app.send_task("charge", ("x",), task_id="a", queue="mail", countdown=5)
        where, payload = heard(spy)
        assert where == channel("task-sent", DB, prefix)
        (sent,) = read_frame(payload).events
        assert (sent.type, sent.uuid, sent.name, sent.queue, sent.retries) == ("task-sent", "a", "charge", "mail", 0)
        assert sent.eta is not None
        envelope, ours = json.loads(payload), json.loads(frame(SENT))
        assert set(ours) <= set(envelope)
        assert envelope["properties"]["body_encoding"] == "base64"
        with app.connection_for_write() as connection:
            dispatcher = app.events.Dispatcher(connection, hostname=WORKER, buffer_group={"task"}, buffer_limit=100)
            for kind in ("task-started", "task-succeeded"):
                dispatcher.send(kind, uuid="a", runtime=float("nan"))
            dispatcher.flush()
            where, payload = heard(spy)
            assert where == channel("task-multi", DB, prefix)
            assert [event.type for event in read_frame(payload).events] == ["task-started", "task-succeeded"]
            dispatcher.send("worker-heartbeat", freq=2.0, active=1, processed=5, loadavg=(0.1, 0.1, 0.1), sw_ver="5")
            where, payload = heard(spy)
            assert where == channel("worker-heartbeat", DB, prefix)
            assert [(event.freq, event.active) for event in read_frame(payload).events] == [(2.0, 1)]
    finally:
        app.close()


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_other_serializers_of_kombu_are_not_opened(
    redis_server: RedisServer, spy: redis.client.PubSub, serializer: str
) -> None:
    app = celery_library.Celery(broker=redis_server.url(DB), set_as_current=False)
    try:
        with app.connection_for_write() as connection:
            app.events.Dispatcher(connection, serializer=serializer).send("task-started", uuid="a")
        assert read_frame(heard(spy)[1]).unreadable == {Unreadable.ENCODING: 1}
    finally:
        app.close()


# -- what the system makes of it --------------------------------------------------------------------------------


@asynccontextmanager
async def system(server: RedisServer, clock: Clock, **options: Any) -> AsyncIterator[Celery]:
    pulls = Pulls(Access(parse_address(server.url(DB))))
    celery = Celery(pulls, msgspec.convert(options, CeleryOptions), clock)
    try:
        yield celery
    finally:
        await celery.close()
        await pulls.close()


def long_connected(feed: EventsFeed) -> None:
    """As if the feed had been connected for long."""
    feed._workers.connected(time.monotonic() - STALE)


async def test_observing_tells_of_workers_running_jobs_and_progress(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    async with system(redis_server, clock, queues=["mail"]) as celery:
        (feed,) = celery.feeds
        assert isinstance(feed, EventsFeed)
        assert feed is next(iter(celery.feeds))
        server.lpush("mail", "job")
        before = await celery.observe()
        assert (before.workers, before.running) == (None, None)
        async with following(feed, sink):
            clock.now += 10
            publish(server, fields("worker-online", at=clock.now, active=0, freq=2.0, sw_ver="5.6.3"))
            publish(server, SENT)
            await until(lambda: sink.enqueued)
            assert not (await celery.observe()).all_workers
            long_connected(feed)
            publish(server, STARTED)
            await until(lambda: sink.started)
            publish(server, fields("worker-heartbeat", at=clock.now, active=1, freq=2.0, sw_ver="5.6.3"))
            await until(lambda: sink.received_by_kind["worker"] == 2)
            seen = await celery.observe()
            assert [(worker.worker, worker.up, worker.busy_slots) for worker in seen.workers or ()] == [
                (WORKER, True, 1)
            ]
            assert seen.running == {"charge": 1}
            assert state(seen, "mail").last_progress == START + 2
        after = await celery.observe()
        assert after.running is None


async def test_workers_of_one_name_under_two_key_prefixes_are_two(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    monotonic = Monotonic()
    feed = EventsFeed(Access(parse_address(redis_server.url(DB))), Turn(), clock, 3600, monotonic=monotonic)
    async with following(feed, sink):
        for pid, prefix in enumerate(("a:", "b:", "a:"), 1):
            server.publish(channel("task-started", DB, prefix), frame(STARTED | {"uuid": str(pid)}))
            beat = fields("worker-heartbeat", freq=60.0, active=2 if pid == 3 else 1)
            server.publish(channel("worker-heartbeat", DB, prefix), frame(beat))
        await until(lambda: sink.received_by_kind["worker"] == 3)
        monotonic.now += 180
        assert {worker.worker: worker.busy_slots for worker in feed.look().states() or ()} == {
            "a:" + WORKER: 2,
            "b:" + WORKER: 1,
        }
        running = feed.look().running()
        assert running is not None
        assert running.ids == {"1", "2", "3"}


async def test_queues_with_names_that_no_key_has_spoil_no_scrape(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    async with system(redis_server, clock) as celery:
        (feed,) = celery.feeds
        assert isinstance(feed, EventsFeed)
        async with following(feed, sink):
            publish(server, SENT | {"queue": "\ud800"})
            publish(server, SENT | {"uuid": "b"})
            await until(lambda: sink.enqueued)
            feed._tasks.take(Event("task-sent", "c", "producer", START, queue="\ud800"))
            assert [seen.queue for seen in (await celery.observe()).queues] == ["mail"]
    assert sink.undecodable_by_reason == {Unreadable.MALFORMED: 1}


async def test_a_database_without_celery_has_no_workers_to_speak_of(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink, server: redis.Redis
) -> None:
    # Asked, nobody answers, sooner or later: then it is known that there are none.
    async with system(redis_server, clock, inspect=False) as celery:
        (feed,) = celery.feeds
        assert isinstance(feed, EventsFeed)
        async with following(feed, sink):
            long_connected(feed)
            assert (await celery.observe()).workers is None
            server.sadd("_kombu.binding.mail", "mail\x06\x16\x06\x16mail")
            await until_observed(celery)
            assert (await celery.observe()).workers is None
            feed.workers.hearing.anybody = True  # and said goodbye
            seen = await celery.observe()
            assert (seen.workers, seen.running) == ([], {})


async def until_observed(celery: Celery) -> None:
    """Until the search has found a queue."""
    async with asyncio.timeout(10):
        while not (await celery.observe()).queues:  # noqa: ASYNC110  only Redis can tell
            await asyncio.sleep(0.05)


async def test_without_events_there_is_no_feed(redis_server: RedisServer, clock: Clock) -> None:
    async with system(redis_server, clock, events=False, queues=["mail"]) as celery:
        assert not celery.feeds
        assert (await celery.observe()).workers is None
        assert not [needed for needed in celery.permissions() if needed.feature == "events"]


async def test_the_feed_needs_one_command_and_one_pattern_of_channels(
    redis_server: RedisServer, clock: Clock, sink: RecordingSink
) -> None:
    async with system(redis_server, clock) as celery:
        needed = [permissions for permissions in celery.permissions() if permissions.feature == "events"]
        assert needed == [
            Permissions("events", frozenset({"psubscribe"}), channels=frozenset({f"*/{DB}.celeryev/*"})),
        ]
        admin = redis_server.client()
        admin.acl_setuser(
            "narrow", enabled=True, passwords=["+secret"], commands=["+psubscribe", "+select", "+ping"],
            channels=[next(iter(needed[0].channels))], reset=True, reset_channels=True,
        )  # fmt: skip
    url = redis_server.url(DB).replace("redis://", "redis://narrow:secret@")
    feed = EventsFeed(Access(parse_address(url)), Turn(), time.time, 3600)
    async with following(feed, sink):
        publish(redis_server.client(DB), SENT | {"timestamp": time.time()})
        await until(lambda: sink.enqueued)
