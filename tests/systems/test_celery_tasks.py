"""The task table: what comes of Celery's events, whatever their order."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import Enqueued, Finished, Outcome, Retried, Started
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.jobs.holding import GRACE, SENT_MEMORY
from exporter.systems.celery.jobs.job import Job
from tests.systems.celery_frames import WORKER
from tests.systems.celery_table import OTHER, Table, running, started_at
from tests.systems.observing import START


@pytest.fixture
def table() -> Table:
    return Table()


# -- a job's life -----------------------------------------------------------------------------------------------


def test_a_job_that_succeeds(table: Table) -> None:
    table.send()
    table.receive()
    table.pass_by(1.5)
    table.tell("started")
    table.pass_by(3)
    table.tell("succeeded", runtime=2.9)
    assert table.all() == [
        Enqueued("mail", "charge", "a", START),
        Started("mail", "charge", "a", START + 1.5, wait=1.5),
        Finished("mail", "charge", "a", START + 4.5, Outcome.SUCCEEDED, run=2.9),
    ]


@pytest.mark.parametrize("runtime", [None, math.nan, -1.0, math.inf, 1e300])
def test_a_runtime_that_cannot_be_is_taken_from_the_clock(table: Table, runtime: float | None) -> None:
    started_at(table)
    table.pass_by(3)
    table.tell("succeeded", runtime=runtime)
    assert table.last() == Finished("mail", "charge", "a", START + 4, Outcome.SUCCEEDED, run=3)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ValueError('no')", "ValueError"),
        ("app.errors.Refused(402)", "app.errors.Refused"),
        ("<Refused: no>", UNKNOWN),
        ("failed", UNKNOWN),
        ("no way (none)", UNKNOWN),
        ("(1)", UNKNOWN),
        ("", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_a_failure_has_the_class_of_its_exception(table: Table, text: str | None, name: str) -> None:
    started_at(table)
    table.pass_by(2)
    table.tell("failed", exception=text)
    assert table.last() == Finished("mail", "charge", "a", START + 3, Outcome.FAILED, run=2, exception=name)


@pytest.mark.parametrize(
    ("traceback", "name"),
    [
        (
            """
Traceback (most recent call last):
  File "billiard/pool.py", line 684, in on_hard_timeout
    raise TimeLimitExceeded(job._timeout)
