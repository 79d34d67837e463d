"""One Celery worker: its heartbeats, the attempts that run in it, and what it answered."""

from __future__ import annotations

import math
from typing import Final

from exporter.model import WorkerState
from exporter.systems.celery.control.answers import Active, Registered, Reserved, Stats
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.asked import Asked
from exporter.systems.celery.workers.skew import Skew

FREQ: Final = 2.0
"""Seconds between two heartbeats, where a worker does not say (celery's default)."""
_BELIEVED_FREQS: Final = (0.1, 600.0)
STALE_BEATS: Final = 3
"""A worker is lost when as many heartbeats are missing."""
_MISSED: Final = 1.5
"""Beats after the last one, from which on a worker that answers sends none."""
MISMATCHES: Final = 3
"""Heartbeats in a row that name more jobs than are known to run, or fewer, until what is known is believed no more:
task events may lag a little behind a heartbeat."""
_BEATING_POOLS: Final = ("celery.concurrency.prefork:TaskPool", "celery.concurrency.thread:TaskPool")
"""Those in which a worker sends heartbeats and answers while jobs run. In a solo pool it does neither, nor in a green
one for as long as a job gives way to nobody; what a pool of an application's own does is not known."""


class Worker:
    """One worker, by the name it gives itself."""

    __slots__ = (
        *("active", "agreed", "asked", "came", "certain", "deaf_until", "doubled_at", "doubts", "freq", "ghosts"),
        *("heard", "last_heartbeat", "mismatches", "parted", "pid", "skew", "too_many", "touched", "version"),
        "_former",
    )

    def __init__(self, tick: float) -> None:
        self.touched = tick
        """When we last heard of it, in whatever way."""
        self.came = tick
        """Since when it is known, as the process that it is."""
        self.parted = False
        """Whether it said goodbye, or was seen to have gone."""
        self.deaf_until = -math.inf
        """What it answers to a question that was asked by then are its last words."""
        self.doubled_at = -math.inf
        """When heartbeats last came of two processes in turn."""
        self.heard: float | None = None
        """When the last heartbeat came, by our monotonic clock; None where only jobs told of the worker."""
        self.last_heartbeat: float | None = None
        self.freq = FREQ
        self.active: int | None = None
        self.pid: int | None = None
        self.version: str | None = None
        self.asked = Asked()
        self.skew = Skew()
        self.certain: dict[Attempt, Job] = {}
        """What started since the last doubt and has not ended."""
        self.ghosts: dict[Attempt, Job] = {}
        """What started before, and may have ended without our hearing of it."""
        self.agreed = False
        """Whether the worker said that just what is certain runs in it."""
        self.mismatches = 0
        self.too_many = False
        self.doubts = 0
        self._former: tuple[int, float] | None = None  # the process before this one, and when that was last heard

    # -- what is told -------------------------------------------------------------------------------------------

    def hear(self, event: Event, now: float, tick: float) -> None:
        """A heartbeat, or the first one."""
        if event.pid != self.pid:
            self._change(event.pid, tick)
        self.heard = self.touched = tick
        self.last_heartbeat = now
        if event.type == "worker-online":
            self.skew.forget()
        self.skew.note(event.timestamp, now)
        self.freq = _freq(event.freq)
        self.version = event.sw_ver or None
        self.pid = event.pid
        self.asked.is_process(event.pid)
        self.active = event.active
        if self.active is not None:
            self._compare(self.active)

    def began_anew(self, event: Event) -> bool:
        """Whether a worker that comes online is another process than before. In containers the pid is often the same;
        after a lost connection the same process says so again."""
        other = event.pid is not None and self.pid is not None and event.pid != self.pid
        return other or event.active == 0

    def _change(self, pid: int | None, tick: float) -> None:
        """It is another process now. Where that is the one before, both live under one name."""
        if self._former is not None and pid == self._former[0] and tick - self._former[1] <= self.patience:
            self.doubled_at = tick
        self._former = None if self.pid is None or self.heard is None else (self.pid, self.heard)
        self.came = tick

    def part(self, tick: float, active: int | None, deaf_until: float) -> None:
        """It is gone, but for the jobs that run there still: `active`, where that is known."""
        self.active = self.busy(tick) if active is None else active
        self.touched, self.parted, self.deaf_until = tick, True, deaf_until
        self.heard = None  # should it live on all the same, then it sends no more
        if self.active == 0:
            self.end_all()

    def come_back(self, tick: float) -> None:
        """It was not gone, or comes anew."""
        self.parted, self.came, self.active = False, tick, None

    def start(self, attempt: Attempt, job: Job) -> None:
        """An attempt of a job runs in it."""
        self.certain[attempt] = job
        self._count(1)

    def end(self, attempt: Attempt) -> None:
        """It does so no more."""
        self._count(-1)
        if self.certain.pop(attempt, None) is None:
            self.ghosts.pop(attempt, None)

    def end_all(self) -> None:
        """Nothing of what is known to run there does."""
        self.doubt()
        self._drop_ghosts()

    def _count(self, change: int) -> None:
        """Of one that is gone no heartbeat tells any more how many run."""
        if self.parted and self.active is not None:
            self.active += change

    # -- certainty ----------------------------------------------------------------------------------------------

    def notice(self, doubts: int) -> None:
        """How often events were missed, all in all."""
        if doubts != self.doubts:
            self.doubts = doubts
            self.doubt()

    def agrees(self, doubts: int) -> bool:
        """Whether it said so since events were missed last: `doubts` is how often they were."""
        return self.agreed and self.doubts == doubts

    def doubt(self) -> None:
        """Ends may have been missed."""
        self.ghosts.update(self.certain)
        self.certain = {}
        self.agreed, self.mismatches = False, 0

    def _compare(self, active: int) -> None:
        """With what a heartbeat says. Some jobs end without any event: those that raise `Ignore`."""
        if active == len(self.certain):
            self.agreed, self.mismatches = True, 0
            self._drop_ghosts()
            return
        too_many = len(self.certain) > active
        self.mismatches = self.mismatches + 1 if too_many == self.too_many else 1
        self.too_many = too_many
        # While ghosts may run, more than is certain is no surprise.
        if self.mismatches >= MISMATCHES and (self.agreed or too_many):
            self.doubt()

    def _drop_ghosts(self) -> None:
        for attempt, job in self.ghosts.items():
            job.drop(attempt)
        self.ghosts.clear()

    # -- what is asked ------------------------------------------------------------------------------------------

    @property
    def runs(self) -> bool:
        """Whether anything may run there."""
        return bool(self.certain or self.ghosts) or (self.parted and (self.active or 0) > 0)

    @property
    def patience(self) -> float:
        """Seconds after which heartbeats are missed."""
        return STALE_BEATS * self.freq

    def beats(self, tick: float) -> bool:
        """Whether its heartbeats say that it lives."""
        return self.heard is not None and tick - self.heard <= self.patience

    @property
    def beats_while_it_runs(self) -> bool:
        """Whether its heartbeats come whatever it runs."""
        stats = self.asked.latest(Stats, -math.inf)
        return stats is not None and stats.pool in _BEATING_POOLS

    @property
    def lives_by_answers(self) -> bool:
        """Whether it answers, and sends no heartbeats, or none since it came back."""
        answered = self.asked.answered
        return answered is not None and (self.heard is None or answered > self.heard + _MISSED * self.freq)

    def told_of(self, moment: float, tick: float) -> bool:
        """Whether heartbeats or a goodbye tell that it was there at a moment."""
        return self.came <= moment and (self.parted or self.beats(tick))

    def doubled(self, tick: float) -> bool:
        """Whether it is two workers of one name."""
        return self.asked.doubled or tick - self.doubled_at <= self.patience

    def slots(self, tick: float) -> int | None:
        """How many jobs it runs at once, at most."""
        if self.doubled(tick):
            return None
        stats = self.asked.latest(Stats, tick)
        return None if stats is None else stats.slots

    def busy(self, tick: float) -> int | None:
        """How many run in it: by its heartbeats, or by its answer."""
        if self.doubled(tick):
            return None
        if self.heard is not None:
            return self.active
        active = self.asked.latest(Active, tick)
        return None if active is None else len(active.jobs)

    def state(self, name: str, tick: float, *, up: bool) -> WorkerState:
        """The worker as it stands. What was true of one that is lost is not any more."""
        if not up:
            return WorkerState(name, up=False, last_heartbeat=self.last_heartbeat, version=self.version)
        registered, reserved = self.asked.latest(Registered, tick), self.asked.latest(Reserved, tick)
        return WorkerState(
            worker=name,
            up=True,
            queues=self.asked.queues(tick) or (),
            last_heartbeat=self.last_heartbeat,
            slots=self.slots(tick),
            busy_slots=self.busy(tick),
            reserved_jobs=None if reserved is None else len(reserved.ids),
            registered_tasks=None if registered is None else registered.tasks,
            version=self.version,
        )


def _freq(freq: float | None) -> float:
    shortest, longest = _BELIEVED_FREQS
    return freq if freq is not None and shortest <= freq <= longest else FREQ
