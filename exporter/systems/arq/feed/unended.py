"""Jobs that have not ended, as far as they were seen, and what it means when one of them is gone."""

from __future__ import annotations

import enum
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from exporter.model import Finished, JobEvent, Known, Outcome
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.feed.glances import Glance
from exporter.systems.arq.records.definitions import task_of
from exporter.systems.arq.records.serializers import Serializer
from exporter.systems.keys import key_text

LIMIT: Final = 200_000
"""Jobs whose function is known before they end. That of others is read when they start."""
UNSEEN: Final = 250_000
AFTERWARDS: Final = 120.0
"""Seconds for which an end is remembered: the server may tell of it again."""
NAMES: Final = 5_000
"""Pairs of queue and task that were told of."""

_CRON_ID: Final = re.compile(r"(cron:.+):\d{13}")
"""Of a cron job that has a name and an id of arq's own: the name, and when it was due (arq/worker.py, `run_cron`)."""


class Told(enum.IntFlag):
    """Why a job is looked at: what of it came or went; nothing where a search found it."""

    SEARCHED = 0
    DEFINITION = 1
    PROGRESS = 2


class Job(msgspec.Struct, gc=False):
    """What is known of one."""

    task: str | None = None
    queue: str | None = None
    mark: int = 0
    """Of its definition, 0 where there is none (any more). An id can be used again."""


class Unended:
    """Takes in what is seen of jobs, in the order in which it was so, and gives what follows."""

    def __init__(
        self, serializer: Serializer, ended: Callable[[bytes, str | None, float], None], clock: Callable[[], float]
    ) -> None:
        """`ended` is told of each end: job, queue, and when."""
        self._serializer = serializer
        self._tell = ended
        self._clock = clock
        self._jobs: OrderedDict[bytes, Job] = OrderedDict()  # those that run in front, if they were read at their start
        self._ended: OrderedDict[bytes, float] = OrderedDict()  # when, by time.monotonic
        self._unseen: dict[bytes, None] = {}
        self._names: set[tuple[str, str]] = set()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._jobs)

    def __contains__(self, job_id: bytes) -> bool:
        return job_id in self._jobs

    def get(self, job_id: bytes) -> Job | None:
        """What is known of the job."""
        return self._jobs.get(job_id)

    def knows(self, job_id: bytes) -> bool:
        """Whether there is nothing to learn of the job before its definition goes; and it need not be kept in mind that
        it runs, as there is room."""
        job = self._jobs.get(job_id)
        return job is not None and job.mark != 0 and job.queue is not None and not self.full

    @property
    def full(self) -> bool:
        return len(self._jobs) >= LIMIT

    def judge(self, glance: Glance, told: Told) -> Iterable[JobEvent]:
        """What follows from a glance. A job that ended with a result is counted elsewhere."""
        job = self._jobs.get(glance.job_id)
        if not glance.ended:
            yield from self._learn(glance, job, told)
        elif job is not None:
            del self._jobs[glance.job_id]
            if not glance.kept:
                yield self._end_of(glance.job_id, job)
        elif Told.DEFINITION in told and not glance.kept and len(self._unseen) < UNSEEN:
            self._unseen[glance.job_id] = None

    def settle(self) -> list[bytes]:
        """The jobs since the last time that came and went before they could be looked at, if they were of this
        database."""
        unseen, self._unseen = self._unseen.keys() - self._ended.keys(), {}
        while self._ended and next(iter(self._ended.values())) < time.monotonic() - AFTERWARDS:
            self._ended.popitem(last=False)
        return [*unseen]

    def unseen_end_of(self, job_id: bytes) -> Finished:
        """The end of a job of which nothing is known but its id."""
        return self._end_of(job_id, Job())

    def _learn(self, glance: Glance, job: Job | None, told: Told) -> Iterable[JobEvent]:
        """Takes in what a job is that has not ended."""
        mark = hash(glance.definition) if len(glance.definition) > 1 else 0
        task = task_of(glance.definition, self._serializer) if mark else None
        # A definition that was overwritten by none is no other job's: arq will find this one undecodable.
        spoilt = job is not None and job.task is not None and task is None
        if job is not None and mark and job.mark and mark != job.mark and not spoilt:
            yield self._end_of(glance.job_id, job)
            del self._jobs[glance.job_id]
            job = None
        self._ended.pop(glance.job_id, None)
        self._unseen.pop(glance.job_id, None)
        if job is None:
            job = Job()
            self._remember(glance.job_id, job, started=Told.PROGRESS in told)
        elif Told.PROGRESS in told:
            self._jobs.move_to_end(glance.job_id, last=False)
        if mark:
            job.mark, job.task = mark, job.task or task
        elif not glance.definition:  # it has expired: nothing of it is left to go
            job.mark = 0
        job.queue = job.queue or glance.queue
        if job.task is not None and job.queue is not None and self._is_new(job.queue, job.task):
            yield Known(job.queue, job.task)

    def _remember(self, job_id: bytes, job: Job, *, started: bool) -> None:
        """Where there is no room for all, those that have not started go: they are read again when they start."""
        if self.full:
            if not started:
                return
            self._jobs.popitem(last=True)
        self._jobs[job_id] = job
        if started:
            self._jobs.move_to_end(job_id, last=False)

    def _is_new(self, queue: str, task: str) -> bool:
        if (queue, task) in self._names or len(self._names) >= NAMES:
            return False
        self._names.add((queue, task))
        return True

    def _end_of(self, job_id: bytes, job: Job) -> Finished:
        now = self._clock()
        self._ended[job_id] = time.monotonic()
        self._tell(job_id, job.queue, now)
        text = key_text(job_id)
        cron = _CRON_ID.fullmatch(text)
        task = job.task or (cron[1] if cron else UNKNOWN)
        return Finished(job.queue or UNKNOWN, task, text, now, Outcome.UNKNOWN)
