"""Celery's workers by their heartbeats and by what they answer, and what runs in them.

Liveness is judged by our own monotonic clock alone: a worker's clock may be wrong, and its `utcoffset` often is.
Sources: celery's `worker/heartbeat.py` and `worker/state.py` (`active` is the number of accepted requests).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Mapping
from typing import Final

from exporter.model import WorkerState
from exporter.systems.celery.control.answers import Active, Answer
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.running import One, Running, answered, answered_one, gather, told
from exporter.systems.celery.workers.staff import Staff, Staffing
from exporter.systems.celery.workers.worker import FREQ, STALE_BEATS, Worker

MAX_WORKERS: Final = 10_000
"""Names remembered; beyond, the one not heard of for longest makes room. As many of those that said goodbye."""
GOODBYE_MEMORY: Final = 300.0
"""Seconds that a goodbye is remembered: jobs of a worker that shuts down may start and end after it."""
LAST_WORDS: Final = 10.0
"""Seconds after its goodbye for which a worker may still answer, as it shuts down."""


class Workers:
    """All workers of a broker. `tick` is always the monotonic time of what is told or asked."""

    def __init__(self, forget_after: float, limit: int = MAX_WORKERS) -> None:
        """Lost workers are forgotten after `forget_after` seconds."""
        self._forget_after = forget_after
        self._limit = limit
        self._workers: OrderedDict[str, Worker] = OrderedDict()  # the one heard of last stands last
        self._gone: OrderedDict[str, Worker] = OrderedDict()  # said goodbye; the last one stands last
        self._connected: float | None = None
        self._doubts = 0
        self._complete_until = -math.inf
        self._tick = -math.inf  # the latest
        self._new = False
        self.heard_any = False
        """Whether a worker was ever heard."""

    # -- what the feed tells ------------------------------------------------------------------------------------

    def connected(self, tick: float) -> None:
        """Heartbeats are heard from now on; what happened before may have been missed."""
        self._connected = tick
        self._doubts += 1

    def disconnected(self) -> None:
        """No heartbeats are heard."""
        self._connected = None

    def missed(self, tick: float) -> None:
        """Events were lost, heartbeats perhaps among them."""
        if self._connected is not None:
            self.connected(tick)

    def take(self, event: Event, now: float, tick: float) -> None:
        """An event of a worker: online, heartbeat, offline."""
        if event.type == "worker-offline":
            self._part(event.hostname, tick)
            return
        worker = self._alive(event.hostname, tick)
        if event.type == "worker-online" and worker.began_anew(event):
            worker.end_all()
            worker.asked.forget()
            self._new = True
        worker.hear(event, now, tick)

    def started(self, attempt: Attempt, job: Job) -> None:
        """A job runs in a worker."""
        worker = self._gone.get(attempt.worker)
        if worker is None:
            worker = self._worker(attempt.worker, attempt.begun)
            self._workers.move_to_end(attempt.worker)
        worker.touched = attempt.begun
        worker.start(attempt, job)

    def ended(self, attempt: Attempt) -> None:
        """It does so no more."""
        worker = self._workers.get(attempt.worker) or self._gone.get(attempt.worker)
        if worker is not None:
            worker.end(attempt)

    def forget(self, tick: float) -> None:
        """Forgets those that have been lost for long; soon those that send no heartbeats, once nothing runs there."""
        idle = STALE_BEATS * FREQ
        for name, worker in list(self._workers.items()):
            age = tick - worker.touched
            if age <= idle:  # as they stand, so are all that follow
                break
            silent = worker.heard is None and worker.asked.answered is None and not worker.runs
            if silent or age > max(self._forget_after, STALE_BEATS * worker.freq):
                self._workers.pop(name).end_all()
        while self._gone and tick - next(iter(self._gone.values())).touched > GOODBYE_MEMORY:
            self._gone.popitem(last=False)[1].end_all()

    def _part(self, name: str, tick: float) -> None:
        """A worker said goodbye: it is shown no more, and what may run in it still is remembered for a while."""
        worker = self._workers.pop(name, None) or self._gone.pop(name, None) or Worker(tick)
        worker.touched = self._tick = tick
        worker.heard = None  # should it live on all the same, then it sends no more
        if len(self._gone) >= self._limit:
            self._gone.popitem(last=False)[1].end_all()
        self._gone[name] = worker

    def _alive(self, name: str, tick: float) -> Worker:
        """A worker that gave a sign of life."""
        self.heard_any = True
        self._tick = tick
        back = self._gone.pop(name, None)
        if back is not None:
            self._new = True
            self._add(name, back)
        worker = self._worker(name, tick)
        self._workers.move_to_end(name)
        worker.touched = tick
        return worker

    def _worker(self, name: str, tick: float) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = Worker(tick)
            self._new = True
            self._add(name, worker)
        worker.notice(self._doubts)
        return worker

    def _add(self, name: str, worker: Worker) -> None:
        if len(self._workers) >= self._limit:
            self._workers.popitem(last=False)[1].end_all()
        self._workers[name] = worker
        worker.doubt()

    # -- what they answer ---------------------------------------------------------------------------------------

    def answered(self, name: str, answer: Answer, prefix: str, asked_at: float, tick: float, until: float) -> None:
        """A worker answered what it was asked at `asked_at`; that is believed `until` then. `prefix` stands before the
        names of its queues."""
        gone = self._gone.get(name)
        if gone is None or asked_at > gone.touched + LAST_WORDS:
            self._alive(name, tick).asked.take(answer, prefix, tick, until)

    def asked(self, asked_at: float, until: float, *, complete: bool) -> None:
        """All workers were asked at `asked_at`; `complete` where all that were listening answered. That is believed
        `until` then."""
        if complete:
            self._complete_until = until
        for worker in self._workers.values():
            if worker.asked.answered is not None and worker.asked.answered < asked_at:
                worker.asked.miss(until)

    def take_new(self) -> bool:
        """Whether workers came, or came back, since this was called last."""
        new, self._new = self._new, False
        return new

    # -- what a scrape asks -------------------------------------------------------------------------------------

    def known(self, tick: float) -> bool:
        """Whether every live worker must have been heard by now, or, while none is heard, have answered: not where
        there is no telling if one lives, as where it runs jobs, sends no heartbeats and does not answer."""
        if any(worker.up(tick, self._connected) is None for worker in self._workers.values()):
            return False
        if self._connected is None:
            answered = all(worker.asked.judged(tick) for worker in self._workers.values())
            return answered and tick <= self._complete_until
        longest = max((worker.freq for worker in self._workers.values()), default=FREQ)
        return tick - self._connected >= STALE_BEATS * max(FREQ, longest)

    def states(self, tick: float) -> Collection[WorkerState] | None:
        """Every worker heard; None while that is not known."""
        if not self.known(tick):
            return None
        return [
            worker.state(name, tick, up=bool(worker.up(tick, self._connected)))
            for name, worker in self._workers.items()
        ]

    def consumed(self, tick: float) -> frozenset[str]:
        """The queues that live workers are known to consume."""
        return frozenset().union(*(worker.asked.queues(tick) or () for worker in self._live(tick)))

    def only_queue(self, name: str) -> str | None:
        """The one queue that a live worker is known to consume; None where it is not one."""
        worker = self._workers.get(name)
        return None if worker is None else worker.asked.only_queue(self._tick)

    def answered_job(self, name: str, job_id: str) -> One | None:
        """A job that ran in a worker when that answered last."""
        worker = self._workers.get(name) or self._gone.get(name)
        return None if worker is None else answered_one(worker.asked, job_id)

    def staffing(self, tick: float) -> Staffing | None:
        """Who consumes what; None unless it is known of every live worker what it consumes."""
        if not self.known(tick):
            return None
        staffing = Staffing()
        for worker in self._live(tick):
            queues = worker.asked.queues(tick)
            if queues is None:
                return None
            slots, busy = worker.slots(tick), worker.busy(tick)
            for queue in queues:
                staffing.add(queue, slots, busy)
        return staffing

    def staff(self, queue: str, tick: float) -> Staff | None:
        """Who consumes a queue, on the same terms."""
        staffing = self.staffing(tick)
        return None if staffing is None else staffing.of(queue)

    def told_running(self, tick: float) -> Running | None:
        """What runs, by the events of jobs. None unless every live worker agrees: a job that was started before we came
        leaves it unknown until it ended."""
        if self._connected is None or not self.known(tick):
            return None
        live = self._live(tick)
        for worker in live:
            worker.notice(self._doubts)
        if not all(worker.agreed for worker in live):
            return None
        return gather(one for worker in live for one in told(worker.certain))

    def running_jobs(self, tick: float) -> Running | None:
        """What runs: by the events, else by what all live workers answered."""
        return self.told_running(tick) or self._answered_running(tick)

    def running(self, tick: float) -> Mapping[str, int] | None:
        """Running jobs by task."""
        running = self.running_jobs(tick)
        return None if running is None else running.tasks

    def _answered_running(self, tick: float) -> Running | None:
        if not self.known(tick):
            return None
        running: list[One] = []
        for worker in self._live(tick):
            active = worker.asked.latest(Active, tick)
            if active is None:
                return None
            running += answered(worker.asked, active)
        return gather(running)

    def _live(self, tick: float) -> list[Worker]:
        return [worker for worker in self._workers.values() if worker.up(tick, self._connected)]
