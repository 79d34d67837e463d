"""How many starts were lost, by the heartbeats of workers."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.systems.celery.events import loss
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.events.loss import BEATS, FAMILIAR_SECONDS, Losses
from tests.systems.celery_frames import WORKER

OTHER = "celery@two"


class Heard:
    """Workers that start jobs, and what is heard of them."""

    def __init__(self) -> None:
        self.losses = Losses()
        self.processed: dict[str, int] = {}
        self.pids: dict[str, int] = {}
        self.deaf = True
        self.tick = 0.0
        self.at = 1000.0
        self.listen()

    def listen(self) -> None:
        self.deaf = False
        self.losses.connected(self.tick)

    def cut(self, after: float = FAMILIAR_SECONDS) -> None:
        self.tick += after
        self.deaf = True
        self.losses.disconnected(self.tick)

    def start(self, jobs: int = 1, worker: str = WORKER, *, told: bool = True) -> None:
        self.processed[worker] = self.processed.get(worker, 0) + jobs
        if told:
            self.tell_of(jobs, worker)

    def end_unstarted(self, jobs: int = 1, runtime: float = 0.1, worker: str = WORKER) -> None:
        self.processed[worker] = self.processed.get(worker, 0) + jobs
        for _ in range(jobs):
            self.at += 1
            self.losses.take_unstarted(Event("task-succeeded", "a", worker, self.at, runtime=runtime), None)

    def tell_of(self, jobs: int, worker: str = WORKER) -> None:
        if not self.deaf:
            for _ in range(jobs):
                self.losses.take(Event("task-started", "a", worker, pid=self.pids.get(worker, 7)))

    def beat(
        self, count: int = BEATS, worker: str = WORKER, kind: str = "worker-heartbeat", freq: float | None = None
    ) -> None:
        processed, pid = self.processed.setdefault(worker, 0), self.pids.get(worker, 7)
        if not self.deaf:
            for _ in range(count):
                self.at += 1
                self.losses.take(Event(kind, "", worker, self.at, processed=processed, pid=pid, freq=freq))

    def restart(self, worker: str = WORKER, *, pid: int | None = None) -> None:
        self.processed[worker] = 0
        self.pids[worker] = self.pids.get(worker, 7) + 1 if pid is None else pid

    @property
    def lost(self) -> int:
        return self.losses.unheard


def heard() -> Heard:
    """A worker that has been heard for a while."""
    one = Heard()
    one.beat()
    one.start(5)
    one.beat()
    return one


def test_while_all_is_heard_nothing_is_lost() -> None:
    one = Heard()
    one.processed[WORKER] = 1000  # before we came
    for _ in range(5):
        one.beat()
        one.start(10)
    assert one.lost == 0


def test_what_started_in_a_gap_is_lost_once() -> None:
    one = heard()
    one.start(2)  # after the last heartbeat
    one.cut()
    one.start(30)
    one.listen()
    one.beat(BEATS - 1)
    assert one.lost == 0, "not believed yet"
    one.start(4)
    one.beat(5)
    assert one.lost == 30
    one.cut()
    one.listen()
    one.beat()
    assert one.lost == 30


def test_gaps_in_quick_succession_lose_all_that_started_in_any() -> None:
    one = heard()
    for _ in range(3):
        one.cut(1)
        one.start(10)
        one.listen()
        one.beat(1)
        one.start(3)
    one.beat()
    assert one.lost == 30


def test_starts_that_a_worker_kept_back_are_not_lost() -> None:
    one = heard()
    one.cut()
    one.start(10)
    one.listen()
    one.tell_of(4)
    one.beat()
    assert one.lost == 6


def test_heartbeats_that_run_ahead_of_task_events_lose_nothing() -> None:
    one = heard()
    one.cut()
    one.start(10)
    one.listen()
    for late in (3, 1, 2):
        one.start(late, told=False)
        one.beat(1)
        one.tell_of(late)
    one.beat(2)
    assert one.lost == 10


def test_a_worker_that_was_restarted_in_the_gap_lost_what_its_new_life_started() -> None:
    one = heard()
    one.cut()
    one.start(10)
    one.restart()
    one.start(20)
    one.listen()
    one.start(5)  # heard before its first heartbeat
    one.beat()
    assert one.lost == 20


def test_in_containers_the_new_process_has_the_same_id() -> None:
    one = heard()
    one.start(95)
    one.cut()
    one.restart(pid=7)
    one.start(20)
    one.listen()
    one.start(5)
    one.beat()
    assert one.lost == 20


def test_a_worker_that_is_restarted_before_our_eyes_lost_nothing() -> None:
    for pid in (7, 8):
        one = heard()
        one.restart(pid=pid)
        one.beat(1, kind="worker-online")
        one.start(3)
        one.beat()
        assert one.lost == 0


def test_a_worker_that_is_new_after_a_gap_began_in_it() -> None:
    one = heard()
    one.cut()
    one.start(8, OTHER)
    one.listen()
    one.beat(worker=OTHER)
    assert one.lost == 0, "it may be one that says nothing of its jobs"
    one.start(1, OTHER)
    one.beat(worker=OTHER)
    assert one.lost == 8


def test_what_a_worker_did_before_we_could_know_it_is_no_loss() -> None:
    one = Heard()
    one.cut(1)  # too soon to have heard every worker
    one.start(8)
    one.listen()
    one.start(1)
    one.beat()
    assert one.lost == 0


def test_a_worker_that_says_nothing_of_its_jobs_loses_none() -> None:
    one = Heard()
    for _ in range(4):
        one.start(3, told=False)
        one.beat(1)
    one.beat()
    one.cut()
    one.start(10)
    one.listen()
    one.beat()
    one.start(2)  # it was told to say so
    one.beat()
    assert one.lost == 0


def test_a_worker_with_some_tasks_that_send_no_events_is_not_judged() -> None:
    one = heard()
    for _ in range(3):
        one.start(2, told=False)
        one.beat()
    assert one.lost == 0
    one.cut()
    one.start(10)
    one.listen()
    one.beat()
    assert one.lost == 0


def test_what_was_dropped_here_is_counted_elsewhere() -> None:
    one = heard()
    one.start(50, told=False)
    one.losses.missed()
    one.beat()
    one.start(3)
    one.beat()
    assert one.lost == 0
    one.cut()
    one.start(4)
    one.listen()
    one.beat()
    assert one.lost == 4


def test_a_worker_that_said_goodbye_and_comes_back() -> None:
    one = heard()
    one.losses.take(Event("worker-offline", "", WORKER))
    one.restart()
    one.beat(1, kind="worker-online")
    one.start(3)
    one.beat()
    assert one.lost == 0


def test_a_worker_that_comes_back_to_its_broker_lost_nothing() -> None:
    one = heard()
    one.cut()
    one.listen()  # else a worker that is new would not be judged
    one.beat()
    one.start(100)
    one.losses.take(Event("worker-offline", "", WORKER))  # celery's `Heart.stop`, at every loss of its connection
    one.beat(1, kind="worker-online")
    one.start(5)
    one.beat()
    assert one.lost == 0
    one.cut()
    one.start(7)
    one.listen()
    one.beat()
    assert one.lost == 7


def test_a_worker_whose_heartbeats_were_ahead_is_not_taken_for_another() -> None:
    one = heard()
    one.start(100)
    one.cut()
    one.listen()
    one.start(5, told=False)
    one.beat()
    one.tell_of(5)
    one.cut()
    one.listen()
    one.beat()
    one.start(1)
    one.beat()
    assert one.lost == 5, "for a while they seemed to be"


def test_a_worker_whose_heartbeats_are_rare_is_not_taken_for_new() -> None:
    for listened, lost in ((89.0, 0), (90.0, 8)):
        one = heard()
        one.cut(listened)
        one.start(8, OTHER)
        one.listen()
        one.start(1, OTHER)
        one.beat(worker=OTHER, freq=30.0)
        assert one.lost == lost


# -- what a worker itself loses ---------------------------------------------------------------------------------


def test_starts_that_a_worker_lost_are_told_by_the_ends_of_their_jobs() -> None:
    one = heard()
    one.start(10)
    one.end_unstarted(6)
    one.start(2, told=False)  # of which the end was lost, too: or of tasks that send no events
    one.beat()
    assert (one.losses.proven, one.lost) == (6, 0)
    one.cut()
    one.start(5)
    one.listen()
    one.beat()
    assert (one.losses.proven, one.lost) == (6, 0), "what it runs tells nothing"


def test_a_worker_all_of_whose_unheard_starts_are_proven_is_judged_still() -> None:
    one = heard()
    one.end_unstarted(6)
    one.beat()
    one.beat()
    one.cut()
    one.start(5)
    one.listen()
    one.beat()
    assert (one.losses.proven, one.lost) == (6, 5)


def test_under_load_as_many_are_sure_as_heartbeats_cannot_be_ahead() -> None:
    one = heard()
    for _ in range(4):
        one.end_unstarted(20)
        one.beat(1)
    assert one.losses.proven == 2 * 20 - loss.AHEAD


def test_ends_without_starts_prove_nothing_where_no_start_is_missing() -> None:
    one = heard()
    one.end_unstarted(6)
    one.processed[WORKER] -= 6
    one.beat()
    assert one.losses.proven == 0


def test_a_job_that_began_before_we_knew_the_worker_is_no_proof() -> None:
    one = heard()
    one.end_unstarted(6, runtime=1000)
    one.beat()
    assert one.losses.proven == 0


def test_a_worker_is_known_from_its_first_heartbeat_on_where_it_has_run_nothing() -> None:
    one = Heard()
    one.beat(1, kind="worker-online")
    one.end_unstarted(6)
    one.beat()
    assert one.losses.proven == 6


def test_many_workers_are_remembered_up_to_a_number() -> None:
    losses = Losses()
    for number in range(loss.MOST_WORKERS + 100):
        losses.take(Event("task-started", "a", f"w{number}"))
    assert len(losses._lives) == loss.MOST_WORKERS


def test_whether_all_is_told_of_a_gap() -> None:
    one = heard()
    assert one.losses.settled(FAMILIAR_SECONDS)
    one.cut()
    assert not one.losses.settled(one.tick)
    one.listen()
    one.beat(1)
    assert not one.losses.settled(one.tick + FAMILIAR_SECONDS)
    one.beat()
    assert not one.losses.settled(one.tick)
    assert one.losses.settled(one.tick + FAMILIAR_SECONDS)


ACTS = st.sampled_from(["start", "cut", "listen", "restart", "die", "come back"])


@settings(max_examples=300)
@given(st.lists(st.tuples(ACTS, st.integers(0, 5)), max_size=40))
def test_no_more_is_lost_than_started_unheard(acts: list[tuple[str, int]]) -> None:
    one = Heard()
    unheard = 0
    pids = itertools.count(100)
    for act, number in acts:
        if act == "start":
            one.start(number)
            unheard += number * one.deaf
        elif act == "come back" and not one.deaf:
            one.losses.take(Event("worker-offline", "", WORKER))
            one.beat(1, kind="worker-online")
        elif act == "cut" and not one.deaf:
            one.cut(number)
        elif act == "listen" and one.deaf:
            one.listen()
        elif act == "restart" or act == "die":
            one.restart(pid=next(pids) if act == "restart" else None)
            one.beat(1, kind="worker-online")
        one.beat(number)
    assert 0 <= one.lost <= unheard


def test_two_heartbeats_that_agree_are_not_believed_where_one_before_said_less() -> None:
    one = heard()
    one.cut()
    one.start(10)
    one.listen()
    one.beat(1)
    one.start(3, told=False)
    one.beat(2)
    assert one.lost == 0
    one.tell_of(3)
    one.beat()
    assert one.lost == 10


def test_of_two_workers_with_one_name_the_one_that_stays_lost_nothing() -> None:
    one = heard()
    one.start(1000, OTHER, told=False)
    one.processed[WORKER], one.pids[WORKER] = one.processed[OTHER], 8
    one.beat()
    one.start(1)
    one.beat()
    assert one.lost == 0
