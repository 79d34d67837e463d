"""What Celery's kept results tell, as its own backend writes them, and what is never opened."""

from __future__ import annotations

import json
import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any

import celery as celery_library
import msgspec
import pytest
import redis
from celery.app.task import Context
from hypothesis import given
from hypothesis import strategies as st

from exporter.brokers.access import Access
from exporter.brokers.address import parse_address
from exporter.brokers.errors import BrokerError
from exporter.brokers.pulls import Pulls
from exporter.model import Outcome, Unreadable
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.layout import result_pattern
from exporter.systems.celery.results import results as module
from exporter.systems.celery.results.metas import Result, read_result
from exporter.systems.celery.results.results import Results
from tests.servers import RedisServer
from tests.systems.observing import START

JSON = ("json",)
BOTH = ("json", "msgpack")
DONE = "2023-11-14T22:13:20+00:00"  # START


def meta(**changes: Any) -> dict[str, Any]:
    """A result as `_get_result_meta` makes it."""
    usual = {"status": "SUCCESS", "result": 1, "traceback": None, "children": [], "date_done": DONE, "task_id": "a"}
    return usual | changes


def failure(exc_type: str = "ValueError", **changes: Any) -> dict[str, Any]:
    raised = {"exc_type": exc_type, "exc_message": ["no"], "exc_module": "builtins"}
    return meta(status="FAILURE", result=raised, traceback="Traceback ...") | changes


def revoked(reason: str, **changes: Any) -> dict[str, Any]:
    raised = {"exc_type": "TaskRevokedError", "exc_message": [reason], "exc_module": "celery.exceptions"}
    return meta(status="REVOKED", result=raised, **changes)


def read(document: object, accepted: tuple[str, ...] = JSON) -> Result | Unreadable | None:
    return read_result("a", json.dumps(document).encode(), accepted)


# -- one result -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "outcome", "exception"),
    [
        (meta(), Outcome.SUCCEEDED, None),
        (meta(result={"exc_type": "no error"}), Outcome.SUCCEEDED, None),
        (failure(), Outcome.FAILED, "ValueError"),
        (failure("Shop.Refused"), Outcome.FAILED, "Refused"),
        (failure("make.<locals>.Refused"), Outcome.FAILED, "Refused"),
        (failure("<odd>"), Outcome.FAILED, UNKNOWN),
        (failure(result="set by hand"), Outcome.FAILED, UNKNOWN),
        (failure("NotRegistered", traceback=None), Outcome.NOT_FOUND, None),
        (revoked("expired"), Outcome.EXPIRED, None),
        (revoked("revoked"), Outcome.ABORTED, None),
        (revoked("terminated"), Outcome.ABORTED, None),
    ],
)
def test_how_a_job_ended(document: dict[str, Any], outcome: Outcome, exception: str | None) -> None:
    assert read(document) == Result("a", START, outcome, exception)


@pytest.mark.parametrize("status", ["PENDING", "RECEIVED", "STARTED", "RETRY", "PROGRESS", ""])
def test_a_job_that_has_not_ended(status: str) -> None:
    assert read(meta(status=status, date_done=None)) is None


def test_an_extended_result_names_its_job() -> None:
    extended = meta(name="charge", worker="celery@one", queue="mail", retries=2, args=[1], kwargs={})
    wanted = Result("a", START, Outcome.SUCCEEDED, None, "charge", "mail", "celery@one", 2)
    assert read(extended) == wanted


@pytest.mark.parametrize("written", [DONE, "2023-11-15T07:13:20+09:00", "2023-11-14T22:13:20", "2023-11-14T22:13:20Z"])
def test_when_it_ended_whatever_the_time_zone(written: str) -> None:
    found = read(meta(date_done=written))
    assert isinstance(found, Result)
    assert found.at == START


def test_jobs_behind_a_failure_in_a_chain_never_ran() -> None:
    extended: dict[str, Any] = {"name": "charge", "worker": None, "queue": None, "retries": 0}
    assert read(failure(**extended)) is None
    assert read(failure("NotRegistered", **extended | {"name": None})) is not None


