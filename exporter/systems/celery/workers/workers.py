"""Celery's workers by their heartbeats and by what they answer, and what runs in them.

Liveness is judged by our own monotonic clock alone: a worker's clock may be wrong, and its `utcoffset` often is.
Sources: celery's `worker/heartbeat.py` and `worker/state.py` (`active` is the number of accepted requests).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from exporter.safe.documents import shown
from exporter.systems.celery.control.answers import Answer, Consumes
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.look import Hearing, Look
from exporter.systems.celery.workers.rolls import Roll, Rolls, is_silent
from exporter.systems.celery.workers.running import One, answered_one
from exporter.systems.celery.workers.worker import FREQ, STALE_BEATS, Worker

MAX_WORKERS: Final = 10_000
"""Names remembered; beyond, the one not heard of for longest makes room. As many of those that said goodbye."""
GOODBYE_MEMORY: Final = 300.0
"""Seconds that a goodbye is remembered: jobs of a worker that shuts down may start and end after it."""
LAST_WORDS: Final = 10.0
"""Seconds after its goodbye for which a worker may still answer, as it shuts down."""
MOST_PROBLEMS: Final = 10
"""Names told."""


class Workers:
    """All workers of a broker. `tick` is always the monotonic time of what is told or asked."""

    def __init__(self, forget_after: float, limit: int = MAX_WORKERS, *, asks: bool = False) -> None:
        """Lost workers are forgotten after `forget_after` seconds. `asks` where they are asked, too."""
        self._forget_after = forget_after
        self._limit = limit
        self._workers: OrderedDict[str, Worker] = OrderedDict()  # the one heard of last stands last
        self._gone: OrderedDict[str, Worker] = OrderedDict()  # said goodbye; the last one stands last
        self.hearing = Hearing()
        self._rolls = Rolls(asks=asks)
        self._queues: dict[str, float] = {}  # since when each is known
        self.news = 0
        """Grows when workers come, or come back, whose queues are not known, and when queues do."""

    # -- what the feed tells ------------------------------------------------------------------------------------

    def connected(self, tick: float) -> None:
        """Heartbeats are heard from now on; what happened before may have been missed."""
        self.hearing.since = tick
        self.hearing.doubts += 1

    def disconnected(self) -> None:
        """No heartbeats are heard."""
        self.hearing.since = None

    def missed(self, tick: float) -> None:
        """Events were lost, heartbeats perhaps among them."""
        if self.hearing.since is not None:
            self.connected(tick)

    def take(self, event: Event, now: float, tick: float, prefix: str = "") -> None:
        """An event of a worker: online, heartbeat, offline. `prefix` stands before the names of its queues."""
        if event.type == "worker-offline":
            self._part(event.hostname, tick, event.active, tick + LAST_WORDS)
            return
        worker = self._alive(event.hostname, tick)
        worker.asked.prefix = prefix
        if event.type == "worker-online" and worker.began_anew(event):
            worker.end_all()
            worker.asked.forget()
            worker.came = tick
            self.news += 1
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

    def _part(self, name: str, tick: float, active: int | None, deaf_until: float) -> None:
        """A worker is gone: it is shown no more, and what may run in it still is remembered for a while."""
        worker = self._workers.pop(name, None) or self._gone.pop(name, None) or Worker(tick)
        worker.part(tick, active, deaf_until)
        if len(self._gone) >= self._limit:
            self._gone.popitem(last=False)[1].end_all()
        self._gone[name] = worker

    def _alive(self, name: str, tick: float) -> Worker:
        """A worker that gave a sign of life."""
        self.hearing.anybody = True
        back = self._gone.pop(name, None)
        if back is not None:
            self.news += 1
            back.come_back(tick)
            self._add(name, back)
        worker = self._worker(name, tick)
        self._workers.move_to_end(name)
        worker.touched = tick
        return worker

    def _worker(self, name: str, tick: float) -> Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = Worker(tick)
            self.news += 1
            self._add(name, worker)
        worker.notice(self.hearing.doubts)
        return worker

    def _add(self, name: str, worker: Worker) -> None:
        if len(self._workers) >= self._limit:
            self._workers.popitem(last=False)[1].end_all()
        self._workers[name] = worker
        worker.doubt()

    # -- what they answer ---------------------------------------------------------------------------------------

    def asks_under(self, prefixes: Collection[str]) -> None:
        """Workers are asked under these prefixes of the names of queues."""
        self._rolls.prefixes = prefixes

    def answered(self, name: str, answer: Answer, prefix: str, asked_at: float, tick: float, until: float) -> None:
        """A worker answered what it was asked at `asked_at`; that is believed `until` then. `prefix` stands before its
        name and those of its queues."""
        name = prefix + name
        gone = self._gone.get(name)
        if gone is not None and asked_at <= gone.deaf_until:
            return
        news = self.news
        self._alive(name, tick).asked.take(answer, prefix, asked_at, tick, until)
        if isinstance(answer, Consumes):
            self.news = news  # that it came is no news, as its queues are known
            for queue in answer.queues:
                self._queues.setdefault(prefix + queue, asked_at)

    def asked(self, prefix: str, asked_at: float, tick: float, until: float, unanswered: int) -> None:
        """All workers under a prefix were asked at `asked_at`; of those that got it, `unanswered` did not answer, or
        not so that it could be read. That is believed `until` then."""
        silent = [worker for worker in self._workers.values() if is_silent(worker, prefix, asked_at)]
        for worker in silent:
            worker.asked.miss()
        roll = self._rolls.last[prefix] = Roll(asked_at, until, unanswered, silent)
        if roll.missing(tick) <= 0:
            self._part_silent(prefix, asked_at, tick)
        self.forget(tick)

    def _part_silent(self, prefix: str, asked_at: float, tick: float) -> None:
        """Nobody is there who did not answer: those that answered before, and send no heartbeats, are gone."""
        for name, worker in list(self._workers.items()):
            if worker.lives_by_answers and is_silent(worker, prefix, asked_at):
                self._part(name, tick, None, -math.inf)

    def note_queues(self, names: Collection[str], tick: float) -> None:
        """These are the queues there are now. Who consumes one that is new has to be asked."""
        new = [name for name in names if name not in self._queues]
        if new and self._queues:
            self.news += 1
        self._queues = {name: self._queues.get(name, tick) for name in names}

    # -- what is known of them ----------------------------------------------------------------------------------

    def look(self, tick: float) -> Look:
        """All of them as they are then."""
        return Look(self._workers, self._gone.values(), self._queues, self._rolls, self.hearing, tick)

    def problems(self, tick: float) -> Collection[str]:
        """What keeps workers from being told from each other."""
        doubled = [name for name, worker in self._workers.items() if worker.doubled(tick)]
        return [
            f"workers: several go by the name {shown(name)}, wanted one (celery worker --hostname)"
            for name in doubled[:MOST_PROBLEMS]
        ]

    def only_queue(self, name: str) -> str | None:
        """The one queue that a live worker is known to consume, by the last that its process answered; None where it is
        not one."""
        worker = self._workers.get(name)
        return None if worker is None else worker.asked.only_queue()

    def behind(self, name: str) -> float | None:
        """See `Skew.behind`."""
        worker = self._workers.get(name) or self._gone.get(name)
        return None if worker is None else worker.skew.behind

    def answered_job(self, name: str, job_id: str) -> One | None:
        """A job that ran in a worker when that answered last."""
        worker = self._workers.get(name) or self._gone.get(name)
        return None if worker is None else answered_one(worker.asked, job_id)
