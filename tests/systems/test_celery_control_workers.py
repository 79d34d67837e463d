"""Celery's workers by what they answer, beside their heartbeats."""

from __future__ import annotations

import math
from typing import Any

import pytest

from exporter.model import WorkerState
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.control.answers import (
    Active,
    ActiveJob,
    Registered,
    Reserved,
    Stats,
)
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.staff import Staff
from exporter.systems.celery.workers.workers import LAST_WORDS
from tests.systems.celery_told import BELIEVED, ONE, PREFORK, STALE, TWO, Told, consumes
from tests.systems.observing import START

# -- what a worker answered -------------------------------------------------------------------------------------


def test_a_worker_is_what_its_heartbeats_and_answers_say(heard: Told) -> None:
    heard.beat(active=2)
    heard.answer(consumes("a", "b"), Stats(4, 7, PREFORK), Registered(9), Reserved(frozenset("xyz")))
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
    heard.answer(Stats(4, 7, PREFORK), consumes("a"))
    heard.tick = BELIEVED
    heard.beat()
    assert (heard.state_of().slots, heard.only_queue(ONE)) == (4, "a")
    heard.tick += 0.1
    heard.beat()
    assert (heard.state_of().slots, heard.staff("a", heard.tick)) == (None, None)
    assert heard.only_queue(ONE) == "a", "its jobs go by the name that they had"


def test_a_lost_worker_has_nothing_of_what_it_answered(heard: Told) -> None:
    heard.beat()
    heard.answer(Stats(4, 7, PREFORK), consumes("a"), Registered(9), Reserved(frozenset()))
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
    heard.answer(Stats(4, 7, PREFORK), consumes("a"))
    heard.beat(**anew)
    assert (heard.state_of().slots, heard.only_queue(ONE), heard.staff("a", 0)) == (None, None, None)
    heard.answer(Stats(8, 8), consumes("b"))
    assert (heard.state_of().slots, heard.only_queue(ONE)) == (8, "b")


def test_another_process_that_answers_takes_nothing_over(unheard: Told) -> None:
    unheard.answer(Stats(4, 7, PREFORK), consumes("a"))
    unheard.answer(Stats(2, 8))
    unheard.ask_all(ONE)
    assert (unheard.state_of().slots, unheard.only_queue(ONE)) == (2, None)


def test_a_process_that_connects_anew_keeps_its_answers(heard: Told) -> None:
    heard.beat()
    heard.answer(Stats(4, 7, PREFORK))
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


# -- who consumes a queue ---------------------------------------------------------------------------------------


def test_a_queue_has_the_live_workers_that_consume_it(heard: Told) -> None:
    heard.beat(active=1)
    heard.beat(TWO, active=2)
    heard.answer(consumes("a"), Stats(4, 7, PREFORK))
    heard.answer(consumes("a", "b"), Stats(8, 7), name=TWO)
    assert heard.staff("a", 0) == Staff(2, 12, 3)
    assert heard.staff("b", 0) == Staff(1, 8, 2)
    assert heard.staff("c", 0) == Staff(0, 0, 0)
    assert heard.look(0).consumed() == {"a", "b"}
    assert (heard.only_queue(ONE), heard.only_queue(TWO), heard.only_queue("other")) == ("a", None, None)


def test_nobody_is_known_to_consume_nothing_until_all_have_answered(heard: Told) -> None:
    heard.beat()
    heard.beat(TWO)
    heard.answer(consumes("a"))
    assert (heard.staff("a", 0), heard.staff("b", 0)) == (None, None)
    heard.answer(consumes("a"), name=TWO)
    assert heard.staff("a", 0) == Staff(2, None, 0)
    assert heard.staff("b", 0) == Staff(0, 0, 0)


def test_nobody_is_known_to_consume_a_queue_that_came_after_they_were_asked(heard: Told) -> None:
    heard.note_queues(["a", "idle"], 0)
    heard.tick = 1
    heard.beat()
    heard.answer(consumes("a"))
    heard.tick = 2
    news = heard.news
    heard.note_queues(["a", "idle", "b"], heard.tick)
    assert heard.news > news
    assert heard.staff("idle", heard.tick) == Staff(0, 0, 0)
    assert heard.staff("b", heard.tick) is None
    heard.tick = 3
    heard.answer(consumes("a", "b", "told"))
    heard.note_queues(["a", "idle", "b", "told"], 4)
    assert [heard.staff(name, heard.tick) for name in ("b", "told")] == [Staff(1, None, 0)] * 2


