"""What is remembered of jobs for a while: by job, in the order in which it came, within a limit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final, Generic, Protocol, TypeVar

LIMIT: Final = 100_000
"""Of items of one kind, some 500 bytes each."""


class Numbered(Protocol):
    """An item: a number is written into it."""

    serial: int


N = TypeVar("N", bound=Numbered)


class ByJob(Generic[N]):
    """Items by job id, in the order in which they came: an id can be used again."""

    def __init__(self) -> None:
        self._by_job: dict[str, list[N]] = {}
        self._order: OrderedDict[int, tuple[str, N]] = OrderedDict()
        self._serial = 0

    @property
    def full(self) -> bool:
        """Whether there are too many."""
        return len(self._order) > LIMIT

    def of(self, job_id: str) -> Collection[N]:
        """Those of a job."""
        return self._by_job.get(job_id, ())

    def add(self, job_id: str, item: N) -> None:
        self._serial += 1
        item.serial = self._serial
        self._order[item.serial] = (job_id, item)
        self._by_job.setdefault(job_id, []).append(item)

    def remove(self, job_id: str, item: N) -> None:
        """Takes away one that is there."""
        del self._order[item.serial]
        items = self._by_job[job_id]
        if len(items) == 1:
            del self._by_job[job_id]
        else:
            self._by_job[job_id] = [other for other in items if other is not item]

    def drop(self, old: Callable[[N], bool]) -> list[N]:
        """Takes away those in front that are old, or too many."""
        dropped = []
        while self._order:
            job_id, item = next(iter(self._order.values()))
            if not self.full and not old(item):
                break
            self.remove(job_id, item)
            dropped.append(item)
        return dropped