@pytest.mark.parametrize(
    ("document", "doubtful"),
    [
        (failure("ChordError"), True),
        (failure("ChordError", name="charge", worker="w"), False),
        (failure("ValueError", traceback=None), True),
        (failure("WorkerLostError", traceback=None), False),
        (failure(), False),
        (revoked("revoked"), False),
    ],
)
def test_what_may_never_have_run_is_told_as_such(document: dict[str, Any], doubtful: bool) -> None:
    found = read(document)
    assert isinstance(found, Result)
    assert found.doubtful is doubtful


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (pickle.dumps(meta()), Unreadable.ENCODING),
        (msgspec.msgpack.encode(meta()), Unreadable.ENCODING),
        (b"\x00celery-compressed\x00application/x-gzip\x00...", Unreadable.ENCODING),  # celery 5.7
        (b"status: SUCCESS\n", Unreadable.ENCODING),  # YAML
        (b"{", Unreadable.MALFORMED),
        (b'{"status": 1}', Unreadable.MALFORMED),
        (json.dumps(meta(task_id="b")).encode(), Unreadable.MALFORMED),
        (json.dumps(meta(date_done=None)).encode(), Unreadable.MALFORMED),
        (json.dumps(meta(date_done="soon")).encode(), Unreadable.MALFORMED),
        (json.dumps(meta(date_done=5)).encode(), Unreadable.MALFORMED),
        (b'{"status": ' + b"[" * 200_000, Unreadable.BOUNDS),
        (json.dumps(meta(result=[float("nan"), "x" * 600_000])).encode(), Unreadable.BOUNDS),
    ],
)
def test_what_cannot_be_read(value: bytes, reason: Unreadable) -> None:
    assert read_result("a", value, JSON) is reason


def test_msgpack_is_read_where_it_is_accepted() -> None:
    assert read_result("a", msgspec.msgpack.encode(failure()), BOTH) == read(failure())
    assert read_result("a", msgspec.msgpack.encode(revoked("expired")), ("msgpack",)) == read(revoked("expired"))
    assert read_result("a", json.dumps(meta()).encode(), ("msgpack",)) is Unreadable.ENCODING


@pytest.mark.parametrize("odd", [float("nan"), "\udcff"])
@pytest.mark.parametrize("make", [meta, failure, lambda **more: revoked("expired", **more)])
def test_odd_values_in_what_a_job_gave_back_spoil_nothing(odd: object, make: Callable[..., dict[str, Any]]) -> None:
    assert read(make(children=[odd])) == read(make())
    assert read(meta(result=odd)) == read(meta())


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    for start in (b"", b"{", b"\x86", b'{"status": "SUCCESS", "task_id": "a", '):
        assert isinstance(read_result("a", start + value, BOTH), Result | Unreadable | None)


_ANY = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda more: st.lists(more), max_leaves=5)


@given(st.dictionaries(st.sampled_from([*meta(), "name", "worker", "queue", "retries"]), _ANY))
def test_any_document_is_read_or_refused(changes: dict[str, Any]) -> None:
    for make in (meta, failure):
        assert isinstance(read(make() | changes), Result | Unreadable | None)


# -- as celery writes them --------------------------------------------------------------------------------------


@pytest.fixture
def client(redis_server: RedisServer) -> redis.Redis:
    return redis_server.client()


@pytest.fixture
async def pulls(redis_server: RedisServer) -> AsyncIterator[Pulls]:
    pulls = Pulls(Access(parse_address(redis_server.url())))
    yield pulls
    await pulls.close()


async def walked(results: Results) -> dict[str, Result]:
    return {result.job_id: result async for result in results.walk()}


@pytest.mark.parametrize(
    "settings",
    [{}, {"timezone": "Asia/Tokyo"}, {"timezone": "America/New_York", "enable_utc": False}, {"result_extended": True}],
)
async def test_results_are_written_as_the_tests_have_them(
    redis_server: RedisServer, pulls: Pulls, settings: dict[str, Any]
) -> None:
    app = celery_library.Celery(backend=redis_server.url(), set_as_current=False)
    app.conf.update(settings)
    request = Context(id="a", task="charge", hostname="celery@one", delivery_info={"routing_key": "mail"}, retries=1)
    before = celery_library.Celery().now().timestamp()
    app.backend.mark_as_done("a", 1, request)
    app.backend.mark_as_failure("b", KeyError("x"), "Traceback", request)
    app.backend.mark_as_revoked("c", "expired", request)
    app.backend.mark_as_retry("d", ValueError(), request=request)
    app.backend.mark_as_started("e")
    app.close()
    found = await walked(Results(pulls, JSON))
    outcomes = {name: (one.outcome, one.exception) for name, one in found.items()}
    assert outcomes == {
        "a": (Outcome.SUCCEEDED, None),
        "b": (Outcome.FAILED, "KeyError"),
        "c": (Outcome.EXPIRED, None),
    }
    assert all(0 <= one.at - before < 10 for one in found.values())
    named = ("charge", "mail", "celery@one", 1) if settings.get("result_extended") else (None,) * 4
    assert {(one.name, one.queue, one.worker, one.retries) for one in found.values()} == {named}


