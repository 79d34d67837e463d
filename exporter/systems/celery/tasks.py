"""The task table: from Celery's events to job events.

What the events of a job leave out (most carry nothing but its id) is remembered from the earlier ones. Producers and
workers send on connections of their own, so a job's start may overtake its `task-sent`, which alone knows the queue:
then the start is held for a moment. Which event is sent when: celery's `worker/request.py`, `worker/strategy.py`,
`worker/consumer/consumer.py`, `app/amqp.py`.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Final

from exporter.model import Enqueued, Finished, JobEvent, Outcome, Retried, Started
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.events import Event
from exporter.systems.celery.fields import due_time, exception_class, interned
from exporter.systems.celery.jobs import Attempt, Job
from exporter.systems.celery.workers import Workers

JOBS: Final = 200_000
"""Jobs remembered that have not ended: about 100 MB."""
ENDED_JOBS: Final = 10_000
"""Jobs remembered that have."""
GRACE: Final = 2.0
"""Seconds that events of a job wait for its `task-sent`, and a rejection for the failure that it belongs to."""
SENT_MEMORY: Final = 300.0
"""Seconds that producers count as sending `task-sent` after one of them did."""
_MAX_QUEUES: Final = 10_000
_MAX_ATTEMPTS: Final = 8
"""Attempts of one job at a time."""
_BELIEVED_SKEW: Final = 86_400.0
"""A clock that is further off is not believed."""
_BELIEVED_RUN: Final = 1e9
_UNKNOWN_TASK: Final = "NotRegistered"
_REJECT: Final = "reject requeue="  # how celery.exceptions.Reject shows itself


class Tasks:
    """The jobs of one broker. What comes of their events gathers in `events` until somebody takes it."""

    def __init__(self, workers: Workers, jobs: int = JOBS, ended_jobs: int = ENDED_JOBS, grace: float = GRACE) -> None:
        self.events: list[JobEvent] = []
        self.forgotten = 0
        """Jobs forgotten before they ended."""
        self.progress: dict[str, float] = {}
        """When the last job of a queue started."""
        self._workers = workers
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._capacity, self._ended_capacity = jobs, ended_jobs
        self._grace = grace
        self._waiting: deque[tuple[float, Job]] = deque()  # until when, in that order
        self._now = 0.0
        self._tick = 0.0
        self._last_sent = -math.inf
        self._endings: Mapping[str, Callable[[Job, Event], None]] = {
            "task-started": self._start,
            "task-succeeded": self._succeed,
            "task-failed": self._fail,
            "task-retried": self._retry,
            "task-revoked": self._revoke,
            "task-rejected": self._reject,
            "task-cancelled": self._cancel,
        }

    # -- what the feed tells ------------------------------------------------------------------------------------

    def at(self, now: float, tick: float) -> None:
        """It is `now` by the clock, `tick` by the monotonic one: what was held for long enough is let go."""
        self._now, self._tick = now, tick
        while self._waiting and self._waiting[0][0] <= tick:
            self._release(self._waiting.popleft()[1])

    def flush(self) -> None:
        """Lets go of all that is held."""
        while self._waiting:
            self._release(self._waiting.popleft()[1])

    def take(self, event: Event, prefix: str = "") -> None:
        """An event of a task; of any other type, nothing happens. `prefix` stands before the names of its queues."""
        apply = self._endings.get(event.type)
        if apply is not None:
            job = self._job(event.uuid)
            if job.held is not None:
                job.held.append(event)
            elif job.queue is None and not job.settled and self._tick - self._last_sent < SENT_MEMORY:
                job.held = [event]
                self._wait(job)
            elif job.rejected is not None:
                self._apply(job, event)
            else:
                apply(job, event)
        elif event.type == "task-received":
            self._receive(self._job(event.uuid), event)
        elif event.type == "task-sent":
            self._send(self._job(event.uuid), event, prefix)

    # -- the table ----------------------------------------------------------------------------------------------

    def _job(self, uuid: str) -> Job:
        job = self._jobs.get(uuid) or self._ended.get(uuid)
        return job if job is not None else self._remember(Job(uuid))

    def _remember(self, job: Job) -> Job:
        self._ended.pop(job.uuid, None)
        self._jobs[job.uuid] = job
        if len(self._jobs) > self._capacity:
            _, oldest = self._jobs.popitem(last=False)
            self._forget(oldest)
            self.forgotten += not oldest.ended
        return job

    def _bury(self, job: Job) -> None:
        """Moves a job that ended to those that have."""
        job.ended = True
        if self._jobs.pop(job.uuid, None) is not None:
            self._ended[job.uuid] = job
            if len(self._ended) > self._ended_capacity:
                self._forget(self._ended.popitem(last=False)[1])

    def _forget(self, job: Job) -> None:
        """For a job that no table holds any more: what is held of it is recorded, and nothing of it runs."""
        self._release(job)
        for attempt in job.attempts:
            self._workers.ended(attempt)
        job.attempts = ()

    # -- holding ------------------------------------------------------------------------------------------------

    def _wait(self, job: Job) -> None:
        self._waiting.append((self._tick + self._grace, job))

    def _release(self, job: Job) -> None:
        held, job.held, job.settled = job.held, None, True
        for event in held or ():
            self._apply(job, event)
        if held is None:
            self._end_rejected(job)

    def _apply(self, job: Job, event: Event) -> None:
        if job.rejected is not None and event.type == "task-failed" and event.hostname == job.rejected.hostname:
            job.rejected = None  # without `acks_on_failure_or_timeout` a failure is told as a rejection first
        self._end_rejected(job)
        self._endings[event.type](job, event)

    def _end_rejected(self, job: Job) -> None:
        event, job.rejected = job.rejected, None
        if event is not None:
            self._end(job, event, Outcome.REJECTED)

    # -- before a job runs --------------------------------------------------------------------------------------

    def _send(self, job: Job, event: Event, prefix: str) -> None:
        self._last_sent = self._tick
        if not event.retries:  # else the job is sent once more, by the worker
            job = self._enqueue(job, event, prefix)
        elif job.queue is None:
            job.queue = _queue(event, prefix)
            job.name = job.name or interned(event.name)
        if job.queue is None:
            job.settled = True  # sent to an exchange: nobody will tell the queue
        if job.held is not None:
            self._release(job)

    def _enqueue(self, job: Job, event: Event, prefix: str) -> Job:
        at = self._time(event)
        if job.sent and (job.started or job.ended):  # an id that is used once more, as `Task.replace` does
            self._jobs.pop(job.uuid, None)
            self._ended.pop(job.uuid, None)
            self._forget(job)
            job = self._remember(Job(job.uuid))
        job.sent = True
        job.queue = _queue(event, prefix) or job.queue
        job.name = interned(event.name) or job.name
        eta = due_time(event.eta)
        job.due = at if eta is None else max(at, eta)
        self.events.append(Enqueued(job.queue or UNKNOWN, job.task, job.uuid, at))
        return job

    def _receive(self, job: Job, event: Event) -> None:
        if job.name is None:
            job.name = interned(event.name)
        retries = max(0, event.retries or 0)
        job.retries = retries
        if job.pending is None or retries < job.pending:
            job.pending = retries
        if event.eta is not None and job.due is None and not retries:
            job.due = due_time(event.eta)

    # -- attempts -----------------------------------------------------------------------------------------------

    def _start(self, job: Job, event: Event) -> None:
        at = self._time(event)
        retries = job.retries if job.pending is None else job.pending
        job.pending = job.retries if job.retries > retries else None
        wait = None
        if not retries and not job.first_started:
            job.first_started = True
            wait = None if job.due is None else max(0.0, at - job.due)
        job.started, job.requeued = True, False
        attempt = Attempt(interned(event.hostname) or "", at, retries + 1, self._tick)
        if len(job.attempts) >= _MAX_ATTEMPTS:
            self._close(job, job.attempts[0])
        job.attempts += (attempt,)
        self._workers.started(attempt, job)
        if job.ended and job.uuid in self._ended:
            self._remember(job)
        queue = job.queue or UNKNOWN
        self._note_progress(queue, at)
        self.events.append(Started(queue, job.task, job.uuid, at, wait, attempt.number))

    def _note_progress(self, queue: str, at: float) -> None:
        if len(self.progress) >= _MAX_QUEUES and queue not in self.progress:
            self.progress.clear()
        self.progress[queue] = max(at, self.progress.get(queue, 0.0))

    def _close_in(self, job: Job, worker: str) -> Attempt | None:
        """Ends the oldest attempt that runs in a worker."""
        for attempt in job.attempts:
            if attempt.worker == worker:
                self._close(job, attempt)
                return attempt
        return None

    def _close(self, job: Job, attempt: Attempt) -> None:
        job.attempts = () if len(job.attempts) == 1 else tuple(a for a in job.attempts if a is not attempt)
        self._workers.ended(attempt)

    def _retry(self, job: Job, event: Event) -> None:
        at = self._time(event)
        attempt = self._close_in(job, event.hostname)
        if attempt is None and job.ended:
            return
        run = None if attempt is None else max(0.0, at - attempt.started)
        number = job.retries + 1 if attempt is None else attempt.number
        exception = exception_class(event.exception)
        self.events.append(Retried(job.queue or UNKNOWN, job.task, job.uuid, at, run, exception, number))

    def _cancel(self, job: Job, event: Event) -> None:
        """The attempt ends, the job does not: a worker that shuts down, or lost its broker, cancels what runs.

        Where messages are acknowledged late, the job is redelivered; where early, it is gone, and nobody says so
        (`Consumer.cancel_active_requests`; the event tells not which). So how it ended is left open.
        """
        self._close_in(job, event.hostname)

    # -- ends ---------------------------------------------------------------------------------------------------

    def _end(
        self, job: Job, event: Event, outcome: Outcome, run: float | None = None, exception: str | None = None
    ) -> None:
        attempt = self._close_in(job, event.hostname)
        if attempt is None and job.ended:
            return  # told once more: a job ends again only where it ran again
        at = self._time(event)
        number = job.retries + 1
        if attempt is not None:
            number = attempt.number
            run = max(0.0, at - attempt.started) if run is None else run
        self.events.append(
            Finished(job.queue or UNKNOWN, job.task, job.uuid, at, outcome, None, run, exception, number)
        )
        self._bury(job)

    def _succeed(self, job: Job, event: Event) -> None:
        run = event.runtime  # null for a worker that was lost after it stored the result
        self._end(job, event, Outcome.SUCCEEDED, run if run is not None and 0 <= run <= _BELIEVED_RUN else None)

    def _fail(self, job: Job, event: Event) -> None:
        exception = exception_class(event.exception, event.traceback)
        ran = any(attempt.worker == event.hostname for attempt in job.attempts)
        if exception == _UNKNOWN_TASK and not ran:  # the worker's own; a task may raise it, too
            self._end(job, event, Outcome.NOT_FOUND)
        elif event.exception is not None and event.exception.startswith(_REJECT):  # celery 5.7 tells both
            self._end(job, event, Outcome.REJECTED)
        elif not job.requeued:  # celery 5.7 tells of a time-out beside giving the message back
            self._end(job, event, Outcome.FAILED, None, exception or UNKNOWN)

    def _revoke(self, job: Job, event: Event) -> None:
        self._end(job, event, Outcome.EXPIRED if event.expired else Outcome.ABORTED)

    def _reject(self, job: Job, event: Event) -> None:
        if event.requeue:
            self._close_in(job, event.hostname)
            job.requeued = True
        elif job.attempts or not job.ended:
            job.rejected = event
            self._wait(job)

    def _time(self, event: Event) -> float:
        at = event.timestamp
        return at if abs(at - self._now) < _BELIEVED_SKEW else self._now


def _queue(event: Event, prefix: str) -> str | None:
    return interned(prefix + event.queue) if event.queue else None
