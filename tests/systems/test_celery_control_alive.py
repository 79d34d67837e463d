"""Which of Celery's workers live, by heartbeats, answers, and the number of those that were asked."""

from __future__ import annotations

import pytest

from exporter.systems.celery.control.answers import (
    Alive,
    Answer,
    Stats,
)
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.asked import SILENT_ROUNDS
from exporter.systems.celery.workers.staff import Staff
from exporter.systems.celery.workers.worker import FREQ
from tests.systems.celery_frames import event
from tests.systems.celery_told import BELIEVED, FORGET, ONE, PREFORK, ROUND, SOLO, STALE, TWO, Told, consumes
from tests.systems.observing import START

# -- alive ------------------------------------------------------------------------------------------------------


def test_heartbeats_that_stop_outweigh_answers(heard: Told) -> None:
    heard.beat()
    heard.tick = 0.5
    heard.answer(Stats(4, 7, PREFORK))
    heard.ask_all(ONE)
    assert heard.up_by_name() == {ONE: True}
    heard.tick = STALE + 0.1
    assert heard.up_by_name() == {ONE: False}


@pytest.mark.parametrize("connected", [True, False])
def test_a_worker_without_heartbeats_lives_while_it_answers_or_somebody_is_there_who_does_not(connected: bool) -> None:
    workers = Told(connected=connected)
    workers.ask_all(ONE)
    for silent in range(1, SILENT_ROUNDS + 2):
        workers.tick += ROUND
        workers.ask_all(listening=1)
        workers.forget(workers.tick)
        assert workers.up_by_name() == ({ONE: True} if silent < SILENT_ROUNDS else None)
    workers.ask_all(ONE)
    assert workers.up_by_name() == {ONE: True}
    # once nobody is there, it is gone: whether it was stopped or killed, nothing tells
    workers.ask_all(listening=0)
    assert workers.up_by_name() == {}
    workers.ask_all(ONE)
    assert workers.up_by_name() == {ONE: True}


def test_of_two_without_heartbeats_nobody_knows_who_is_there(heard: Told) -> None:
    heard.ask_all(ONE, TWO)
    heard.ask_all(listening=2)
    assert heard.up_by_name() == {ONE: True, TWO: True}
    heard.ask_all(listening=1)
    assert (heard.up_by_name(), heard.look(heard.tick).states()) == (None, None)


def test_a_worker_without_heartbeats_is_unknown_once_nobody_is_asked(heard: Told) -> None:
    heard.ask_all(ONE)
    heard.tick = BELIEVED + 1
    assert heard.up_by_name() is None  # the last round is too old
    heard.ask_all(ONE)
    assert heard.up_by_name() == {ONE: True}


def test_workers_are_known_once_every_one_that_was_asked_is(unheard: Told) -> None:
    assert unheard.up_by_name() is None
    unheard.ask_all(ONE, listening=2)
    assert unheard.up_by_name() is None
    unheard.ask_all(ONE)
    assert unheard.up_by_name() == {ONE: True}
    unheard.tick += SILENT_ROUNDS * ROUND
    assert unheard.up_by_name() == {ONE: True}
    unheard.tick += 0.1
    assert unheard.up_by_name() is None


def test_a_listener_that_nobody_knows_leaves_the_number_of_workers_unknown(heard: Told) -> None:
    heard.ask_all(listening=1)  # solo, without heartbeats, and busy since before we came
    assert (heard.up_by_name(), heard.staff("a", heard.tick), heard.look(heard.tick).running()) == (None, None, None)
    heard.ask_all(listening=0)
    assert heard.up_by_name() == {}


def test_heartbeats_tell_who_does_not_answer(heard: Told) -> None:
    heard.beat()  # and its answers cannot be read
    heard.tick = 1
    heard.ask_all(listening=1)
    assert heard.up_by_name() == {ONE: True}
    heard.ask_all(listening=2)
    assert heard.up_by_name() is None
    assert [state.worker for state in heard.look(heard.tick).states() or ()] == [ONE]
    heard.beat(TWO)
    assert heard.up_by_name() is None  # it may have come since
    heard.tick += 0.1
    heard.ask_all(listening=2)
    assert heard.up_by_name() == {ONE: True, TWO: True}


def test_another_process_is_not_the_one_that_did_not_answer(heard: Told) -> None:
    heard.beat()
    heard.ask_all(listening=1)
    assert heard.up_by_name() == {ONE: True}
    heard.beat(pid=8)
    assert heard.up_by_name() is None


def test_one_that_comes_back_is_not_the_one_that_did_not_answer(heard: Told) -> None:
    heard.beat()
    heard.ask_all(listening=1)
    heard.beat(kind="offline")
    heard.beat()
    assert heard.up_by_name() is None


def test_a_goodbye_tells_who_did_not_answer(heard: Told) -> None:
    heard.beat()
    heard.ask_all(listening=1)
    heard.beat(kind="offline")
    assert heard.up_by_name() == {}


def test_one_that_was_lost_since_may_have_been_another_that_did_not_answer(heard: Told) -> None:
    heard.beat()
    heard.answer(Stats(4, 7, PREFORK))
    heard.tick = 1
    heard.ask_all(listening=1)
    heard.tick = STALE + 1
    assert heard.up_by_name() is None
    assert not heard.state_of().up
    heard.ask_all(listening=0)
    assert heard.up_by_name() == {ONE: False}


