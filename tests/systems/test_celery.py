"""What Celery remembers of its queues from look to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from exporter.brokers import bounded
from exporter.model import JobState
from exporter.systems.base import Discovery
from exporter.systems.celery import Celery
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.jobs.tasks import Tasks
from exporter.systems.celery.layout import SEPARATOR, list_key
from exporter.systems.celery.workers.look import Look
from exporter.systems.celery.workers.workers import Workers
from tests.servers import RedisServer
from tests.systems.observing import START, Clock, state, watching

QUEUE = "celery"


@pytest.fixture
async def celery(redis_server: RedisServer, clock: Clock) -> AsyncIterator[Celery]:
    async with watching(Celery, redis_server, clock, QUEUE, "other", discover=False, inspect=False) as system:
        yield system


def put(client: redis.Redis, *tasks: str | bytes, queue: str = QUEUE, priority: int = 0) -> None:
    client.lpush(list_key(queue, priority).decode(), *tasks)


def take(client: redis.Redis, queue: str = QUEUE, priority: int = 0) -> None:
    assert client.rpop(list_key(queue, priority).decode())


async def test_the_oldest_of_several_priorities_counts(celery: Celery, client: redis.Redis, clock: Clock) -> None:
    await celery.observe()
    put(client, "a", priority=9)
    clock.now += 5
    await celery.observe()
    put(client, "b")
    clock.now += 5
    seen = state(await celery.observe(), QUEUE)
    assert seen.oldest_ready == START + 5
    assert seen.ready_by_priority == {0: 1, 3: 0, 6: 0, 9: 1}
    take(client, priority=9)
    assert state(await celery.observe(), QUEUE).oldest_ready == START + 10


async def test_the_oldest_is_unknown_while_that_of_one_priority_is(
    celery: Celery, client: redis.Redis, clock: Clock
) -> None:
    put(client, "old", priority=9)
    await celery.observe()
    put(client, "new")
    clock.now += 5
    assert state(await celery.observe(), QUEUE).oldest_ready is None
    take(client, priority=9)
    clock.now += 5
    assert state(await celery.observe(), QUEUE).oldest_ready == START + 5


async def test_a_task_taken_is_progress_though_as_many_came(celery: Celery, client: redis.Redis, clock: Clock) -> None:
    put(client, "a", "b")
    assert state(await celery.observe(), QUEUE).last_progress == START
    take(client)
    put(client, "c")
    clock.now += 5
    assert state(await celery.observe(), QUEUE).last_progress == START + 5
    put(client, "d", priority=3)
    clock.now += 5
    assert state(await celery.observe(), QUEUE).last_progress == START + 5


async def test_depths_stand_where_a_head_is_too_large_to_read(
    celery: Celery, client: redis.Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "REPLY_BYTES", 100_000)
    await celery.observe()
    put(client, b"x" * 200_000)
    seen = await celery.observe()
    assert state(seen, QUEUE).jobs == {JobState.READY: 1}
    assert state(seen, QUEUE).oldest_ready is None
    assert len(seen.problems) == 1
    take(client)
    assert not (await celery.observe()).problems


async def test_a_queue_with_one_list_that_cannot_be_read_is_left_out_whole(
    celery: Celery, client: redis.Redis, clock: Clock
) -> None:
    put(client, "a")
    put(client, "a", queue="other")
    client.set(list_key(QUEUE, 6), "text")
    seen = await celery.observe()
    assert [state.queue for state in seen.queues] == ["other"]
    assert len(seen.problems) == 1
    assert QUEUE in next(iter(seen.problems))


async def test_unacked_messages_and_the_oldest(celery: Celery, client: redis.Redis, clock: Clock) -> None:
    seen = await celery.observe()
    assert (seen.unacked_jobs, seen.oldest_unacked) == (0, None)
    client.hset("unacked", mapping={"a": "{}", "b": "{}"})
    client.zadd("unacked_index", {"a": START - 7, "b": START - 3})
    seen = await celery.observe()
    assert (seen.unacked_jobs, seen.oldest_unacked) == (2, START - 7)
    assert seen.visibility_timeout == 3600


async def test_without_a_trace_of_celery_nothing_is_said_of_unacked_messages(
    redis_server: RedisServer, clock: Clock
) -> None:
    async with watching(Celery, redis_server, clock, inspect=False) as celery:
        seen = await celery.observe()
    assert (seen.unacked_jobs, seen.visibility_timeout) == (None, None)


async def test_unacked_of_the_wrong_type_is_absent(celery: Celery, client: redis.Redis, clock: Clock) -> None:
    client.set("unacked", "text")
    seen = await celery.observe()
    assert (seen.unacked_jobs, seen.visibility_timeout) == (None, None)
    assert len(seen.queues) == 2
    assert len(seen.problems) == 1


async def test_the_search_takes_queues_of_tasks_only(redis_server: RedisServer, clock: Clock) -> None:
    client = redis_server.client()
    for key, queue in (
        ("_kombu.binding.celery", "celery"),
        ("_kombu.binding.mails", "mails"),
        ("_kombu.binding.celery.pidbox", "celery@host.celery.pidbox"),
        ("_kombu.binding.reply.celery.pidbox", "1234.reply.celery.pidbox"),
        ("_kombu.binding.celeryev", "celeryev.1234"),
        ("colours", "red"),
    ):
        client.sadd(key, SEPARATOR.join(("key", "", queue)))
    client.set("_kombu.binding.text", "no set")
    async with watching(Celery, redis_server, clock, discover=True) as celery:
        seen = await celery.observe()
    assert {state.queue for state in seen.queues} == {"celery", "mails"}
    assert not seen.problems


async def test_a_queue_that_comes_into_being_with_a_backlog_has_an_age(
    redis_server: RedisServer, client: redis.Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Discovery, "INTERVAL", 0.0)
    put(client, "a", queue="old")
    client.sadd("_kombu.binding.x", f"old{SEPARATOR}{SEPARATOR}old")
    async with watching(Celery, redis_server, clock, discover=True) as celery:
        await celery.observe()
        client.sadd("_kombu.binding.x", f"young{SEPARATOR}{SEPARATOR}young")
        put(client, "a", "b", queue="young")
        clock.now += 5
        async with asyncio.timeout(10):
            while len((seen := await celery.observe()).queues) < 2:  # noqa: ASYNC110  it tells nobody
                await asyncio.sleep(0.01)
    assert state(seen, "young").oldest_ready == START + 5
    assert state(seen, "old").oldest_ready is None


async def test_large_messages_at_many_heads_are_read_a_few_at_a_time(
    redis_server: RedisServer, client: redis.Redis, clock: Clock
) -> None:
    queues = [f"q{number}" for number in range(60)]
    async with watching(Celery, redis_server, clock, *queues, discover=False) as celery:
        await celery.observe()
        for queue in queues:
            put(client, b"x" * 200_000, queue=queue)
        seen = await celery.observe()
    assert list(seen.problems) == []
    assert {queue.oldest_ready for queue in seen.queues} == {START}


# -- queues that no binding tells -------------------------------------------------------------------------------


@pytest.mark.parametrize(("owner", "told"), [(Tasks, "queues_since"), (Look, "consumed")])
async def test_queues_that_jobs_are_sent_to_or_workers_consume_are_watched(
    redis_server: RedisServer,
    client: redis.Redis,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    told: str,
) -> None:
    put(client, "a", queue="told")
    async with watching(Celery, redis_server, clock, inspect=False) as celery:
        monkeypatch.setattr(owner, told, lambda *_: {"told"})
        assert state(await celery.observe(), "told").jobs[JobState.READY] == 1
        monkeypatch.setattr(owner, told, lambda *_: ())
        assert not (await celery.observe()).queues


async def test_where_only_some_queues_are_to_be_watched_no_others_are(
    celery: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tasks, "queues_since", lambda *_: ["told"])
    assert {state.queue for state in (await celery.observe()).queues} == {QUEUE, "other"}


async def test_a_queue_that_jobs_were_sent_to_is_forgotten_after_a_while() -> None:
    tasks = Tasks(Workers(60))
    for at, queue in ((START, "old"), (START + 50, "young"), (START + 50, "")):
        tasks.at(at, at)
        tasks.take(Event("task-sent", uuid=f"{at}", queue=queue, timestamp=at), "app:")
    assert tasks.queues_since(START) == ["app:old", "app:young"]
    assert tasks.queues_since(START + 1) == ["app:young"]
    assert tasks.queues_since(START) == ["app:young"]


async def test_a_job_is_due_since_its_task_sent_until_it_ends() -> None:
    tasks = Tasks(Workers(60))
    tasks.at(START, START)
    sent = Event("task-sent", uuid="1", name="hold", queue=QUEUE, timestamp=START - 5)
    received = Event("task-received", uuid="2", name="hold", hostname="w", timestamp=START - 5)
    for event in (sent, received):
        tasks.take(event)
    assert (tasks.due("1"), tasks.due("2"), tasks.due("3")) == (START - 5, None, None)
    tasks.take(Event("task-succeeded", uuid="1", hostname="w", timestamp=START))
    assert tasks.due("1") is None


# -- permissions ------------------------------------------------------------------------------------------------


def patterns(celery: Celery) -> set[str]:
    return set().union(*(needed.keys for needed in celery.permissions()))


async def test_named_queues_need_their_own_keys_only(redis_server: RedisServer, clock: Clock) -> None:
    async with watching(Celery, redis_server, clock, "mail[1]", discover=False, results=False) as celery:
        assert patterns(celery) == {
            *(r"mail\[1\]", rf"mail\[1\]{SEPARATOR}*"),
            *("unacked", "unacked_index"),
        }
        assert "discovery" not in {needed.feature for needed in celery.permissions()}


async def test_queues_to_be_found_need_all_keys(redis_server: RedisServer, clock: Clock) -> None:
    async with watching(Celery, redis_server, clock, discover=True, results=False) as celery:
        assert patterns(celery) == {"*", "*unacked", "*unacked_index", "*_kombu.binding.*"}


async def test_with_a_prefix_nothing_else_is_asked_for(redis_server: RedisServer, clock: Clock) -> None:
    options = {"global_keyprefix": "a*p:", "inspect": False, "results": False}
    async with watching(Celery, redis_server, clock, **options) as celery:
        assert patterns(celery) == {r"a\*p:*", r"a\*p:unacked", r"a\*p:unacked_index", r"a\*p:_kombu.binding.*"}
        channels = set().union(*(needed.channels for needed in celery.permissions()))
        assert channels == {r"a\*p:/0.celeryev/*"}
    async with watching(Celery, redis_server, clock, "mails", discover=False, **options) as celery:
        assert patterns(celery) == {
            *(r"a\*p:mails", rf"a\*p:mails{SEPARATOR}*"),
            *(r"a\*p:unacked", r"a\*p:unacked_index"),
        }
