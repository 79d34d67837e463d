"""Celery's workers by their heartbeats, and what runs in them.

Liveness is judged by our own monotonic clock alone: a worker's clock may be wrong, and its `utcoffset` often is.
Sources: celery's `worker/heartbeat.py` and `worker/state.py` (`active` is the number of accepted requests).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from typing import Final

from exporter.model import WorkerState
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.worker import FREQ, STALE_BEATS, Worker

MAX_WORKERS: Final = 10_000
"""Names remembered; beyond, the one not heard of for longest makes room. As many of those that said goodbye."""
GOODBYE_MEMORY: Final = 300.0
"""Seconds that a goodbye is remembered: jobs of a worker that shuts down may start and end after it."""


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
        self.heard_any = True
        back = self._gone.pop(event.hostname, None)
        if back is not None:
            self._add(event.hostname, back)
        worker = self._worker(event.hostname, tick)
        self._workers.move_to_end(event.hostname)
        if event.type == "worker-online" and worker.began_anew(event):
            worker.end_all()
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
            silent = worker.heard is None and not worker.runs
            if silent or age > max(self._forget_after, STALE_BEATS * worker.freq):
                self._workers.pop(name).end_all()
        while self._gone and tick - next(iter(self._gone.values())).touched > GOODBYE_MEMORY:
            self._gone.popitem(last=False)[1].end_all()

    def _part(self, name: str, tick: float) -> None:
        """A worker said goodbye: it is shown no more, and what may run in it still is remembered for a while."""
        worker = self._workers.pop(name, None) or self._gone.pop(name, None) or Worker(tick)
        worker.touched = tick
        if len(self._gone) >= self._limit:
            self._gone.popitem(last=False)[1].end_all()
        self._gone[name] = worker

    def _worker(self, name: str, tick: float) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = Worker(tick)
            self._add(name, worker)
        worker.notice(self._doubts)
        return worker

    def _add(self, name: str, worker: Worker) -> None:
        if len(self._workers) >= self._limit:
            self._workers.popitem(last=False)[1].end_all()
        self._workers[name] = worker
        worker.doubt()

    # -- what a scrape asks -------------------------------------------------------------------------------------

    def known(self, tick: float) -> bool:
        """Whether every live worker must have been heard by now: not where one runs jobs and sends no heartbeats."""
        if self._connected is None or any(worker.heard is None for worker in self._workers.values()):
            return False
        longest = max((worker.freq for worker in self._workers.values()), default=FREQ)
        return tick - self._connected >= STALE_BEATS * max(FREQ, longest)

    def states(self, tick: float) -> Collection[WorkerState] | None:
        """Every worker heard; None while that is not known."""
        if not self.known(tick):
            return None
        return [worker.state(name, tick) for name, worker in self._workers.items()]

    def running(self, tick: float) -> Mapping[str, int] | None:
        """Running jobs by task. None unless every live worker agrees: a job that was started before we came leaves it
        unknown until it ended."""
        if not self.known(tick):
            return None
        tasks: Counter[str] = Counter()
        for worker in self._workers.values():
            if worker.up(tick):
                worker.notice(self._doubts)
                if not worker.agreed:
                    return None
                tasks.update(job.task for job in worker.certain.values())
        return tasks
