"""Celery's workers by what they answer, beside their heartbeats."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.model import WorkerState
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.control.answers import (
    Active,
    ActiveJob,
    Alive,
    Answer,
    Consumes,
    Registered,
    Reserved,
    Stats,
)
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.asked import SILENT_ROUNDS
from exporter.systems.celery.workers.staff import Staff
from exporter.systems.celery.workers.worker import FREQ, STALE_BEATS
from exporter.systems.celery.workers.workers import LAST_WORDS, Workers
from tests.systems.celery_frames import event
from tests.systems.observing import START

ONE, TWO = "celery@one", "celery@two"
STALE = FREQ * STALE_BEATS
FORGET = 1000.0
ROUND = 15.0
BELIEVED = 100.0


class Told(Workers):
    """Workers that are heard and asked, with a clock."""

    def __init__(self, *, connected: bool) -> None:
        super().__init__(FORGET)
        self.tick = 0.0
        if connected:
            self.connected(-STALE)

    def beat(self, name: str = ONE, kind: str = "heartbeat", **more: Any) -> None:
        given: dict[str, Any] = {"freq": FREQ, "active": 0, "sw_ver": "5.6.3", "pid": 7} | more
        self.take(event(f"worker-{kind}", worker=name, **given), START + self.tick, self.tick)

    def answer(self, *answers: Answer, name: str = ONE, prefix: str = "", asked_at: float | None = None) -> None:
        for answer in answers:
            at = self.tick if asked_at is None else asked_at
            self.answered(name, answer, prefix, at, self.tick, self.tick + BELIEVED)

    def ask_all(self, *answering: str, complete: bool = True) -> None:
        """A round in which some answer, as they do each interval."""
        began = self.tick
        for name in answering:
            self.answer(Alive(), name=name)
        self.asked(began, began + SILENT_ROUNDS * ROUND, complete=complete)

    def up_by_name(self) -> dict[str, bool] | None:
        states = self.states(self.tick)
        return None if states is None else {state.worker: state.up for state in states}

    def state_of(self, name: str = ONE) -> WorkerState:
        (found,) = [state for state in self.states(self.tick) or () if state.worker == name]
        return found


@pytest.fixture
def heard() -> Told:
    """Of a feed that has been connected for long enough."""
    return Told(connected=True)


@pytest.fixture
def unheard() -> Told:
    """Without a feed."""
    return Told(connected=False)


def consumes(*queues: str) -> Consumes:
    return Consumes(frozenset(queues))


# -- what a worker answered -------------------------------------------------------------------------------------


def test_a_worker_is_what_its_heartbeats_and_answers_say(heard: Told) -> None:
    heard.beat(active=2)
    heard.answer(consumes("a", "b"), Stats(4, 7), Registered(9), Reserved(frozenset("xyz")))
    assert heard.state_of() == WorkerState(
        worker=ONE,
        up=True,
        queues=frozenset("ab"),
        last_heartbeat=START,
        slots=4,
        busy_slots=2,
        reserved_jobs=3,
        registered_tasks=9,
        version="5.6.3",
    )


def test_what_was_not_answered_is_absent(heard: Told) -> None:
    heard.beat()
    state = heard.state_of()
    assert (state.queues, state.slots, state.reserved_jobs, state.registered_tasks) == ((), None, None, None)


def test_an_answer_is_believed_for_a_while(heard: Told) -> None:
    heard.answer(Stats(4, 7), consumes("a"))
    heard.tick = BELIEVED
    heard.beat()
    assert (heard.state_of().slots, heard.only_queue(ONE)) == (4, "a")
    heard.tick += 0.1
    heard.beat()
    assert (heard.state_of().slots, heard.only_queue(ONE), heard.staff("a", heard.tick)) == (None, None, None)


def test_a_lost_worker_has_nothing_of_what_it_answered(heard: Told) -> None:
    heard.beat()
    heard.answer(Stats(4, 7), consumes("a"), Registered(9), Reserved(frozenset()))
    heard.tick = STALE + 0.1
    assert heard.state_of() == WorkerState(ONE, up=False, last_heartbeat=START, version="5.6.3")


@pytest.mark.parametrize(
    "anew",
    [
        {"kind": "online", "pid": 8},
        {"kind": "online", "pid": 7, "active": 0},  # as in a container, where the first process is always 1
        {"kind": "heartbeat", "pid": 8},  # it came online unheard
    ],
)
def test_a_restarted_worker_loses_its_answers_until_it_answers_anew(heard: Told, anew: dict[str, Any]) -> None:
    heard.beat()
    heard.answer(Stats(4, 7), consumes("a"))
    heard.beat(**anew)
    assert (heard.state_of().slots, heard.only_queue(ONE), heard.staff("a", 0)) == (None, None, None)
    heard.answer(Stats(8, 8), consumes("b"))
    assert (heard.state_of().slots, heard.only_queue(ONE)) == (8, "b")


def test_another_process_that_answers_takes_nothing_over(unheard: Told) -> None:
    unheard.answer(Stats(4, 7), consumes("a"))
    unheard.answer(Stats(2, 8))
    unheard.ask_all(ONE)
    assert (unheard.state_of().slots, unheard.only_queue(ONE)) == (2, None)


def test_a_process_that_connects_anew_keeps_its_answers(heard: Told) -> None:
    heard.beat()
    heard.answer(Stats(4, 7))
    heard.beat(kind="online", active=1)
    assert heard.state_of().slots == 4


def test_a_worker_that_said_goodbye_is_not_brought_back_by_its_last_answer(heard: Told) -> None:
    heard.beat()
    heard.answer(consumes("a"))
    heard.beat(kind="offline")
    heard.tick = LAST_WORDS
    heard.answer(consumes("a"), asked_at=heard.tick)
    assert (heard.up_by_name(), heard.only_queue(ONE), heard.staff("a", heard.tick)) == ({}, None, Staff(0, 0, 0))
    heard.tick += 0.1
    heard.answer(consumes("a"))
    assert heard.up_by_name() == {ONE: True}


# -- alive ------------------------------------------------------------------------------------------------------


def test_heartbeats_that_stop_outweigh_answers(heard: Told) -> None:
    heard.beat()
    heard.tick = STALE
    heard.ask_all(ONE)
    assert heard.up_by_name() == {ONE: True}
    heard.tick += 0.1
    assert heard.up_by_name() == {ONE: False}


@pytest.mark.parametrize("connected", [True, False])
def test_a_worker_without_heartbeats_lives_while_it_answers(connected: bool) -> None:
    workers = Told(connected=connected)
    workers.ask_all(ONE)
    for silent in range(1, SILENT_ROUNDS + 2):
        workers.tick += ROUND
        workers.ask_all()
        workers.forget(workers.tick)
        assert workers.up_by_name() == {ONE: silent < SILENT_ROUNDS}
    assert workers.state_of().last_heartbeat is None
    workers.ask_all(ONE)
    assert workers.up_by_name() == {ONE: True}


def test_a_worker_without_heartbeats_is_unknown_once_nobody_is_asked(heard: Told) -> None:
    heard.ask_all(ONE)
    heard.tick = BELIEVED
    assert heard.up_by_name() == {ONE: True}
    heard.tick += 0.1
    heard.forget(heard.tick)
    assert heard.up_by_name() is None


def test_workers_are_known_by_a_complete_round_where_none_is_heard(unheard: Told) -> None:
    assert unheard.up_by_name() is None
    unheard.ask_all(ONE, complete=False)
    assert unheard.up_by_name() is None
    unheard.ask_all(ONE)
    assert unheard.up_by_name() == {ONE: True}
    unheard.tick = SILENT_ROUNDS * ROUND + 0.1
    assert unheard.up_by_name() is None


def test_no_workers_is_known_where_nobody_listened(unheard: Told) -> None:
    unheard.ask_all()
    assert (unheard.up_by_name(), unheard.staff("a", 0)) == ({}, Staff(0, 0, 0))


def test_a_round_makes_nobody_known_before_heartbeats_must_have_come() -> None:
    workers = Told(connected=False)
    workers.connected(0)
    workers.ask_all(ONE)  # one without remote control may be there
    assert workers.up_by_name() is None
    workers.tick = STALE
    assert workers.up_by_name() == {ONE: True}


def test_a_worker_that_never_answers_is_unknown_once_it_cannot_be_heard(heard: Told) -> None:
    heard.beat()
    heard.ask_all()
    assert heard.up_by_name() == {ONE: True}
    heard.disconnected()
    assert heard.up_by_name() is None
    heard.ask_all(ONE)
    heard.tick = STALE + 1
    assert heard.up_by_name() == {ONE: True}


# -- who consumes a queue ---------------------------------------------------------------------------------------


def test_a_queue_has_the_live_workers_that_consume_it(heard: Told) -> None:
    heard.beat(active=1)
    heard.beat(TWO, active=2)
    heard.answer(consumes("a"), Stats(4, 7))
    heard.answer(consumes("a", "b"), Stats(8, 7), name=TWO)
    assert heard.staff("a", 0) == Staff(2, 12, 3)
    assert heard.staff("b", 0) == Staff(1, 8, 2)
    assert heard.staff("c", 0) == Staff(0, 0, 0)
    assert heard.consumed(0) == {"a", "b"}
    assert (heard.only_queue(ONE), heard.only_queue(TWO), heard.only_queue("other")) == ("a", None, None)


def test_nobody_is_known_to_consume_nothing_until_all_have_answered(heard: Told) -> None:
    heard.beat()
    heard.beat(TWO)
    heard.answer(consumes("a"))
    assert (heard.staff("a", 0), heard.staff("b", 0)) == (None, None)
    heard.answer(consumes("a"), name=TWO)
    assert heard.staff("a", 0) == Staff(2, None, 0)
    assert heard.staff("b", 0) == Staff(0, 0, 0)


def test_a_lost_worker_consumes_nothing(heard: Told) -> None:
    heard.beat()
    heard.answer(consumes("a"), Stats(4, 7))
    heard.tick = STALE + 0.1
    assert heard.staff("a", heard.tick) == Staff(0, 0, 0)
    assert heard.consumed(heard.tick) == frozenset()


def test_queues_go_by_the_key_prefix_under_which_it_was_asked(heard: Told) -> None:
    heard.answer(consumes("a"), prefix="shop:")
    assert heard.only_queue(ONE) == "shop:a"
    assert heard.consumed(0) == {"shop:a"}


# -- what runs --------------------------------------------------------------------------------------------------


def active(*jobs: ActiveJob) -> Active:
    return Active(jobs)


def test_what_runs_is_what_events_tell(heard: Told) -> None:
    heard.beat(active=2)
    for job, started in ((Job("x", "mail", "a"), 5.0), (Job("y", "mail"), 3.0)):
        heard.started(Attempt(ONE, START + started, 1, 0.0), job)
    heard.beat(active=2)
    heard.answer(active())  # older
    running = heard.running_jobs(0)
    assert running is not None
    assert running.ids == {"x", "y"}
    assert (running.jobs, running.tasks) == ({"a": 1, UNKNOWN: 1}, {"mail": 2})
    assert running.oldest == {"a": START + 5, UNKNOWN: START + 3}


def test_what_runs_is_what_workers_answer_where_events_do_not_tell(heard: Told) -> None:
    heard.beat(active=3)  # and no task events
    heard.beat(TWO, active=0)
    heard.answer(consumes("a", "b"))
    jobs = (
        ActiveJob("x", "mail", "", "a", 5.0),  # straight to the queue
        ActiveJob("y", "mail", "topics", "b", 4.0),  # that it consumes
        ActiveJob("z", None, "topics", "mail.urgent", None),  # wherever that leads
    )
    heard.answer(active(*jobs))
    assert heard.running_jobs(0) is None  # of all, or of none
    heard.answer(active(), name=TWO)
    running = heard.running_jobs(0)
    assert running is not None
    assert running.ids == {"x", "y", "z"}
    assert running.jobs == {"a": 1, "b": 1, UNKNOWN: 1}
    assert heard.running(0) == {"mail": 2, UNKNOWN: 1}
    assert running.oldest == {"a": 5.0, "b": 4.0}
    heard.tick = BELIEVED + 0.1
    heard.beat(active=3)
    heard.beat(TWO, active=0)
    assert heard.running_jobs(heard.tick) is None


def test_a_route_that_nobody_knows_leads_to_the_only_queue_there_is(heard: Told) -> None:
    heard.beat(active=1)
    heard.answer(consumes("a"), active(ActiveJob("x", "mail", "topics", "mail.urgent", 5.0)), prefix="p:")
    heard.answer(active(ActiveJob("y", "mail", "", "a", 5.0)), name=TWO, prefix="p:")
    running = heard.running_jobs(0)
    assert running is not None
    assert running.jobs == {"p:a": 2}


def test_without_heartbeats_what_runs_is_how_busy_a_worker_is(unheard: Told) -> None:
    unheard.answer(active(ActiveJob("x", "mail", "", "a", 5.0)))
    unheard.ask_all(ONE)
    assert unheard.state_of().busy_slots == 1


# -- who is new -------------------------------------------------------------------------------------------------


def test_those_who_came_since_are_new(heard: Told) -> None:
    assert not heard.take_new()
    heard.beat()
    assert (heard.take_new(), heard.take_new()) == (True, False)
    heard.beat()
    heard.answer(consumes("a"))
    assert not heard.take_new()
    heard.beat(kind="online", pid=8)
    assert heard.take_new()
    heard.beat(kind="offline")
    heard.take_new()
    heard.beat(kind="online")
    assert heard.take_new()
