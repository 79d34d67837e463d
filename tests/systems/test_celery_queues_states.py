"""The jobs of each queue by state."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest
import redis

from exporter.brokers import bounded
from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.pulls import Pulls
from exporter.model import JobState, QueueState
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.layout import SEPARATOR
from exporter.systems.celery.options import CeleryOptions
from exporter.systems.celery.queues import unacked
from exporter.systems.celery.queues.queues import Queues
from exporter.systems.celery.queues.search import Search
from exporter.systems.celery.workers.running import Running
from exporter.systems.keys import Problems
from tests.servers import RedisServer
from tests.systems.celery_queues import QUEUE, bind, hold, message, put, restore, runs, take
from tests.systems.observing import START, Clock

READY, SCHEDULED, RESERVED, RUNNING = JobState.READY, JobState.SCHEDULED, JobState.RESERVED, JobState.RUNNING


class Tells:
    """What events and workers tell, as the test wants it."""

    def __init__(self) -> None:
        self.sent: dict[str, float] = {}
        self.runs: Running | None = runs()

    def due(self, job: str) -> float | None:
        return self.sent.get(job)

    def progress(self, queue: str) -> float | None:
        return None


class Stage:
    """Queues that are looked at."""

    def __init__(self, pulls: Pulls, clock: Clock, **options: object) -> None:
        self.tells = Tells()
        self.problems = Problems()
        only = options.get("global_keyprefix")
        assert only is None or isinstance(only, str)
        self.search = Search(pulls, SEPARATOR, only)
        made = CeleryOptions(**options)  # type: ignore[arg-type]
        self.queues = Queues(pulls, made, self.search, self.tells, clock)

    async def look(self, *names: str) -> dict[str, QueueState]:
        self.problems = Problems()
        read = await self.queues.read(dict.fromkeys(names or (QUEUE,), False), self.problems)
        return {state.queue: state for state in self.queues.states(read, self.tells.runs)}

    async def jobs(self, queue: str = QUEUE) -> Mapping[JobState, int]:
        return (await self.look(queue))[queue].jobs


@pytest.fixture
async def pulls(redis_server: RedisServer) -> AsyncIterator[Pulls]:
    pulls = Pulls(Access(parse_address(redis_server.url())))
    yield pulls
    await pulls.close()


@pytest.fixture
async def stage(pulls: Pulls, clock: Clock, client: redis.Redis) -> Stage:
    """Queues that a search found under no prefix."""
    bind(client, QUEUE, "letters", exchange="celery")
    stage = Stage(pulls, clock)
    await stage.search.queues()
    return stage


# -- what is there ----------------------------------------------------------------------------------------------


async def test_an_idle_queue_has_explicit_zeros(stage: Stage) -> None:
    assert await stage.jobs() == {READY: 0, SCHEDULED: 0, RESERVED: 0, RUNNING: 0}


async def test_every_state_has_its_jobs(stage: Stage, client: redis.Redis) -> None:
    put(client, message("1"), message("2"))
    hold(client, "3", "4", "5", eta=START + 60)
    hold(client, "6")
    hold(client, "7", eta=START - 1)
    hold(client, "late ack")
    hold(client, "other", key="letters")
    stage.tells.runs = runs("late ack", "early ack", since=START - 30)
    seen = await stage.look(QUEUE, "letters")
    assert seen[QUEUE].jobs == {READY: 2, SCHEDULED: 3, RESERVED: 2, RUNNING: 2}
    assert seen["letters"].jobs == {READY: 0, SCHEDULED: 0, RESERVED: 1, RUNNING: 0}
    assert (seen[QUEUE].oldest_running, seen["letters"].oldest_running) == (START - 30, None)


@pytest.mark.parametrize(("ahead", "since"), [(3, START), (3600, None)])
async def test_no_job_runs_since_a_time_to_come(stage: Stage, ahead: float, since: float | None) -> None:
    stage.tells.runs = runs("1", since=START + ahead)  # by the clock of a worker that sends no heartbeats
    assert (await stage.look(QUEUE))[QUEUE].oldest_running == since


async def test_a_scheduled_job_gets_reserved_when_its_time_comes(
    stage: Stage, client: redis.Redis, clock: Clock
) -> None:
    hold(client, "1", eta=START + 60)
    assert (await stage.jobs())[SCHEDULED] == 1
    clock.now += 61
    assert await stage.jobs() == {READY: 0, SCHEDULED: 0, RESERVED: 1, RUNNING: 0}


async def test_a_job_that_is_retried_while_it_still_runs_is_one(stage: Stage, client: redis.Redis) -> None:
    hold(client, "late ack")
    hold(client, "late ack", eta=START + 9, retries=1)
    stage.tells.runs = runs("late ack")
    assert await stage.jobs() == {READY: 0, SCHEDULED: 0, RESERVED: 0, RUNNING: 1}
    stage.tells.runs = runs()
    assert await stage.jobs() == {READY: 0, SCHEDULED: 0, RESERVED: 1, RUNNING: 0}


async def test_a_job_given_back_while_it_runs_is_there_twice(stage: Stage, client: redis.Redis) -> None:
    restore(client, message("1", redelivered=True))
    stage.tells.runs = runs("1")
    assert await stage.jobs() == {READY: 1, SCHEDULED: 0, RESERVED: 0, RUNNING: 1}


async def test_a_job_of_a_lost_worker_is_reserved_until_it_is_delivered_again(
    stage: Stage, client: redis.Redis
) -> None:
    hold(client, "1")
    stage.tells.runs = runs("1")
    assert await stage.jobs() == {READY: 0, SCHEDULED: 0, RESERVED: 0, RUNNING: 1}
    stage.tells.runs = runs()
    assert await stage.jobs() == {READY: 0, SCHEDULED: 0, RESERVED: 1, RUNNING: 0}
    client.delete("unacked")
    restore(client, message("1", redelivered=True))
    assert await stage.jobs() == {READY: 1, SCHEDULED: 0, RESERVED: 0, RUNNING: 0}


async def test_a_message_is_read_once(stage: Stage, client: redis.Redis) -> None:
    hold(client, "1", "2")
    await stage.jobs()
    client.config_resetstat()
    assert (await stage.jobs())[RESERVED] == 2
    assert "cmdstat_hmget" not in str(client.info("commandstats"))
    client.delete("unacked")
    assert (await stage.jobs())[RESERVED] == 0


# -- what cannot be known ---------------------------------------------------------------------------------------


async def test_while_nobody_tells_what_runs_only_etas_tell(stage: Stage, client: redis.Redis) -> None:
    stage.tells.runs = None
    hold(client, "1", eta=START + 9)
    assert await stage.jobs() == {READY: 0, SCHEDULED: 1, RESERVED: 0}
    hold(client, "2")
    assert await stage.jobs() == {READY: 0, SCHEDULED: 1}


async def test_jobs_that_run_in_an_unknown_queue_are_found_by_their_messages(stage: Stage, client: redis.Redis) -> None:
    hold(client, "1")
    stage.tells.runs = runs("1", queue=UNKNOWN)
    seen = (await stage.look())[QUEUE]
    assert seen.jobs == {READY: 0, SCHEDULED: 0, RESERVED: 0, RUNNING: 1}
    assert seen.oldest_running is None
    stage.tells.runs = runs("1", "early ack", queue=UNKNOWN)
    assert await stage.jobs() == {READY: 0, SCHEDULED: 0, RESERVED: 0}


async def test_since_when_the_longest_runs_is_unknown_while_the_queue_of_one_is(stage: Stage) -> None:
    oldest = {QUEUE: START - 5, UNKNOWN: START - 9}
    stage.tells.runs = Running(frozenset({"1", "2"}), {QUEUE: 1, UNKNOWN: 1}, oldest, {"hold": 2})
    assert (await stage.look())[QUEUE].oldest_running is None


async def test_too_many_messages_are_not_looked_at(
    stage: Stage, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unacked, "MOST_UNACKED", 2)
    hold(client, "1", "2", "3")
    assert await stage.jobs() == {READY: 0, RUNNING: 0}
    assert not stage.problems.lines()


async def test_states_are_absent_until_all_messages_are_read(
    stage: Stage, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unacked, "NEW_MESSAGES", 100)
    hold(client, *map(str, range(250)))
    assert [RESERVED in await stage.jobs() for _ in range(3)] == [False, False, True]
    assert (await stage.jobs())[RESERVED] == 250


async def test_large_messages_are_read_a_few_at_a_time(stage: Stage, client: redis.Redis) -> None:
    hold(client, *map(str, range(30)), argsrepr="x" * 300_000)
    await stage.jobs()
    assert (await stage.jobs())[RESERVED] == 30
    assert not stage.problems.lines()


async def test_a_message_too_large_to_read_leaves_the_states_unknown(
    stage: Stage, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "REPLY_BYTES", 100_000)
    hold(client, "1", argsrepr="x" * 200_000)
    hold(client, *map(str, range(2, 20)))
    assert await stage.jobs() == {READY: 0, RUNNING: 0}
    assert stage.problems.lines()
    client.delete("unacked")
    assert (await stage.jobs())[RESERVED] == 0


@pytest.mark.parametrize(
    "record", [b"text", b"{}", b"[]", b"[" * 100_000, b"\x80\x04K\x01.", b'[{"headers": {}}, 1, "q"]']
)
async def test_a_message_that_is_no_task_leaves_the_states_unknown(
    stage: Stage, client: redis.Redis, record: bytes
) -> None:
    put(client, message("1"))
    hold(client, "2")
    client.hset("unacked", mapping={"tag": record})
    assert await stage.jobs() == {READY: 1, RUNNING: 0}
    (problem,) = stage.problems.lines()
    assert problem.startswith("1 messages in unacked tell no job")
    client.hdel("unacked", "tag")
    assert (await stage.jobs())[RESERVED] == 1


@pytest.mark.parametrize("record", ["{}", '{"headers": {}, "body": "protocol 1"}', '{"headers": {"id": 1}}'])
async def test_what_is_no_task_leaves_the_states_of_its_queue_unknown(
    stage: Stage, client: redis.Redis, record: str
) -> None:
    hold(client, "2")
    client.hset("unacked", "tag", f'[{record}, "", "letters"]')
    seen = await stage.look(QUEUE, "letters")
    assert (seen[QUEUE].jobs[RESERVED], seen[QUEUE].jobs[SCHEDULED]) == (1, 0)
    assert seen["letters"].jobs == {READY: 0, RUNNING: 0}
    assert not stage.problems.lines()


async def test_a_job_given_back_to_the_end_is_the_oldest(stage: Stage, client: redis.Redis) -> None:
    stage.tells.sent = {"1": START - 9, "back": START - 60}
    put(client, message("1"), message("2"), message("back", redelivered=True))
    assert (await stage.look())[QUEUE].oldest_ready == START - 60
    put(client, message("3"))
    assert (await stage.look())[QUEUE].oldest_ready == START - 9, "those behind it hide it"


async def test_prefixes_with_few_messages_are_looked_at_as_long_as_there_is_room(
    stage: Stage, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unacked, "MOST_UNACKED", 5)
    pulls = stage.queues._pulls
    for prefix, count in (("a:", 3), ("b:", 3), ("c:", 2)):
        hold(client, *map(str, range(count)), prefix=prefix)
    counted = await unacked.count_unacked(pulls, ["a:", "b:", "c:"], stage.problems)
    assert (counted.messages, counted.few) == (8, ["a:", "c:"])


async def test_states_are_absent_until_all_bytes_are_read(
    stage: Stage, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unacked, "NEW_BYTES", 2_000_000)
    hold(client, *map(str, range(250)), argsrepr="x" * 30_000)
    assert RESERVED not in await stage.jobs()
    for _ in range(5):
        found = await stage.jobs()
    assert found[RESERVED] == 250


async def test_delivery_tags_too_large_to_read_leave_the_depths(
    stage: Stage, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "REPLY_BYTES", 100_000)
    put(client, message("1"))
    client.hset("unacked", "x" * 200_000, "no task")
    assert await stage.jobs() == {READY: 1, RUNNING: 0}
    assert stage.problems.lines()


async def test_unacked_of_a_wrong_type_leaves_the_depths(stage: Stage, client: redis.Redis) -> None:
    put(client, message("1"))
    client.set("unacked", "text")
    assert await stage.jobs() == {READY: 1, RUNNING: 0}
    assert stage.problems.lines()


# -- whose message it is ----------------------------------------------------------------------------------------


async def test_the_bindings_tell_the_queue_of_an_exchange(stage: Stage, client: redis.Redis) -> None:
    bind(client, "letters", exchange="post", key="letter")
    bind(client, QUEUE, exchange="post", key="parcel")
    await stage.search.queues()
    hold(client, "1", exchange="post", key="letter")
    seen = await stage.look(QUEUE, "letters")
    assert (seen[QUEUE].jobs[RESERVED], seen["letters"].jobs[RESERVED]) == (0, 1)


async def test_a_message_of_two_queues_leaves_the_states_of_both_unknown(stage: Stage, client: redis.Redis) -> None:
    bind(client, "letters", exchange="topics", key="mail.#", topic="^mail\\..*?$")
    bind(client, "archive", exchange="topics", key="#", topic="^.*?$")
    await stage.search.queues()
    hold(client, "1", exchange="topics", key="mail.new")
    hold(client, "2")
    seen = await stage.look(QUEUE, "letters", "archive")
    assert seen[QUEUE].jobs[RESERVED] == 1
    assert [RESERVED in seen[queue].jobs for queue in ("letters", "archive")] == [False, False]


async def test_a_message_of_an_exchange_without_bindings_may_be_of_any_queue(stage: Stage, client: redis.Redis) -> None:
    hold(client, "1", exchange="nobody knows", key="mail")
    assert await stage.jobs() == {READY: 0, RUNNING: 0}


async def test_each_prefix_has_messages_of_its_own(pulls: Pulls, clock: Clock, client: redis.Redis) -> None:
    bind(client, QUEUE, exchange="celery")
    bind(client, QUEUE, exchange="celery", prefix="app:")
    stage = Stage(pulls, clock)
    await stage.search.queues()
    hold(client, "1")
    hold(client, "2", "3", prefix="app:")
    client.hset("unacked", "tag", "no task")
    seen = await stage.look(QUEUE, "app:celery")
    assert RESERVED not in seen[QUEUE].jobs
    assert seen["app:celery"].jobs[RESERVED] == 2


async def test_with_the_prefix_given_only_that_is_read(pulls: Pulls, clock: Clock, client: redis.Redis) -> None:
    bind(client, QUEUE, exchange="celery")
    bind(client, QUEUE, "letters", exchange="celery", prefix="a*p:")
    bind(client, "else", exchange="celery", prefix="axxp:")
    stage = Stage(pulls, clock, global_keyprefix="a*p:")
    assert await stage.search.queues() == {QUEUE, "letters"}
    put(client, message("1"), queue="a*p:celery")
    put(client, message("x"), message("y"))
    hold(client, "2", "3", prefix="a*p:")
    hold(client, "4")
    assert await stage.jobs() == {READY: 1, SCHEDULED: 0, RESERVED: 2, RUNNING: 0}


async def test_with_the_prefix_given_no_search_is_needed(pulls: Pulls, clock: Clock, client: redis.Redis) -> None:
    stage = Stage(pulls, clock, discover=False, global_keyprefix="app:")
    assert await stage.jobs() == {READY: 0, SCHEDULED: 0, RESERVED: 0, RUNNING: 0}
    hold(client, "1", eta=START + 9, prefix="app:")
    hold(client, "2", eta=START + 9)
    assert (await stage.jobs())[SCHEDULED] == 1


async def test_without_a_search_a_message_tells_that_a_queue_has_no_prefix(
    pulls: Pulls, clock: Clock, client: redis.Redis
) -> None:
    stage = Stage(pulls, clock, discover=False)
    assert await stage.jobs() == {READY: 0, RUNNING: 0}
    hold(client, "1", eta=START + 9)
    assert (await stage.jobs())[SCHEDULED] == 1
    client.delete("unacked")
    assert await stage.jobs() == {READY: 0, SCHEDULED: 0, RESERVED: 0, RUNNING: 0}
    assert await stage.jobs("app:celery") == {READY: 0, RUNNING: 0}


# -- the oldest ready -------------------------------------------------------------------------------------------


async def test_the_oldest_ready_job_is_known_by_its_task_sent(stage: Stage, client: redis.Redis) -> None:
    stage.tells.sent = {"1": START - 100, "2": START - 50}
    put(client, message("1"), message("2"))
    assert (await stage.look())[QUEUE].oldest_ready == START - 100
    take(client)
    assert (await stage.look())[QUEUE].oldest_ready == START - 50
    take(client)
    assert (await stage.look())[QUEUE].oldest_ready is None


async def test_a_purged_queue_leaves_no_lie(stage: Stage, client: redis.Redis, clock: Clock) -> None:
    stage.tells.sent = {"1": START - 100}
    put(client, message("1"))
    await stage.look()
    client.delete(QUEUE)
    assert (await stage.look())[QUEUE].oldest_ready is None
    put(client, message("2"))
    clock.now += 5
    assert (await stage.look())[QUEUE].oldest_ready == START + 5


async def test_a_job_restored_to_an_empty_queue_is_not_taken_for_new(stage: Stage, client: redis.Redis) -> None:
    await stage.look()
    restore(client, message("1", redelivered=True))
    assert (await stage.look())[QUEUE].oldest_ready is None
    stage.tells.sent = {"1": START - 100}
    assert (await stage.look())[QUEUE].oldest_ready == START - 100


async def test_behind_jobs_that_are_not_due_the_first_that_is_counts(stage: Stage, client: redis.Redis) -> None:
    put(client, *(message(f"later {number}", eta=START + 60) for number in range(5)))
    assert (await stage.look())[QUEUE].oldest_ready is None
    stage.tells.sent = {"1": START - 100}
    put(client, message("1"), *(message(f"more {number}") for number in range(20)))
    assert (await stage.look())[QUEUE].oldest_ready == START - 100


async def test_the_oldest_of_all_priorities_counts(stage: Stage, client: redis.Redis) -> None:
    stage.tells.sent = {"1": START - 10, "2": START - 30}
    put(client, message("1"), message("later", eta=START + 9))
    put(client, message("2"), priority=6)
    assert (await stage.look())[QUEUE].oldest_ready == START - 30
    put(client, message("later", eta=START + 9), priority=9)
    assert (await stage.look())[QUEUE].oldest_ready == START - 30
