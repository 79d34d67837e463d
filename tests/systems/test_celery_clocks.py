"""The task table: clocks and fields that cannot be right. No time is negative, endless or to come."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import Finished, Known, Outcome, Retried, Started
from exporter.systems.celery.events.frames import Event, read_frame
from exporter.systems.celery.jobs.job import BELIEVED_SECONDS
from exporter.systems.celery.results.metas import Result
from tests.systems.celery_frames import WORKER, fields, frame
from tests.systems.celery_table import OTHER, Table, running
from tests.systems.observing import START

HOUR = 3600.0


@pytest.fixture
def table() -> Table:
    return Table()


STAMPS = st.one_of(
    st.floats(),
    st.floats(START - 10, START + 10),
    st.sampled_from([START - 5 * HOUR, START + 5 * HOUR, 0.0, -START, 1e308]),
)
KINDS = ["sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "cancelled"]


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.sampled_from("ab"),
            st.sampled_from([WORKER, OTHER]),
            STAMPS,
            st.none() | st.floats(),
            st.sampled_from([None, "", "0001-01-01T00:00:00", "9999-12-31T23:59:59+00:00", "2023-11-14T22:13:25"]),
        ),
        max_size=30,
    )
)
def test_whatever_clocks_say_no_time_is_impossible(told: list[tuple[Any, ...]]) -> None:
    table = Table()
    for kind, uuid, worker, at, runtime, eta in told:
        table.tell(kind, uuid, worker, at=at, runtime=runtime, eta=eta, queue="mail", name="charge")
        table.pass_by(1)
    table.flush()
    for event in table.all():
        assert not isinstance(event, Known)
        assert 0 < event.at <= START + table.moment
        spans = [event.wait] if isinstance(event, Started) else []
        spans = [event.run] if isinstance(event, Finished | Retried) else spans
        assert all(0 <= span <= BELIEVED_SECONDS for span in spans if span is not None)
    assert all(0 < at <= START + table.moment for at in table.held.progress.values())


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_worker_whose_clock_is_hours_off_measures_by_it(table: Table, hours: int) -> None:
    off = START + hours * HOUR
    table.tell("started", at=off)
    table.pass_by(9)
    table.tell("failed", at=off + 9)
    _, end = table.all()
    assert isinstance(end, Finished)
    assert end.run == 9


@pytest.mark.parametrize("at", [START - 30, START + 30])
def test_an_end_before_its_start_ran_for_no_time(table: Table, at: float) -> None:
    table.tell("started", at=at)
    table.tell("failed", at=at - 10)
    assert [end.run for end in table.all() if isinstance(end, Finished)] == [0]


def test_a_worker_that_changes_its_name_ends_its_job_once(table: Table) -> None:
    table.tell("started")
    table.tell("succeeded", worker="celery@renamed", runtime=1.0)
    table.tell("succeeded", worker="celery@renamed", runtime=1.0)
    assert len([end for end in table.all() if isinstance(end, Finished)]) == 1
    table.workers._worker(WORKER, table.moment).end_all()
    assert not running(table)


@pytest.mark.parametrize("offset", [0, -9, 14, 100_000, None, "9"])
def test_what_an_event_says_of_its_time_zone_is_passed_over(offset: object) -> None:
    sent = fields("worker-heartbeat", active=0, freq=2.0) | {"utcoffset": offset}
    (event,) = read_frame(frame([sent])).events
    assert event.timestamp == START


@pytest.mark.parametrize("missing", ["timestamp", "pid", "clock", "utcoffset"])
def test_what_an_event_can_do_without(table: Table, missing: str) -> None:
    table.pass_by(1)
    for kind in ("task-started", "task-succeeded"):
        sent = fields(kind, runtime=0.5)
        del sent[missing]
        assert table.take(read_frame(frame([sent])).events[0])
    assert [type(event) for event in table.all()] == [Started, Finished]


@pytest.mark.parametrize("missing", ["hostname", "uuid"])
def test_what_an_event_cannot_do_without(table: Table, missing: str) -> None:
    sent = fields("task-started")
    del sent[missing]
    assert not table.take(read_frame(frame([sent])).events[0])
    assert not table.all()


def test_a_number_that_is_none_spoils_no_other_event() -> None:
    body = [fields("task-succeeded", runtime=math.nan), fields("task-succeeded", "b", runtime=None)]
    assert [event.uuid for event in read_frame(frame(json.loads(json.dumps(body)))).events] == ["a", "b"]


@given(STAMPS.filter(math.isfinite))
def test_a_result_by_any_clock_gives_no_impossible_time(at: float) -> None:
    table = Table()
    table.tell("started")
    table.take(Event("task-received", "b", WORKER, at))
    table.fill(Result("a", at, Outcome.SUCCEEDED), None)
    for event in table.all():
        if isinstance(event, Finished):
            assert event.at <= START
            assert event.run is None or 0 <= event.run <= BELIEVED_SECONDS
