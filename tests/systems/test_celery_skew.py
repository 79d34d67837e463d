"""Clocks that are off: what is measured between two of them is not given, and nothing is dated by them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Enqueued, Finished, Retried, Started
from exporter.systems.celery.control.answers import Active, ActiveJob
from exporter.systems.celery.workers.asked import Asked
from exporter.systems.celery.workers.running import answered, gather, told
from exporter.systems.celery.workers.skew import AGREE, Skew, agrees, by_our_clock
from tests.systems.celery_frames import WORKER, event
from tests.systems.celery_table import Table
from tests.systems.observing import START

HOUR = 3600.0
OFF = [-5 * HOUR, 5 * HOUR, -2 * AGREE, 2 * AGREE, -2 * 86_400.0, 2 * 86_400.0]


@pytest.fixture
def table() -> Table:
    return Table()


def beat(table: Table, ahead: float, kind: str = "heartbeat", late: float = 0.0, active: int = 0) -> None:
    """A sign of life by a clock that is so far ahead, which took a while to come."""
    at = START + table.moment + ahead - late
    table.workers.take(event(f"worker-{kind}", at=at, active=active), START + table.moment, table.moment)


def run(table: Table, ahead: float, seconds: float = 9.0, uuid: str = "a") -> tuple[Started, Finished]:
    """What is recorded of a job that waited for a second and ran in a worker whose clock is so far ahead."""
    table.send(uuid)
    table.receive(uuid, at=START + table.moment + ahead)
    table.pass_by(1)
    table.tell("started", uuid, at=START + table.moment + ahead)
    table.pass_by(seconds)
    table.tell("failed", uuid, at=START + table.moment + ahead)
    _, started, finished = table.all()
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    return started, finished


def since(table: Table) -> list[float]:
    """Since when jobs run, by our clock."""
    worker = table.workers._workers[WORKER]
    return [*gather(told(worker.certain)).oldest.values()]


# -- the clock of a worker --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", OFF)
def test_a_worker_whose_clock_is_off_gives_no_wait_and_is_dated_by_ours(table: Table, ahead: float) -> None:
    beat(table, ahead)
    started, finished = run(table, ahead)
    assert (started.wait, started.at) == (None, START + 1)
    assert (finished.run, finished.at) == (9, START + 10)


def test_a_start_that_overtakes_its_task_sent_has_no_wait_either(table: Table) -> None:
    beat(table, 5 * HOUR)
    table.send("other")
    table.tell("started", at=START + 5 * HOUR)
    table.send()
    assert table.last() == Started("mail", "charge", "a", START)


@pytest.mark.parametrize("ahead", OFF[:2])
def test_without_heartbeats_what_a_worker_tells_at_once_shows_its_clock(table: Table, ahead: float) -> None:
    started, finished = run(table, ahead)
    assert (started.wait, started.at, finished.at) == (None, START + 1, START + 10)
    assert run(table, 0.5, uuid="b")[0].wait == 1.5


@pytest.mark.parametrize("ahead", OFF)
def test_what_runs_there_runs_since_we_heard_of_it(table: Table, ahead: float) -> None:
    beat(table, ahead)
    table.send()
    table.pass_by(3)
    table.tell("started", at=START + 3 + ahead)
    table.pass_by(60)
    assert since(table) == [START + 3]


def test_a_worker_that_tells_of_a_start_when_it_is_over_gives_the_wait(table: Table) -> None:
    beat(table, 0)  # as solo does
    table.send()
    table.pass_by(60)
    table.tell("started", at=START + 2)
    assert table.last() == Started("mail", "charge", "a", START + 2, wait=2)


def test_heartbeats_that_come_late_are_no_skew(table: Table) -> None:
    for late in (7.0, 0.2, 30.0):
        beat(table, 0, late=late)
    assert table.workers.behind(WORKER) == pytest.approx(0.2)
    assert run(table, 0)[0].wait == 1


def test_a_clock_that_was_set_right_is_believed_again(table: Table) -> None:
    beat(table, 5 * HOUR)
    for _ in range(5):
        assert run(table, 0)[0].wait is None
        beat(table, 0)
    assert run(table, 0)[0].wait == 1


def test_one_that_comes_online_may_run_elsewhere(table: Table) -> None:
    beat(table, 5 * HOUR)
    beat(table, 0, "online")
    assert run(table, 0)[0].wait == 1


def test_a_worker_that_said_goodbye_has_its_clock(table: Table) -> None:
    beat(table, 5 * HOUR)
    beat(table, 5 * HOUR, "offline")
    assert run(table, 5 * HOUR)[0].wait is None


@pytest.mark.parametrize("stamp", [0.0, math.nan, math.inf])
def test_a_heartbeat_without_time_tells_nothing(stamp: float) -> None:
    skew = Skew()
    skew.note(stamp, START)
    assert skew.behind is None


def test_what_a_worker_answers_of_its_times_is_set_right() -> None:
    active = Active((ActiveJob("a", "charge", "", "mail", START + 5 * HOUR),))
    assert [one[3] for one in answered(Asked(), active, -5 * HOUR)] == [START]
    assert [one[3] for one in answered(Asked(), active, -AGREE)] == [START + 5 * HOUR]


# -- the clock of a producer ------------------------------------------------------------------------------------


def test_a_job_that_was_sent_in_time_to_come_is_due_now_at_most(table: Table) -> None:
    table.send(at=START + 5 * HOUR)
    assert table.due("a") == START
    table.pass_by(4)
    table.tell("started")
    assert table.last() == Started("mail", "charge", "a", START + 4, wait=4)


def test_a_job_that_was_sent_long_before_we_heard_of_it_has_no_wait_and_no_age(table: Table) -> None:
    table.send(at=START - 5 * HOUR)
    assert table.due("a") is None
    table.tell("started")
    sent, started = table.all()
    assert isinstance(sent, Enqueued)
    assert started == Started("mail", "charge", "a", START)


def test_its_eta_is_one_all_the_same(table: Table) -> None:
    table.send(at=START - 5 * HOUR, eta="2023-11-14T22:13:30")
    assert table.due("a") == START + 10


# -- whatever they say ------------------------------------------------------------------------------------------


CLOCKS = st.floats(-90_000, 90_000)


@given(CLOCKS, CLOCKS, st.floats(0, 100), st.lists(st.floats(0, 4), max_size=6))
def test_by_whatever_clocks_times_are_nearly_true_and_waits_or_none(
    producer: float, worker: float, waited: float, lates: Sequence[float]
) -> None:
    table = Table()
    for late in lates:
        beat(table, worker, late=late)
    table.send(at=START + producer)
    table.pass_by(waited)
    table.tell("started", at=START + waited + worker)
    assert START + waited - AGREE - 1 <= since(table)[0] <= START + waited
    table.pass_by(7)
    table.tell("retried", at=START + waited + 7 + worker)
    table.tell("succeeded", at=START + waited + 7 + worker, runtime=1.0)
    _, started, retried, finished = table.all()
    assert isinstance(started, Started)
    assert started.wait is None or abs(started.wait - waited) <= 2 * AGREE + 4
    assert isinstance(retried, Retried)
    assert isinstance(finished, Finished)
    assert 0 <= (retried.run or 0) < 10
    for at, truth in ((started.at, waited), (retried.at, waited + 7), (finished.at, waited + 7)):
        assert at <= START + table.moment
        assert abs(at - (START + truth)) <= AGREE + 4


@given(st.floats(0, 2 * START), st.none() | st.floats(-2 * START, 2 * START))
def test_what_is_to_come_agrees_with_nothing(at: float, behind: float | None) -> None:
    if at > START + AGREE:
        assert not agrees(at, START, behind)
    assert math.isfinite(by_our_clock(at, behind))
