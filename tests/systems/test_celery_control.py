"""Who is asked what, how often, and what becomes of it in an observation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest
import redis

from exporter.brokers.errors import BrokerError
from exporter.model import Observation, QueueState
from exporter.systems.base import Discovery
from exporter.systems.celery import Celery
from exporter.systems.celery.control.answers import Method
from exporter.systems.celery.control.inspector import MOST_PREFIXES, TURNS, Inspector
from exporter.systems.celery.control.mailbox import Round
from exporter.systems.celery.control.messages import Reply
from exporter.systems.celery.options import CeleryOptions
from exporter.systems.celery.workers.workers import Workers
from tests.servers import RedisServer
from tests.systems.celery_frames import event
from tests.systems.celery_told import consumers
from tests.systems.celery_workers import QUIET, answering, as_json
from tests.systems.observing import START, Clock, state, watching

INTERVAL = 10.0


class Asking:
    """A mailbox that notes what is asked, and answers so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Method]] = []
        self.answer: dict[str, Any] = QUIET | {}
        self.fails: Exception | None = None
        self.unreadable = 0
        self.listening = 1
        self.takes: Callable[[], None] = lambda: None

    async def ask(self, prefix: str, method: Method, take: Callable[[Reply], None]) -> Round:
        self.asked.append((prefix, method))
        self.takes()
        if self.fails is not None:
            raise self.fails
        take(Reply("celery@one", as_json(self.answer[method])))
        return Round(
            listening=self.listening, answers=1, unreadable=self.unreadable, reason="why" if self.unreadable else ""
        )

    @property
    def methods(self) -> list[Method]:
        return [method for _, method in self.asked]


