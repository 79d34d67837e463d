"""The task table: what comes of Celery's events, whatever their order."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import Enqueued, Finished, JobEvent, Outcome, Retried, Started
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.jobs.holding import GRACE, JOBS_AT_ONCE, MOST_HELD, SENT_MEMORY
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.jobs.tasks import Tasks
from exporter.systems.celery.workers.workers import Workers
from tests.systems.celery_frames import WORKER, event
from tests.systems.observing import START

OTHER = "celery@two"


class Table(Tasks):
    """A table whose clocks run together, with the events of workers given in short."""

    def __init__(self, **limits: Any) -> None:
        self.workers = Workers(3600)
        super().__init__(self.workers, **limits)
        self.moment = 0.0
        self.pass_by(0)

    def pass_by(self, seconds: float) -> None:
        self.moment += seconds
        self.at(START + self.moment, self.moment)

    def tell(self, kind: str, uuid: str = "a", worker: str = WORKER, **more: Any) -> None:
        at = more.pop("at", START + self.moment)
        self.take(event(f"task-{kind}", uuid, at, worker, **more))

    def send(self, uuid: str = "a", **more: Any) -> None:
        self.tell("sent", uuid, "producer", **{"queue": "mail", "name": "charge", "retries": 0} | more)

    def receive(self, uuid: str = "a", worker: str = WORKER, **more: Any) -> None:
        self.tell("received", uuid, worker, **{"name": "charge", "retries": 0} | more)

    def all(self) -> list[JobEvent]:
        return self.take_events()

    def flush(self) -> None:
        while self.held.flush():
            pass

    def last(self) -> JobEvent:
        return self.all()[-1]


@pytest.fixture
def table() -> Table:
    return Table()


def started_at(table: Table, seconds: float = 1.0, **more: Any) -> None:
    """A job is sent, received and, after some seconds, started."""
    table.send(**more)
    table.receive(**more)
    table.pass_by(seconds)
    table.tell("started")
    table.all()


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
        Started("mail", "charge", "a", START, wait=1),
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


# -- how jobs end -----------------------------------------------------------------------------------------------


def outcome(table: Table, *kinds: str, **more: Any) -> list[tuple[Outcome, str | None]]:
    """How a job ends after events of some kinds, and a while."""
    for kind in kinds:
        table.tell(kind, **more)
    table.pass_by(GRACE)
    return [(end.outcome, end.exception) for end in table.all() if isinstance(end, Finished)]


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


def test_a_rejection_told_as_a_failure_too_is_one_rejection(table: Table) -> None:
    started_at(table)  # celery 5.7: `raise Reject(requeue=False)`
    table.tell("failed", exception="reject requeue=False: not mine")
    assert outcome(table, "rejected", requeue=False) == [(Outcome.REJECTED, None)]


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


def test_a_job_replaced_by_another_of_its_id_is_a_new_one(table: Table) -> None:
    started_at(table)
    table.pass_by(1)
    table.send(name="part")
    table.receive(name="part")
    table.pass_by(2)
    table.tell("started")
    table.tell("succeeded", runtime=0.5)
    assert table.all() == [
        Enqueued("mail", "part", "a", START + 2),
        Started("mail", "part", "a", START + 4, wait=2),
        Finished("mail", "part", "a", START + 4, Outcome.SUCCEEDED, run=0.5),
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


def worker_told(table: Table, kind: str, worker: str = WORKER, **more: Any) -> None:
    table.workers.take(event(f"worker-{kind}", worker=worker, **more), START + table.moment, table.moment)


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


# -- jobs under the id of another -------------------------------------------------------------------------------


def names(table: Table) -> list[tuple[str, str]]:
    return [(type(event).__name__, event.task) for event in table.all()]


def test_an_id_may_be_used_again_after_a_job_that_never_started(table: Table) -> None:
    table.send()
    table.tell("revoked")
    table.send()
    table.pass_by(1)
    table.tell("started")
    assert table.last() == Started("mail", "charge", "a", START + 1, wait=1)
    assert len(table._jobs) == 1
    assert outcome(table, "revoked") == [(Outcome.ABORTED, None)]


def test_a_job_may_be_revoked_under_an_id_of_which_another_was(table: Table) -> None:
    table.send()
    table.tell("revoked")
    table.send()
    assert outcome(table, "revoked") == [(Outcome.ABORTED, None)] * 2


@pytest.mark.parametrize("elsewhere", [False, True])
def test_without_task_sent_a_job_received_under_another_name_replaces_one_that_runs(
    table: Table, elsewhere: bool
) -> None:
    table.receive(name="whole")
    table.tell("started")
    worker = OTHER if elsewhere else WORKER
    table.receive(worker=worker, name="part")
    table.tell("started", worker=worker)
    table.tell("succeeded", worker=worker)
    assert names(table) == [("Started", "whole"), ("Started", "part"), ("Finished", "part")]
    assert not running(table)


@pytest.mark.parametrize("received", ["before", "after"])
def test_a_start_told_after_its_job_was_replaced_is_of_that_job(table: Table, received: str) -> None:
    table.send(name="whole")
    if received == "before":
        table.receive(name="whole")
    table.send(name="part")
    if received == "after":
        table.receive(name="whole")
    table.pass_by(1)
    table.tell("started")
    assert not running(table), "it ended when it was replaced"
    table.receive(name="part")
    table.tell("started")
    table.tell("succeeded")
    assert names(table) == [
        *[("Enqueued", "whole"), ("Enqueued", "part")],
        *[("Started", "whole"), ("Started", "part"), ("Finished", "part")],
    ]


def test_the_start_of_a_retry_told_after_its_job_was_replaced_is_of_that_job(table: Table) -> None:
    started_at(table)
    table.tell("retried")
    table.receive(retries=1)
    table.send(name="part")
    table.tell("started")
    table.receive(name="part")
    table.tell("started")
    table.tell("retried")
    table.receive(name="part", retries=1)
    table.tell("revoked")
    table.send(name="other")  # of a job that ended no start is to come
    table.tell("started")
    assert names(table) == [
        *[("Retried", "charge"), ("Enqueued", "part"), ("Started", "charge")],
        *[("Started", "part"), ("Retried", "part"), ("Finished", "part")],
        *[("Enqueued", "other"), ("Started", "other")],
    ]


def test_a_replacement_may_start_elsewhere_before_the_start_of_the_first_is_told(table: Table) -> None:
    table.receive(name="whole")
    table.receive(worker=OTHER, name="part")
    table.tell("started", worker=OTHER)
    table.tell("started")
    table.tell("succeeded", worker=OTHER)
    assert names(table) == [("Started", "part"), ("Started", "whole"), ("Finished", "part")]


def test_a_task_sent_that_comes_after_the_replacement_names_no_other_job(table: Table) -> None:
    table.receive(name="whole")
    table.tell("started")
    table.receive(name="part")
    table.send(name="whole", queue="first")
    table.send(name="part")
    table.tell("started")
    assert [(event.queue, event.task) for event in table.all()] == [
        *[(UNKNOWN, "whole"), ("first", "whole")],
        *[("mail", "part"), ("mail", "part")],
    ]


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


def running(table: Table) -> list[Attempt]:
    """Every attempt that the workers know of."""
    workers = [*table.workers._workers.values(), *table.workers._gone.values()]
    return [attempt for worker in workers for attempt in (*worker.certain, *worker.ghosts)]


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
    assert not any(job.held or job.rejected for job in [*table._jobs.values(), *table._ended.values()])
    assert len(table._jobs) <= 3
    assert len(table._ended) <= 2
    enders = {"succeeded", "failed", "revoked", "rejected"}
    for kinds, type_ in ((enders, Finished), ({"started"}, Started), ({"sent"}, Enqueued), ({"retried"}, Retried)):
        for uuid in "abcd":
            heard = sum(entry[0] in kinds and entry[1] == uuid for entry in told)
            recorded = sum(isinstance(one, type_) and one.job_id == uuid for one in events)
            assert recorded <= heard
            if type_ is Started:
                assert recorded == heard
    open_attempts = {id(a) for job in [*table._jobs.values(), *table._ended.values()] for a in job.attempts}
    assert {id(a) for a in running(table)} == open_attempts
