"""The task table: jobs under the id of another, as `Task.replace` sends them."""

from __future__ import annotations

import pytest

from exporter.model import Enqueued, Finished, Outcome, Started
from exporter.safe.text import UNKNOWN
from tests.systems.celery_frames import WORKER
from tests.systems.celery_table import OTHER, Table, outcome, running, started_at
from tests.systems.observing import START


@pytest.fixture
def table() -> Table:
    return Table()


def names(table: Table) -> list[tuple[str, str]]:
    return [(type(event).__name__, event.task) for event in table.all()]


def queues_and_waits(table: Table) -> list[tuple[str, str, float | None]]:
    return [(type(event).__name__, event.queue, getattr(event, "wait", None)) for event in table.all()]


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


@pytest.mark.parametrize("received", ["before", "after"])
def test_a_job_replaced_by_its_like_before_its_start_is_told_is_another(table: Table, received: str) -> None:
    """What runs it tells of the next before its worker tells of the start; with the pool `solo`, of anything."""
    table.send(queue="first")
    if received == "before":
        table.receive()
    table.pass_by(1)
    table.send(queue="second")
    if received == "after":
        table.receive()
    table.tell("started")
    table.receive()
    table.pass_by(1)
    table.tell("started")
    table.tell("succeeded", runtime=0.5)
    assert queues_and_waits(table) == [
        *[("Enqueued", "first", None), ("Enqueued", "second", None), ("Started", "first", 1)],
        *[("Started", "second", 1), ("Finished", "second", None)],
    ]


@pytest.mark.parametrize("worker", [WORKER, OTHER])
def test_a_job_replaced_by_its_like_may_be_received_before_it_is_told_to_be_sent(table: Table, worker: str) -> None:
    table.send(queue="first")
    table.receive()
    table.tell("started")
    table.pass_by(5)
    table.receive(worker=worker)
    table.send(queue="second")
    assert table._jobs["a"].receiver == worker
    table.pass_by(2)
    table.tell("started", worker=worker)
    table.tell("succeeded", worker=worker, runtime=0.5)
    assert queues_and_waits(table) == [
        *[("Enqueued", "first", None), ("Started", "first", 0), ("Enqueued", "second", None)],
        *[("Started", "second", 2), ("Finished", "second", None)],
    ]
    assert not running(table)


def test_a_job_replaced_by_its_like_may_have_been_delivered_again_before(table: Table) -> None:
    table.send(queue="first")
    table.receive()
    table.tell("started")
    table.receive(worker=OTHER)
    table.pass_by(5)
    table.send(queue="second")
    table.tell("started", worker=OTHER)
    table.receive()
    table.tell("started")
    assert queues_and_waits(table) == [
        *[("Enqueued", "first", None), ("Started", "first", 0), ("Enqueued", "second", None)],
        *[("Started", "first", None), ("Started", "second", 0)],
    ]


def test_a_job_replaced_by_another_was_not_received_as_that(table: Table) -> None:
    table.send(name="whole", queue="first")
    table.receive(name="whole")
    table.tell("started")
    table.receive(name="whole", worker=OTHER)  # delivered again
    table.send(name="part", queue="second")
    table.tell("started", worker=OTHER)
    assert names(table)[-1] == ("Started", "whole")


@pytest.mark.parametrize("overtakes", [False, True])
def test_a_job_goes_by_the_name_it_was_sent_under_whatever_its_workers_call_it(table: Table, overtakes: bool) -> None:
    """As its caller may say by `shadow`, which `task-received` has and `task-sent` has not."""
    table.send("another", name="deliver")
    if not overtakes:
        table.send(name="deliver")
    table.receive(name="by night")
    table.tell("started")
    if overtakes:
        table.send(name="deliver")
    table.tell("retried")
    table.send(name="deliver", retries=1)
    table.receive(name="by night", retries=1)
    table.tell("started")
    table.tell("succeeded")
    assert {(event.queue, event.task) for event in table.take_events()} == {("mail", "deliver")}
    assert not running(table)
    table.receive(name="part")  # what replaces it is another
    table.tell("started")
    table.flush()
    assert names(table) == [("Started", "part")]