class Stage:
    """An inspector whose time passes as the test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.tick = 0.0
        self.mailbox = Asking()
        self.workers = Workers(1000.0, asks=True)
        chosen = CeleryOptions(inspect_interval=INTERVAL, **options)
        self.inspector = Inspector(self.mailbox, self.workers, chosen, lambda: self.tick)  # type: ignore[arg-type]
        self._wakes = asyncio.Event()
        self.slept: list[float] = []
        monkeypatch.setattr("exporter.systems.celery.control.inspector.asyncio.sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._wakes.clear()
        await self._wakes.wait()

    async def rounds(self, count: int) -> None:
        """As many intervals pass."""
        for _ in range(count):
            self.tick += INTERVAL
            self._wakes.set()
            await _turns()


async def _turns() -> None:
    """The loop gets to what can run."""
    loop = asyncio.get_running_loop()
    for _ in range(20):
        turned = loop.create_future()
        loop.call_soon(turned.set_result, None)
        await turned


@asynccontextmanager
async def asking(monkeypatch: pytest.MonkeyPatch, *prefixes: str, **options: Any) -> AsyncIterator[Stage]:
    """One that has just asked for the first time."""
    stage = Stage(monkeypatch, **options)
    stage.inspector.start(prefixes or ("",))
    await _turns()
    try:
        yield stage
    finally:
        await stage.inspector.close()


# -- turns ------------------------------------------------------------------------------------------------------


async def test_methods_take_turns_one_in_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        assert stage.mailbox.methods == [Method.QUEUES]
        await stage.rounds(5)
    assert stage.mailbox.methods == [
        *(Method.QUEUES, Method.STATS, Method.RESERVED, Method.ACTIVE, Method.REGISTERED),
        Method.QUEUES,
    ]
    assert set(stage.slept) == {INTERVAL}


async def test_workers_are_told_to_send_events_only_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    for wanted in (True, False):
        async with asking(monkeypatch, enable_events=wanted) as stage:
            await stage.rounds(2 * len(TURNS))
        assert (Method.ENABLE_EVENTS in stage.mailbox.methods) is wanted


async def test_what_runs_is_not_asked_where_events_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        stage.workers.connected(-1000)
        for _ in range(len(TURNS)):
            stage.workers.take(event("worker-heartbeat", worker="celery@one", freq=60.0, active=0), START, stage.tick)
            await stage.rounds(1)
    assert Method.ACTIVE not in stage.mailbox.methods


async def test_who_came_since_is_asked_for_queues_first_but_not_twice_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        for number in range(6):
            stage.workers.take(event("worker-online", worker=f"celery@{number}", active=0), START, stage.tick)
            await stage.rounds(1)
    assert stage.mailbox.methods[1::2] == [Method.STATS, Method.RESERVED, Method.ACTIVE]
    assert stage.mailbox.methods[0::2] == [Method.QUEUES] * 4


async def test_who_came_while_queues_were_asked_for_is_asked_at_the_next_turn_but_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with asking(monkeypatch) as stage:
        await stage.rounds(len(TURNS) - 2)

        def comes() -> None:
            stage.mailbox.takes = lambda: None
            stage.workers.take(event("worker-online", worker="celery@new", active=0), START, stage.tick)

        stage.mailbox.takes = comes
        await stage.rounds(4)
    assert stage.mailbox.methods[-4:] == [Method.QUEUES, Method.STATS, Method.QUEUES, Method.RESERVED]


async def test_queues_are_not_asked_for_twice_in_a_row_where_workers_were_heard_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(monkeypatch)
    stage.workers.take(event("worker-online", worker="celery@one", active=0), START, stage.tick)
    stage.inspector.start({""})
    await _turns()
    await stage.rounds(1)
    await stage.inspector.close()
    assert stage.mailbox.methods == [Method.QUEUES, Method.STATS]


async def test_who_came_is_asked_for_again_where_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        await stage.rounds(1)
        stage.workers.take(event("worker-online", worker="celery@new", active=0), START, stage.tick)
        stage.mailbox.fails = BrokerError("gone")
        await stage.rounds(2)
        stage.mailbox.fails = None
        await stage.rounds(2)
    assert stage.mailbox.methods[2:] == [Method.QUEUES, Method.RESERVED, Method.QUEUES, Method.ACTIVE]


async def test_a_new_queue_is_asked_for_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        stage.workers.note_queues(["celery"], stage.tick)
        await stage.rounds(1)
        stage.workers.note_queues(["celery", "late"], stage.tick)
        assert consumers(stage.workers, "late", stage.tick) is None
        await stage.rounds(1)
        staff = consumers(stage.workers, "late", stage.tick)
        assert staff is not None
        assert staff.workers == 0
    assert stage.mailbox.methods == [Method.QUEUES, Method.STATS, Method.QUEUES]


async def test_an_interval_is_from_question_to_question(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:

        def takes() -> None:
            stage.tick += 1

        stage.mailbox.takes = takes
        await stage.rounds(2)
    assert stage.slept == [INTERVAL, INTERVAL - 1, INTERVAL - 1]


async def test_one_question_under_each_key_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch, "b:", "") as stage:
        assert stage.mailbox.asked == [("", Method.QUEUES), ("b:", Method.QUEUES)]


async def test_nobody_is_asked_where_celery_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.inspector.start(())
    await _turns()
    stage.inspector.start(("",))
    await _turns()
    assert stage.workers.look(stage.tick).is_whole
    stage.inspector.start(())
    await stage.rounds(4)
    assert len(stage.mailbox.asked) == 1
    assert not stage.workers.look(stage.tick).is_whole
    await stage.inspector.close()


async def test_a_closed_one_asks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        pass
    await stage.rounds(2)
    assert len(stage.mailbox.asked) == 1


# -- answers and failures ---------------------------------------------------------------------------------------


async def test_answers_go_to_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch, "shop:") as stage:
        assert stage.workers.look(stage.tick).consumed() == {"shop:celery"}
        assert stage.workers.look(stage.tick).is_whole
    async with asking(monkeypatch, "shop:", global_keyprefix="shop:") as stage:
        assert stage.workers.look(stage.tick).consumed() == {"celery"}


async def test_an_answer_outlives_the_turns_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        for _ in range(3 * len(TURNS)):
            await stage.rounds(1)
            assert stage.workers.only_queue("celery@one") == "celery"
            assert consumers(stage.workers, "celery", stage.tick) is not None


@pytest.mark.parametrize("failure", [BrokerError("NOPERM 'sadd'"), RuntimeError("NOPERM 'sadd'")])
async def test_what_fails_is_told_until_it_succeeds(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    async with asking(monkeypatch) as stage:
        assert not stage.inspector.problems
        stage.mailbox.fails = failure
        await stage.rounds(1)
        (problem,) = stage.inspector.problems
        assert problem.startswith("inspect: ")
        assert problem.endswith("NOPERM 'sadd'")
        stage.mailbox.fails = None
        await stage.rounds(1)
        assert not stage.inspector.problems


async def test_rounds_that_fail_are_no_silence_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        stage.mailbox.fails = BrokerError("gone")
        await stage.rounds(3)
        states = stage.workers.look(stage.tick).states()
        assert [worker.up for worker in states or ()] == [True]
        await stage.rounds(1)
        assert stage.workers.look(stage.tick + INTERVAL).states() is None


async def test_an_answer_is_believed_until_it_would_have_been_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        believed = 2 * (len(TURNS) - 1) * INTERVAL
        for stage.tick in (believed, believed + INTERVAL):
            stage.workers.take(event("worker-heartbeat", worker="celery@one", active=0), START, stage.tick)
            assert stage.workers.look(stage.tick).consumed() == ({"celery"} if stage.tick == believed else set())


async def test_a_listener_that_does_not_answer_leaves_the_workers_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        assert stage.workers.look(stage.tick).is_whole
        stage.mailbox.listening = 2
        await stage.rounds(1)
        assert not stage.workers.look(stage.tick).is_whole


async def test_more_key_prefixes_than_are_asked_leave_the_workers_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes = [f"{number:03}:" for number in range(MOST_PREFIXES + 1)]
    async with asking(monkeypatch, *prefixes) as stage:
        assert len(stage.mailbox.asked) == MOST_PREFIXES
        assert not stage.workers.look(stage.tick).is_whole
        stage.inspector.start(prefixes[:-1])
        assert stage.workers.look(stage.tick).is_whole


@pytest.mark.parametrize("off", ["inspect", "events"])
def test_workers_cannot_be_told_to_send_events_where_nobody_tells_or_listens(off: str) -> None:
    wanted = f"enable_events: found true with {off}: false, wanted {off}: true"
    with pytest.raises(msgspec.ValidationError, match=wanted):
        msgspec.convert({"enable_events": True, off: False}, CeleryOptions)


async def test_answers_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asking(monkeypatch) as stage:
        stage.mailbox.unreadable = 2
        await stage.rounds(1)
        assert stage.inspector.problems == ("inspect: 2 not read: why",)


# -- in an observation ------------------------------------------------------------------------------------------


async def seen_when(celery: Celery, condition: Callable[[Observation], object]) -> Observation:
    """The first observation that meets the condition."""
    async with asyncio.timeout(20):
        while not condition(seen := await celery.observe()):  # noqa: ASYNC110  only looking tells
            await asyncio.sleep(0.02)
    return seen


def staff_of(found: QueueState) -> tuple[int | None, int | None, int | None]:
    return found.workers, found.slots, found.busy_slots


async def test_an_observation_has_the_workers_of_each_queue(redis_server: RedisServer, clock: Clock) -> None:
    answers = {"a@h": QUIET, "b@h": QUIET | {"active_queues": [{"name": "celery"}, {"name": "b"}]}}
    options: dict[str, Any] = {"events": False, "inspect_interval": 1.0, "discover": False}
    with answering(redis_server, answers):
        async with watching(Celery, redis_server, clock, "celery", "b", "idle", **options) as celery:
            first = await celery.observe()
            assert (first.workers, first.all_workers) == (None, False)
            assert staff_of(state(first, "idle")) == (None, None, None)
            seen = await seen_when(celery, lambda seen: state(seen, "celery").slots is not None)
    assert staff_of(state(seen, "celery"))[:2] == (2, 8)
    assert staff_of(state(seen, "b"))[:2] == (1, 4)
    assert staff_of(state(seen, "idle")) == (0, 0, 0)
    assert {worker.worker: worker.up for worker in seen.workers or ()} == {"a@h": True, "b@h": True}
    assert seen.all_workers
    assert not seen.problems


async def test_a_redis_of_others_gets_no_question(redis_server: RedisServer, client: redis.Redis, clock: Clock) -> None:
    client.zadd("arq:queue", {"job": 1})
    with listening(client) as heard:
        async with watching(Celery, redis_server, clock) as celery:
            for _ in range(3):
                await celery.observe()
            await asyncio.sleep(0.1)
            assert heard == []
            client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
            await seen_when(celery, lambda _: heard)
    assert list(client.scan_iter("_kombu.binding.reply*")) == []


async def test_without_inspect_nothing_is_written(redis_server: RedisServer, client: redis.Redis, clock: Clock) -> None:
    client.lpush("celery", "job")
    for inspect in (True, False):
        client.config_resetstat()
        with answering(redis_server, {"a@h": QUIET}, priority_steps=[0]):
            before = commands(client)
            async with watching(
                Celery, redis_server, clock, "celery", discover=False, inspect=inspect, inspect_interval=1.0
            ) as celery:
                if inspect:
                    await seen_when(celery, lambda seen: "publish" in commands(client))
                else:
                    for _ in range(3):
                        await celery.observe()
            written = (commands(client) - before) & {"publish", "sadd", "srem", "del", "lpush", "pexpire", "lpop"}
            assert bool(written) is inspect


def commands(client: redis.Redis) -> set[str]:
    """Those that were run since the numbers were reset."""
    return {name.removeprefix("cmdstat_") for name in client.info("commandstats")}  # type: ignore[union-attr]


@contextmanager
def listening(client: redis.Redis) -> Iterator[list[str]]:
    """Gathers the questions to workers."""
    heard: list[str] = []
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            message = pubsub.get_message(timeout=0.05)
            if message is not None and message["type"] == "pmessage":
                heard.append(message["channel"].decode())

    pubsub = client.pubsub()  # type: ignore[no-untyped-call]
    pubsub.psubscribe("*.pidbox")
    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        pubsub.close()


async def test_a_denied_right_is_told_with_its_feature(
    redis_server: RedisServer, client: redis.Redis, clock: Clock
) -> None:
    client.execute_command("ACL", "SETUSER", "default", "-publish")  # type: ignore[no-untyped-call]
    async with watching(Celery, redis_server, clock, "celery", discover=False) as celery:
        seen = await seen_when(celery, lambda seen: seen.problems)
    (problem,) = seen.problems
    assert problem.startswith("inspect: NoPermissionError: ")
    assert "publish" in problem.lower()
    assert [queue.queue for queue in seen.queues] == ["celery"]


async def test_key_prefixes_in_use_are_asked_and_no_others(
    redis_server: RedisServer, client: redis.Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Discovery, "INTERVAL", 0.05)
    client.sadd("shop:_kombu.binding.mail", "mail\x06\x16\x06\x16mail")
    with listening(client) as heard, answering(redis_server, {"a@h": QUIET}, global_keyprefix="shop:") as asked:
        async with watching(Celery, redis_server, clock, inspect_interval=1.0) as celery:
            seen = await seen_when(celery, lambda _: len(heard) > 1)
    assert {*heard} == {"shop:/0.celery.pidbox"}
    assert asked["a@h"][:1] == ["active_queues"]
    assert "shop:mail" in {queue.queue for queue in seen.queues}
