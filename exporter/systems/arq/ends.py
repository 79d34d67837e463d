"""Each end of a job counted once, whoever tells of it.

Three tell of the ends of ARQ's jobs, and none of all of them:

- A *result* (feed `results`), where arq keeps one: how the job ended, whichever worker ran it, and also where none did.
- A *definition that went* (same feed, `unended`), where none is kept: which job ended, never how.
- A *record* of the hook (feed `hook`): how each attempt ended that an instrumented worker ran, and nothing of others.

So in a fleet of which some workers are instrumented, an end has one, two or no witnesses beside the hook. The rule:

1. A result says how a job ended, as without the hook. The record adds what results lack: the wait of a job that was
   deferred or tried again, and what a serializer made of the exception no name of.
2. Where no result is kept, the record says how it ended.
3. Where there is no record either, the job ended on a worker without the hook, or before it ran: `unknown`.
4. An attempt that ended in a retry is counted by its record, at once; at the job's end only those that were not.

A record and its counterpart come in any order, within a moment: what comes first waits for the other in queues that
have instrumented workers, as long as the slowest of these takes to tell (its beat). A record belongs to a result when
it lies within its times, which are of one clock, the worker's; and to a definition that went by the job's id alone.
What came too late for that was counted without: the end is not counted again.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Final, Generic, TypeVar

import msgspec

from exporter.model import Finished, Outcome, Retried, Sink
from exporter.safe.text import UNKNOWN

LEAST_HOLD: Final = 2.0
"""Seconds for which an end that nobody kept waits for a record in any queue: so much later, at most, it is known that
an instrumented worker came."""
LONGEST_HOLD: Final = 60.0
"""Seconds after which nothing waits any longer, though records may not have been read for so long."""
MEMORY: Final = 60.0
"""Seconds for which ends that were counted without a record are remembered, and records of ends that leave no result:
what else tells of them does so soon, or never."""
LIMIT: Final = 100_000
"""Of each kind that is remembered: ends that wait, or were counted alone, records, jobs that were retried; some 500
bytes each."""
QUEUES: Final = 1000
CLOCKS_AGREE: Final = 1.0
"""Seconds."""
SLACK: Final = 0.002
"""Seconds: arq keeps whole milliseconds."""

NEVER_RAN: Final = frozenset({Outcome.EXPIRED, Outcome.NOT_FOUND, Outcome.UNDECODABLE})
"""Ends that no worker's function had a part in."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """A record of the hook: how an attempt ended. Times are Unix seconds by the worker's clock."""

    queue: str
    task: str
    job_id: str
    outcome: Outcome | None
    """None where it ended in a retry."""
    exception: str | None
    attempt: int
    due: float | None
    start: float
    end: float
    kept: bool
    """Whether arq keeps a result of it."""

    @property
    def wait(self) -> float | None:
        """From due to started, of a first attempt."""
        return max(0.0, self.start - self.due) if self.attempt == 1 and self.due is not None else None

    @property
    def run(self) -> float:
        """How long it ran."""
        return max(0.0, self.end - self.start)


class _Record(msgspec.Struct, eq=False, gc=False):
    """A record that waits for its result."""

    told: Told
    sink: Sink
    came: float
    serial: int = 0

    @property
    def start(self) -> float:
        return self.told.start

    @property
    def end(self) -> float:
        return self.told.end


class _Counted(msgspec.Struct, eq=False, gc=False):
    """An end that was counted as a record tells it, and which something else may tell again."""

    start: float
    end: float
    came: float
    serial: int = 0


class _Found(msgspec.Struct, eq=False, gc=False):
    """An end as its result, or the lack of one, tells it."""

    event: Finished
    sink: Sink
    came: float
    result: bool
    started: float | None = None
    finished: float | None = None
    serial: int = 0

    def belongs_to(self, start: float, end: float) -> bool:
        """Whether it can be that of an attempt that ran so."""
        if self.started is not None and start < self.started - SLACK:
            return False
        return self.finished is None or end <= self.finished + SLACK

    def began_by(self, moment: float) -> bool:
        """Whether the attempt may have begun by then."""
        began = self.finished if self.started is None else self.started
        return began is not None and began <= moment


N = TypeVar("N", _Record, _Counted, _Found)
R = TypeVar("R", _Record, _Counted)


class _Retries(msgspec.Struct, gc=False):
    """Attempts of a job that ended in a retry."""

    told: int = 0
    """By records, since it was enqueued."""
    ahead: int = 0
    """Counted at the job's end, of which the records may come yet."""
    until: float = -math.inf
    """When that was."""


