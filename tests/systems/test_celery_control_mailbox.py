"""One question to all workers, in kombu's protocol, and what is left of it in Redis."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from exporter.brokers import bounded
from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import BrokerError
from exporter.brokers.pulls import Pulls
from exporter.systems.celery.control import mailbox as control
from exporter.systems.celery.control.answers import Method
from exporter.systems.celery.control.mailbox import Mailbox, Round
from exporter.systems.celery.control.messages import Reply, question, read_reply
from exporter.systems.celery.layout import PRIORITY_STEPS, SEPARATOR
from tests.servers import RedisServer
from tests.systems.celery_workers import QUIET, answering, as_json

BINDINGS = "_kombu.binding.reply.celery.pidbox"
CHANNEL = "/0.celery.pidbox"


@asynccontextmanager
async def opened(
    server: RedisServer, separator: str = SEPARATOR, steps: tuple[int, ...] = PRIORITY_STEPS, **more: Any
) -> AsyncIterator[Mailbox]:
    pulls = Pulls(Access(parse_address(server.url())))
    try:
        yield Mailbox(pulls, separator, steps, **more)
    finally:
        await pulls.close()


async def ask(mailbox: Mailbox, method: Method = Method.QUEUES, prefix: str = "") -> tuple[Round, dict[str, bytes]]:
    """The question asked, with the answers by worker."""
    replies: list[Reply] = []
    done = await mailbox.ask(prefix, method, replies.append)
    return done, {reply.worker: reply.answer for reply in replies}


def left(client: redis.Redis) -> dict[str, int]:
    """What is left of questions in Redis, and for how many seconds at most (-1: for ever)."""
    keys = [key.decode() for key in client.scan_iter("*reply.celery.pidbox*")]
    return {key: int(client.ttl(key)) for key in keys}  # type: ignore[arg-type]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.3)
    monkeypatch.setattr(control, "LATE", 0.2)


# -- asking -----------------------------------------------------------------------------------------------------


async def test_all_workers_answer_and_nobody_is_waited_for(redis_server: RedisServer) -> None:
    with answering(redis_server, {"a@h": QUIET, "b@h": QUIET}) as asked:
        async with opened(redis_server) as mailbox:
            began = time.monotonic()
            done, answers = await ask(mailbox)
    assert time.monotonic() - began < control.PATIENCE
    assert (done.listening, done.answers, done.unanswered == 0) == (2, 2, True)
    assert answers == dict.fromkeys(("a@h", "b@h"), as_json([{"name": "celery"}]))
    assert asked == {"a@h": ["active_queues"], "b@h": ["active_queues"]}


@pytest.mark.parametrize(
    "options",
    [
        {"global_keyprefix": "shop:"},
        {"sep": ":"},
        {"priority_steps": [1, 5]},  # then an answer, of priority 0, goes to the list of step 5
        {"priority_steps": [0, 5]},
        {"global_keyprefix": "{x}*", "sep": "|", "priority_steps": [2]},
    ],
)
async def test_transport_options_of_the_application(redis_server: RedisServer, options: dict[str, Any]) -> None:
    steps = tuple(options.get("priority_steps", PRIORITY_STEPS))
    with answering(redis_server, {"a@h": QUIET}, **options):
        async with opened(redis_server, options.get("sep", SEPARATOR), steps) as mailbox:
            done, answers = await ask(mailbox, prefix=options.get("global_keyprefix", ""))
    assert (done.unanswered == 0, list(answers)) == (True, ["a@h"])


async def test_nobody_there_is_an_answer_at_once(redis_server: RedisServer) -> None:
    async with opened(redis_server) as mailbox:
        began = time.monotonic()
        done, answers = await ask(mailbox)
    assert time.monotonic() - began < control.PATIENCE
    assert (done.listening, done.unanswered == 0, answers) == (0, True, {})


@pytest.mark.usefixtures("impatient")
async def test_one_that_does_not_answer_is_waited_for_no_longer_than_that(redis_server: RedisServer) -> None:
    with answering(redis_server, {"a@h": QUIET, "mute@h": {}}):
        async with opened(redis_server) as mailbox:
            began = time.monotonic()
            done, answers = await ask(mailbox)
    assert 0.3 <= time.monotonic() - began < 5
    assert (done.listening, done.answers, done.unanswered == 0, list(answers)) == (2, 1, False, ["a@h"])


async def test_two_that_ask_at_once_get_their_own_answers(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE", 10.0)
    with answering(redis_server, {"a@h": QUIET}):
        async with opened(redis_server) as one, opened(redis_server) as other:
            seen = await asyncio.gather(ask(one), ask(other, Method.STATS))
    assert [(done.answers, as_json(QUIET[method]) in answers.values()) for (done, answers), method in
            zip(seen, ("active_queues", "stats"), strict=True)] == [(1, True), (1, True)]  # fmt: skip


# -- formats ----------------------------------------------------------------------------------------------------


async def test_msgpack_is_read_where_it_is_accepted(redis_server: RedisServer) -> None:
    with answering(redis_server, {"a@h": QUIET}, serializer="msgpack", accept=("json", "msgpack")):
        async with opened(redis_server, accepted=("json", "msgpack")) as mailbox:
            _, answers = await ask(mailbox)
        async with opened(redis_server) as mailbox:
            refused, none = await ask(mailbox)
    assert json.loads(answers["a@h"]) == [{"name": "celery"}]
    assert (refused.unreadable, refused.unanswered == 0, none) == (1, False, {})
    assert "application/x-msgpack" in refused.reason


async def test_an_application_that_accepts_no_json_is_asked_in_msgpack(redis_server: RedisServer) -> None:
    with answering(redis_server, {"a@h": QUIET}, serializer="msgpack", accept=("msgpack",)):
        async with opened(redis_server, accepted=("msgpack",)) as mailbox:
            done, _ = await ask(mailbox)
    assert (done.unanswered == 0, done.answers) == (True, 1)


async def test_a_pickle_is_never_opened(redis_server: RedisServer) -> None:
    with answering(redis_server, {"a@h": QUIET}, serializer="pickle"):
        async with opened(redis_server) as mailbox:
            done, answers = await ask(mailbox)
    assert (done.unreadable, answers) == (1, {})
    assert "pickle" in done.reason or "python-serialize" in done.reason


def message(answers: object, ticket: str = "t", **changes: Any) -> bytes:
    text = base64.b64encode(json.dumps(answers).encode()).decode()
    whole = {
        "body": text,
        "content-type": "application/json",
        "headers": {"ticket": ticket, "clock": 3},
        "properties": {"body_encoding": "base64"},
    }
    return json.dumps(whole | changes).encode()


def test_an_answer_to_another_question_is_none() -> None:
    assert read_reply(message({"a@h": []}), "t", ("json",)) == Reply("a@h", b"[]")
    assert read_reply(message({"a@h": []}, "other"), "t", ("json",)) is None


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        message([]),
        message({}),
        message({"a": 1, "b": 2}),
        message({"": 1}),
        message({"w" * 513: 1}),
        message({"a": 1}, body="not base64!"),
        message({"a": 1}, headers={"ticket": "t"}, **{"content-type": "application/x-yaml"}),
        message({"a": 1}, headers={"ticket": "t", "compression": "zlib"}),
        message({"a": "x" * (4 << 20)}),
    ],
)
def test_a_broken_answer_is_said_to_be(bad: bytes) -> None:
    with pytest.raises(ValueError, match="an answer "):
        read_reply(bad, "t", ("json",))


# -- nothing is left --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
async def test_nothing_is_left_of_a_question(redis_server: RedisServer, client: redis.Redis) -> None:
    with answering(redis_server, {"a@h": QUIET, "mute@h": {}}):
        async with opened(redis_server) as mailbox:
            await ask(mailbox)
    assert not client.smembers(BINDINGS)
    assert all(0 <= seconds <= 1 for seconds in left(client).values())
    await gone(client)


async def test_nothing_is_left_when_who_asks_is_stopped(redis_server: RedisServer, client: redis.Redis) -> None:
    with answering(redis_server, {"mute@h": {}}) as asked:
        async with opened(redis_server) as mailbox:
            asking = asyncio.create_task(ask(mailbox))
            await until(lambda: asked["mute@h"])
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    assert not client.smembers(BINDINGS)
    assert all(0 <= seconds <= control.LATE for seconds in left(client).values())


async def test_nothing_lasts_for_ever_if_it_is_killed(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PATIENCE", 10.0)
    lasting: list[int] = []
    may_answer = threading.Event()

    def noting() -> list[object]:
        lasting.extend(left(client).values())
        may_answer.wait(10)
        return []

    slow = QUIET | {"active_queues": noting}
    with answering(redis_server, {"a@h": slow}):
        async with opened(redis_server) as mailbox:
            asking = asyncio.create_task(ask(mailbox))
            await until(lambda: lasting)
            # while answers are awaited, the list expires by itself; the set that names it is celery's own
            assert sorted(lasting)[0] == -1
            assert {seconds > 0 for key, seconds in left(client).items() if key != BINDINGS} == {True}
            may_answer.set()
            await asking


async def test_what_a_killed_one_left_goes_with_the_next(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given three that were killed amid a question, one of them just now
    dead = []
    for _ in range(3):
        async with opened(redis_server) as mailbox:
            dead.append(mailbox)
            await mailbox._open("")
    client.delete(*dead[0]._keys(""))  # expired
    client.delete(*dead[1]._keys(""))
    client.lpush(dead[1]._keys("")[0].decode(), "the answer of a worker that was busy for longer than the list lasted")
    other = b"of another\x06\x16\x06\x16of another.reply.celery.pidbox"
    client.sadd(BINDINGS, other)
    # when another asks
    async with opened(redis_server) as mailbox:
        await ask(mailbox)
        # then nothing is left but of the one that may live, and of others
        assert client.smembers(BINDINGS) == {dead[2]._binding("")[1], other}
        assert all(seconds > 0 for key, seconds in left(client).items() if key != BINDINGS)
        # and that goes once its list is gone
        client.delete(*dead[2]._keys(""))
        await ask(mailbox)
        assert client.scard(BINDINGS) == 2
        monkeypatch.setattr(control, "EVERY", 0.0)
        await ask(mailbox)
        assert client.scard(BINDINGS) == 1


def test_a_question_says_when_nobody_waits_for_answers_any_more() -> None:
    asked = json.loads(question(Method.QUEUES, "t", "us", 17.5, ("json",)))
    assert asked["headers"]["expires"] == 17.5


@pytest.mark.usefixtures("impatient")
async def test_a_late_answer_goes_too_and_is_none_to_the_next_question(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    may_answer = threading.Event()

    def slowly() -> object:
        may_answer.wait(10)
        return []

    with answering(redis_server, {"slow@h": QUIET | {"active_queues": slowly}}) as asked:
        async with opened(redis_server) as mailbox:
            done, _ = await ask(mailbox)
            assert (done.answers, done.unanswered == 0) == (0, False)
            # when its answer comes while the next one is awaited
            asking = asyncio.create_task(ask(mailbox, Method.STATS))
            await asyncio.sleep(0)
            may_answer.set()
            done, answers = await asking
            await until(lambda: asked["slow@h"] == ["active_queues", "stats"])
    assert answers in ({}, {"slow@h": as_json(QUIET["stats"])})
    await gone(client)


@pytest.mark.usefixtures("impatient")
async def test_an_answer_on_its_way_when_the_question_is_over_goes_too(
    redis_server: RedisServer, client: redis.Redis
) -> None:
    async with opened(redis_server) as mailbox:
        await ask(mailbox)
        key = mailbox._keys("")[0].decode()
        client.lpush(key, "from a worker that had looked for our list before")
        assert left(client)[key] >= 0
    await gone(client)


async def gone(client: redis.Redis) -> None:
    async with asyncio.timeout(10):
        while left(client):  # noqa: ASYNC110  keys tell nobody that they expire
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  workers tell nobody
            await asyncio.sleep(0.01)


# -- what may go wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("right", ["sscan", "sadd", "srem", "del", "lpush", "pexpire", "llen", "lpop", "publish"])
async def test_each_right_that_is_missing_is_named(redis_server: RedisServer, client: redis.Redis, right: str) -> None:
    client.acl_setuser("me", enabled=True, nopass=True, keys="*", channels="*", commands=["+@all", f"-{right}"])
    pulls = Pulls(Access(parse_address(redis_server.url().replace("redis://", "redis://me:x@"))))
    with answering(redis_server, {"a@h": QUIET}):
        try:
            with pytest.raises(BrokerError, match=f"(?i){right}"):
                await ask(Mailbox(pulls, SEPARATOR, PRIORITY_STEPS))
        finally:
            await pulls.close()


@pytest.mark.usefixtures("impatient")
async def test_an_answer_too_large_to_read_spoils_no_other(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "REPLY_BYTES", 100_000)
    large = QUIET | {"active_queues": ["x" * 200_000]}
    with answering(redis_server, {"a@h": QUIET, "large@h": large, "b@h": QUIET}):
        async with opened(redis_server) as mailbox:
            done, answers = await ask(mailbox)
    assert (sorted(answers), done.unreadable, done.unanswered == 0) == (["a@h", "b@h"], 1, False)
    assert "larger than" in done.reason


async def test_answers_beyond_reason_are_not_read(
    redis_server: RedisServer, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MOST_ANSWERS", 2)
    monkeypatch.setattr(control, "PATIENCE", 10.0)
    monkeypatch.setattr(control, "LATE", 0.2)
    with answering(redis_server, {f"{number}@h": QUIET for number in range(4)}):
        async with opened(redis_server) as mailbox:
            done, answers = await ask(mailbox)
    assert (len(answers), done.unanswered == 0) == (2, False)
    await gone(client)


async def test_a_broker_that_is_gone_is_said_to_be(redis_server: RedisServer) -> None:
    async with opened(redis_server) as mailbox:
        redis_server.stop()
        with pytest.raises(BrokerError):
            await ask(mailbox)
