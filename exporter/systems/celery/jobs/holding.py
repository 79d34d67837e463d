"""What waits for a moment before it is recorded, and what has not to.

A start or an end that overtook its `task-sent` waits for the queue, which that alone tells; a rejection waits for the
failure that it may belong to. What happened to a job meanwhile waits behind, so that its order is kept.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from msgspec.structs import replace

from exporter.model import Finished, JobEvent, Outcome, Started
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.jobs.job import Happened, Job

GRACE: Final = 2.0
"""Seconds that something waits."""
READING_GRACE: Final = 10.0
"""The same of the end of a job without any name while results are read, which may have it."""
SENT_MEMORY: Final = 300.0
"""Seconds that producers count as sending `task-sent` after one of them did."""
JOBS_AT_ONCE: Final = 200
"""Let go in one look at the clock: a millisecond or so."""
MOST_HELD: Final = 100
"""Of one job."""
_MAX_QUEUES: Final = 10_000


class Holding:
    """Job events on their way out. They gather in `events` until somebody takes them."""

    def __init__(self, grace: float = GRACE) -> None:
        self.events: list[JobEvent] = []
        self.progress: dict[str, float] = {}
        """When the last job of a queue started."""
        self.reading_results = False
        """Whether results are read that may name what nothing else does."""
        self._grace = grace
        self._waiting: deque[tuple[float, Job]] = deque()  # until when, in that order
        self._tick = 0.0
        self._last_sent = -math.inf

    def at(self, tick: float) -> None:
        """It is `tick` by the monotonic clock: some of what was held for long enough is let go."""
        self._tick = tick
        if self._waiting:
            self._let_go(tick)

    def flush(self) -> bool:
        """Lets go of some of all that is held. Whether there is more."""
        self._let_go(math.inf)
        return bool(self._waiting)

    @property
    def overdue(self) -> bool:
        """Whether more is to be let go by now."""
        return bool(self._waiting) and self._waiting[0][0] <= self._tick

    def sent(self) -> None:
        """A `task-sent` came: so they are sent."""
        self._last_sent = self._tick

    # -- one job ------------------------------------------------------------------------------------------------

    def put(self, job: Job, event: Happened, began: float | None = None) -> None:
        """Something happened to a job. `began` is when, by its worker's clock, if that was its first start."""
        if job.rejected is not None:
            self.settle(job)
        if job.held is None:
            by_result = self.reading_results and job.name is None and type(event) is Finished
            if not (by_result or self._waits(job)):
                name(job)
                self._record(event if job.queue is None else under(job.queue, event))
                return
            self.hold(job, READING_GRACE if by_result else self._grace)
        self._append(job, event, began)

    def reject(self, job: Job, event: Finished, worker: str) -> None:
        """A worker rejected a job, which it may say of a failure, too."""
        self.hold(job)
        self._append(job, event, None)
        job.rejected = None if job.held is None else worker

    def amend(self, job: Job, at: float, exception: str) -> None:
        """The rejection that is held was a failure."""
        if job.held:
            event, _ = job.held[-1]
            job.held[-1] = replace(event, at=at, outcome=Outcome.FAILED, exception=exception), None
        self.settle(job)

    def settle(self, job: Job) -> None:
        """A rejection waits no more: it is one, unless it was amended."""
        job.rejected = None
        if job.queue is not None or job.settled:
            self.release(job)

    def hold(self, job: Job, grace: float | None = None) -> None:
        """Holds what happens to a job from now on."""
        if job.held is None:
            job.held = []
        job.held_until = self._tick + (self._grace if grace is None else grace)
        self._waiting.append((job.held_until, job))

    def release(self, job: Job) -> None:
        """Records what is held of a job, under what is known of it now."""
        held, job.held, job.rejected, job.settled = job.held, None, None, True
        if held:
            name(job)
        for event, began in held or ():
            named = replace(event, queue=job.queue or UNKNOWN, task=job.task)
            self._record(named if began is None else replace(named, wait=job.waited(began)))

    # -- within -------------------------------------------------------------------------------------------------

    def _waits(self, job: Job) -> bool:
        """Whether a `task-sent` may come yet that tells its queue."""
        if job.queue is not None or job.settled:
            return False
        return self._tick - self._last_sent < SENT_MEMORY

    def _append(self, job: Job, event: Happened, began: float | None) -> None:
        if job.held is not None:
            job.held.append((event, began))
            if len(job.held) >= MOST_HELD:
                self.release(job)

    def _let_go(self, until: float) -> None:
        waiting = self._waiting
        for _ in range(min(JOBS_AT_ONCE, len(waiting))):
            if waiting[0][0] > until:
                return
            moment, job = waiting.popleft()
            if job.held is not None and job.held_until <= moment:  # else it was let go, or is held for longer
                self.release(job)

    def _record(self, event: Happened) -> None:
        if type(event) is Started:
            self._note_progress(event.queue, event.at)
        self.events.append(event)

    def _note_progress(self, queue: str, at: float) -> None:
        if len(self.progress) >= _MAX_QUEUES and queue not in self.progress:
            self.progress.clear()
        self.progress[queue] = max(at, self.progress.get(queue, 0.0))


def name(job: Job) -> None:
    """Something is to be recorded of a job: if nothing named its queue until now, its worker's only one is it. All that
    is recorded of it goes under one name, unless a `task-sent` comes later than late."""
    if not job.named:
        job.named = True
        job.queue = job.queue or job.only


def under(queue: str, event: Happened) -> Happened:
    """The event, of this queue."""
    return event if event.queue == queue else replace(event, queue=queue)
