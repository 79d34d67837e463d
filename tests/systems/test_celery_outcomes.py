"""The task table: how jobs end."""

from __future__ import annotations

import pytest

from exporter.model import Finished, Outcome, Started
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.jobs.holding import GRACE
from tests.systems.celery_frames import WORKER
from tests.systems.celery_table import OTHER, Table, outcome, running, started_at, worker_told
from tests.systems.observing import START


@pytest.fixture
def table() -> Table:
    return Table()


# -- how jobs end -----------------------------------------------------------------------------------------------


def test_a_revoked_job_is_aborted_or_expired_and_ends_once(table: Table) -> None:
    table.send()
    assert outcome(table, "revoked", expired=True) == [(Outcome.EXPIRED, None)]
    table.send("b")
    table.tell("revoked", "b", expired=False)
    table.tell("revoked", "b", OTHER, expired=False)  # a worker that got the message once more
    assert outcome(table) == [(Outcome.ABORTED, None)]


def test_a_job_that_is_terminated_has_run(table: Table) -> None:
    started_at(table)
    table.pass_by(5)
    table.tell("revoked", terminated=True, expired=False)
    assert table.last() == Finished("mail", "charge", "a", START + 6, Outcome.ABORTED, run=5)


def test_a_task_that_no_worker_knows(table: Table) -> None:
    table.send()
    assert outcome(table, "failed", exception="NotRegistered('charge')") == [(Outcome.NOT_FOUND, None)]
    table.send("b")
    table.tell("started", "b")
    table.tell("failed", "b", exception="NotRegistered('another')")  # raised by the task itself
    assert outcome(table) == [(Outcome.FAILED, "NotRegistered")]


def test_a_name_is_never_taken_from_the_text_of_an_exception(table: Table) -> None:
    table.tell("failed", exception="NotRegistered('charge')")
    assert table.last() == Finished(UNKNOWN, UNKNOWN, "a", START, Outcome.NOT_FOUND)


def test_a_rejected_job(table: Table) -> None:
    started_at(table)
    table.tell("rejected", requeue=False)
    assert not table.all()
    table.pass_by(GRACE)
    assert table.last() == Finished("mail", "charge", "a", START + 1, Outcome.REJECTED, run=0)


def test_a_job_that_is_given_back_has_not_ended(table: Table) -> None:
    started_at(table)
    table.tell("rejected", requeue=True)
    table.tell("failed", exception="TimeLimitExceeded(1)")  # celery 5.7 says so of the attempt
    assert outcome(table) == []
    table.receive(worker=OTHER)
    assert outcome(table, "started", "succeeded", worker=OTHER) == [(Outcome.SUCCEEDED, None)]


def test_a_failure_told_as_a_rejection_first_is_one_failure(table: Table) -> None:
    started_at(table)  # celery 5.6: acks_late without acks_on_failure_or_timeout
    table.tell("rejected", requeue=False)
    assert outcome(table, "failed", exception="ValueError()") == [(Outcome.FAILED, "ValueError")]


def raised(path: str) -> dict[str, str]:
    """What a worker's process says of an exception that its child raised (billiard's `einfo.py`)."""
    frames = 'Traceback (most recent call last):\n  File "trace.py", line 1, in f\n    raise it\n'
    text = f"{frames}{path}: ('not mine', False)\n"
    return {"exception": f'ExceptionWithTraceback(\'\n"""\n{text}"""\')', "traceback": text}


@pytest.mark.parametrize("said", [{"exception": "reject requeue=False: not mine"}, raised("celery.exceptions.Reject")])
def test_a_rejection_told_as_a_failure_too_is_one_rejection(table: Table, said: dict[str, str]) -> None:
    started_at(table)  # celery 5.7: `raise Reject(requeue=False)`
    table.tell("failed", **said)
    assert outcome(table, "rejected", requeue=False) == [(Outcome.REJECTED, None)]


def test_what_an_application_calls_a_reject_is_a_failure(table: Table) -> None:
    started_at(table)
    assert outcome(table, "failed", **raised("shop.errors.Reject")) == [(Outcome.FAILED, "Reject")]


def test_a_time_out_told_twice_is_one_failure(table: Table) -> None:
    started_at(table)  # celery 5.7
    assert outcome(table, "failed", "failed", exception="TimeLimitExceeded(1)") == [
        (Outcome.FAILED, "TimeLimitExceeded")
    ]


def test_a_cancelled_attempt_leaves_the_job_open(table: Table) -> None:
    started_at(table)
    assert outcome(table, "cancelled") == []
    table.receive(worker=OTHER)
    assert outcome(table, "started", "succeeded", worker=OTHER) == [(Outcome.SUCCEEDED, None)]


