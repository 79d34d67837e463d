"""The jobs that are remembered, and how they are forgotten."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from exporter.safe.text import UNKNOWN
from exporter.systems.celery.events.fields import interned
from exporter.systems.celery.jobs.ended import EndedJobs
from exporter.systems.celery.jobs.holding import Holding
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.workers import Workers

JOBS: Final = 200_000
"""Jobs remembered that have not ended: about 100 MB."""
ENDED_JOBS: Final = 10_000
"""Jobs remembered that have."""
CLOCKS_AGREE: Final = 10.0
"""Seconds by which a worker's clock may be wrong without a result's being passed over."""
_MAX_QUEUES: Final = 10_000


class Table:
    """The jobs of one broker, by their ids."""

    def __init__(self, workers: Workers, jobs: int, ended_jobs: int, grace: float) -> None:
        self.forgotten = 0
        """Jobs forgotten before they ended."""
        self.filled_starts = 0
        """Jobs whose results alone told that they ran."""
        self.held = Holding(grace)
        """Where job events go."""
        self.ended = EndedJobs(ended_jobs)
        self._workers = workers
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._capacity = jobs
        self._sent_to: dict[str, float] = {}
        self.now = 0.0
        """Unix time."""

    # -- what a scrape asks -------------------------------------------------------------------------------------

    def due(self, uuid: str) -> float | None:
        """When a job was due by its `task-sent`: Unix time; None where that was not seen, or the job ended."""
        job = self._jobs.get(uuid)
        return job.due if job is not None and job.sent and not job.ended else None

    def progress(self, queue: str) -> float | None:
        """When a job of a queue was last started."""
        return self.held.progress.get(queue)

    def queues_since(self, since: float) -> list[str]:
        """The queues that jobs were sent to since a time; earlier ones are forgotten."""
        self._sent_to = {queue: at for queue, at in self._sent_to.items() if at >= since}
        return [*self._sent_to]

    # -- the table ----------------------------------------------------------------------------------------------

    def remembered(self, uuid: str) -> Job | None:
        """The job of an id, if there is one."""
        return self._jobs.get(uuid) or self.ended.get(uuid)

    def _job(self, uuid: str) -> Job:
        job = self.remembered(uuid)
        return job if job is not None else self.remember(Job(uuid))

    def remember(self, job: Job) -> Job:
        """Adds a job, or takes one back that ended: it runs again."""
        self.ended.pop(job.uuid)
        self._jobs[job.uuid] = job
        if len(self._jobs) > self._capacity:
            _, oldest = self._jobs.popitem(last=False)
            self._forget(oldest)
            self.ended.forget(oldest, self.now + CLOCKS_AGREE)
            self.forgotten += not oldest.ended
        return job

    def bury(self, job: Job) -> None:
        """Moves a job that ended to those that have."""
        job.ended = True
        if self._jobs.pop(job.uuid, None) is not None:
            oldest = self.ended.add(job, self.now + CLOCKS_AGREE)
            if oldest is not None:
                self._forget(oldest)

    def _forget(self, job: Job) -> None:
        """For a job that no table holds any more: what is held of it is recorded, and nothing of it runs."""
        self.held.release(job)
        for attempt in job.attempts:
            self._workers.ended(attempt)
        job.attempts, job.former = (), None

    def _replace(self, job: Job) -> Job:
        """A new job under the id of another, as `Task.replace` sends it: that one ends without an event. The start of
        a short one may be told only now."""
        self._jobs.pop(job.uuid, None)
        self.ended.pop(job.uuid)
        self._forget(job)
        to_start = not job.ended and (job.pending is not None or not job.started)
        return self.remember(Job(job.uuid, former=job if to_start else None, ended_at=job.ended_at, replaces=True))

    def _note_sent_to(self, queue: str | None) -> None:
        if queue is not None and (queue in self._sent_to or len(self._sent_to) < _MAX_QUEUES):
            self._sent_to[queue] = self.now

    # -- attempts, and names ------------------------------------------------------------------------------------

    def close_in(self, job: Job, worker: str) -> Attempt | None:
        """Ends the oldest attempt that runs in a worker."""
        attempt = job.runs_in(worker)
        if attempt is not None:
            self.close(job, attempt)
        return attempt

    def close(self, job: Job, attempt: Attempt) -> None:
        """Ends an attempt."""
        job.drop(attempt)
        self._workers.ended(attempt)

    def queue_of(self, job: Job, worker: str) -> str:
        """The queue of a job that is, or was, in a worker, as far as it is known by now."""
        if job.queue is None and not job.named and job.name is None:  # neither sent nor received before our eyes
            self._ask(job, worker)
        return job.queue or UNKNOWN

    def _note_only(self, job: Job, worker: str) -> None:
        """A worker got a job just now. Later on it may consume other queues, and still have what it got before."""
        if job.queue is None and job.only is None:
            job.only = self._workers.only_queue(worker)

    def _ask(self, job: Job, worker: str) -> None:
        """Names a job by what its worker answered last, if it ran then."""
        answer = self._workers.answered_job(worker, job.uuid)
        if answer is not None:
            _, queue, task, _ = answer
            job.name = None if task == UNKNOWN else interned(task)
            job.only = None if queue == UNKNOWN else interned(queue)
