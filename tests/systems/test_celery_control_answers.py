"""What workers answer, read."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.systems.celery.control.answers import (
    MOST_ITEMS,
    Active,
    ActiveJob,
    Alive,
    Answer,
    AnswerError,
    Consumes,
    Method,
    Registered,
    Reserved,
    Stats,
    read_answer,
)

# As celery 5.6 sends them, shortened.
PREFORK = {"implementation": "celery.concurrency.prefork:TaskPool", "max-concurrency": 2, "processes": [11, 12]}
THREADS = {"implementation": "celery.concurrency.thread:TaskPool", "max-concurrency": 3, "threads": 1}
SOLO = {"implementation": "celery.concurrency.solo:TaskPool", "max-concurrency": 1, "processes": [7], "timeouts": []}
GREEN = {"implementation": "celery.concurrency.eventlet:TaskPool", "max-concurrency": 500, "free-threads": 499}
JOB = {
    **{"id": "a", "name": "mail", "args": [], "kwargs": {}, "type": "mail", "hostname": "w", "worker_pid": 11},
    **{"time_start": 17.5, "acknowledged": True},
    "delivery_info": {"exchange": "", "routing_key": "celery", "priority": 0, "redelivered": False},
}


def read(method: Method, answer: object) -> Answer:
    return read_answer(method, json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("method", "answer", "wanted"),
    [
        (Method.QUEUES, [{"name": "a", "exchange": {"name": "a"}}, {"name": "b"}], Consumes(frozenset("ab"))),
        (Method.QUEUES, [], Consumes(frozenset())),
        (Method.REGISTERED, ["mail", "charge [rate_limit=10/s]"], Registered(2)),
        (Method.RESERVED, [{**JOB, "time_start": None, "worker_pid": None}], Reserved(frozenset("a"))),
        (Method.ACTIVE, [JOB], Active((ActiveJob("a", "mail", "", "celery", 17.5),))),
        (Method.ACTIVE, [{"id": "a"}], Active((ActiveJob("a", None, None, None, None),))),
        (Method.ENABLE_EVENTS, {"ok": "task events enabled"}, Alive()),
    ],
)
def test_an_answer_is_read(method: Method, answer: object, wanted: Answer) -> None:
    assert read(method, answer) == wanted


@pytest.mark.parametrize(
    ("stats", "slots"),
    [
        ({"pool": PREFORK}, 2),
        ({"pool": THREADS}, 3),
        ({"pool": SOLO}, 1),
        ({"pool": GREEN}, 500),
        ({"pool": PREFORK, "autoscaler": {"max": 5, "min": 2, "current": 2, "qty": 0}}, 5),
        ({"pool": PREFORK | {"processes": [11, 12, 13]}}, 3),  # after `pool_grow`
        ({"pool": PREFORK | {"processes": [11]}}, 1),  # after `pool_shrink`
        ({"pool": PREFORK | {"processes": []}}, 2),
        ({"pool": {"implementation": "mine:Pool"}}, None),
        ({"pool": None}, None),
        ({}, None),
    ],
)
def test_slots_are_what_the_pool_runs_at_once_at_most(stats: dict[str, Any], slots: int | None) -> None:
    pool = (stats.get("pool") or {}).get("implementation")
    assert read(Method.STATS, {"pid": 7, "total": {"mail": 3}, **stats}) == Stats(slots, 7, pool)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (Method.QUEUES, {"error": "KeyError('x')"}),
        (Method.QUEUES, [{"name": ""}]),
        (Method.QUEUES, [{"name": "q" * 513}]),
        (Method.STATS, {"pool": {"max-concurrency": -1}}),
        (Method.STATS, {"pool": {"max-concurrency": "2"}}),
        (Method.STATS, []),
        (Method.REGISTERED, ["x"] * (MOST_ITEMS + 1)),
        (Method.REGISTERED, None),
        (Method.RESERVED, [{"name": "no id"}]),
        (Method.ACTIVE, [{"id": "a", "delivery_info": "x"}]),
        (Method.ENABLE_EVENTS, {"error": "event dispatcher unavailable"}),
    ],
)
def test_what_is_no_answer_is_said_so(method: Method, answer: object) -> None:
    with pytest.raises(AnswerError, match=f"the answer to {method}: "):
        read(method, answer)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from(Method), st.binary() | _JSON.map(lambda value: json.dumps(value).encode()))
def test_anything_is_an_answer_or_none(method: Method, answer: bytes) -> None:
    with suppress(AnswerError):
        read_answer(method, answer)


def test_nesting_beyond_reason_is_no_answer() -> None:
    with pytest.raises(AnswerError):
        read_answer(Method.ACTIVE, b'[{"id": "a", "args": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]")
