"""What one group used and how often its processes started, though they come and go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from exporter.collectors.processes.look import Key, Look, Process

_DIGITS: Final = 2
"""Of a start: a tick is 10 ms. What follows is the jitter of two clocks."""


class Tally:
    """Grows only: what a process has used stays when it is gone.

    A process counts whole when it is first seen, from then on by what it used since. Its last CPU time is known while
    it is a zombie; of one that is reaped before the next look it is lost.
    """

    def __init__(self) -> None:
        self.user = 0
        self.system = 0
        """Ticks."""
        self.starts = 0
        self._older: set[Key] | None = None
        """Processes that were there at the first look, members or not, as long as they are."""
        self._last: dict[Key, Process] = {}
        self._started: dict[Key, float] = {}

    def add(self, members: Iterable[Process], look: Look) -> None:
        """Takes what one look saw."""
        there = look.by_key
        self._older = set(there) if self._older is None else self._older & there.keys()
        self._last = {key: process for key, process in self._last.items() if key in there}
        self._started = {key: started for key, started in self._started.items() if key in there}
        ended = [process for key in self._last if not (process := there[key]).alive]
        for process in (*members, *ended):
            self._count(process, look)

    def started(self, process: Process) -> float:
        """When a member started, by the clock as it was when it was first seen: else each correction of the clock would
        look like a start."""
        return self._started[process.key]

    def _count(self, process: Process, look: Look) -> None:
        before = self._last.get(process.key)
        if before is None:
            self._started[process.key] = round(look.started(process), _DIGITS)
            self.starts += self._older is not None and process.key not in self._older
        self.user += max(0, process.user - (before.user if before else 0))
        self.system += max(0, process.system - (before.system if before else 0))
        self._last[process.key] = process
