"""Attempts that ended in a retry: each counted once, when its record tells of it or else at the job's end."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from exporter.model import Finished
from exporter.systems.arq.ends.by_job import LIMIT
from exporter.systems.arq.ends.witnesses import SLACK, Told


class _Ahead(msgspec.Struct, gc=False):
    """Retries that were counted at a job's end, and of which the records may come yet."""

    number: int
    ended: float
    came: float


class Retries:
    """Of the jobs of one database. Bounded: those that nothing was told of for longest are forgotten."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, int] = OrderedDict()  # of jobs that have not ended
        self._ahead: OrderedDict[str, _Ahead] = OrderedDict()

    def __len__(self) -> int:
        return len(self._told) + len(self._ahead)

    def told(self, told: Told) -> int:
        """A record tells of one. How many are to be counted now: none if the job's end did."""
        ahead = self._ahead.get(told.job_id)
        if ahead is not None and told.end <= ahead.ended + SLACK:
            ahead.number -= 1
            if not ahead.number:
                del self._ahead[told.job_id]
            return 0
        self._told[told.job_id] = self._told.get(told.job_id, 0) + 1
        self._told.move_to_end(told.job_id)
        if len(self._told) > LIMIT:
            self._told.popitem(last=False)
        return 1

    def ended(self, event: Finished, now: float) -> Finished:
        """A job ended: the event without the retries that were told. `now` is monotonic."""
        told = self._told.pop(event.job_id, 0)
        untold = max(0, event.retried - told)
        if untold:
            self._ahead[event.job_id] = _Ahead(untold, event.at, now)
            self._ahead.move_to_end(event.job_id)
        return event if untold == event.retried else msgspec.structs.replace(event, retried=untold)

    def forget(self, before: float) -> None:
        """Forgets those ends of which no record will come any more: the jobs ended before (monotonic)."""
        while self._ahead:
            job_id, ahead = next(iter(self._ahead.items()))
            if ahead.came > before and len(self._ahead) <= LIMIT:
                return
            del self._ahead[job_id]
