"""Jobs that have not ended, as far as they were seen, and what it means when one of them is gone."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

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
NAMES: Final = 5_000
"""Pairs of queue and task that were told of."""

_CRON_ID: Final = re.compile(r"(cron:.+):\d{13}")
"""Of a cron job that has a name and an id of arq's own: the name, and when it was due (arq/worker.py, `run_cron`)."""


class News(NamedTuple):
    """What is told of a job since it was looked at last; nothing where a search found it."""

    definitions: int = 0
    """How often its definition came or went. Both in turn: so this tells how often a job of that id ended."""
    starts: bool = False
    """Its mark of progress came or went, or it is to come soon."""

    def and_then(self, later: News) -> News:
        """What is told in all."""
        return News(self.definitions + later.definitions, self.starts or later.starts)


NOTHING: Final = News()


class Job(msgspec.Struct, gc=False):
    """What is known of one."""

    task: str | None = None
    queue: str | None = None
    mark: int = 0
    """Of its definition, 0 if none was seen. An id can be used again."""
    defined: bool = False
    """Whether the definition is still there; it expires."""


class Unended:
    """Takes in what is seen of jobs, in the order in which it was so, and gives what follows."""

    def __init__(self, serializer: Serializer, ended: Callable[[bytes], None], clock: Callable[[], float]) -> None:
        """`ended` is told of each end: which job."""
        self._serializer = serializer
        self._tell = ended
        self._clock = clock
        self._jobs: OrderedDict[bytes, Job] = OrderedDict()  # those that start first in front, where there are too many
        self._unseen: Counter[bytes] = Counter()
        self._names: set[tuple[str, str]] = set()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job_id: bytes) -> bool:
        return job_id in self._jobs

    def get(self, job_id: bytes) -> Job | None:
        """What is known of the job."""
        return self._jobs.get(job_id)

    def knows(self, job_id: bytes) -> bool:
        """Whether there is nothing to learn of the job before its definition goes; and it need not be kept in mind that
        it runs, as there is room."""
        job = self._jobs.get(job_id)
        return job is not None and job.defined and job.queue is not None and not self.full

    @property
    def full(self) -> bool:
        """Whether there is room for no more."""
        return len(self._jobs) >= LIMIT

    def without_queue(self) -> list[bytes]:
        """The jobs of which it is not known whose members they are."""
        return [job_id for job_id, job in self._jobs.items() if job.queue is None]

    def forget(self, *, but: bytes) -> None:
        """Forgets all jobs, but for those whose ids begin so."""
        self._jobs = OrderedDict((job_id, job) for job_id, job in self._jobs.items() if job_id.startswith(but))
        self._unseen.clear()

    def drop(self, job_id: bytes) -> None:
        """The job is gone, and did not end."""
        self._jobs.pop(job_id, None)

    def doubtful(self, glance: Glance, told: News) -> bool:
        """Whether something must have happened to the job that was not told yet when it was looked at: so what is told
        then belongs to it."""
        return glance.ended and told.definitions % 2 == (glance.job_id not in self._jobs)

    def judge(self, glance: Glance, told: News) -> Iterable[JobEvent]:
        """What follows from a glance. An end with a result is counted elsewhere."""
        job = self._jobs.get(glance.job_id)
        if not glance.ended:
            yield from self._learn(glance, job, told)
            return
        # A definition that came before its job was known, and went, makes two.
        ends = max((told.definitions + 1) // 2, job is not None) - glance.kept
        if job is not None:
            del self._jobs[glance.job_id]
            if ends > 0:
                yield self._end_of(glance.job_id, job)
                ends -= 1
        self._note_unseen(glance.job_id, ends)

    def settle(self) -> Counter[bytes]:
        """How many jobs, by id, came and went since the last time before they could be looked at, if they were of this
        database."""
        unseen, self._unseen = self._unseen, Counter()
        return unseen

    def unseen_end_of(self, job_id: bytes) -> Finished:
        """The end of a job of which nothing is known but its id."""
        return self._end_of(job_id, Job())

    def _learn(self, glance: Glance, job: Job | None, told: News) -> Iterable[JobEvent]:
        """Takes in what a job is that has not ended."""
        mark = hash(glance.definition) if glance.definition else 0
        task = task_of(glance.definition, self._serializer) if mark and (job is None or mark != job.mark) else None
        if job is None:
            self._note_unseen(glance.job_id, (told.definitions - 1) // 2)
        # What can be read no more was written over: that is the same job still.
        elif mark and job.mark and mark != job.mark and (task is not None or job.task is None):
            yield self._end_of(glance.job_id, job)
            self._note_unseen(glance.job_id, told.definitions // 2 - 1)
            del self._jobs[glance.job_id]
            job = None
        if job is None:
            job = Job()
            self._remember(glance.job_id, job, first=told.starts)
        elif told.starts:
            self._jobs.move_to_end(glance.job_id, last=False)
        job.mark, job.defined = mark or job.mark, mark != 0
        job.task, job.queue = job.task or task, job.queue or glance.queue
        if job.task is not None and job.queue is not None and self._is_new(job.queue, job.task):
            yield Known(job.queue, job.task)

    def _remember(self, job_id: bytes, job: Job, *, first: bool) -> None:
        """Where there is no room for all, those that start last go: they are read again when they do."""
        if self.full:
            if not first:
                return
            self._jobs.popitem(last=True)
        self._jobs[job_id] = job
        if first:
            self._jobs.move_to_end(job_id, last=False)

    def _note_unseen(self, job_id: bytes, ends: int) -> None:
        if ends > 0 and len(self._unseen) < UNSEEN:
            self._unseen[job_id] += ends

    def _is_new(self, queue: str, task: str) -> bool:
        if (queue, task) in self._names or len(self._names) >= NAMES:
            return False
        self._names.add((queue, task))
        return True

    def _end_of(self, job_id: bytes, job: Job) -> Finished:
        now = self._clock()
        self._tell(job_id)
        text = key_text(job_id)
        cron = _CRON_ID.fullmatch(text)
        task = job.task or (cron[1] if cron else UNKNOWN)
        return Finished(job.queue or UNKNOWN, task, text, now, Outcome.UNKNOWN)