def test_a_lost_worker_consumes_nothing(heard: Told) -> None:
    heard.beat()
    heard.answer(consumes("a"), Stats(4, 7, PREFORK))
    heard.tick = STALE + 0.1
    assert heard.staff("a", heard.tick) == Staff(0, 0, 0)
    assert heard.look(heard.tick).consumed() == frozenset()


def test_queues_go_by_the_key_prefix_under_which_it_was_asked(heard: Told) -> None:
    heard.answer(consumes("a"), prefix="shop:")
    heard.ask_all(ONE, prefix="shop:")
    assert heard.only_queue("shop:" + ONE) == "shop:a"
    assert heard.look(heard.tick).consumed() == {"shop:a"}


# -- what runs --------------------------------------------------------------------------------------------------


def active(*jobs: ActiveJob) -> Active:
    return Active(jobs)


def test_what_runs_is_what_events_tell(heard: Told) -> None:
    heard.beat(active=2)
    for job, started in ((Job("x", "mail", "a"), 5.0), (Job("y", "mail"), 3.0)):
        heard.started(Attempt(ONE, START + started, 1, 0.0, START + started), job)
    heard.beat(active=2)
    heard.answer(active())  # older
    running = heard.look(0).running()
    assert running is not None
    assert running.ids == {"x", "y"}
    assert (running.jobs, running.tasks) == ({"a": 1, UNKNOWN: 1}, {"mail": 2})
    assert running.oldest == {"a": START + 5, UNKNOWN: START + 3}


def test_events_that_are_heard_no_more_do_not_tell_what_runs(heard: Told) -> None:
    heard.beat(active=1)
    heard.started(Attempt(ONE, START, 1, 0.0, START), Job("x", "mail", "a"))
    heard.beat(active=1)
    assert heard.running(0) == {"mail": 1}
    heard.disconnected()
    assert heard.look(0).is_whole
    assert heard.running(0) is None
    heard.answer(active())
    assert heard.running(0) == {}


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
    assert heard.look(0).running() is None  # of all, or of none
    heard.answer(active(), name=TWO)
    running = heard.look(0).running()
    assert running is not None
    assert running.ids == {"x", "y", "z"}
    assert running.jobs == {"a": 1, "b": 1, UNKNOWN: 1}
    assert heard.running(0) == {"mail": 2, UNKNOWN: 1}
    assert running.oldest == {"a": 5.0, "b": 4.0}
    heard.tick = BELIEVED + 0.1
    heard.beat(active=3)
    heard.beat(TWO, active=0)
    assert heard.look(heard.tick).running() is None


def test_a_route_that_nobody_knows_leads_to_the_only_queue_there_is(heard: Told) -> None:
    heard.answer(consumes("a"), active(ActiveJob("x", "mail", "topics", "mail.urgent", 5.0)), prefix="p:")
    heard.answer(active(ActiveJob("y", "mail", "", "a", 5.0)), name=TWO, prefix="p:")
    heard.asked("p:", 0, 0, math.inf, 0)
    running = heard.look(0).running()
    assert running is not None
    assert running.jobs == {"p:a": 2}


def test_what_runs_in_a_worker_that_shuts_down_leaves_answers_wanting(heard: Told) -> None:
    heard.beat()
    heard.answer(active())
    heard.beat(TWO, active=1)
    heard.answer(active(ActiveJob("x", "mail", "", "a", 5.0)), name=TWO)
    assert heard.running(0) == {"mail": 1}
    heard.beat(TWO, kind="offline", active=1)
    heard.connected(0)
    heard.disconnected()
    assert heard.running(0) is None


def test_without_heartbeats_what_runs_is_how_busy_a_worker_is(unheard: Told) -> None:
    unheard.answer(active(ActiveJob("x", "mail", "", "a", 5.0)))
    unheard.ask_all(ONE)
    assert unheard.state_of().busy_slots == 1


# -- who is new -------------------------------------------------------------------------------------------------


def test_those_who_came_since_are_news(heard: Told) -> None:
    def news() -> bool:
        before = heard.news_seen
        heard.news_seen = heard.news
        return heard.news > before

    assert not news()
    heard.beat()
    assert (news(), news()) == (True, False)
    heard.beat()
    heard.answer(consumes("a"))
    heard.answer(consumes("a"), name=TWO)  # whose queues are known with that
    assert not news()
    heard.beat(kind="online", pid=8)
    assert news()
    heard.beat(kind="offline")
    news()
    heard.beat(kind="online")
    assert news()
