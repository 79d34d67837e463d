"""What runs in all workers together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from exporter.safe.text import UNKNOWN
from exporter.systems.celery.control.answers import Active, ActiveJob
from exporter.systems.celery.jobs.job import Attempt, Job
from exporter.systems.celery.workers.asked import Asked
from exporter.systems.celery.workers.skew import by_our_clock


class Running(msgspec.Struct, frozen=True):
    """The jobs that run in the live workers. Those whose queue is not known are of the queue `__unknown__`."""

    ids: frozenset[str]
    jobs: Mapping[str, int]
    """By queue."""
    oldest: Mapping[str, float]
    """By queue, since when the longest-running job runs: Unix time, by our clock where its worker's is off."""
    tasks: Mapping[str, int]
    """By task."""


One = tuple[str, str, str, float | None]
"""A job that runs: its id, queue, task, and when it was started."""


def gather(running: Iterable[One]) -> Running:
    """All of them. A job that was delivered twice may run twice under one id: both count."""
    ids: set[str] = set()
    jobs: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    oldest: dict[str, float] = {}
    for job_id, queue, task, started in running:
        ids.add(job_id)
        jobs[queue] += 1
        tasks[task] += 1
        if started is not None:
            oldest[queue] = min(started, oldest.get(queue, started))
    return Running(frozenset(ids), jobs, oldest, tasks)


def told(certain: Mapping[Attempt, Job]) -> Iterable[One]:
    """By what events told of one worker."""
    return [(job.uuid, job.queue or UNKNOWN, job.task, attempt.since) for attempt, job in certain.items()]


def answered(asked: Asked, active: Active, behind: float | None = None) -> Iterable[One]:
    """By what one worker answered. For `behind` see `Skew`."""
    return [(job.id, _queue(asked, job), job.task or UNKNOWN, _since(job, behind)) for job in active.jobs]


def answered_one(asked: Asked, job_id: str) -> One | None:
    """A job that ran in a worker when it answered last."""
    active = asked.latest(Active, -math.inf)
    for job in active.jobs if active is not None else ():
        if job.id == job_id:
            return job.id, _queue(asked, job), job.task or UNKNOWN, job.started
    return None


def _since(job: ActiveJob, behind: float | None) -> float | None:
    return None if job.started is None else by_our_clock(job.started, behind)


def _queue(asked: Asked, job: ActiveJob) -> str:
    """A routing key names the queue where the message went there directly, and where the worker consumes one of that
    name; else it may be anything."""
    key = job.routing_key
    if key and (not job.exchange or asked.consumes(key)):
        return asked.prefix + key
    return asked.only_queue() or UNKNOWN
