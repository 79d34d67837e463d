"""Celery's workers by their heartbeats, and what runs in them.

Liveness is judged by our own monotonic clock alone: a worker's clock may be wrong, and its `utcoffset` often is.
Sources: celery's `worker/heartbeat.py` and `worker/state.py` (`active` is the number of accepted requests).
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from typing import Final

from exporter.model import WorkerState
from exporter.systems.celery.events import Event
from exporter.systems.celery.jobs import Attempt, Job

MAX_WORKERS: Final = 10_000
"""Names remembered; beyond, the one not heard of for longest makes room."""
FREQ: Final = 2.0
"""Seconds between two heartbeats, where a worker does not say (celery's default)."""
_BELIEVED_FREQS: Final = (0.1, 600.0)
STALE_BEATS: Final = 3
"""A worker is lost when as many heartbeats are missing."""
_OVERCOUNTS: Final = 2
"""Heartbeats in a row that name fewer jobs than we believe to run, until we believe it no more."""


class Worker:
    """One worker, by the name it gives itself."""

    __slots__ = (
        *("active", "agreed", "doubtful", "freq", "heard", "last_heartbeat", "overcounts", "running", "touched"),
        "version",
    )

    def __init__(self, tick: float) -> None:
        self.touched = tick
        """When we last heard of it, in whatever way."""
        self.heard: float | None = None
        """When the last heartbeat came, by our monotonic clock; None where only jobs told of the worker."""
        self.last_heartbeat = 0.0
        self.freq = FREQ
        self.active: int | None = None
        self.version: str | None = None
        self.running: dict[Attempt, Job] = {}
        self.agreed = False
        """Whether `running` has matched what the worker says since the last doubt."""
        self.doubtful = -math.inf
        """Attempts that began before may have ended without our hearing of it."""
        self.overcounts = 0

    def up(self, tick: float) -> bool:
        """Whether heartbeats come."""
        return self.heard is not None and tick - self.heard <= STALE_BEATS * self.freq

    def doubt(self, tick: float) -> None:
        """Ends may have been missed."""
        self.agreed, self.doubtful, self.overcounts = False, tick, 0

    def compare(self, active: int, tick: float) -> None:
        """`running` with the number of running jobs that a heartbeat gives. Task events may lag behind it a little."""
        if active == 0:
            self.running.clear()
        elif active != len(self.running):
            certain = {attempt: job for attempt, job in self.running.items() if attempt.begun >= self.doubtful}
            if len(certain) == len(self.running) or len(certain) != active:
                self._note_overcount(active, tick)
                return
            self.running = certain
        self.agreed, self.overcounts = True, 0

    def _note_overcount(self, active: int, tick: float) -> None:
        """Some jobs end without any event: those that raise `Ignore`."""
        settled = sum(attempt.begun < tick - STALE_BEATS * self.freq for attempt in self.running)
        self.overcounts = self.overcounts + 1 if settled > active else 0
        if self.overcounts >= _OVERCOUNTS:
            self.doubt(tick)


class Workers:
    """All workers of a broker. `tick` is always the monotonic time of what is told or asked."""

    def __init__(self, forget_after: float, limit: int = MAX_WORKERS) -> None:
        """Lost workers are forgotten after `forget_after` seconds."""
        self._forget_after = forget_after
        self._limit = limit
        self._workers: OrderedDict[str, Worker] = OrderedDict()  # the one heard of last stands last
        self._connected: float | None = None
        self.heard_any = False
        """Whether a worker was ever heard."""

    # -- what the feed tells ------------------------------------------------------------------------------------

    def connected(self, tick: float) -> None:
        """Heartbeats are heard from now on; what happened before may have been missed."""
        self._connected = tick
        self.doubt(tick)

    def disconnected(self) -> None:
        """No heartbeats are heard."""
        self._connected = None

    def doubt(self, tick: float) -> None:
        """Events were lost."""
        for worker in self._workers.values():
            worker.doubt(tick)

    def take(self, event: Event, now: float, tick: float) -> None:
        """An event of a worker: online, heartbeat, offline."""
        if event.type == "worker-offline":
            self._workers.pop(event.hostname, None)
            return
        self.heard_any = True
        worker = self._worker(event.hostname, tick)
        self._workers.move_to_end(event.hostname)
        worker.heard = worker.touched = tick
        worker.last_heartbeat = now
        worker.freq = _freq(event.freq)
        worker.version = event.sw_ver or None
        worker.active = event.active if event.active is not None and event.active >= 0 else None
        if worker.active is not None:
            worker.compare(worker.active, tick)

    def started(self, attempt: Attempt, job: Job) -> None:
        """A job runs in a worker."""
        worker = self._worker(attempt.worker, attempt.begun)
        self._workers.move_to_end(attempt.worker)
        worker.touched = attempt.begun
        worker.running[attempt] = job

    def ended(self, attempt: Attempt) -> None:
        """It does so no more."""
        worker = self._workers.get(attempt.worker)
        if worker is not None:
            worker.running.pop(attempt, None)

    def forget(self, tick: float) -> None:
        """Forgets those that have been lost for long."""
        while self._workers:
            name, worker = next(iter(self._workers.items()))
            if tick - worker.touched <= max(self._forget_after, STALE_BEATS * worker.freq):
                return
            del self._workers[name]

    def _worker(self, name: str, tick: float) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            if len(self._workers) >= self._limit:
                self._workers.popitem(last=False)
            worker = self._workers[name] = Worker(tick)
        return worker

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
        return [_state(name, worker, tick) for name, worker in self._workers.items()]

    def running(self, tick: float) -> Mapping[str, int] | None:
        """Running jobs by task. None unless it is known of every live worker: a job that was started before we came
        leaves it unknown."""
        if not self.known(tick):
            return None
        tasks: Counter[str] = Counter()
        for worker in self._workers.values():
            if worker.up(tick):
                if not worker.agreed:
                    return None
                tasks.update(job.task for job in worker.running.values())
        return tasks


def _state(name: str, worker: Worker, tick: float) -> WorkerState:
    up = worker.up(tick)
    return WorkerState(
        worker=name,
        up=up,
        last_heartbeat=worker.last_heartbeat,
        busy_slots=worker.active if up else None,
        version=worker.version,
    )


def _freq(freq: float | None) -> float:
    shortest, longest = _BELIEVED_FREQS
    return freq if freq is not None and shortest <= freq <= longest else FREQ
