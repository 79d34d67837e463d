"""Reading Celery's events: what is good is read, what is not is counted, and nothing is run or raised."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import Unreadable
from exporter.systems.celery.events.frames import (
    LARGEST_MESSAGE,
    LARGEST_ODD,
    LONGEST_NAME,
    MOST_EVENTS,
    count_events,
    read_frame,
)
from tests.systems.celery_frames import envelope, fields, frame, raw_frame

EXPLODED: list[str] = []


def explode() -> None:
    """What a pickle below calls."""
    EXPLODED.append("run")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return explode, ()


SENT = fields("task-sent", queue="mail", name="shop.charge", retries=0, args="(1,)")
STARTED = fields("task-started")


def test_one_event_and_a_list_of_them_are_read() -> None:
    (sent,) = read_frame(frame(SENT)).events
    assert (sent.type, sent.uuid, sent.queue, sent.name, sent.retries) == ("task-sent", "a", "mail", "shop.charge", 0)
    assert [event.type for event in read_frame(frame([SENT, STARTED])).events] == ["task-sent", "task-started"]


@pytest.mark.parametrize("properties", [{}, {"body_encoding": None}, {"body_encoding": "utf-8"}])
def test_a_body_may_be_plain_text(properties: dict[str, Any]) -> None:
    assert len(read_frame(envelope(json.dumps([SENT]), properties=properties)).events) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"content-type": "application/x-msgpack", "content-encoding": "binary"},
        {"content-type": "application/x-python-serialize", "content-encoding": "binary"},
        {"content-type": "application/x-yaml"},
        {"content-type": None},
        {"headers": {"compression": "application/x-gzip"}},
        {"properties": {"body_encoding": "rot13"}},
    ],
)
def test_what_is_no_plain_json_is_not_opened(changes: dict[str, Any]) -> None:
    read = read_frame(raw_frame(pickle.dumps(Bomb()), **changes))
    assert (read.events, read.unreadable, EXPLODED) == ([], {Unreadable.ENCODING: 1}, [])


@pytest.mark.parametrize("bad", ["NaN", "-Infinity", '"\\udcff"'])
def test_what_only_the_standard_library_reads_costs_no_event(bad: str) -> None:
    body = json.dumps([SENT, STARTED]).replace('"(1,)"', bad)
    read = read_frame(raw_frame(body.encode()))
    assert ([event.type for event in read.events], read.unreadable) == (["task-sent", "task-started"], {})


@pytest.mark.parametrize(
    "bad", [{"runtime": "fast"}, {"uuid": None}, {"timestamp": None}, {"retries": 1.5}, {"type": 3}, {"hostname": []}]
)
def test_only_the_bad_event_of_a_list_is_lost(bad: dict[str, Any]) -> None:
    read = read_frame(frame([SENT, STARTED | bad, STARTED, "no event"]))
    assert [event.type for event in read.events] == ["task-sent", "task-started"]
    assert read.unreadable == {Unreadable.MALFORMED: 2}


@pytest.mark.parametrize("field", ["uuid", "hostname", "name", "queue", "exchange", "routing_key", "sw_ver"])
def test_a_name_that_is_no_text_costs_its_event_alone(field: str) -> None:
    read = read_frame(frame([SENT | {field: "\ud800"}, STARTED]))
    assert ([event.type for event in read.events], read.unreadable) == (["task-started"], {Unreadable.MALFORMED: 1})


def test_a_queue_whose_name_is_no_utf8_is_one_all_the_same() -> None:
    (sent,) = read_frame(frame([SENT | {"queue": "\udcff"}])).events
    assert (sent.queue or "").encode("utf-8", "surrogateescape") == b"\xff"


def test_a_name_too_long_to_remember_is_out_of_bounds() -> None:
    read = read_frame(frame([STARTED, SENT | {"name": "x" * (LONGEST_NAME + 1)}]))
    assert (len(read.events), read.unreadable) == (1, {Unreadable.BOUNDS: 1})


@pytest.mark.parametrize("depth", [20_000, 100_000])
def test_deep_nesting_is_out_of_bounds(depth: int) -> None:
    nested = b'[{"type": "task-sent", "uuid": "a"}, {"type": "x", "args": ' + b"[" * depth + b"]" * depth + b"}]"
    assert read_frame(raw_frame(nested)).unreadable == {Unreadable.BOUNDS: 2}
    deep = read_frame(b'{"body": ' + b"[" * depth + b"]" * depth + b"}")
    assert (deep.events, deep.unreadable) == ([], {Unreadable.BOUNDS: 1})


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"[]", b"null", b'"text"', b"\xff", envelope("no base64!"), envelope("é"), envelope(""), frame(3)],
)
def test_what_is_no_message_of_events_is_malformed(payload: bytes) -> None:
    assert read_frame(payload).unreadable == {Unreadable.MALFORMED: 1}


@pytest.mark.parametrize("digits", [10, 400, 5000])
@pytest.mark.parametrize("field", ["active", "retries", "pid", "freq", "runtime", "timestamp"])
def test_no_number_is_too_large_to_reckon_with(field: str, digits: int) -> None:
    body = json.dumps([STARTED, STARTED | {field: "@"}]).replace('"@"', "9" * digits)
    read = read_frame(raw_frame(body.encode()))
    assert len(read.events) + sum(read.unreadable.values()) == 2 or digits > 4000
    for event in read.events:
        assert all(math.isfinite(float(getattr(event, name) or 0)) for name in ("active", "retries", "pid", "freq"))
    if field in ("active", "retries") and digits < 4000:
        assert read.unreadable == {Unreadable.MALFORMED: 1}


@pytest.mark.parametrize("bad", ["", "7, ", '{"type": "x", "uuid": "\\udcff"}, '])
def test_what_is_beyond_so_many_events_in_a_message_is_out_of_bounds(bad: str) -> None:
    events = ", ".join(['{"type": "x"}'] * (MOST_EVENTS + 5))
    read = read_frame(raw_frame(f"[{bad}{events}]".encode()))
    assert len(read.events) + read.unreadable.get(Unreadable.MALFORMED, 0) == MOST_EVENTS
    assert read.unreadable[Unreadable.BOUNDS] == (6 if bad else 5)


def test_a_message_too_large_to_read_is_out_of_bounds() -> None:
    read = read_frame(frame(SENT | {"args": "x" * LARGEST_MESSAGE}))
    assert (read.events, read.unreadable) == ([], {Unreadable.BOUNDS: 1})


def test_what_only_the_standard_library_reads_may_be_less_large() -> None:
    large = SENT | {"args": "x" * LARGEST_ODD}
    assert len(read_frame(frame([large, STARTED])).events) == 2
    assert read_frame(frame([large, STARTED | {"runtime": math.nan}])).unreadable == {Unreadable.BOUNDS: 2}
    assert read_frame(b"[" + b"[], " * LARGEST_ODD).unreadable == {Unreadable.BOUNDS: 1}


def test_a_number_too_long_for_python_is_malformed() -> None:
    body = json.dumps([SENT, STARTED]).replace('"retries": 0', '"retries": 1' + "0" * 5000)
    assert sum(read_frame(raw_frame(body.encode())).unreadable.values()) in (1, 2)


def test_events_are_counted_without_being_read() -> None:
    assert count_events(frame(SENT)) == 1
    tricky = SENT | {"args": '{"type": 1}', "kwargs": "{'type': 2}"}
    assert count_events(frame([tricky] * 24)) == 24
    assert count_events(b"nothing at all") == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["uuid", "type", "timestamp", "name", "queue", "retries", "eta", "runtime", "freq", "active"])


@settings(max_examples=500, deadline=None)
@given(st.lists(st.dictionaries(FIELDS, JSON, max_size=4), max_size=6))
def test_every_event_is_read_or_counted(changes: list[dict[str, Any]]) -> None:
    read = read_frame(frame([STARTED | change for change in changes]))
    assert len(read.events) + sum(read.unreadable.values()) == len(changes)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_nothing_is_raised_by_damaged_messages(data: st.DataObject) -> None:
    message = bytearray(data.draw(st.sampled_from([frame([SENT, STARTED]), envelope(json.dumps([SENT]))])))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(message) - 1))
        message[place : place + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    read = read_frame(bytes(message))
    assert len(read.events) + sum(read.unreadable.values()) >= 1 or not read.unreadable
    assert count_events(bytes(message)) >= 1


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_nothing_is_raised_by_any_bytes(body: bytes) -> None:
    read_frame(body)
    read_frame(raw_frame(body))
    count_events(raw_frame(body))
