"""Results become events, each end of a job once. Its identity is (key, time of the end): a job id can be used again."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from exporter.model import Finished, Known, Outcome, Sink, Unreadable
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.ends.ends import Ends
from exporter.systems.arq.feed.ahead import Ahead
from exporter.systems.arq.feed.kept import KeptResults
from exporter.systems.arq.feed.memory import MARGIN, Memory
from exporter.systems.arq.feed.reading import Value, decoded
from exporter.systems.arq.layout import RESULT
from exporter.systems.arq.records.results import Result
from exporter.systems.arq.records.serializers import Serializer
from exporter.systems.keys import key_bytes, key_text

QUEUES: Final = 1000
"""Learned from results; beyond, those that did nothing for longest are forgotten."""
_LONGEST_QUEUE: Final = 1024  # bytes
_TOO_MANY_LATE: Final = 10


@dataclass(slots=True)
class Rule:
    """Which results that stand are counted: those that are not remembered, and ended after `cutoff`.

    `seeding` tells of the tasks of the others; where the end isn't known, `untimed` says whether to count.
    """

    cutoff: float
    seeding: bool = False
    untimed: bool = False
    standing: dict[tuple[str, str, Outcome], float] = field(default_factory=dict)
    """When a job of (queue, task) ended so last."""


class Tally:
    """What was counted, and what is known of jobs before they end. Outlives connections."""

    def __init__(self, clock: Callable[[], float], serializer: Serializer = Serializer.AUTO) -> None:
        self._clock = clock
        self._serializer = serializer
        self.memory = Memory()
        self.ahead = Ahead()
        self.kept = KeptResults()
        self.ends = Ends(self.note_progress, lambda: self.memory.reach, clock)
        self.progress: OrderedDict[str, float] = OrderedDict()
        """When a job of a queue ended last, by queue."""
        self.ended: Counter[str] = Counter()
        """How many were seen to end since, by queue: of those in `progress`."""
        self._late = 0  # told since the last that was counted
        self._late_by = 0.0

    @property
    def problem(self) -> str | None:
        """Why results that are told may not be counted, if they are not."""
        if self._late < _TOO_MANY_LATE:
            return None
        ago = f"results are told that ended {self._late_by:.0f} s ago"
        return f"{ago}: a clock is wrong, of the workers or of this machine; they are not counted"

    def rebase(self, now: float) -> None:
        """Our clock was set, to `now`."""
        self.memory.rebase(now)
        for queue, at in self.progress.items():
            self.progress[queue] = min(at, now)

    # Both of these decode, remember and record in one go, without a pause in which they could be cancelled: nothing is
    # counted twice, and nothing is remembered that was not counted.

    def take_pushed(self, value: Value, sink: Sink) -> None:
        """A result that was written just now, or is told of again.

        One that ended before the memory's reach is taken for told again: its time to live was changed, or another
        database has a result of that name. It may as well be new, by a clock that is wrong: many of them are a problem.
        """
        found = self._decoded(value)
        ended = _ended(found)
        now = self._clock()
        if ended is not None and ended < self.memory.reach:
            self._late, self._late_by = self._late + 1, now - ended
            return
        identity = _identity(value, ended)
        if identity not in self.memory:
            self._late = 0
            self.memory.add(identity, max(ended or now, now), now)
            self._count(value, found, sink, now)

    def take_standing(self, value: Value, rule: Rule, sink: Sink) -> None:
        """A result that was found by a search: new, or seen before, or older than what we count."""
        found = self._decoded(value)
        ended = _ended(found)
        identity, now = _identity(value, ended), self._clock()
        known = identity in self.memory
        if ended is None:
            self.memory.add(identity, now, now)  # stays known while it stands
            new = rule.untimed
        else:
            # Never what may have been forgotten, during this search too, or would not be remembered.
            new = max(rule.cutoff, self.memory.reach, self.memory.horizon) <= ended <= now + MARGIN
            if not known:
                self.memory.add(identity, max(ended, now) if new else ended, now)
        if new and not known:
            self._count(value, found, sink, now)
        elif rule.seeding and isinstance(found, Result) and ended is not None:
            self._note_standing(found, min(ended, now), rule)

    def note_kept(self, value: Value) -> None:
        """A result that was found by a search, and is counted by what was pushed."""
        self._decoded(value)

    def record_standing(self, rule: Rule, sink: Sink) -> None:
        """Tells of the tasks whose results stood there when we came."""
        if rule.standing:
            sink.record([Known(queue, task, outcome, at) for (queue, task, outcome), at in rule.standing.items()])
            rule.standing.clear()

    def _decoded(self, value: Value) -> Result | Unreadable:
        found = decoded(value, self._serializer)
        if isinstance(found, Result) and found.queue is not None:
            self.kept.stands(value.key, found.queue, success=found.outcome is Outcome.SUCCEEDED)
        return found

    def _count(self, value: Value, found: Result | Unreadable, sink: Sink, now: float) -> None:
        sink.received("job", 1)
        if isinstance(found, Unreadable):
            sink.undecodable(found, 1)
            return
        self.ends.found(self._event(value, found, now), sink, found.started, found.finished)

    def _event(self, value: Value, result: Result, now: float) -> Finished:
        job_id = value.key[len(RESULT) :]
        due = self.ahead.take(job_id)
        run = None
        if result.started is not None and result.finished is not None:
            run = max(0.0, result.finished - result.started)
        return Finished(
            queue=result.queue or UNKNOWN,
            task=result.task or UNKNOWN,
            job_id=key_text(job_id),
            at=min(result.finished or now, now),
            outcome=result.outcome,
            wait=_wait(result, due) if due is not None or self.ahead.sees(result.queue) else None,
            run=run,
            exception=result.exception,
            attempt=result.tries,
            retried=result.retried,
        )

    def _note_standing(self, result: Result, at: float, rule: Rule) -> None:
        where = (result.queue or UNKNOWN, result.task or UNKNOWN, result.outcome)
        rule.standing[where] = max(at, rule.standing.get(where, at))
        if result.queue is not None:
            self.note_progress(result.queue, at, new=False)

    def note_progress(self, queue: str, at: float, *, new: bool = True) -> None:
        """A job of the queue ended. Not `new` is what stood there when we came."""
        if not _is_key(queue):
            return
        self.ended[queue] += new
        self.progress[queue] = max(at, self.progress.get(queue, at))
        self.progress.move_to_end(queue)
        if len(self.progress) > QUEUES:
            oldest, _ = self.progress.popitem(last=False)
            del self.ended[oldest]


def _is_key(queue: str) -> bool:
    """Whether the name can be that of a key that we would look at: a pickle may hold lone surrogates."""
    try:
        return len(key_bytes(queue)) <= _LONGEST_QUEUE
    except UnicodeEncodeError:
        return False


def _wait(result: Result, seen: float | None) -> float | None:
    """From due to started, where it is the first attempt that ended: the start of an earlier one isn't kept.

    A due time that was seen is of this job only if it isn't before its enqueuing: ids are used again.
    """
    if result.tries != 1 or result.enqueued is None or result.started is None:
        return None
    due = seen if seen is not None and seen > result.enqueued else result.enqueued
    return max(0.0, result.started - due)


def _ended(found: Result | Unreadable) -> float | None:
    return None if isinstance(found, Unreadable) else found.finished


def _identity(value: Value, ended: float | None) -> int:
    """Of values whose end is not known, the head tells one from the other."""
    return hash((value.key, value.head if ended is None else ended))
