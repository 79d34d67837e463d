"""Ends that results alone tell of: nobody heard their events."""

from __future__ import annotations

from typing import Final

from exporter.model import Finished, Outcome
from exporter.safe.text import UNKNOWN
from exporter.systems.celery.events.fields import interned
from exporter.systems.celery.jobs.job import BELIEVED_SECONDS, Attempt, Job
from exporter.systems.celery.jobs.table import Table
from exporter.systems.celery.results.metas import NOT_REGISTERED, Result

SAME_END: Final = 5.0
"""Seconds after an end in which a result tells of the same one: a worker that revokes a job says so before it writes
that, and another worker's clock may be behind."""


class Filling:
    """Fills a table with what results tell."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def fill(self, result: Result, queue: str | None) -> bool:
        """Counts the end of a job by its result, unless it was told before; whether it does. `queue` is where that
        tells. An event that comes later tells of the same end."""
        job = self._table.remembered(result.job_id)
        if self._was_told(job, result):
            if job is not None and job.ended and job.held is not None:
                self._name(job, result, queue)
            return False
        self._end_by_result(job or self._table.remember(Job(result.job_id)), result, queue)
        return True

    def _name(self, job: Job, result: Result, queue: str | None) -> None:
        """What waits of a job that ended waits for its names, which its result may tell."""
        job.name, job.queue = job.name or interned(result.name), job.queue or interned(queue)
        if job.queue is not None and job.rejected is None:
            self._table.held.release(job)

    def ran(self, result: Result) -> bool:
        """Whether a worker is known to have had the job."""
        job = self._table.remembered(result.job_id)
        if job is None:
            return self._table.ended.was_told(result.job_id)
        return job.receiver is not None or job.started or job.ended

    def _was_told(self, job: Job | None, result: Result) -> bool:
        """Whether the end was counted, or is none. Nothing tells of a job whose end was forgotten."""
        if job is None:
            ended = self._table.ended
            return result.doubtful or result.at <= ended.known_since or ended.was_told(result.job_id)
        if result.doubtful and job.receiver is None and not job.started:
            return True
        return (job.ended_at is not None and result.at <= job.ended_at + SAME_END) or _before(result, job)

    def _end_by_result(self, job: Job, result: Result, queue: str | None) -> None:
        attempt = self._close_by_result(job, result)
        outcome, exception = result.outcome, result.exception
        if outcome is Outcome.NOT_FOUND and attempt is not None:  # raised by the task itself
            outcome, exception = Outcome.FAILED, NOT_REGISTERED
        job.filled_start = attempt is None and outcome in (Outcome.SUCCEEDED, Outcome.FAILED)
        self._table.filled_starts += job.filled_start
        run, number = None, job.retries + 1 if result.retries is None else result.retries + 1
        if attempt is not None and (result.retries is None or attempt.number == number):
            run, number = min(max(0.0, result.at - attempt.started), BELIEVED_SECONDS), attempt.number
        job.name = job.name or interned(result.name)
        job.queue, job.settled = job.queue or interned(queue), True
        job.ended_at = job.filled_at = result.at
        worker = _worker(job, result) or job.receiver
        known = self._table.queue_of(job, worker) if worker is not None else job.queue or UNKNOWN
        at = min(result.at, self._table.now)
        self._table.held.put(job, Finished(known, job.task, job.uuid, at, outcome, None, run, exception, number))
        self._table.bury(job)

    def _close_by_result(self, job: Job, result: Result) -> Attempt | None:
        """Ends the attempt that the result is of; every one where it does not name its worker."""
        worker = _worker(job, result)
        if worker is not None:
            return self._table.close_in(job, worker)
        latest = job.attempts[-1] if job.attempts else None
        for attempt in job.attempts:
            self._table.close(job, attempt)
        return latest


def _worker(job: Job, result: Result) -> str | None:
    """The worker that a result names, as events name it: with the key prefix of the broker before it."""
    names = (job.receiver or "", *(attempt.worker for attempt in job.attempts))
    if result.worker is None or result.worker in names:
        return result.worker
    return next((name for name in names if name.endswith(result.worker)), result.worker)


def _before(result: Result, job: Job) -> bool:
    """Whether a result is older than what runs of a job. A start is told a little after it."""
    return any(result.at + SAME_END < attempt.started for attempt in job.attempts)
