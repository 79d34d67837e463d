"""Failures that look alike: where a job of a chain fails, Celery writes its very result for those behind it, too.

They never ran. Without `result_extended` nothing tells them from others that failed but that the same process writes
them right after the first (celery's `backends/base.py`, `mark_as_failure`). So of those within moments one is known to
have failed, the first; whether others did, is not, unless the workers tell how many jobs they started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Final

from exporter.systems.celery.results.metas import Result

MOMENT: Final = 0.05
"""Seconds between two that a process writes one after the other."""
MOST: Final = 50_000
"""Remembered; what is beyond counts nothing."""


class Alike:
    """The failures that one walk met."""

    def __init__(self) -> None:
        self._found: dict[int, dict[str, Result]] = {}  # by what they look like, and by job
        self._room = MOST
        self.rest: list[Result] = []
        """Those that may not have, once `failed` is through."""

    def add(self, result: Result) -> None:
        """One of them, which has a `cause`."""
        if self._room and result.cause is not None:
            self._room -= 1
            self._found.setdefault(result.cause, {})[result.job_id] = result

    def failed(self, ran: Callable[[Result], bool]) -> Iterator[Result]:
        """Those that did, as far as that can be told. `ran` says which of the jobs a worker is known to have had."""
        for group in self._found.values():
            for run in _runs(sorted(group.values(), key=attrgetter("at"))):
                sure = [result for result in run if ran(result)] or run[:1]
                self.rest += [result for result in run if result not in sure]
                yield from sure


def _runs(results: list[Result]) -> Iterator[list[Result]]:
    """Of results in order, those that follow each other within moments."""
    run = results[:1]
    for result in results[1:]:
        if result.at - run[-1].at > MOMENT:
            yield run
            run = []
        run.append(result)
    if run:
        yield run
