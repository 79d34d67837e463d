"""One Celery worker: its heartbeats, the attempts that run in it, and what it answered."""

from __future__ import annotations

from typing import Final

from exporter.model import WorkerState
from exporter.systems.celery.control.answers import Active, Registered, Reserved, Stats
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.asked import Asked

FREQ: Final = 2.0
"""Seconds between two heartbeats, where a worker does not say (celery's default)."""
_BELIEVED_FREQS: Final = (0.1, 600.0)
STALE_BEATS: Final = 3
"""A worker is lost when as many heartbeats are missing."""
MISMATCHES: Final = 3
"""Heartbeats in a row that name more jobs than are known to run, or fewer, until what is known is believed no more:
task events may lag a little behind a heartbeat."""


class Worker:
    """One worker, by the name it gives itself."""

    __slots__ = (
        *("active", "agreed", "asked", "certain", "doubts", "freq", "ghosts", "heard", "last_heartbeat"),
        *("mismatches", "too_many", "touched", "pid", "version"),
    )

    def __init__(self, tick: float) -> None:
        self.touched = tick
        """When we last heard of it, in whatever way."""
        self.heard: float | None = None
        """When the last heartbeat came, by our monotonic clock; None where only jobs told of the worker."""
        self.last_heartbeat: float | None = None
        self.freq = FREQ
        self.active: int | None = None
        self.pid: int | None = None
        self.version: str | None = None
        self.asked = Asked()
        self.certain: dict[Attempt, Job] = {}
        """What started since the last doubt and has not ended."""
        self.ghosts: dict[Attempt, Job] = {}
        """What started before, and may have ended without our hearing of it."""
        self.agreed = False
        """Whether the worker said that just what is certain runs in it."""
        self.mismatches = 0
        self.too_many = False
        self.doubts = 0

    # -- what is told -------------------------------------------------------------------------------------------

    def hear(self, event: Event, now: float, tick: float) -> None:
        """A heartbeat, or the first one."""
        self.heard = self.touched = tick
        self.last_heartbeat = now
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

    def start(self, attempt: Attempt, job: Job) -> None:
        """An attempt of a job runs in it."""
        self.certain[attempt] = job

    def end(self, attempt: Attempt) -> None:
        """It does so no more."""
        if self.certain.pop(attempt, None) is None:
            self.ghosts.pop(attempt, None)

    def end_all(self) -> None:
        """Nothing of what is known to run there does."""
        self.doubt()
        self._drop_ghosts()

    # -- certainty ----------------------------------------------------------------------------------------------

    def notice(self, doubts: int) -> None:
        """How often events were missed, all in all."""
        if doubts != self.doubts:
            self.doubts = doubts
            self.doubt()

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
        return bool(self.certain or self.ghosts)

    def up(self, tick: float, connected: float | None) -> bool | None:
        """Whether it lives: by its heartbeats, where they could be heard for long enough since we `connected`, else by
        its answers. None where neither tells."""
        patience = STALE_BEATS * self.freq
        if self.heard is not None and tick - self.heard <= patience:
            return True
        if self.heard is not None and connected is not None and tick - connected >= patience:
            return False
        return self.asked.alive(tick) if self.asked.judged(tick) else None

    def slots(self, tick: float) -> int | None:
        """How many jobs it runs at once, at most."""
        stats = self.asked.latest(Stats, tick)
        return None if stats is None else stats.slots

    def busy(self, tick: float) -> int | None:
        """How many run in it: by its heartbeats, or by its answer."""
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
