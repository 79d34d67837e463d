"""The health record of one ARQ queue: a line of text that its workers write to one key, each over the others'.

Every `health_check_interval` (3,600 s by default) a worker sets `<queue>:health-check` for that long and one second
more, and takes it away when it stops, be there other workers or not (arq/worker.py, `record_health` and `close`; the
same text from arq 0.23 to 0.28). So the record proves that someone lived when it was written, and nothing else; what it
counts is of use only where one worker owns it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from exporter.brokers.errors import Command

SUFFIX: Final = b":health-check"
MARK: Final = b" j_complete="  # other programs have keys of that suffix too
TEXT_BYTES: Final = 200
WRITES: Final = 3
"""Writes in a row that make one owner likely."""

_TEXT: Final = re.compile(
    # The month's name goes by the worker's locale.
    rb".{1,40}? \d\d:(\d\d):(\d\d) j_complete=(\d{1,15}) j_failed=(\d{1,15}) j_retried=(\d{1,15}) j_ongoing=(\d{1,9})"
    rb" queued=\d+"
)
_QUARTER: Final = 900.0
"""Seconds. The record's time has no zone: zones differ by whole quarters of an hour, so that minutes and seconds are
known but for the quarter."""
_EXTRA: Final = 1.0
"""Seconds for which a record outlives the interval."""
_POLL: Final = 1.0
"""Seconds, or half the interval, by which a write may come late: a worker looks at the clock when it polls."""
_NOISE: Final = 0.05
"""Seconds by which a moment may be wrong that is known from the time left to a key."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one worker wrote of the time since it started."""

    second: float
    """When, in seconds of a quarter of an hour."""
    succeeded: int
    failed: int
    retried: int
    running: int

    @property
    def by_outcome(self) -> Mapping[str, int]:
        """The attempts that have ended."""
        return {"succeeded": self.succeeded, "failed": self.failed, "retried": self.retried}

    @property
    def attempts(self) -> int:
        """How many have ended."""
        return self.succeeded + self.failed + self.retried

    def follows(self, earlier: Record) -> bool:
        """Whether the same worker may have written both: its counters never fall."""
        return self.succeeded >= earlier.succeeded and self.failed >= earlier.failed and self.retried >= earlier.retried


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the key, between two moments."""

    text: bytes
    ttl_ms: int
    began: float
    ended: float

    @property
    def lapses(self) -> float:
        """When the key will lapse, unless it is written again; up to `slack` seconds earlier."""
        return self.ended + self.ttl_ms / 1000

    @property
    def slack(self) -> float:
        """How far `lapses` may be off, in seconds."""
        return self.ended - self.began + _NOISE


def questions(key: bytes) -> tuple[Command, Command]:
    """The commands for the text and the TTL of a queue's record."""
    return ("GETRANGE", key + SUFFIX, 0, TEXT_BYTES), ("PTTL", key + SUFFIX)


def parse(text: bytes) -> Record | None:
    """The record that a text is, if it is one."""
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    minute, second, *counts = map(int, found.groups())
    return Record(minute % 15 * 60.0 + second, *counts)


@dataclass(frozen=True, slots=True)
class Jobs:
    """What else is seen of the queue's jobs at a look, after the record was read."""

    left: int = 0
    """So many were seen to run no more, since we watch."""
    ended: int = 0
    """So many are known to have ended, since we watch; each is among those that `left`, or was too short to be seen."""
    lasting: int = 0
    """So many were seen to run before the last look began, and do still."""


class Health:
    """One queue's record, from look to look."""

    __slots__ = ("_before", "_first", "_jobs", "_last", "_record", "_start", "_ttl", "_writes", "written_at")

    def __init__(self) -> None:
        self.written_at: float | None = None
        """When the last write happened that we saw happen."""
        self._last: Look | None = None
        self._record: Record | None = None
        self._jobs = self._before = Jobs()  # at the last two looks
        self._writes = 0  # in a row, by one worker as it seems
        self._first: Record | None = None  # of these
        self._start = Jobs()  # when we had seen that
        self._ttl = (0.0, math.inf)  # which that worker gives the key: seconds, at least and at most

    @property
    def reported(self) -> Record | None:
        """The last record, where one worker seems to write them all."""
        return self._record if self._writes >= WRITES else None

    def note(self, look: Look, jobs: Jobs = Jobs()) -> None:
        """Takes in a look."""
        record, last, before = parse(look.text), self._last, self._before
        self._last, self._before, self._jobs = look, self._jobs, jobs
        if record is None or look.ttl_ms <= 0:
            self._record, self._writes = None, 0
        elif last is None:
            self._begin(record, (0.0, math.inf))
        elif self._record is None or _written_between(last, look):
            if look.text != last.text:  # it tells the second: every write changes it, and no step of our clock does
                self.written_at = _moment(record, last, look)
            self._weigh(record, last, look, before)

    def lose(self) -> None:
        """The key cannot be read any more."""
        self._last, self._record, self._writes = None, None, 0

    def _weigh(self, record: Record, last: Look, look: Look, before: Jobs) -> None:
        """Whether this write goes with those before: else the evidence begins anew. `before` is what was known of jobs
        for certain before this write: at the last look they were looked at after the record."""
        ttl = look.ttl_ms / 1000, look.lapses - last.began
        both = max(ttl[0], self._ttl[0]), min(ttl[1], self._ttl[1])
        if (
            self._record is not None
            and record.follows(self._record)
            and _at_interval(last, look, both)
            and self._accounts_for(record, before)
        ):
            self._record, self._ttl, self._writes = record, both, self._writes + 1
        else:
            self._begin(record, ttl)

    def _accounts_for(self, record: Record, before: Jobs) -> bool:
        """Whether the record tells of all jobs that were seen to run and end."""
        attempts = record.attempts - (self._first.attempts if self._first is not None else 0)
        ends = max(before.left - self._start.left, before.ended - self._start.ended)
        return ends <= attempts and self._jobs.lasting <= record.running

    def _begin(self, record: Record, ttl: tuple[float, float]) -> None:
        self._record, self._first, self._ttl, self._writes = record, record, ttl, 1
        self._start = self._jobs


def _moment(record: Record, last: Look, look: Look) -> float:
    """When the write happened that `look` is the first to see."""
    at = look.ended - (look.ended - record.second) % _QUARTER
    return look.ended if at < last.began - 1 else at  # text has whole seconds; else the worker's clock is another


def _written_between(last: Look, look: Look) -> bool:
    return look.text != last.text or look.lapses - last.lapses > look.slack + last.slack


def _at_interval(last: Look, look: Look, ttl: tuple[float, float]) -> bool:
    """Whether the write that `look` sees came an interval after the one that `last` saw, and we look so often that one
    of another worker between them would have been seen, unless it came shortly before this."""
    least, most = ttl[0] - _EXTRA, ttl[1] - _EXTRA
    slack = look.slack + last.slack
    spacing = look.lapses - last.lapses
    return (
        least <= most + slack
        and least - slack <= spacing <= most + min(_POLL, most / 2) + slack
        and look.began - last.ended <= most / 2
    )
