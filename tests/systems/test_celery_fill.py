"""The task table takes results: each end is counted once, whether events, results or both tell of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model import Finished, JobEvent, Outcome, Started
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.control.answers import Active, ActiveJob, Consumes
from exporter.systems.celery.jobs import ended
from exporter.systems.celery.jobs.filling import SAME_END
from exporter.systems.celery.jobs.holding import GRACE
from exporter.systems.celery.jobs.table import CLOCKS_AGREE
from exporter.systems.celery.results.metas import Result
from tests.systems.celery_frames import WORKER
from tests.systems.celery_table import OTHER, Table, running, started_at
from tests.systems.observing import START


@pytest.fixture
def table() -> Table:
    return Table()


def result(table: Table, uuid: str = "a", outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> Result:
    """One that was written now."""
    at = more.pop("at", START + table.moment)
    exception = more.pop("exception", "ValueError" if outcome is Outcome.FAILED else None)
    return Result(uuid, at, outcome, exception, **more)


def fill(table: Table, uuid: str = "a", outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> bool:
    queue = more.pop("named", None)
    return table.fill(result(table, uuid, outcome, **more), queue)


def ends(table: Table) -> list[JobEvent]:
    return [event for event in table.all() if isinstance(event, Finished)]


# -- what is counted --------------------------------------------------------------------------------------------


def test_a_job_that_started_before_the_gap_ends_under_its_names(table: Table) -> None:
    started_at(table)
    table.pass_by(30)
    assert fill(table)
    assert ends(table) == [Finished("mail", "charge", "a", START + 31, Outcome.SUCCEEDED, run=30)]
    assert not running(table)
    assert table.filled_starts == 0


def test_a_job_that_was_never_heard_of_has_the_names_of_its_result(table: Table) -> None:
    more = {"name": "charge", "worker": WORKER, "retries": 1, "named": "mail"}
    assert fill(table, "a", Outcome.FAILED, **more)
    assert fill(table, "b", Outcome.EXPIRED)
    assert ends(table) == [
        Finished("mail", "charge", "a", START, Outcome.FAILED, exception="ValueError", attempt=2),
        Finished(UNKNOWN, UNKNOWN, "b", START, Outcome.EXPIRED),
    ]
    assert table.filled_starts == 1, "an expired job was not started"


def test_the_queue_that_task_sent_told_wins(table: Table) -> None:
    table.send()
    assert fill(table, named="celery")
    assert ends(table) == [Finished("mail", "charge", "a", START, Outcome.SUCCEEDED)]


def test_the_run_of_another_attempt_is_not_known(table: Table) -> None:
    started_at(table)
    table.pass_by(60)
    assert fill(table, retries=2)
    assert ends(table) == [Finished("mail", "charge", "a", START + 61, Outcome.SUCCEEDED, attempt=3)]


def test_a_task_that_no_worker_knows_unless_it_ran(table: Table) -> None:
    started_at(table)
    assert fill(table, "a", Outcome.NOT_FOUND)
    assert fill(table, "b", Outcome.NOT_FOUND)
    found = {end.job_id: (end.outcome, end.exception) for end in ends(table) if isinstance(end, Finished)}
    assert found == {"a": (Outcome.FAILED, "NotRegistered"), "b": (Outcome.NOT_FOUND, None)}


def test_what_may_never_have_run_counts_where_a_worker_had_it(table: Table) -> None:
    table.receive("a")
    assert fill(table, "a", doubtful=True)
    assert not fill(table, "b", doubtful=True)
    table.send("c")
    assert not fill(table, "c", doubtful=True)


def test_of_two_attempts_the_one_in_the_worker_of_the_result_ends(table: Table) -> None:
    started_at(table)
    table.pass_by(5)
    table.tell("started", worker=OTHER)
    table.pass_by(5)
    assert fill(table, worker=OTHER)
    assert [attempt.worker for attempt in running(table)] == [WORKER]
    assert [end.run for end in ends(table) if isinstance(end, Finished)] == [5]


def test_a_worker_under_a_key_prefix_is_known_by_its_name_alone(table: Table) -> None:
    table.tell("started", worker="shop:" + WORKER)
    assert fill(table, worker=WORKER)
    assert not running(table)


def test_a_result_by_a_clock_that_is_behind_gives_no_negative_run(table: Table) -> None:
    started_at(table)
    assert fill(table, at=START - 2)
    assert ends(table) == [Finished("mail", "charge", "a", START - 2, Outcome.SUCCEEDED, run=0)]


def test_a_result_by_a_clock_that_is_ahead_ends_no_later_than_now(table: Table) -> None:
    assert fill(table, at=START + 8)
    (end,) = ends(table)
    assert isinstance(end, Finished)
    assert end.at == START


# -- what was told before, or is told later ---------------------------------------------------------------------


def test_what_waits_for_its_names_has_them_of_the_result(table: Table) -> None:
    table.send("other")
    table.tell("started")
    table.tell("succeeded")
    table.all()
    assert not fill(table, name="charge", named="mail")
    assert [(event.queue, event.task) for event in table.all() if isinstance(event, Started | Finished)] == [
        ("mail", "charge")
    ] * 2


@pytest.mark.parametrize("kind", ["succeeded", "failed", "revoked"])
def test_an_end_that_an_event_told_is_not_counted_again(table: Table, kind: str) -> None:
    started_at(table)
    table.tell(kind)
    for late in (-1.0, 0.0, 1.0, SAME_END):  # a worker says that it revokes a job before it writes that
        assert not fill(table, at=START + 1 + late)


@pytest.mark.parametrize("kind", ["succeeded", "failed", "revoked", "rejected", "retried"])
def test_an_event_that_comes_after_the_result_counts_nothing(table: Table, kind: str) -> None:
    started_at(table)
    table.pass_by(1)
    assert fill(table, "a", Outcome.FAILED)
    table.tell(kind)
    table.pass_by(GRACE)
    assert len(table.all()) == 1


def test_all_events_of_a_job_may_come_after_its_result(table: Table) -> None:
    assert fill(table, name="charge")
    assert table.filled_starts == 1
    table.receive()
    table.tell("started", at=START - 1)  # kept back by a worker whose broker was away
    assert table.filled_starts == 0, "it was heard after all"
    table.tell("succeeded", runtime=1.0)
    assert table.all() == [
        Finished(UNKNOWN, "charge", "a", START, Outcome.SUCCEEDED),
        Started(UNKNOWN, "charge", "a", START - 1),
    ]
    assert not running(table)


def test_a_result_is_counted_once_over_many_gaps(table: Table) -> None:
    assert fill(table)
    for _ in range(3):
        table.pass_by(5)
        assert not fill(table, at=START)


def test_a_job_that_ran_again_ends_again(table: Table) -> None:
    started_at(table)
    table.tell("failed", exception="E()")
    table.pass_by(SAME_END)
    table.tell("started", worker=OTHER)
    table.pass_by(SAME_END)
    assert fill(table)
    table.pass_by(2 * SAME_END)
    table.tell("started")
    table.tell("succeeded")
    assert len(ends(table)) == 3


def test_the_result_of_an_earlier_run_does_not_end_the_one_that_goes_on(table: Table) -> None:
    started_at(table, 60)
    assert not fill(table, at=START)
    assert running(table)


def test_the_result_of_the_job_before_does_not_end_the_one_under_its_id(table: Table) -> None:
    started_at(table)
    table.tell("succeeded")
    table.send()
    assert not fill(table)
    table.pass_by(60)
    assert fill(table)


# -- what is remembered -----------------------------------------------------------------------------------------


def test_nothing_is_counted_that_may_have_been_told_and_forgotten() -> None:
    table = Table(ended_jobs=1)
    for uuid in "abc":
        table.pass_by(10)
        table.tell("revoked", uuid)
    assert table.ended.known_since == START + 20
    assert not fill(table, "a", at=START + 10)
    assert not fill(table, "b", at=START + 20)
    assert fill(table, "d", at=START + 21)


def test_a_clock_that_is_far_ahead_does_not_forbid_to_count() -> None:
    table = Table(ended_jobs=1)
    table.tell("revoked", "a", at=START + CLOCKS_AGREE + 1)
    table.tell("revoked", "b")
    table.tell("revoked", "c")
    assert table.ended.known_since == START


def test_ends_by_a_clock_that_is_ahead_are_not_counted_again() -> None:
    table = Table(ended_jobs=1)
    for number in range(40):
        table.tell("revoked", str(number), at=START + table.moment + 30)
        table.pass_by(1)
    assert not any(fill(table, str(number), at=START + number + 30) for number in range(40))
    assert fill(table, "another", at=START + 50 + CLOCKS_AGREE), "of a worker whose clock is right"


def test_of_ends_by_clocks_that_are_ahead_a_number_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "KEPT_IDS", 3)
    table = Table(ended_jobs=1)
    for number in range(6):
        table.tell("revoked", str(number), at=START + 100 + number)
    assert table.ended.known_since == START + 101
    assert not any(fill(table, str(number), at=START + 100 + number) for number in range(5))


def test_while_results_are_counted_no_end_is_forgotten() -> None:
    table = Table(ended_jobs=2)
    table.ended.keep()
    jobs = [str(number) for number in range(50)]
    assert all(fill(table, uuid) for uuid in jobs)
    assert not any(fill(table, uuid) for uuid in jobs), "a walk may come by a key twice"
    table.tell("succeeded", jobs[0])
    assert len(ends(table)) == len(jobs)
    table.ended.release()
    assert table.ended.known_since == START, "the next gap must not count those that are forgotten"
    assert not any(fill(table, uuid) for uuid in jobs)


def test_beyond_what_can_be_remembered_nothing_more_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended, "KEPT_IDS", 3)
    table = Table(ended_jobs=2)
    table.ended.keep()
    assert [fill(table, str(number)) for number in range(8)] == [True] * 6 + [False] * 2


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["received", "started", "succeeded", "failed", "revoked", "result", "gap"]),
            st.sampled_from("abc"),
            st.sampled_from([0.0, 1.0, 20.0]),
        ),
        max_size=40,
    )
)
def test_no_job_ends_more_often_than_it_could(told: list[tuple[str, str, float]]) -> None:
    """One that was started n times ends n + 1 times at most: the first start may have been missed; or once for each
    result that was written later."""
    table = Table(ended_jobs=2)
    for kind, uuid, passed in told:
        if kind == "result":
            fill(table, uuid)
        elif kind == "gap":
            table.ended.keep()
        else:
            table.tell(kind, uuid)
        table.pass_by(passed)
    table.flush()
    counted = ends(table)
    for uuid in "abc":
        heard = sum(entry[0] in ("succeeded", "failed", "revoked", "result") and entry[1] == uuid for entry in told)
        assert sum(end.job_id == uuid for end in counted if isinstance(end, Finished)) <= heard
    open_attempts = {id(a) for job in [*table._jobs.values(), *table.ended.values()] for a in job.attempts}
    assert {id(a) for a in running(table)} == open_attempts


# -- names without `task-sent` ----------------------------------------------------------------------------------


def consumes(table: Table, *queues: str, worker: str = WORKER) -> None:
    """A worker answered which queues it consumes."""
    table.workers.answered(worker, Consumes(frozenset(queues)), "", table.moment, table.moment, table.moment + 60)


def queues(table: Table) -> list[str]:
    return [event.queue for event in table.all()]


def test_a_job_is_of_the_only_queue_of_its_worker(table: Table) -> None:
    consumes(table, "mail")
    for kind in ("received", "started", "succeeded"):
        table.tell(kind)
    table.tell("received", "b")
    table.tell("revoked", "b")
    table.tell("failed", "c", exception="NotRegistered('gone')")  # the first that is told of such a job
    assert queues(table) == ["mail"] * 4
    assert table.held.progress == {"mail": START}


def test_a_job_is_of_the_queue_that_its_worker_consumed_when_it_got_it(table: Table) -> None:
    consumes(table, "one")
    table.receive("prefetched")
    consumes(table, "two")  # `cancel_consumer`, `add_consumer`
    table.receive("later")
    for uuid in ("prefetched", "later", "got unheard"):
        table.tell("started", uuid)
    assert queues(table) == ["one", "two", UNKNOWN]


def test_a_job_that_came_before_its_worker_answered_has_no_queue(table: Table) -> None:
    table.receive()
    consumes(table, "one")
    table.tell("started")
    assert queues(table) == [UNKNOWN]


def test_a_worker_of_two_queues_names_none(table: Table) -> None:
    consumes(table, "mail", "bills")
    table.tell("started")
    table.tell("succeeded")
    assert queues(table) == [UNKNOWN] * 2


def test_what_task_sent_tells_wins(table: Table) -> None:
    consumes(table, "mail")
    table.send("other")
    table.tell("started")
    table.send(queue="bills")
    table.tell("succeeded")
    assert queues(table) == ["mail", "bills", "bills", "bills"]


def test_what_waited_in_vain_for_task_sent_is_of_the_only_queue(table: Table) -> None:
    table.send("other")
    consumes(table, "only")
    table.receive()
    table.tell("started")
    table.pass_by(GRACE)
    table.tell("succeeded")
    assert queues(table) == ["mail", "only", "only"]


def test_a_job_sent_to_an_exchange_is_of_the_only_queue_of_its_worker(table: Table) -> None:
    consumes(table, "only")
    table.send(queue=None)
    table.receive()
    table.tell("started")
    assert queues(table) == [UNKNOWN, "only"]


def test_a_job_goes_under_one_queue_all_its_life(table: Table) -> None:
    table.tell("started", "early")
    consumes(table, "mail")
    table.receive("early")
    table.tell("succeeded", "early")
    table.receive("late")
    table.tell("started", "late")
    consumes(table, "mail", "bills")
    table.tell("retried", "late")
    table.tell("started", "late", OTHER)
    table.tell("succeeded", "late", OTHER)
    assert queues(table) == [UNKNOWN, UNKNOWN, *["mail"] * 4]


def test_the_result_of_a_job_of_a_worker_with_one_queue(table: Table) -> None:
    consumes(table, "mail")
    assert fill(table, worker=WORKER)  # got unheard
    table.receive("b")
    assert fill(table, "b")
    assert queues(table) == [UNKNOWN, "mail"]


def test_a_job_that_began_unheard_is_named_by_what_its_worker_answered(table: Table) -> None:
    job = ActiveJob("a", "charge", "", "mail", START)
    table.workers.answered(WORKER, Active((job,)), "", 0, 0, 60)
    table.tell("succeeded", runtime=2.0)
    table.tell("succeeded", "b")
    assert table.all() == [
        Finished("mail", "charge", "a", START, Outcome.SUCCEEDED, run=2.0),
        Finished(UNKNOWN, UNKNOWN, "b", START, Outcome.SUCCEEDED),
    ]
