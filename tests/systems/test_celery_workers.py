"""Celery's workers by their heartbeats, by our own clock."""

from __future__ import annotations

import math
from typing import Any

import pytest

from exporter.model import WorkerState
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.worker import FREQ, MISMATCHES, STALE_BEATS
from exporter.systems.celery.workers.workers import GOODBYE_MEMORY, Workers
from tests.systems.celery_frames import event
from tests.systems.observing import START

ONE, TWO = "celery@one", "celery@two"
STALE = FREQ * STALE_BEATS
FORGET = 100.0


class Heard(Workers):
    """Workers, with a clock, of a feed that has been connected for long enough."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(FORGET, **limits)
        self.tick = 0.0
        self.hearing.anybody = True
        self.connected(-STALE)

    def beat(self, name: str = ONE, kind: str = "heartbeat", **more: Any) -> None:
        given: dict[str, Any] = {"freq": FREQ, "active": 0, "sw_ver": "5.6.3"} | more
        self.take(event(f"worker-{kind}", worker=name, **given), START + self.tick, self.tick)

    def start(self, task: str | None = "charge", worker: str = ONE, job: Job | None = None) -> Attempt:
        attempt = Attempt(worker, START + self.tick, 1, self.tick, START + self.tick)
        job = job or Job("a", task)
        job.attempts += (attempt,)
        self.started(attempt, job)
        return attempt

    def up_by_name(self) -> dict[str, bool] | None:
        """None while some may live that are not named."""
        if not self.look(self.tick).is_whole:
            return None
        return {state.worker: state.up for state in self.look(self.tick).states() or ()}

    def running_now(self) -> dict[str, int] | None:
        running = self.look(self.tick).running()
        return None if running is None else dict(running.tasks)


@pytest.fixture
def workers() -> Heard:
    return Heard()


# -- alive ------------------------------------------------------------------------------------------------------


def test_a_worker_is_what_its_heartbeat_says(workers: Heard) -> None:
    workers.tick = 5
    workers.beat(active=3)
    assert workers.look(5).states() == [
        WorkerState(ONE, up=True, last_heartbeat=START + 5, busy_slots=3, version="5.6.3"),
    ]


def test_a_worker_is_lost_after_three_beats_and_forgotten_later(workers: Heard) -> None:
    workers.beat(freq=1.0)
    workers.beat(TWO, freq=10.0)
    workers.tick = 3
    assert workers.up_by_name() is None  # a worker that beats every 10 s may not have been heard yet
    workers.connected(-60)
    assert workers.up_by_name() == {ONE: True, TWO: True}
    workers.tick = 3.1
    assert workers.up_by_name() == {ONE: False, TWO: True}
    workers.tick = FORGET + 0.1
    workers.beat(TWO)
    workers.forget(workers.tick)
    assert workers.up_by_name() == {TWO: True}


def test_a_lost_worker_has_no_busy_slots_and_comes_back(workers: Heard) -> None:
    workers.beat(active=3)
    workers.tick = STALE + 1
    (state,) = workers.look(workers.tick).states() or ()
    assert (state.up, state.busy_slots, state.last_heartbeat) == (False, None, START)
    workers.beat()
    assert workers.up_by_name() == {ONE: True}


def test_a_worker_that_says_goodbye_is_gone_at_once(workers: Heard) -> None:
    workers.beat()
    workers.beat(kind="offline")
    assert workers.up_by_name() == {}


def test_a_wrong_clock_or_offset_changes_nothing(workers: Heard) -> None:
    workers.take(event("worker-online", worker=ONE, at=math.nan), START, 0)
    assert workers.up_by_name() == {ONE: True}


@pytest.mark.parametrize("freq", [None, math.nan, math.inf, 0.0, -1.0, 1e9])
def test_a_frequency_that_cannot_be_is_taken_for_the_usual_one(workers: Heard, freq: float | None) -> None:
    workers.beat(freq=freq)
    workers.tick = STALE
    assert workers.up_by_name() == {ONE: True}
    workers.tick = STALE + 0.1
    assert workers.up_by_name() == {ONE: False}


def test_workers_are_unknown_until_all_must_have_been_heard(workers: Heard) -> None:
    workers.disconnected()
    assert workers.up_by_name() is None
    workers.connected(0)
    workers.beat()
    workers.tick = STALE - 0.1
    assert workers.up_by_name() is None
    workers.tick = STALE
    assert workers.up_by_name() == {ONE: True}


def test_before_any_was_heard_there_may_be_workers_that_send_no_heartbeats(workers: Heard) -> None:
    workers.hearing.anybody = False
    assert (workers.up_by_name(), workers.look(0).states(), workers.running_now()) == (None, None, None)
    workers.beat()
    workers.beat(kind="offline")
    assert workers.up_by_name() == {}


def test_the_one_not_heard_of_for_longest_makes_room() -> None:
    workers = Heard(limit=2)
    workers.beat(ONE)
    workers.beat(TWO)
    workers.beat(ONE)
    runs = Job("a", "charge")
    workers.start(worker=TWO, job=runs)
    workers.beat(ONE)
    workers.beat("celery@three")
    assert workers.up_by_name() == {ONE: True, "celery@three": True}
    assert runs.attempts == ()


# -- running ----------------------------------------------------------------------------------------------------


def test_what_runs_is_counted_by_task(workers: Heard) -> None:
    workers.beat()
    workers.beat(TWO)
    ending = workers.start()
    workers.start(worker=TWO)
    workers.start("mail")
    assert workers.running_now() == {"charge": 2, "mail": 1}
    workers.ended(ending)
    workers.ended(ending)
    assert workers.running_now() == {"charge": 1, "mail": 1}


def test_nothing_runs_in_a_worker_that_is_gone(workers: Heard) -> None:
    workers.beat()
    workers.start()
    workers.beat(TWO)
    workers.start("mail", TWO)
    workers.beat(kind="offline")
    assert workers.running_now() == {"mail": 1}
    workers.tick = STALE + 1
    assert workers.running_now() == {}


def test_what_ran_before_we_came_leaves_it_unknown(workers: Heard) -> None:
    workers.beat(active=2)
    workers.start()
    assert workers.running_now() is None
    workers.beat(active=1)
    assert workers.running_now() == {"charge": 1}


def test_a_worker_without_heartbeats_leaves_all_unknown_for_as_long_as_it_works(workers: Heard) -> None:
    workers.start(worker="silent")
    assert (workers.up_by_name(), workers.running_now()) == (None, None)
    workers.tick = FORGET
    workers.beat()
    workers.forget(workers.tick)
    assert (workers.up_by_name(), workers.running_now()) == (None, None)
    workers.tick = FORGET + 1
    workers.forget(workers.tick)
    assert (workers.up_by_name(), workers.running_now()) == ({ONE: True}, {})


def test_after_a_gap_what_runs_is_believed_again_once_it_agrees(workers: Heard) -> None:
    workers.beat()
    missed = Job("a", "missed")
    workers.start(job=missed)
    workers.tick = 1
    workers.connected(-60)
    assert workers.running_now() is None
    workers.start("mail")
    assert workers.running_now() is None
    workers.beat(active=1)  # what began before the gap has ended in it
    assert workers.running_now() == {"mail": 1}
    assert missed.attempts == ()


def test_what_runs_through_a_gap_leaves_it_unknown_until_it_ends(workers: Heard) -> None:
    workers.beat()
    long = workers.start("long")
    workers.connected(-60)
    workers.start("mail")
    for beat in range(2 * MISMATCHES):
        workers.tick = beat * FREQ
        workers.beat(active=2)
        assert workers.running_now() is None
    workers.ended(long)
    workers.beat(active=1)
    assert workers.running_now() == {"mail": 1}


def test_after_lost_events_what_runs_and_who_lives_is_doubted(workers: Heard) -> None:
    workers.beat()
    workers.start()
    workers.missed(0)
    assert (workers.up_by_name(), workers.running_now()) == (None, None)
    for workers.tick in (FREQ, STALE):
        workers.beat(active=1)
    assert (workers.up_by_name(), workers.running_now()) == ({ONE: True}, None)
    workers.beat(active=0)
    assert workers.running_now() == {}
    workers.disconnected()
    workers.missed(STALE)  # of a connection that is over
    workers.tick = 3 * STALE
    assert workers.up_by_name() is None


def test_a_worker_that_comes_back_from_a_goodbye_after_a_gap_agrees_at_once(workers: Heard) -> None:
    workers.beat()
    workers.beat(kind="offline")
    workers.connected(-60)
    workers.beat()
    assert workers.running_now() == {}


@pytest.mark.parametrize("active", [0, 1, 4])
def test_what_a_worker_denies_for_three_beats_is_believed_no_more(workers: Heard, active: int) -> None:
    workers.beat()
    workers.start("ignored")  # `raise Ignore` ends a job without an event
    workers.start("long")
    for beat in range(1, MISMATCHES):
        workers.tick = beat * FREQ
        workers.beat(active=active)
        assert workers.running_now() == {"ignored": 1, "long": 1}
    workers.tick += FREQ
    workers.beat(active=active)
    assert workers.running_now() is None
    for _ in range(active):
        workers.start("mail")
    workers.beat(active=active)
    assert workers.running_now() == ({"mail": active} if active else {})


def test_a_job_that_ends_without_an_event_among_ghosts_is_no_obstacle(workers: Heard) -> None:
    workers.start("ignored")
    for _ in range(MISMATCHES + 1):
        workers.beat(active=0)
    assert workers.running_now() == {}


def test_a_heartbeat_that_task_events_lag_behind_is_no_reason_to_doubt(workers: Heard) -> None:
    workers.beat()
    for beat in range(1, 20):
        workers.tick = beat * FREQ
        short = workers.start("short")
        workers.beat(active=(4, 4, 1)[beat % 3])
        workers.ended(short)
        assert workers.running_now() == {}
    workers.start("short")
    for beat in range(20, 40):
        workers.tick = beat * FREQ
        workers.beat(active=2 * (beat % 2))  # now one more, now one less
        assert workers.running_now() == {"short": 1}


# -- goodbyes, and those that come back -------------------------------------------------------------------------


def test_a_job_that_starts_after_the_goodbye_brings_no_worker_back(workers: Heard) -> None:
    workers.beat()
    workers.beat(TWO)
    workers.beat(kind="offline")
    late = workers.start()  # in a pool of threads
    assert (workers.up_by_name(), workers.running_now()) == ({TWO: True}, None)
    workers.ended(late)
    assert workers.running_now() == {}
    workers.beat(kind="online")
    assert workers.up_by_name() == {ONE: True, TWO: True}


@pytest.mark.parametrize("told", [True, False])
def test_what_runs_in_a_worker_that_shuts_down_leaves_it_unknown_until_it_ended(workers: Heard, told: bool) -> None:
    workers.beat(TWO)
    attempts = [workers.start(), workers.start()] if told else []
    workers.beat(active=2 if told else 1)
    workers.beat(kind="offline", active=2 if told else 1)
    attempts.append(workers.start())  # in a pool of threads, after the goodbye
    for attempt in attempts:
        assert workers.running_now() is None
        workers.ended(attempt)
    assert workers.running_now() == ({} if told else None)
    workers.tick = GOODBYE_MEMORY + 0.1  # it may have been killed, and nothing tells
    workers.beat(TWO)
    workers.forget(workers.tick)
    assert workers.running_now() == {}


def test_a_goodbye_is_remembered_for_a_while(workers: Heard) -> None:
    job = Job("a")
    workers.beat(kind="offline")
    workers.start(job=job)
    workers.tick = GOODBYE_MEMORY + 0.1
    workers.forget(GOODBYE_MEMORY - 0.1)
    assert job.attempts
    workers.forget(workers.tick)
    assert not job.attempts
    workers.start()
    assert workers.up_by_name() is None  # somebody works there all the same


def test_goodbyes_are_bounded() -> None:
    workers = Heard(limit=2)
    for number in range(9):
        workers.beat(f"w{number}", kind="offline")
    assert list(workers._gone) == ["w7", "w8"]


def test_a_worker_without_heartbeats_is_forgotten_soon_once_it_rests(workers: Heard) -> None:
    workers.beat(TWO)
    attempt = workers.start(worker="silent")
    workers.tick = STALE + 1
    workers.beat(TWO)
    workers.forget(workers.tick)
    assert workers.up_by_name() is None
    workers.ended(attempt)
    workers.forget(workers.tick)
    assert workers.up_by_name() == {TWO: True}


@pytest.mark.parametrize(("pid", "active"), [(8, 1), (7, 0), (None, 0)])
def test_nothing_of_a_former_process_runs_in_a_new_one(workers: Heard, pid: int | None, active: int) -> None:
    job = Job("a", "charge")
    workers.beat(kind="online", pid=7)
    workers.start(job=job)
    workers.beat(active=1, pid=7)
    assert workers.running_now() == {"charge": 1}
    workers.beat(kind="online", pid=pid, active=active)
    assert job.attempts == ()
    assert workers.running_now() == (None if active else {})


def test_a_process_that_connects_anew_runs_what_it_ran(workers: Heard) -> None:
    job = Job("a", "charge")
    workers.beat(kind="online", pid=7)
    workers.start(job=job)
    for kind in ("online", "offline", "online"):  # events may be switched off and on
        workers.beat(kind=kind, pid=7, active=1)
        assert len(job.attempts) == 1


def test_nothing_runs_in_a_worker_that_is_forgotten(workers: Heard) -> None:
    job = Job("a", "charge")
    workers.beat()
    workers.start(job=job)
    workers.forget(FORGET)
    assert job.attempts
    workers.forget(FORGET + 0.1)
    assert not job.attempts
