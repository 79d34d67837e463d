"""Reading Celery's events in msgpack: as in JSON, where it is accepted, and within the same bounds."""

from __future__ import annotations

import math
import pickle
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import Unreadable
from exporter.systems.celery.control.messages import read_reply
from exporter.systems.celery.events.frames import (
    LARGEST_MESSAGE,
    LARGEST_ODD_PACKED,
    LONGEST_NAME,
    MOST_EVENTS,
    Frame,
    count_events,
    read_frame,
)
from tests.systems.celery_frames import envelope, fields, frame, packed_frame, raw_packed_frame

ACCEPTED = ("json", "msgpack")
SENT = fields("task-sent", queue="mail", name="shop.charge", retries=0, args="(1,)")
STARTED = fields("task-started")
MALFORMED, BOUNDS, ENCODING = Unreadable.MALFORMED, Unreadable.BOUNDS, Unreadable.ENCODING


def read(payload: bytes) -> Frame:
    return read_frame(payload, ACCEPTED)


@pytest.mark.parametrize("events", [SENT, [SENT], [SENT, STARTED], []])
def test_events_are_the_same_in_both_formats(events: object) -> None:
    assert read(packed_frame(events)) == read(frame(events))


def test_what_kombu_writes_is_read() -> None:
    body = msgpack.packb([SENT | {"runtime": 0.5, "loadavg": (0.1, 0.2, 0.3)}, STARTED], use_bin_type=True)
    (sent, started) = read(raw_packed_frame(body)).events
    assert (sent.name, sent.runtime, started.type) == ("shop.charge", 0.5, "task-started")


def test_only_accepted_formats_are_opened() -> None:
    assert read_frame(packed_frame([SENT, STARTED])).unreadable == {ENCODING: 1}
    assert read_frame(frame([SENT, STARTED]), ("msgpack",)).unreadable == {ENCODING: 1}
    assert len(read_frame(packed_frame(SENT), ("msgpack",)).events) == 1


@pytest.mark.parametrize("changes", [{"headers": {"compression": "application/x-gzip"}}, {"content-type": "msgpack"}])
def test_what_is_no_plain_msgpack_is_not_opened(changes: dict[str, Any]) -> None:
    assert read(packed_frame([SENT], **changes)).unreadable == {ENCODING: 1}


@pytest.mark.parametrize(
    "bad",
    [
        *({"runtime": "fast"}, {"uuid": None}, {"timestamp": None}, {"retries": 1.5}, {"type": 3}, {"hostname": []}),
        *({"active": -1}, {"retries": 2**63}, {7: 7}, {"uuid": b"bytes"}),
    ],
)
def test_only_the_bad_event_of_a_list_is_lost(bad: dict[Any, Any]) -> None:
    found = read(packed_frame([SENT, STARTED | bad, STARTED, "no event"]))
    assert [event.type for event in found.events] == ["task-sent", "task-started"]
    assert found.unreadable == {MALFORMED: 2}


@pytest.mark.parametrize("odd", [math.nan, msgpack.ExtType(5, b"x"), msgpack.Timestamp(1), b"\xff", 2**64 - 1])
def test_what_only_msgpack_has_costs_no_event(odd: object) -> None:
    body = msgpack.packb([SENT, STARTED | {"args": odd, "runtime": math.nan}])
    found = read(raw_packed_frame(body))
    assert (len(found.events), found.unreadable) == (2, {})


def test_a_name_too_long_to_remember_is_out_of_bounds() -> None:
    long = SENT | {"name": "x" * (LONGEST_NAME + 1)}
    assert (read(packed_frame([STARTED, long])).unreadable, len(read(packed_frame([STARTED, long])).events)) == (
        {BOUNDS: 1},
        1,
    )
    assert read(packed_frame(long)).unreadable == {BOUNDS: 1}


