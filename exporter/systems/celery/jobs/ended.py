"""The jobs that have ended, as far as they are remembered: late and repeated tellings of an end count nothing."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Final

from exporter.systems.celery.jobs.job import Job

KEPT_IDS: Final = 500_000
"""Ids remembered while results are counted, beside the jobs: about 35 MB."""


class EndedJobs:
    """A bounded number of them, and since when they are all."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._forgotten_until = -math.inf
        self._to_come: deque[tuple[float, int]] = deque()  # ends by clocks that are ahead: when, and of whom
        self._ahead: set[int] = set()  # the same ids
        self._kept: set[int] | None = None
        self._kept_since = -math.inf

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._jobs

    def get(self, uuid: str) -> Job | None:
        """The job, if it is remembered."""
        return self._jobs.get(uuid)

    def pop(self, uuid: str) -> None:
        """The job is none of them any more."""
        self._jobs.pop(uuid, None)

    def values(self) -> list[Job]:
        """Those that are remembered."""
        return list(self._jobs.values())

    def add(self, job: Job, latest: float) -> Job | None:
        """Remembers a job; the one that makes room for it. See `forget`."""
        self._jobs[job.uuid] = job
        if len(self._jobs) <= self._capacity:
            return None
        _, oldest = self._jobs.popitem(last=False)
        self.forget(oldest, latest)
        return oldest

    def forget(self, job: Job, latest: float) -> None:
        """Takes note that no table holds the job any more. An end after `latest` is by a clock that is wrong: what
        others tell of that time is no concern of its, so its id is remembered until then."""
        if job.ended_at is not None:
            number = hash(job.uuid)
            if job.ended_at <= latest:
                self._forgotten_until = max(self._forgotten_until, job.ended_at)
            elif number not in self._ahead:
                self._ahead.add(number)
                self._to_come.append((job.ended_at, number))
            self._keep_id(number)
        while self._to_come and (self._to_come[0][0] <= latest or len(self._to_come) > KEPT_IDS):
            at, number = self._to_come.popleft()
            self._ahead.discard(number)
            self._forgotten_until = max(self._forgotten_until, at)
            self._keep_id(number)

    # -- while results are counted ------------------------------------------------------------------------------

    @property
    def known_since(self) -> float:
        """Whatever was told to have ended later, by its worker's clock, is remembered."""
        return self._forgotten_until if self._kept is None else self._kept_since

    def keep(self) -> None:
        """From now on the ids are remembered of those that are forgotten."""
        if self._kept is None:
            self._kept, self._kept_since = set(), self._forgotten_until

    def release(self) -> None:
        """That is needed no more."""
        self._kept = None

    def was_told(self, uuid: str) -> bool:
        """Whether it is one that was forgotten meanwhile, or whose worker's clock is ahead."""
        number = hash(uuid)
        return number in self._ahead or (self._kept is not None and number in self._kept)

    def _keep_id(self, number: int) -> None:
        if self._kept is None:
            return
        if len(self._kept) < KEPT_IDS:
            self._kept.add(number)
        else:
            self._kept_since = math.inf