def test_heartbeats_tell_the_key_prefix(heard: Told) -> None:
    heard.asks_under({"a:"})
    heard.take(event("worker-heartbeat", worker="a:" + ONE, active=0), START, 0, "a:")
    heard.ask_all(prefix="a:", listening=1)
    assert heard.up_by_name() == {"a:" + ONE: True}


def test_all_key_prefixes_have_to_be_known() -> None:
    workers = Told(connected=True)
    workers.asks_under({"", "shop:"})
    assert workers.up_by_name() is None
    workers.ask_all(prefix="shop:", listening=1)
    assert workers.up_by_name() is None
    workers.ask_all(prefix="shop:", listening=0)
    assert workers.up_by_name() == {}
    workers.asks_under(())
    assert workers.up_by_name() is None


# -- silent ones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [(Stats(1, 7, SOLO),), (), (Stats(1, 7, "mine:Pool"),)])
def test_a_solo_worker_that_is_busy_is_neither_up_nor_down(heard: Told, answers: tuple[Answer, ...]) -> None:
    heard.beat(active=0)
    heard.answer(*answers, consumes("a"))
    heard.tick = STALE + 0.1  # and nobody was asked since
    assert (heard.up_by_name(), heard.look(heard.tick).states()) == (None, None)
    heard.ask_all(listening=1)
    assert (heard.up_by_name(), heard.staff("a", heard.tick), heard.look(heard.tick).running()) == (None, None, None)
    assert heard.look(heard.tick).states() is None
    heard.beat(active=0)
    assert heard.up_by_name() == {ONE: True}
    heard.tick += STALE + 0.1
    heard.ask_all(listening=0)  # nobody is there: it was killed
    assert heard.up_by_name() == {ONE: False}


def test_a_solo_worker_that_answered_before_it_was_busy_is_not_down(heard: Told) -> None:
    heard.beat()
    heard.tick = 1
    heard.answer(Stats(1, 7, SOLO))
    heard.ask_all(ONE)
    heard.tick = STALE + 1
    assert heard.up_by_name() is None


@pytest.mark.parametrize("late", [True, False])
def test_one_that_comes_back_without_heartbeats_lives_by_its_answers(heard: Told, late: bool) -> None:
    heard.beat()
    heard.answer(Stats(4, 7, PREFORK))
    if late:
        heard.tick = STALE + 1
        assert heard.up_by_name() == {ONE: False}
    else:
        heard.tick = 2 * FREQ
    heard.ask_all(ONE)
    heard.tick += STALE
    assert heard.up_by_name() == {ONE: True}
    heard.ask_all(listening=0)
    assert heard.up_by_name() == {}


def test_lost_workers_are_forgotten_by_rounds_alone(unheard: Told) -> None:
    job = Job("a", "mail")
    unheard.answer(Alive())
    unheard.started(Attempt(ONE, START, 1, 0.0, START), job)
    unheard.ask_all(listening=1)
    assert job.attempts == ()
    assert list(unheard._workers) == [ONE]
    unheard.tick = FORGET + 1
    unheard.ask_all(listening=1)
    assert not unheard._workers


# -- two of one name --------------------------------------------------------------------------------------------


def test_workers_of_one_name_under_two_key_prefixes_are_two(heard: Told) -> None:
    heard.asks_under({"a:", "b:"})
    for prefix in ("a:", "b:"):
        heard.answer(consumes("mail"), Stats(4, 7), prefix=prefix)
        heard.ask_all(ONE, prefix=prefix)
    assert heard.up_by_name() == {"a:" + ONE: True, "b:" + ONE: True}
    assert heard.staff("a:mail", heard.tick) == Staff(1, 4, None)
    assert not heard.problems(heard.tick)


def test_two_that_answer_under_one_name_are_told(heard: Told) -> None:
    heard.answer(consumes("a"))
    assert not heard.problems(0)
    heard.answer(consumes("b"))
    (problem,) = heard.problems(0)
    assert repr(ONE) in problem
    assert (heard.staff("a", 0), heard.up_by_name()) == (None, None)
    heard.ask_all(ONE)
    assert not heard.problems(heard.tick)


def test_two_that_beat_under_one_name_are_told(heard: Told) -> None:
    for pid in (7, 8):
        heard.beat(pid=pid)
        heard.tick += 1
    assert not heard.problems(heard.tick)  # it was restarted
    heard.beat(pid=7)
    assert heard.problems(heard.tick)
    assert (heard.up_by_name(), heard.state_of().busy_slots) == (None, None)
    for _ in range(4):
        heard.tick += FREQ
        heard.beat(pid=7)
    assert not heard.problems(heard.tick)
    heard.beat(pid=8)
    heard.tick += STALE + 0.1
    heard.beat(pid=7)  # ids are given anew
    assert not heard.problems(heard.tick)


def test_no_workers_is_known_where_nobody_listened(unheard: Told) -> None:
    unheard.ask_all()
    assert (unheard.up_by_name(), unheard.staff("a", unheard.tick)) == ({}, Staff(0, 0, 0))


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
    heard.tick = STALE + 1
    assert heard.up_by_name() is None
    heard.ask_all(ONE)
    assert heard.up_by_name() == {ONE: True}