billiard.exceptions.TimeLimitExceeded: TimeLimitExceeded(1,)
""",
            "TimeLimitExceeded",
        ),
        ("Traceback (most recent call last):\n  File x\nKeyboardInterrupt", "KeyboardInterrupt"),
        ("Traceback (most recent call last):\n  File x\nno class: at all", UNKNOWN),
        ("Traceback (most recent call last):\n", UNKNOWN),
        ("", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_what_a_worker_raises_for_a_task_is_told_by_the_traceback_alone(
    table: Table, traceback: str | None, name: str
) -> None:
    table.tell("failed", exception="ExceptionWithTraceback()", traceback=traceback)
    end = table.last()
    assert isinstance(end, Finished)
    assert end.exception == name


def test_a_retry_is_no_new_job_and_waits_no_second_time(table: Table) -> None:
    started_at(table)
    table.send(retries=1, eta="2023-11-14T22:13:30+00:00")  # by the worker, before it says so
    table.pass_by(1)
    table.tell("retried", exception="TimeoutError('busy')")
    table.receive(retries=1)
    table.pass_by(9)
    table.tell("started")
    table.pass_by(1)
    table.tell("succeeded", runtime=1.0)
    assert table.all() == [
        Retried("mail", "charge", "a", START + 2, run=1, exception="TimeoutError"),
        Started("mail", "charge", "a", START + 11, attempt=2),
        Finished("mail", "charge", "a", START + 12, Outcome.SUCCEEDED, run=1.0, attempt=2),
    ]


def test_a_retry_may_run_elsewhere_before_the_first_attempt_is_told_to_have_ended(table: Table) -> None:
    table.send()
    table.receive()
    table.send(retries=1)
    table.receive(worker=OTHER, retries=1)
    table.tell("started")
    table.pass_by(1)
    table.tell("started", worker=OTHER)
    table.pass_by(1)
    table.tell("retried")
    table.pass_by(1)
    table.tell("succeeded", worker=OTHER, runtime=2.0)
    _, first, second, retried, end = table.all()
    assert (first, second) == (
        Started("mail", "charge", "a", START, wait=0),
        Started("mail", "charge", "a", START + 1, attempt=2),
    )
    assert retried == Retried("mail", "charge", "a", START + 2, run=2)
    assert end == Finished("mail", "charge", "a", START + 3, Outcome.SUCCEEDED, run=2.0, attempt=2)


@pytest.mark.parametrize(
    "eta", ["2023-11-14T22:13:30+00:00", "2023-11-15T00:13:30+02:00", "2023-11-14T22:13:30", "2023-11-14T22:13:30Z"]
)
@pytest.mark.parametrize("told_by", ["sent", "received"])
def test_a_job_with_an_eta_waits_from_then_on(table: Table, eta: str, told_by: str) -> None:
    if told_by == "sent":  # START is 22:13:20
        table.send(eta=eta)
    table.receive(eta=eta)
    table.pass_by(12)
    table.tell("started")
    assert table.last() == Started("mail" if told_by == "sent" else UNKNOWN, "charge", "a", START + 12, wait=2)


@pytest.mark.parametrize("eta", ["", "soon", "99999-01-01", "0001-01-01T00:00:00+23:59"])
def test_an_eta_that_is_none_is_passed_over(table: Table, eta: str) -> None:
    started_at(table, eta=eta)
    table.tell("succeeded")


@pytest.mark.parametrize("eta", ["0001-01-01T00:00:00", "2023-11-14T22:13:20", "2023-11-14T20:00:00"])
def test_an_eta_in_the_past_is_known_to_be_due_since_it_was_sent_if_that_was_seen(table: Table, eta: str) -> None:
    table.send("sent", eta=eta)
    table.receive("received", eta=eta)
    table.pass_by(2)
    table.tell("started", "sent")
    table.tell("started", "received")
    table.pass_by(GRACE)
    waits = {event.job_id: event.wait for event in table.all() if isinstance(event, Started)}
    assert waits == {"sent": 2, "received": None}


def test_nothing_is_recorded_for_a_time_to_come(table: Table) -> None:
    ahead = START + 600
    table.send(at=ahead)
    table.tell("started", at=ahead + 1)
    table.tell("retried", at=ahead + 2)
    table.tell("started", at=ahead + 5)
    table.tell("failed", at=ahead + 9)
    assert table.held.progress == {"mail": START}
    assert table.all() == [
        Enqueued("mail", "charge", "a", START),
        Started("mail", "charge", "a", START),
        Retried("mail", "charge", "a", START, run=1),
        Started("mail", "charge", "a", START),
        Finished("mail", "charge", "a", START, Outcome.FAILED, run=4, exception=UNKNOWN),
    ]


def test_a_wait_of_decades_is_none() -> None:
    assert Job("a", due=0.0).waited(START) is None


def test_the_progress_of_a_queue_is_its_latest_start(table: Table) -> None:
    table.pass_by(9)
    for uuid, at in (("a", 5), ("b", 7), ("c", 6)):
        table.send(uuid)
        table.tell("started", uuid, at=START + at)
    assert table.held.progress == {"mail": START + 7}


def test_no_wait_is_negative_or_made_up(table: Table) -> None:
    table.send(at=START + 60)  # by a clock that is ahead
    table.receive()
    table.tell("started")
    assert table.last() == Started("mail", "charge", "a", START, wait=0)
    table.receive("b")
    table.tell("started", "b")
    table.receive("c", retries=2, eta="2023-11-14T22:13:20+00:00")
    table.tell("started", "c")
    table.pass_by(GRACE)
    assert table.all() == [
        Started(UNKNOWN, "charge", "b", START),
        Started(UNKNOWN, "charge", "c", START, attempt=3),
    ]


@pytest.mark.parametrize("stamp", [math.nan, math.inf, -1e300, 0.0, START - 100_000])
def test_a_clock_that_cannot_be_right_is_not_believed(table: Table, stamp: float) -> None:
    table.send(at=stamp)
    table.pass_by(1)
    table.tell("started", at=stamp)
    table.pass_by(2)
    table.tell("failed", at=stamp, exception="E()")
    enqueued, started, finished = table.all()
    assert isinstance(enqueued, Enqueued)
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert (enqueued.at, started.wait, finished.run) == (START, 1, 2)


# -- bounds -----------------------------------------------------------------------------------------------------


def test_the_oldest_job_is_forgotten_and_counted_unless_it_ended() -> None:
    table = Table(jobs=2)
    table.send("a")
    table.send("b")
    table.tell("succeeded", "b")
    table.send("c")
    assert table.forgotten == 0
    table.send("d")
    assert table.forgotten == 1
    table.all()
    table.pass_by(SENT_MEMORY)
    table.tell("succeeded", "a")
    table.tell("succeeded", "d")
    assert [(end.queue, end.job_id) for end in table.all()] == [(UNKNOWN, "a"), ("mail", "d")]  # type: ignore[union-attr]


def test_a_job_that_is_forgotten_while_it_is_held_is_recorded_first() -> None:
    table = Table(jobs=1)
    table.send("other")
    table.all()
    table.tell("started")
    table.send("b")
    assert [type(event) for event in table.all()] == [Started, Enqueued]
    assert table.forgotten == 2
    table.pass_by(GRACE)
    assert table.all() == []


def test_ended_jobs_are_remembered_up_to_a_number() -> None:
    table = Table(ended_jobs=1)
    for uuid in "ab":
        table.send(uuid)
        table.tell("revoked", uuid)
    table.all()
    table.pass_by(SENT_MEMORY)
    table.tell("revoked", "b")
    table.tell("revoked", "a")
    assert [end.queue for end in table.all()] == [UNKNOWN]


def test_the_attempts_of_a_job_are_bounded(table: Table) -> None:
    for number in range(1000):
        table.tell("started", worker=f"w{number}")
    assert len(running(table)) <= 8


KINDS = ["sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "cancelled", "custom"]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(KINDS),
            st.sampled_from("abcd"),
            st.sampled_from([WORKER, OTHER]),
            st.sampled_from([None, "mail"]),
            st.sampled_from([0, 1, None]),
            st.sampled_from([None, True, False]),
            st.sampled_from([0.0, 1.0, 3.0]),
            st.sampled_from([None, "ValueError()", "reject requeue=False", "NotRegistered('x')"]),
        ),
        max_size=60,
    )
)
def test_whatever_the_order_no_job_ends_more_often_than_it_is_told_to(told: list[Any]) -> None:
    table = Table(jobs=3, ended_jobs=2)
    for kind, uuid, worker, queue, retries, flag, passed, exception in told:
        table.tell(kind, uuid, worker, queue=queue, retries=retries, requeue=flag, expired=flag, exception=exception)
        table.pass_by(passed)
    table.flush()
    events = table.all()
    assert not any(job.held or job.rejected for job in [*table._jobs.values(), *table.ended.values()])
    assert len(table._jobs) <= 3
    assert len(table.ended) <= 2
    enders = {"succeeded", "failed", "revoked", "rejected"}
    for kinds, type_ in ((enders, Finished), ({"started"}, Started), ({"sent"}, Enqueued), ({"retried"}, Retried)):
        for uuid in "abcd":
            heard = sum(entry[0] in kinds and entry[1] == uuid for entry in told)
            recorded = sum(isinstance(one, type_) and one.job_id == uuid for one in events)
            assert recorded <= heard
            if type_ is Started:
                assert recorded == heard
    open_attempts = {id(a) for job in [*table._jobs.values(), *table.ended.values()] for a in job.attempts}
    assert {id(a) for a in running(table)} == open_attempts
