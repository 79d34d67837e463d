"""Who tells of an end, and what follows where two do."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from exporter.model import Finished, Outcome, Sink
from exporter.safe.text import UNKNOWN
from exporter.systems.arq.ends.by_job import ByJob

CLOCKS_AGREE: Final = 1.0
"""Seconds by which clocks of workers and our own are taken to differ, where only they can tell two lives of a job."""
SLACK: Final = 0.002
"""Seconds: arq keeps whole milliseconds."""


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
    written: float
    """When the worker could write the record."""
    kept: bool
    """Whether arq keeps a result of it."""

    @property
    def wait(self) -> float | None:
        """From due to started, of a first attempt."""
        return max(0.0, self.start - self.due) if self.attempt == 1 and self.due is not None else None

    @property
    def delay(self) -> float:
        """How long it took to be written, in seconds."""
        return self.written - self.end

    @property
    def run(self) -> float:
        """How long it ran."""
        return max(0.0, self.end - self.start)


class Record(msgspec.Struct, eq=False, gc=False):
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


class Counted(msgspec.Struct, eq=False, gc=False):
    """An end that was counted as a record tells it, and which something else may tell again."""

    start: float
    end: float
    came: float
    serial: int = 0


class Found(msgspec.Struct, eq=False, gc=False):
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


R = TypeVar("R", Record, Counted)


def finished(told: Told, now: float) -> Finished:
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


def merged(event: Finished, told: Told) -> Finished:
    """An end that a record tells of too."""
    full = finished(told, event.at)
    if event.outcome is Outcome.UNKNOWN:
        return full
    if event.exception == UNKNOWN and told.outcome is not Outcome.SUCCEEDED:  # else its result was not serialized
        event = msgspec.structs.replace(event, outcome=full.outcome, exception=full.exception)
    wait = event.wait if full.wait is None else full.wait
    return msgspec.structs.replace(event, wait=wait, run=full.run if event.run is None else event.run)


def take(records: ByJob[R], found: Found) -> R | None:
    """The record of an end, taken away."""
    for record in records.of(found.event.job_id):
        if found.belongs_to(record.start, record.end):
            records.remove(found.event.job_id, record)
            return record
    return None


def find(told: Told, *where: ByJob[Found], late: bool = False) -> Found | None:
    """The end that a record tells of, taken away. Of several that may, one that it expects comes first.

    A record that is `late` is more often one of the job's next life, so that clocks have a say, though they may differ:
    where the end has no times of its own.
    """
    fitting = [
        (found, ends)
        for ends in where
        for found in ends.of(told.job_id)
        if found.belongs_to(told.start, told.end)
        and (found.result or not late or told.end <= found.event.at + CLOCKS_AGREE)
    ]
    if not fitting:
        return None
    found, ends = min(fitting, key=lambda pair: pair[0].result is not told.kept)
    ends.remove(told.job_id, found)
    return found
