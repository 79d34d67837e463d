"""The task table: from Celery's events to job events.

What the events of a job leave out (most carry nothing but its id) is remembered from the earlier ones. Which event is
sent when: celery's `worker/request.py`, `worker/strategy.py`, `worker/consumer/consumer.py`, `app/amqp.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from exporter.model import Enqueued, Finished, JobEvent, Outcome, Retried, Started
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.events.fields import due_time, exception_class, interned, is_rejection
from exporter.systems.celery.events.frames import Event
from exporter.systems.celery.jobs.filling import SAME_END
from exporter.systems.celery.jobs.holding import GRACE
from exporter.systems.celery.jobs.job import BELIEVED_SECONDS, Attempt, Job
from exporter.systems.celery.jobs.table import ENDED_JOBS, JOBS, Table
from exporter.systems.celery.results.metas import NOT_REGISTERED
from exporter.systems.celery.workers.skew import AGREE, agrees
from exporter.systems.celery.workers.workers import Workers

_MAX_ATTEMPTS: Final = 8
"""Attempts of one job at a time."""
_BELIEVED_SKEW: Final = 86_400.0
"""A clock that is further off is not believed."""
_OVERTAKES: Final = 0.1
"""Seconds: a producer tells what it sent when a worker may have it already."""
_OVERTAKES_US: Final = 1.0
"""The same, by when we hear of both: workers gather what they tell."""


class Tasks(Table):
    """The jobs of one broker, as events tell of them."""

    def __init__(self, workers: Workers, jobs: int = JOBS, ended_jobs: int = ENDED_JOBS, grace: float = GRACE) -> None:
        super().__init__(workers, jobs, ended_jobs, grace)
        self._tick = 0.0
        self._by_workers: Mapping[str, Callable[[Job, Event], None]] = {
            "task-received": self._receive,
            "task-started": self._start,
            "task-succeeded": self._succeed,
            "task-failed": self._fail,
            "task-retried": self._retry,
            "task-revoked": self._revoke,
            "task-rejected": self._reject,
            "task-cancelled": self._cancel,
        }

    # -- what the feed tells and takes --------------------------------------------------------------------------

    def at(self, now: float, tick: float) -> None:
        """It is `now` by the clock, `tick` by the monotonic one."""
        self.now, self._tick = now, tick
        self.held.at(tick)

    def take(self, event: Event, prefix: str = "") -> bool:
        """An event of a task; of an application's own type, nothing happens. `prefix` stands before the names of its
        queues. Whether it says what it must: its job, and its worker."""
        kind = event.type
        apply = self._by_workers.get(kind)
        if apply is not None:
            if not event.hostname or not event.uuid:
                return False
            apply(self._job(event.uuid), event)
        elif kind == "task-sent":
            if not event.uuid:
                return False
            self._send(self._job(event.uuid), event, prefix)
        return True

    def take_events(self) -> list[JobEvent]:
        """What came of it all since this was called last."""
        events, self.held.events = self.held.events, []
        return events

    # -- before a job runs --------------------------------------------------------------------------------------

    def _send(self, job: Job, event: Event, prefix: str) -> None:
        self.held.sent()
        self._note_sent_to(_queue(event, prefix))
        if not event.retries:  # else the job is sent once more, by the worker
            name = interned(event.name)
            if _overtaken(job, name, self._time(event)):
                job.shadow, job.name = job.name, name
            elif not job.sent and _differ(name, job.name):  # late, of a job that was replaced since
                self._record_enqueued(Job(job.uuid, name, _queue(event, prefix)), self._time(event))
                return
            job = self._enqueue(job, event, prefix)
        elif job.queue is None:
            job.queue = _queue(event, prefix)
            job.name = job.name or interned(event.name)
        if job.queue is None:
            job.settled = True  # sent to an exchange: nobody will tell the queue
        if job.held is not None and job.rejected is None:
            self.held.release(job)

    def _enqueue(self, job: Job, event: Event, prefix: str) -> Job:
        at = self._time(event)
        name = interned(event.name)
        if job.sent:  # one more of its id: an attempt that is sent once more has retries
            job = self._replace(job) if _differ(name, job.name) else self._replace_by_like(job)
        job.sent = True
        job.queue = _queue(event, prefix) or job.queue
        job.name = name or job.name
        job.due = self._due(at, due_time(event.eta))
        self._record_enqueued(job, at)
        return job

    def _replace_by_like(self, job: Job) -> Job:
        """As `_replace`. Where it runs, and was received once more just now, that was the new one already: else it is
        delivered again."""
        new = self._replace(job)
        if job.started and job.pending == 0 and self._tick - job.got <= _OVERTAKES_US:
            new.former, new.pending, new.got = None, 0, job.got
            new.receiver, new.only = job.receiver, job.only
        return new

    def _record_enqueued(self, job: Job, at: float) -> None:
        self.held.events.append(Enqueued(job.queue or UNKNOWN, job.task, job.uuid, min(at, self.now)))

    def _receive(self, job: Job, event: Event) -> None:
        name = interned(event.name)
        if job.receiver is None and job.sent and not job.replaces and _differ(name, job.name):
            job.shadow = name  # nothing that was never received can have been replaced
        former = job.former
        if former is not None and former.receiver is None and former.name == name:
            job = former  # first sent, first received
        elif name != job.shadow and _differ(name, job.name):
            job = job.former if job.former is not None and job.former.name == name else self._replace(job)
        job.name = job.name or name
        job.receiver = interned(event.hostname)
        job.got = self._tick
        self._note_only(job, event.hostname)
        job.received_at = self._time(event) if job.received_at is None else job.received_at
        if job.requeued == job.receiver:
            job.requeued = None
        retries = event.retries or 0
        job.retries = retries
        if job.pending is None or retries < job.pending:
            job.pending = retries
        if event.eta is not None and job.due is None and not retries:
            eta = due_time(event.eta)  # perhaps long past: that of a job that is redelivered, or was sent late
            job.due = eta if eta is not None and eta > self._time(event) else None

    # -- attempts -----------------------------------------------------------------------------------------------

    def _start(self, job: Job, event: Event) -> None:
        former = job.former
        if former is not None and event.hostname == former.receiver:  # it ran before it was replaced
            job.former = None
            self._start_attempt(former, event)
            self._forget(former)
        else:
            self._start_attempt(job, event)

    def _start_attempt(self, job: Job, event: Event) -> None:
        at = self._time(event)
        retries = job.retries if job.pending is None else job.pending
        job.pending = job.retries if job.retries > retries else None
        first = not retries and not job.first_started
        job.first_started = job.first_started or first
        job.started, job.requeued = True, None
        queue = self.queue_of(job, event.hostname)
        trusted = self._trusts(event, at)
        since = min(at, self.now) if trusted else self.now
        if job.filled_at is not None and at <= job.filled_at + SAME_END:  # told late: it has ended since
            self.filled_starts = max(0, self.filled_starts - job.filled_start)
            job.filled_start = False
            self.held.put(job, Started(queue, job.task, job.uuid, since, None, retries + 1), None)
            return
        attempt = Attempt(interned(event.hostname) or "", at, retries + 1, self._tick, since)
        if len(job.attempts) >= _MAX_ATTEMPTS:
            self.close(job, job.attempts[0])
        job.attempts += (attempt,)
        self._workers.started(attempt, job)
        if job.ended and job.uuid in self.ended:
            self.remember(job)
        waits = first and trusted
        started = Started(queue, job.task, job.uuid, since, job.waited(at) if waits else None, attempt.number)
        self.held.put(job, started, at if waits else None)

    def _retry(self, job: Job, event: Event) -> None:
        at = self._time(event)
        attempt = self.close_in(job, event.hostname)
        if attempt is None and job.ended:
            return
        run = None if attempt is None else max(0.0, at - attempt.started)
        number = job.retries + 1 if attempt is None else attempt.number
        exception = exception_class(event.exception)
        queue = self.queue_of(job, event.hostname)
        self.held.put(job, Retried(queue, job.task, job.uuid, self._since(event, at), run, exception, number))

    def _cancel(self, job: Job, event: Event) -> None:
        """The attempt ends, the job does not: a worker that shuts down, or lost its broker, cancels what runs.

        Where messages are acknowledged late, the job is redelivered; where early, it is gone, and nobody says so
        (`Consumer.cancel_active_requests`; the event tells not which). So how it ended is left open.
        """
        self.close_in(job, event.hostname)

    # -- ends ---------------------------------------------------------------------------------------------------

    def _end(
        self, job: Job, event: Event, outcome: Outcome, run: float | None = None, exception: str | None = None
    ) -> None:
        attempt = self.close_in(job, event.hostname)
        at = self._time(event)
        if attempt is None and not job.ended and self.ended.was_told(job.uuid):  # and forgotten since
            job.ended_at = at
            self.bury(job)
        if attempt is None and job.ended:
            return  # told once more: a job ends again only where it ran again
        queue = self.queue_of(job, event.hostname)
        number = job.retries + 1
        if attempt is not None:
            number = attempt.number
            run = max(0.0, at - attempt.started) if run is None else run
        job.ended_at, job.filled_at = at, None
        end = Finished(queue, job.task, job.uuid, self._since(event, at), outcome, None, run, exception, number)
        if outcome is Outcome.REJECTED:
            self.held.reject(job, end, event.hostname)
        else:
            self.held.put(job, end)
        self.bury(job)

    def _succeed(self, job: Job, event: Event) -> None:
        run = event.runtime  # null for a worker that was lost after it stored the result
        self._end(job, event, Outcome.SUCCEEDED, run if run is not None and 0 <= run <= BELIEVED_SECONDS else None)

    def _fail(self, job: Job, event: Event) -> None:
        exception = exception_class(event.exception, event.traceback)
        if is_rejection(event.exception, event.traceback):  # celery 5.7 tells both
            self._end(job, event, Outcome.REJECTED)
        elif job.rejected == event.hostname:  # without `acks_on_failure_or_timeout` it is told as a rejection first
            self.held.amend(job, self._since(event, self._time(event)), exception or UNKNOWN)
        elif exception == NOT_REGISTERED and job.runs_in(event.hostname) is None:  # a task may raise it, too
            self._note_only(job, event.hostname)  # nobody says of such a job that it was received
            self._end(job, event, Outcome.NOT_FOUND)
        elif job.requeued != event.hostname:  # celery 5.7 tells of a time-out beside giving the message back
            self._end(job, event, Outcome.FAILED, None, exception or UNKNOWN)

    def _revoke(self, job: Job, event: Event) -> None:
        self._end(job, event, Outcome.EXPIRED if event.expired else Outcome.ABORTED)

    def _reject(self, job: Job, event: Event) -> None:
        if event.requeue:
            self.close_in(job, event.hostname)
            job.requeued = interned(event.hostname)
        else:
            self._end(job, event, Outcome.REJECTED)

    # -- of an event --------------------------------------------------------------------------------------------

    def _due(self, at: float, eta: float | None) -> float | None:
        """When a job is due that was sent `at`, by its producer's clock, which nothing tells but this: no later than
        now, and not known if that is long ago."""
        if self.now - at > AGREE:
            return eta
        at = min(at, self.now)
        return at if eta is None else max(at, eta)

    def _trusts(self, event: Event, at: float) -> bool:
        """Whether the clock of a worker, by which it happened `at`, can be set against others."""
        return agrees(at, self.now, self._workers.behind(event.hostname))

    def _since(self, event: Event, at: float) -> float:
        """When it happened, by our clock: when we heard of it, where the worker's cannot be trusted."""
        return min(at, self.now) if self._trusts(event, at) else self.now

    def _time(self, event: Event) -> float:
        """By the sender's clock, for durations."""
        at = event.timestamp
        return at if abs(at - self.now) < _BELIEVED_SKEW else self.now


def _queue(event: Event, prefix: str) -> str | None:
    return interned(prefix + event.queue) if event.queue else None


def _overtaken(job: Job, name: str | None, sent_at: float) -> bool:
    """Whether a `task-sent` that names a job otherwise than its worker did is of that very job. One that was sent in
    its place follows when it ran."""
    if job.sent or job.replaces or job.received_at is None or not _differ(name, job.name):
        return False
    return sent_at < job.received_at + _OVERTAKES


def _differ(name: str | None, other: str | None) -> bool:
    """Of two names, whether both are known, and are not the same."""
    return name is not None and other is not None and name != other
