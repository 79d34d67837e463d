"""The ledger: the one place where job events become counters and histograms.

It holds one record per (queue, task) of one (system, broker), and never drops one: a counter that fell or vanished
would spoil every rate. What is new is born at 0: `increase()` never sees the first value of a series, so its
increments are held back until the zeros stood in an answer and were scraped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.ledger.record import TAKE, Record, Terms
from exporter.ledger.samples import last_finished, of_records
from exporter.model import JobEvent, Outcome
from exporter.safe.limits import Folded, Limits
from exporter.safe.text import OTHER, label_text


class Ledger:
    """The records of one (system, broker).

    At most `limits.task_queues` pairs of queue and task have a record of their own; the jobs of further ones are
    counted as task `__other__` of their queue, of which there are at most `limits.queues`, and then of queue
    `__other__`.
    """

    def __init__(
        self,
        system: str,
        broker: str,
        outcomes: Collection[Outcome],
        limits: Limits,
        folded: Folded,
        *,
        wait_buckets: Sequence[float] = c.JOB_WAIT.buckets,
        run_buckets: Sequence[float] = c.JOB_RUN.buckets,
        birth_hold: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`outcomes` are those that a new task shows at 0; `folded` counts what fell beyond a limit."""
        self._terms = Terms(sorted(outcomes), limits, folded, wait_buckets, run_buckets, birth_hold)
        self._base = {"system": system, "broker": broker}
        self._clock = clock
        self._by_raw: dict[tuple[str, str], Record] = {}
        self._records: dict[tuple[str, str], Record] = {}
        self._others: dict[str, Record] = {}
        self._last: dict[str, dict[Outcome, float]] = {}

    def record(self, events: Iterable[JobEvent]) -> None:
        """Counts the events."""
        records = self._by_raw
        for event in events:
            record = records.get((event.queue, event.task))
            if record is None:
                record = self._find(event.queue, event.task)
            TAKE[type(event)](record, event)

    # -- records, under the caps --------------------------------------------------------------------------------

    def _find(self, raw_queue: str, raw_task: str) -> Record:
        """The record of names that come from outside: cleaned, and folded beyond the caps.

        Only names that have a record of their own are remembered: the others are without number.
        """
        queue, task = self._text(raw_queue), self._text(raw_task)
        record = self._records.get((queue, task))  # where the hashes of two mended names are one
        if record is None:
            if len(self._records) >= self._terms.limits.task_queues:
                return self._fold(queue)
            record = self._new_record(queue, task, self._last.setdefault(task, {}))
            self._records[queue, task] = self._by_raw[raw_queue, raw_task] = record
        return record

    def _fold(self, queue: str) -> Record:
        self._terms.folded["task"] += 1
        if queue not in self._others and len(self._others) >= self._terms.limits.queues:
            self._terms.folded["queue"] += 1
            queue = OTHER
        record = self._others.get(queue)
        if record is None:
            record = self._others[queue] = self._new_record(queue, OTHER, {})
        return record

    def _new_record(self, queue: str, task: str, last: dict[Outcome, float]) -> Record:
        return Record(self._terms, {**self._base, "queue": queue, "task": task}, last)

    def _text(self, raw: str) -> str:
        """A name that comes from outside as a label value."""
        return label_text(raw, self._terms.limits.label_bytes)

    # -- families -----------------------------------------------------------------------------------------------

    @property
    def answers(self) -> int:
        """How often `families()` was called."""
        return self._terms.answers

    def families(self) -> list[Metric]:
        """The families of all records, their samples made while they are rendered."""
        self._terms.answers += 1
        before = self._clock() - self._terms.birth_hold
        self._terms.newborn = {record for record in self._terms.newborn if not record.release(before)}
        records = [*self._records.values(), *self._others.values()]
        last = {(*self._base.values(), task): last for task, last in self._last.items()}
        return [metric for metric in (*of_records(records), last_finished(last)) if len(metric.samples)]

    def stood(self, answer: int) -> None:
        """The families of the call that made `answers` this number were sent."""
        now = self._clock()
        for record in self._terms.newborn:
            record.stood(answer, now)
