"""The task table: what waits for a `task-sent` that is late or missing."""

from __future__ import annotations

import pytest

from exporter.model import Enqueued, Finished, JobEvent, Outcome, Started
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.jobs.holding import GRACE, JOBS_AT_ONCE, MOST_HELD, READING_GRACE, SENT_MEMORY
from tests.systems.celery_frames import event
from tests.systems.celery_table import Table
from tests.systems.observing import START


@pytest.fixture
def table() -> Table:
    return Table()


# -- late and missing `task-sent` -------------------------------------------------------------------------------


def test_without_task_sent_all_is_recorded_at_once(table: Table) -> None:
    table.receive()
    table.tell("started")
    table.tell("succeeded", runtime=1.0)
    assert table.all() == [
        Started(UNKNOWN, "charge", "a", START),
        Finished(UNKNOWN, "charge", "a", START, Outcome.SUCCEEDED, run=1.0),
    ]


def test_what_overtakes_its_task_sent_waits_for_it(table: Table) -> None:
    table.send("other")
    table.all()
    table.receive()
    table.pass_by(1)
    table.tell("started", at=START + 0.5)
    table.tell("succeeded", at=START + 1, runtime=0.5)
    assert table.all() == []
    table.pass_by(GRACE / 2)
    table.send(at=START)
    assert table.all() == [
        Enqueued("mail", "charge", "a", START),
        Started("mail", "charge", "a", START + 0.5, wait=0.5),
        Finished("mail", "charge", "a", START + 1, Outcome.SUCCEEDED, run=0.5),
    ]
    table.pass_by(GRACE)
    assert table.all() == []


def test_what_waited_in_vain_has_no_queue(table: Table) -> None:
    table.send("other")
    table.all()
    table.receive()
    table.tell("started")
    table.pass_by(GRACE)
    table.tell("failed", exception="E()")
    assert table.all() == [
        Started(UNKNOWN, "charge", "a", START),
        Finished(UNKNOWN, "charge", "a", START + GRACE, Outcome.FAILED, run=GRACE, exception="E"),
    ]
    table.send(at=START)  # later than late
    assert table.all() == [Enqueued("mail", "charge", "a", START)]


def test_a_task_sent_later_than_late_names_the_queue_of_what_follows(table: Table) -> None:
    table.tell("started")
    table.send()
    table.tell("succeeded")
    assert [event.queue for event in table.all()] == [UNKNOWN, "mail", "mail"]


def test_when_no_task_sent_came_for_long_nothing_waits_for_it(table: Table) -> None:
    table.send("other")
    table.pass_by(SENT_MEMORY)
    table.all()
    table.tell("started")
    assert table.last() == Started(UNKNOWN, UNKNOWN, "a", START + SENT_MEMORY)


def test_a_job_sent_to_an_exchange_waits_for_no_queue(table: Table) -> None:
    table.send(queue=None)
    table.tell("started")
    assert [event.queue for event in table.all()] == [UNKNOWN, UNKNOWN]


def test_a_retry_tells_the_queue_of_a_job_from_before_our_time(table: Table) -> None:
    table.send("other")
    table.all()
    table.receive(retries=1)
    table.tell("started")
    table.send(retries=1)
    assert table.all() == [Started("mail", "charge", "a", START, attempt=2)]


def test_a_retry_that_is_sent_shows_that_jobs_are(table: Table) -> None:
    table.send("other", retries=1)
    table.tell("started")
    assert table.all() == []


def test_a_prefix_stands_before_the_queue(table: Table) -> None:
    table.take(event("task-sent", at=START, queue="mail", name="charge"), "shop:")
    assert table.last() == Enqueued("shop:mail", "charge", "a", START)


def test_what_is_held_is_let_go_at_once_when_asked(table: Table) -> None:
    table.send("b")
    table.tell("started", "b")
    table.all()
    table.tell("started", "c")
    table.tell("rejected", "b", requeue=False)
    assert table.all() == []
    table.flush()
    assert [event.job_id for event in table.all()] == ["c", "b"]  # type: ignore[union-attr]


def test_many_held_jobs_are_let_go_little_by_little_each_in_its_order(table: Table) -> None:
    table.send("other")
    table.all()
    jobs = 2 * JOBS_AT_ONCE + 1
    for number in range(jobs):
        table.tell("started", str(number))
        table.tell("succeeded", str(number))
    seen: list[JobEvent] = []
    table.pass_by(GRACE)
    for _ in range(2):
        some = table.all()
        assert len(some) == 2 * JOBS_AT_ONCE
        assert table.held.overdue
        seen += some
        table.pass_by(0)
    seen += table.all()
    assert not table.held.overdue
    assert [type(event) for event in seen] == [Started, Finished] * jobs


def test_what_is_held_of_one_job_is_bounded(table: Table) -> None:
    table.send("other")
    table.all()
    for _ in range(MOST_HELD - 1):
        table.tell("started")
    assert table.all() == []
    table.tell("started")
    assert len(table.all()) == MOST_HELD


# -- results that may have the names ----------------------------------------------------------------------------


def test_an_end_without_any_name_waits_while_results_are_read(table: Table) -> None:
    table.held.reading_results = True
    table.tell("succeeded", runtime=1.0)
    table.pass_by(GRACE + 1)
    assert table.all() == []
    table.pass_by(READING_GRACE)
    assert table.all() == [Finished(UNKNOWN, UNKNOWN, "a", START, Outcome.SUCCEEDED, run=1.0)]


def test_ends_of_jobs_with_a_name_and_starts_do_not_wait_for_results(table: Table) -> None:
    table.held.reading_results = True
    table.receive("named")
    table.tell("succeeded", "named", runtime=1.0)
    table.tell("started", "b")
    assert [type(told) for told in table.all()] == [Finished, Started]