class Ends:
    """The ends of one database's jobs, from all who tell of them."""

    def __init__(
        self,
        note_end: Callable[[str, float], None],
        reach: Callable[[], float] = lambda: -math.inf,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`note_end` is told of each end that is counted: queue, and when. `reach` gives the time of the oldest end of
        which a result may still be counted."""
        self.alone = False
        """Whether records are all there is: results are not followed."""
        self.last_untold: OrderedDict[str, float] = OrderedDict()
        """When (monotonic) the last end came that no record tells of, by queue."""
        self._note_end = note_end
        self._reach = reach
        self._clock = clock
        self._monotonic = monotonic
        self._hooked: dict[str, float] | None = None  # until when, monotonic; None: records are not read
        self._hold = LEAST_HOLD
        self._waiting: _ByJob[_Found] = _ByJob()  # for their records
        self._passed: _ByJob[_Found] = _ByJob()  # counted without
        self._records: _ByJob[_Record] = _ByJob()  # that wait for their results
        self._counted: dict[bool, _ByJob[_Counted]] = {True: _ByJob(), False: _ByJob()}  # without, by `kept`
        self._retries: OrderedDict[str, _Retries] = OrderedDict()
        self._horizon = -math.inf  # what began by then may belong to records that were forgotten

    # -- who tells ----------------------------------------------------------------------------------------------

    def found(self, event: Finished, sink: Sink, started: float | None, finished: float | None) -> None:
        """A job ended, its result says. `started` and `finished` are the result's own times, where it has them."""
        self._end(_Found(event, sink, self._monotonic(), True, started, finished))

    def vanished(self, event: Finished, sink: Sink) -> None:
        """A job ended, of which nobody kept how."""
        self._end(_Found(event, sink, self._monotonic(), False))

    def told(self, told: Told, sink: Sink) -> None:
        """A record of the hook was read, for the first time."""
        if told.outcome is None:
            self._count_retry(told, sink)
            return
        now = self._monotonic()
        if waiting := _found_for(told, self._waiting.of(told.job_id)):
            self._waiting.remove(told.job_id, waiting)
            self._count(_merged(waiting.event, told), waiting.sink)
        elif passed := _found_for(told, self._passed.of(told.job_id), late=True):
            self._passed.remove(told.job_id, passed)
            if not passed.result:  # counted as unknown
                sink.lost(1)
        elif told.kept and not self.alone:
            self._records.add(told.job_id, _Record(told, sink, now))
            self._make_room(self._records)
        else:
            self._count_record(told, sink, now)

    # -- the course of time -------------------------------------------------------------------------------------

    def watch(self, queues: Collection[str], hold: float) -> None:
        """Records are read. `queues` have live instrumented workers, of whose beats the longest is `hold` seconds."""
        now = self._monotonic()
        self._hold = min(max(hold, LEAST_HOLD), LONGEST_HOLD)
        self._hooked = {queue: until for queue, until in (self._hooked or {}).items() if until > now}
        self._hooked |= dict.fromkeys(queues, now + self._hold)  # records may be read after their worker went

    def release(self, caught_up: float | None = None) -> None:
        """Counts what has waited long enough. `caught_up`: all records written by then have been read (monotonic);
        None where that cannot be said."""
        now = self._monotonic()
        # While records are not read, what they say of an end is yet to come: it waits for them, within bounds.
        before = max(now - LONGEST_HOLD, -math.inf if caught_up is None else caught_up - self._hold)
        for found in self._waiting.drop(lambda found: found.came <= before):
            self._pass(found)
        for record in self._records.drop(lambda record: record.came <= before):
            self._count_record(record.told, record.sink, now)
        self._forget(now)

    def _make_room(self, items: _ByJob[N]) -> None:
        """Nothing waits for ever, though nobody else should see to it."""
        if items.full:
            self.release()

    # -- results, and the lack of them --------------------------------------------------------------------------

    def _end(self, found: _Found) -> None:
        event = found.event
        if event.outcome in NEVER_RAN:
            self._note_untold(found)
            self._count(event, found.sink)
        elif _take(self._counted[found.result], found):
            return
        elif record := _take(self._records, found):
            self._count(_merged(event, record.told), found.sink)
        elif _take(self._counted[not found.result], found):
            return
        elif found.result and found.began_by(self._horizon):
            found.sink.lost(1)  # its record may have been counted, and forgotten
        elif self._may_be_told(found):
            self._waiting.add(event.job_id, found)
            self._make_room(self._waiting)
        else:
            self._pass(found)

    def _may_be_told(self, found: _Found) -> bool:
        """Whether a record of it may come."""
        if self._hooked is None:
            return False
        if not found.result:
            return True
        return self._hooked.get(found.event.queue, -math.inf) > found.came

    def _pass(self, found: _Found) -> None:
        """No record tells of it."""
        self._note_untold(found)
        self._count(found.event, found.sink)
        found.came = self._monotonic()
        self._passed.add(found.event.job_id, found)
        self._passed.drop(lambda passed: passed.came <= found.came - MEMORY)

    def _note_untold(self, found: _Found) -> None:
        self.last_untold[found.event.queue] = found.came
        self.last_untold.move_to_end(found.event.queue)
        if len(self.last_untold) > QUEUES:
            self.last_untold.popitem(last=False)

    # -- records ------------------------------------------------------------------------------------------------

    def _count_record(self, told: Told, sink: Sink, now: float) -> None:
        """Counts the end that a record tells of; what else may tell of it is not to count it again."""
        self._count(_finished(told, self._clock()), sink)
        if not self.alone:
            counted = self._counted[told.kept]
            counted.add(told.job_id, _Counted(told.start, told.end, now))
            self._make_room(counted)

    def _forget(self, now: float) -> None:
        """Forgets records whose counterpart will not come, or would not be counted."""
        reach = self._reach()
        self._counted[False].drop(lambda counted: counted.came <= now - MEMORY)
        for counted in self._counted[True].drop(lambda counted: counted.end < reach):
            if counted.end >= reach:  # there are too many
                self._horizon = max(self._horizon, counted.end)

    # -- counting -----------------------------------------------------------------------------------------------

    def _count_retry(self, told: Told, sink: Sink) -> None:
        retries = self._retries_of(told.job_id)
        counted = retries.ahead > 0 and told.end <= retries.until + SLACK
        if counted:
            retries.ahead -= 1
        else:
            retries.told += 1
        retried = Retried(
            queue=told.queue,
            task=told.task,
            job_id=told.job_id,
            at=min(told.end, self._clock()),
            run=told.run,
            exception=told.exception,
            attempt=told.attempt,
            wait=told.wait,
            retried=0 if counted else 1,
        )
        sink.record([retried])

    def _count(self, event: Finished, sink: Sink) -> None:
        retries = self._retries.get(event.job_id)
        told = retries.told if retries is not None else 0
        untold = max(0, event.retried - told)
        if untold != event.retried:
            event = msgspec.structs.replace(event, retried=untold)
        if untold and self._hooked is not None:
            retries = self._retries_of(event.job_id)
            retries.told, retries.ahead, retries.until = 0, untold, event.at
        elif retries is not None:
            del self._retries[event.job_id]
        sink.record([event])
        if event.queue != UNKNOWN:
            self._note_end(event.queue, event.at)

    def _retries_of(self, job_id: str) -> _Retries:
        retries = self._retries.setdefault(job_id, _Retries())
        self._retries.move_to_end(job_id)
        if len(self._retries) > LIMIT:
            self._retries.popitem(last=False)
        return retries


def _finished(told: Told, now: float) -> Finished:
    """The end that a record tells of."""
    return Finished(
        queue=told.queue,
        task=told.task,
        job_id=told.job_id,
        at=min(told.end, now),
        outcome=told.outcome or Outcome.UNKNOWN,  # a retry is no end
        wait=told.wait,
        run=told.run,
        exception=told.exception,
        attempt=told.attempt,
        retried=told.attempt - 1,
    )


def _merged(event: Finished, told: Told) -> Finished:
    """An end that a record tells of too."""
    full = _finished(told, event.at)
    if event.outcome is Outcome.UNKNOWN:
        return full
    if event.exception == UNKNOWN and told.outcome is not Outcome.SUCCEEDED:  # else its result was not serialized
        event = msgspec.structs.replace(event, outcome=full.outcome, exception=full.exception)
    wait = event.wait if full.wait is None else full.wait
    return msgspec.structs.replace(event, wait=wait, run=full.run if event.run is None else event.run)


def _take(records: _ByJob[R], found: _Found) -> R | None:
    """The record of an end, taken away."""
    for record in records.of(found.event.job_id):
        if found.belongs_to(record.start, record.end):
            records.remove(found.event.job_id, record)
            return record
    return None


def _found_for(told: Told, ends: Collection[_Found], *, late: bool = False) -> _Found | None:
    """The end that a record tells of. Of several that may, one that it expects comes first.

    A record that is `late` is more often one of the job's next life, so that clocks have a say, though they may differ.
    """
    fitting = [
        found
        for found in ends
        if found.belongs_to(told.start, told.end) and (not late or told.end <= found.event.at + CLOCKS_AGREE)
    ]
    return min(fitting, key=lambda found: found.result is not told.kept, default=None)


# -- by job, and in order ---------------------------------------------------------------------------------------


class _ByJob(Generic[N]):
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