@pytest.mark.parametrize(("serializer", "read"), [("msgpack", True), ("pickle", False), ("yaml", False)])
async def test_other_serializers_of_celery(
    redis_server: RedisServer, pulls: Pulls, serializer: str, read: bool
) -> None:
    app = celery_library.Celery(backend=redis_server.url(), set_as_current=False)
    app.conf.update(result_serializer=serializer, accept_content=[serializer])
    app.backend.mark_as_done("a", 1, None)
    app.close()
    results = Results(pulls, BOTH)
    assert bool(await walked(results)) is read
    assert results.unreadable == ({} if read else {Unreadable.ENCODING: 1})


@pytest.mark.parametrize("prefix", ["shop", "shop:", "s*[x]_"])
async def test_a_prefix_stands_before_results(redis_server: RedisServer, pulls: Pulls, prefix: str) -> None:
    app = celery_library.Celery(backend=redis_server.url(), set_as_current=False)
    app.conf.update(result_backend_transport_options={"global_keyprefix": prefix})
    app.backend.mark_as_done("a", 1, None)
    app.close()
    redis_server.client().set("other:celery-task-meta-b", json.dumps(meta(task_id="b")))
    assert set(await walked(Results(pulls, JSON, prefix))) == {"a"}
    assert set(await walked(Results(pulls, JSON))) == {"a", "b"}


# -- all of them ------------------------------------------------------------------------------------------------


def stand(client: redis.Redis, name: str, document: object) -> None:
    client.set(f"celery-task-meta-{name}", json.dumps(document))


async def test_what_else_stands_there_is_passed_over(client: redis.Redis, pulls: Pulls) -> None:
    stand(client, "a", meta())
    client.set("celery-taskset-meta-b", json.dumps({"result": []}))
    client.lpush("celery-task-meta-c", "no string")
    client.set("celery-task-meta-" + "x" * 2000, "{}")
    results = Results(pulls, JSON)
    assert set(await walked(results)) == {"a"}
    assert results.unreadable == {Unreadable.BOUNDS: 1}


async def test_large_results_are_read_alone_up_to_a_bound(
    client: redis.Redis, pulls: Pulls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 1 << 18)
    stand(client, "a", meta(result="x" * (1 << 17)))
    stand(client, "b", meta(result="x" * (1 << 20), task_id="b"))
    results = Results(pulls, JSON)
    assert set(await walked(results)) == {"a"}
    assert results.unreadable == {Unreadable.BOUNDS: 1}


async def test_a_page_of_large_results_is_no_reply_too_large(client: redis.Redis, pulls: Pulls) -> None:
    for number in range(2 * module.PAGE):
        stand(client, str(number), meta(result="x" * (module.HEAD_BYTES + 1), task_id=str(number)))
    assert len(await walked(Results(pulls, JSON))) == 2 * module.PAGE


async def test_what_cannot_be_read_is_counted_once_however_often_it_is_met(client: redis.Redis, pulls: Pulls) -> None:
    client.set("celery-task-meta-a", pickle.dumps({}))
    results = Results(pulls, JSON)
    for _ in range(2):
        await walked(results)
    assert results.unreadable == {Unreadable.ENCODING: 1}


@pytest.mark.parametrize("prefix", [None, "shop", "s*[x]_"])
@pytest.mark.parametrize("right", ["+scan", "+getrange", None])
async def test_a_right_that_is_missing_is_told_before_results_are_needed(
    redis_server: RedisServer, right: str | None, prefix: str | None
) -> None:
    commands = [one for one in ("+scan", "+getrange", "+client|setname") if one != right]
    redis_server.client().acl_setuser(
        "narrow", enabled=True, passwords=["+secret"], commands=commands, keys=[result_pattern(prefix)], reset=True
    )
    address = parse_address(redis_server.url().replace("redis://", "redis://narrow:secret@"))
    pulls = Pulls(Access(address))
    results = Results(pulls, JSON, prefix)
    if right is None:
        await results.try_out()
    else:
        with pytest.raises(BrokerError, match=right[1:]):
            await results.try_out()
    await pulls.close()
