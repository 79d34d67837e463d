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
from exporter.safe.documents import shown
from exporter.systems.celery.control.answers import Active, Answer, Consumes
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.rolls import Look, Roll, Rolls, is_silent
from exporter.systems.celery.workers.running import One, Running, answered, answered_one, gather, told
from exporter.systems.celery.workers.staff import Staff, Staffing
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
        self._connected: float | None = None
        self._doubts = 0
        self._rolls = Rolls(asks=asks)
        self._queues: dict[str, float] = {}  # since when each is known
        self.news = 0
        """Grows when workers come, or come back, whose queues are not known, and when queues do."""
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
        self.heard_any = True
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
        worker.notice(self._doubts)
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

    # -- what a scrape asks -------------------------------------------------------------------------------------

    def _look(self, tick: float) -> Look:
        return Look(self._workers, self._rolls, self._connected, tick)

    def known(self, tick: float) -> bool:
        """Whether the workers that live are known, all of them: see `Look.is_whole`."""
        return self._look(tick).is_whole(heard_any=self.heard_any)

    def states(self, tick: float) -> Collection[WorkerState] | None:
        """Every worker of which it is known whether it lives; None where it is of none, and there may be some."""
        look = self._look(tick)
        states = [
            worker.state(name, tick, up=up)
            for name, worker in self._workers.items()
            if (up := look.ups[name]) is not None
        ]
        return states if states or look.is_whole(heard_any=self.heard_any) else None

    def problems(self, tick: float) -> Collection[str]:
        """What keeps workers from being told from each other."""
        doubled = [name for name, worker in self._workers.items() if worker.doubled(tick)]
        return [
            f"workers: several go by the name {shown(name)}, wanted one (celery worker --hostname)"
            for name in doubled[:MOST_PROBLEMS]
        ]

    def consumed(self, tick: float) -> frozenset[str]:
        """The queues that live workers are known to consume."""
        return frozenset().union(*(worker.asked.queues(tick) or () for worker in self._look(tick).live()))

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

    def staffing(self, tick: float) -> Staffing | None:
        """Who consumes what; None unless it is known of every live worker what it consumes."""
        live = self._all_live(tick)
        if live is None:
            return None
        asked_at = min((worker.asked.queues_asked_at for worker in live), default=math.inf)
        staffing = Staffing({name for name, since in self._queues.items() if since > asked_at})
        for worker in live:
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
        leaves it unknown until it ended. So does one that runs in a worker that is gone, as it may be killed."""
        live = self._all_live(tick)
        if self._connected is None or live is None:
            return None
        for worker in live:
            worker.notice(self._doubts)
        if not all(worker.agreed for worker in live) or self._gone_run():
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
        live = self._all_live(tick)
        if live is None or self._gone_run():
            return None
        running: list[One] = []
        for worker in live:
            active = worker.asked.latest(Active, tick)
            if active is None:
                return None
            running += answered(worker.asked, active, worker.skew.behind)
        return gather(running)

    def _gone_run(self) -> bool:
        return any(worker.runs for worker in self._gone.values())

    def _all_live(self, tick: float) -> list[Worker] | None:
        """All workers that live; None where they are not known."""
        look = self._look(tick)
        return look.live() if look.is_whole(heard_any=self.heard_any) else None