def test_a_redelivered_job_runs_and_ends_twice_under_its_names(table: Table) -> None:
    started_at(table)
    table.pass_by(1)
    table.tell("started", worker=OTHER)
    table.pass_by(1)
    table.tell("succeeded", runtime=2.0)
    table.tell("succeeded", worker=OTHER, runtime=1.0)
    table.tell("started", worker=OTHER)
    table.pass_by(1)
    table.tell("failed", worker=OTHER, exception="E()")
    assert table.all() == [
        Started("mail", "charge", "a", START + 2),
        Finished("mail", "charge", "a", START + 3, Outcome.SUCCEEDED, run=2.0),
        Finished("mail", "charge", "a", START + 3, Outcome.SUCCEEDED, run=1.0),
        Started("mail", "charge", "a", START + 3),
        Finished("mail", "charge", "a", START + 4, Outcome.FAILED, run=1.0, exception="E"),
    ]


def test_a_rejection_by_one_worker_is_no_failure_in_another(table: Table) -> None:
    started_at(table)
    table.tell("started", worker=OTHER)
    table.tell("rejected", requeue=False)
    table.tell("failed", worker=OTHER, exception="E()")
    assert outcome(table) == [(Outcome.REJECTED, None), (Outcome.FAILED, "E")]


def test_each_rejection_waits_for_as_long_as_it_may(table: Table) -> None:
    table.send("other")
    table.all()
    table.tell("started")  # held until GRACE
    table.pass_by(GRACE / 2)
    table.tell("rejected", requeue=False)
    table.pass_by(GRACE / 2)
    table.tell("failed", exception="E()")
    table.tell("failed", exception="E()")
    assert outcome(table) == [(Outcome.FAILED, "E")]


def test_a_rejection_that_overtook_its_task_sent_waits_for_a_failure_all_the_same(table: Table) -> None:
    table.send("other")
    table.all()
    table.tell("started")
    table.tell("rejected", requeue=False)
    table.send()
    table.tell("failed", exception="E()")
    ends = [event for event in table.all() if isinstance(event, Finished)]
    assert ends == [Finished("mail", "charge", "a", START, Outcome.FAILED, run=0, exception="E")]


def test_an_end_of_the_job_settles_a_rejection_before_it(table: Table) -> None:
    started_at(table)
    table.tell("rejected", requeue=False)
    table.tell("started", worker=OTHER)
    assert [type(event) for event in table.all()] == [Finished, Started]


@pytest.mark.parametrize("received", [False, True])
def test_a_failure_after_a_job_was_given_back_counts_though_its_start_was_missed(table: Table, received: bool) -> None:
    started_at(table)
    table.tell("rejected", requeue=True)
    table.tell("failed", exception="TimeLimitExceeded(1)")
    if received:  # by the same worker once more
        table.receive()
    assert outcome(table, "failed", worker=WORKER if received else OTHER, exception="E()") == [(Outcome.FAILED, "E")]


def test_a_job_that_was_given_back_and_started_again_may_fail_there(table: Table) -> None:
    started_at(table)
    table.tell("rejected", requeue=True)
    assert outcome(table, "started", "failed", exception="E()") == [(Outcome.FAILED, "E")]


def test_a_retry_told_after_the_end_is_none(table: Table) -> None:
    started_at(table)
    table.tell("succeeded")
    table.tell("retried")
    assert [type(event) for event in table.all()] == [Finished]


def test_an_end_closes_the_oldest_attempt_in_its_worker(table: Table) -> None:
    table.send()
    for worker in (OTHER, WORKER, WORKER):
        table.pass_by(1)
        table.tell("started", worker=worker)
    table.pass_by(1)
    for worker in (WORKER, WORKER, OTHER):
        table.tell("failed", worker=worker)
    assert [end.run for end in table.all() if isinstance(end, Finished)] == [2, 1, 3]


def test_a_job_of_a_worker_that_was_killed_ends_once_after_it_ran_again(table: Table) -> None:
    worker_told(table, "online", active=0, pid=7)
    started_at(table)
    table.pass_by(3600)
    worker_told(table, "online", active=0, pid=7)
    table.tell("started")
    table.pass_by(2)
    table.tell("failed", exception="E()")
    table.tell("failed", exception="E()")
    assert table.all()[1:] == [Finished("mail", "charge", "a", START + 3603, Outcome.FAILED, run=2, exception="E")]


def test_what_is_held_runs_meanwhile(table: Table) -> None:
    table.send("other")
    worker_told(table, "online", active=0)
    table.tell("started")
    assert len(running(table)) == 1
