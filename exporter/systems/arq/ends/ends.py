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
from typing import Final, TypeVar

from exporter.model import Finished, Outcome, Retried, Sink
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.ends.by_job import ByJob
from exporter.systems.arq.ends.retries import Retries
from exporter.systems.arq.ends.witnesses import Counted, Found, Record, Told, find, finished, merged, take

LEAST_HOLD: Final = 2.0
"""Seconds for which an end that nobody kept waits for a record in any queue: so much later, at most, it is known that
an instrumented worker came."""
LONGEST_HOLD: Final = 60.0
"""Seconds after which nothing waits any longer, though records may not have been read for so long."""
MEMORY: Final = 60.0
"""Seconds for which ends that were counted without a record are remembered, and records of ends that leave no result:
what else tells of them does so soon, or never."""
SHORT_MEMORY: Final = 5.0
"""The same while no worker has the hook: one may just have come."""
QUEUES: Final = 1000
NEVER_RAN: Final = frozenset({Outcome.EXPIRED, Outcome.NOT_FOUND, Outcome.UNDECODABLE})
"""Ends that no worker's function had a part in."""

N = TypeVar("N", Found, Record, Counted)


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
        self.results_take = 0.0
        """Seconds after which a result is found, at the latest: more than none where nothing tells of it."""
        self.last_untold: OrderedDict[str, float] = OrderedDict()
        """When (monotonic) the last end came that no record tells of, by queue."""
        self._note_end = note_end
        self._reach = reach
        self._clock = clock
        self._monotonic = monotonic
        self._hooked: dict[str, float] | None = None  # until when, monotonic; None: records are not read
        self._hold = LEAST_HOLD
        self._waiting: dict[bool, ByJob[Found]] = {True: ByJob(), False: ByJob()}  # for their records, by `hooked`
        self._passed: ByJob[Found] = ByJob()  # counted without
        self._records: ByJob[Record] = ByJob()  # that wait for their results
        self._counted: dict[bool, ByJob[Counted]] = {True: ByJob(), False: ByJob()}  # without, by `kept`
        self._retries = Retries()
        self._horizon = -math.inf  # what began by then may belong to records that were forgotten

    # -- who tells ----------------------------------------------------------------------------------------------

    def found(self, event: Finished, sink: Sink, started: float | None, finished: float | None) -> None:
        """A job ended, its result says. `started` and `finished` are the result's own times, where it has them."""
        self._end(Found(event, sink, self._monotonic(), True, started, finished))

    def vanished(self, event: Finished, sink: Sink) -> None:
        """A job ended, of which nobody kept how."""
        self._end(Found(event, sink, self._monotonic(), False))

    def told(self, told: Told, sink: Sink) -> None:
        """A record of the hook was read, for the first time."""
        if told.outcome is None:
            self._count_retry(told, sink)
            return
        now = self._monotonic()
        if waiting := find(told, *self._waiting.values()):
            self._count(merged(waiting.event, told), waiting.sink)
        elif passed := find(told, self._passed, late=True):
            self._lose(sink, kept=passed.result)  # it was counted, as unknown if it was not kept
        elif told.delay > MEMORY and not self.alone:
            self._lose(sink, kept=told.kept)  # it may have been counted, and forgotten
        elif told.kept and not self.alone:
            self._records.add(told.job_id, Record(told, sink, now))
            self._make_room(self._records)
        else:
            self._count_record(told, sink, now)

    # -- the course of time -------------------------------------------------------------------------------------

    def listen(self) -> None:
        """All records are going to be read that are written from now on: whatever else tells of their ends meanwhile is
        remembered."""
        self._hooked = self._hooked or {}

    def ignore(self) -> None:
        """They cannot be read: nothing waits for them."""
        self._hooked = None
        for waiting in self._waiting.values():
            self._pass_all(waiting, math.inf)

    def watch(self, queues: Collection[str], hold: float) -> None:
        """Records are read. `queues` have live instrumented workers, of whose beats the longest is `hold` seconds."""
        now = self._monotonic()
        self._hold = max(hold, LEAST_HOLD)
        self._hooked = {queue: until for queue, until in (self._hooked or {}).items() if until > now}
        self._hooked |= dict.fromkeys(queues, now + self._hold)  # records may be read after their worker went

    def release(self, caught_up: float | None = None) -> None:
        """Counts what has waited long enough. `caught_up`: all records written by then have been read (monotonic);
        None where that cannot be said: what they say of an end is yet to come, and it waits for them within bounds."""
        now = self._monotonic()
        read = -math.inf if caught_up is None else caught_up
        for hooked, waiting in self._waiting.items():
            self._pass_all(waiting, max(now - LONGEST_HOLD, read - (self._hold if hooked else LEAST_HOLD)))
        before = max(now - LONGEST_HOLD, read - self._hold - self.results_take)
        for record in self._records.drop(lambda record: record.came <= before):
            self._count_record(record.told, record.sink, now)
        self._forget(read - (MEMORY if self._hooked else SHORT_MEMORY))

    def _make_room(self, items: ByJob[N]) -> None:
        """Nothing waits for ever, though nobody else should see to it."""
        if items.full:
            self.release()

    # -- results, and the lack of them --------------------------------------------------------------------------

    def _end(self, found: Found) -> None:
        event = found.event
        if event.outcome in NEVER_RAN:
            self._note_untold(found)
            self._count(event, found.sink)
        elif take(self._counted[found.result], found):
            return
        elif record := take(self._records, found):
            self._count(merged(event, record.told), found.sink)
        elif take(self._counted[not found.result], found):
            return
        elif self._hooked is None:
            self._pass(found)
        else:
            self._may_be_told(found, hooked=self._is_hooked(event.queue, found.came))

    def _may_be_told(self, found: Found, *, hooked: bool) -> None:
        """A record of it may come: for sure where the queue is `hooked`."""
        if hooked and found.result and found.began_by(self._horizon):
            found.sink.lost(1)  # its record may have been counted, and forgotten
        elif hooked or not found.result:
            self._waiting[hooked].add(found.event.job_id, found)
            self._make_room(self._waiting[hooked])
        else:
            self._pass(found)

    def _is_hooked(self, queue: str, now: float) -> bool:
        """Whether a queue has instrumented workers; one that isn't known may be any."""
        until = self._hooked or {}
        return any(end > now for end in until.values()) if queue == UNKNOWN else until.get(queue, -math.inf) > now

    def _pass_all(self, waiting: ByJob[Found], before: float) -> None:
        """Those that came by then (monotonic)."""
        for found in waiting.drop(lambda found: found.came <= before):
            self._pass(found)

    def _pass(self, found: Found) -> None:
        """No record tells of it."""
        self._note_untold(found)
        self._count(found.event, found.sink)
        if self._hooked is not None:
            found.came = self._monotonic()
            self._passed.add(found.event.job_id, found)
            self._make_room(self._passed)

    def _note_untold(self, found: Found) -> None:
        self.last_untold[found.event.queue] = found.came
        self.last_untold.move_to_end(found.event.queue)
        if len(self.last_untold) > QUEUES:
            self.last_untold.popitem(last=False)

    # -- records ------------------------------------------------------------------------------------------------

    def _count_record(self, told: Told, sink: Sink, now: float) -> None:
        """Counts the end that a record tells of; what else may tell of it is not to count it again."""
        self._count(finished(told, self._clock()), sink)
        if not self.alone:
            counted = self._counted[told.kept]
            # Not later than now: what a wrong clock says must not keep all behind it from being forgotten.
            counted.add(told.job_id, Counted(told.start, min(told.end, self._clock()), now))
            self._make_room(counted)

    def _lose(self, sink: Sink, *, kept: bool) -> None:
        """A record came too late. How a job ended that was kept, is told by its result."""
        if not kept:
            sink.lost(1)

    def _forget(self, before: float) -> None:
        """Forgets that of which nobody will tell any more: what came before (monotonic), as long as records are read.
        And records whose result would not be counted."""
        self._passed.drop(lambda passed: passed.came <= before)
        self._retries.forget(before)
        self._counted[False].drop(lambda counted: counted.came <= before)
        reach = self._reach()
        for counted in self._counted[True].drop(lambda counted: counted.end < reach):
            if counted.end >= reach:  # there are too many
                self._horizon = max(self._horizon, counted.end)

    # -- counting -----------------------------------------------------------------------------------------------

    def _count_retry(self, told: Told, sink: Sink) -> None:
        retried = Retried(
            queue=told.queue,
            task=told.task,
            job_id=told.job_id,
            at=min(told.end, self._clock()),
            run=told.run,
            exception=told.exception,
            attempt=told.attempt,
            wait=told.wait,
            retried=self._retries.told(told),
        )
        sink.record([retried])

    def _count(self, event: Finished, sink: Sink) -> None:
        if self._hooked is not None:
            event = self._retries.ended(event, self._monotonic())
        sink.record([event])
        if event.queue != UNKNOWN:
            self._note_end(event.queue, event.at)