@pytest.mark.parametrize("depth", [20_000, 100_000])
def test_deep_nesting_is_out_of_bounds(depth: int) -> None:
    deep = b"\x92\x81\xa4type\xa1x\x82\xa4type\xa1x\xa4args" + b"\x91" * depth + b"\xc0"
    assert read(raw_packed_frame(deep)).unreadable == {BOUNDS: 2}


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x92\x80", b"\xdd\x00", b"\x07", b"\xa4type", pickle.dumps([SENT])])
def test_what_is_no_message_of_events_is_malformed(body: bytes) -> None:
    found = read(raw_packed_frame(body))
    assert (found.events, set(found.unreadable)) == ([], {MALFORMED})


def test_a_body_of_text_is_malformed() -> None:
    text = {"content-type": "application/x-msgpack", "properties": {"body_encoding": "utf-8"}}
    assert read(envelope("[]", **text)).unreadable == {MALFORMED: 1}


def test_what_is_beyond_so_many_events_in_a_message_is_out_of_bounds() -> None:
    assert len(read(packed_frame([{"type": "x"}] * MOST_EVENTS)).events) == MOST_EVENTS
    assert read(packed_frame([{"type": "x"}] * (MOST_EVENTS + 1))).unreadable == {BOUNDS: MOST_EVENTS + 1}


def test_a_message_too_large_to_read_is_out_of_bounds() -> None:
    assert read(packed_frame(SENT | {"args": "x" * LARGEST_MESSAGE})).unreadable == {BOUNDS: 1}
    large = {"args": b"x" * LARGEST_ODD_PACKED}
    assert len(read(packed_frame([SENT | large, STARTED])).events) == 2
    assert read(packed_frame([SENT | large | {"retries": "no"}, STARTED])).unreadable == {BOUNDS: 1}


@pytest.mark.parametrize(("number", "first"), [(1, 0x91), (15, 0x9F), (16, 0xDC), (70_000, 0xDD)])
def test_events_are_counted_without_being_read(number: int, first: int) -> None:
    body = msgpack.packb([{"type": "x"}] * number)
    assert (body[0], count_events(raw_packed_frame(body), ACCEPTED)) == (first, number)
    assert count_events(raw_packed_frame(body)) == 1


def test_no_list_is_believed_that_cannot_be_so_long() -> None:
    assert count_events(raw_packed_frame(b"\xdd\xff\xff\xff\xff"), ACCEPTED) == 5
    assert count_events(raw_packed_frame(b"\x90"), ACCEPTED) == count_events(packed_frame(SENT), ACCEPTED) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["uuid", "type", "timestamp", "name", "queue", "retries", "eta", "runtime", "freq", "active"])


@settings(max_examples=500)
@given(st.lists(st.dictionaries(FIELDS, VALUES, max_size=4), max_size=6))
def test_every_event_is_read_or_counted(changes: list[dict[str, Any]]) -> None:
    found = read(packed_frame([STARTED | change for change in changes]))
    assert len(found.events) + sum(found.unreadable.values()) == len(changes)


@settings(max_examples=500)
@given(st.data())
def test_nothing_is_raised_by_damaged_bodies(data: st.DataObject) -> None:
    body = bytearray(msgpack.packb([SENT, STARTED]))
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    payload = raw_packed_frame(bytes(body))
    found = read(payload)
    assert len(found.events) + sum(found.unreadable.values()) <= MOST_EVENTS or not found.events
    assert count_events(payload, ACCEPTED) >= 1


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_nothing_is_raised_by_any_bytes(body: bytes) -> None:
    read(raw_packed_frame(body))
    count_events(raw_packed_frame(body), ACCEPTED)


@pytest.mark.parametrize(
    "answer", [b"\x81\xa1w\xd4\x05x", b"\x81\xa1w\x81\xc0\x01", b"\x81\x91\x01\x01", b"\x81\xa3\xed\xa0\x80\x01"]
)
def test_an_answer_with_what_json_has_not_is_a_broken_one(answer: bytes) -> None:
    """A type of an application's own, names that are none, a lone surrogate."""
    with pytest.raises(ValueError, match=r"broken|decode"):
        read_reply(raw_packed_frame(answer, headers={"ticket": "t"}), "t", ACCEPTED)
