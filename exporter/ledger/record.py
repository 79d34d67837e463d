"""What is counted of one (queue, task)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.samples import Exemplar

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.ledger.histogram import Histogram, exemplar
from exporter.model import Enqueued, Finished, Known, Outcome, Retried, Started
from exporter.safe.limits import Folded, Limits
from exporter.safe.text import OTHER, UNKNOWN, label_text

_RESERVED: Final = frozenset({OTHER, UNKNOWN})
_ALL: Final = ""
"""What a record holds back while all of its series are new; else the name of the series that is new."""


class Failures:
    """How often, and the last job of them."""

    __slots__ = ("at", "job_id", "number")

    def __init__(self) -> None:
        self.number = 0
        self.job_id: str | None = None
        self.at = 0.0

    def add(self, job_id: str, at: float) -> None:
        self.number += 1
        self.job_id, self.at = job_id, at

    def exemplar(self) -> Exemplar | None:
        return None if self.job_id is None else exemplar(self.job_id, 1.0, self.at)


def birth_name(family: Family, value: str) -> str:
    """How a record calls one of its series that was born later than itself, by the value of its last label."""
    return f"{family.name} {value}"


class Birth:
    """Of series: when they came into being, counted in answers, and since when their zeros stand in one."""

    __slots__ = ("before_answer", "stood_at")

    def __init__(self, answers: int) -> None:
        self.before_answer = answers
        self.stood_at: float | None = None


@dataclass(slots=True)
class Terms:
    """What the records of one ledger share."""

    outcomes: Sequence[Outcome]
    limits: Limits
    folded: Folded
    wait_buckets: Sequence[float]
    run_buckets: Sequence[float]
    birth_hold: float
    answers: int = 0
    """How many answers were made so far."""
    newborn: set[Record] = field(default_factory=set)
    """The records that hold something back."""


class Record:
    """All counters and histograms of one (queue, task)."""

    __slots__ = (
        *("_held", "_terms", "enqueued", "exceptions", "failed", "failed_run", "finished", "labels", "last"),
        *("retried", "run", "started", "wait"),
    )

    def __init__(self, terms: Terms, labels: dict[str, str], last: dict[Outcome, float]) -> None:
        """`last` keeps when the task last came to each outcome: records of several queues may share it."""
        self.labels = labels
        self.enqueued: int | None = None  # None where it was never seen: 0 would not be true
        self.started: int | None = None
        self.retried = 0
        self.finished = dict.fromkeys(terms.outcomes, 0)
        self.failed = Failures()
        self.exceptions: dict[str, Failures] = {}
        self.failed_run = 0.0
        self.wait = Histogram(terms.wait_buckets)
        self.run = Histogram(terms.run_buckets)
        self.last = last
        self._terms = terms
        self._held: dict[str, Birth] = {}
        self.hold(_ALL)

    # -- birth --------------------------------------------------------------------------------------------------

    def hold(self, name: str) -> None:
        """The series called `name` are new: they show 0 for a while."""
        if self._terms.birth_hold > 0:
            self._held[name] = Birth(self._terms.answers)
            self._terms.newborn.add(self)

    def holds(self, name: str = _ALL) -> bool:
        """Whether the series called `name` show 0."""
        return bool(self._held) and (_ALL in self._held or name in self._held)

    def stood(self, answer: int, now: float) -> None:
        """An answer was sent: the zeros of what was born before it may have been scraped."""
        for birth in self._held.values():
            if birth.before_answer < answer and birth.stood_at is None:
                birth.stood_at = now

    def release(self, before: float) -> bool:
        """Shows what has shown 0 since `before`. Returns whether nothing is held any more."""
        for name, birth in list(self._held.items()):
            if birth.stood_at is not None and birth.stood_at <= before:
                del self._held[name]
        return not self._held

    # -- one event of each kind ---------------------------------------------------------------------------------

    def know(self, event: Known) -> None:
        if event.outcome is not None and event.at is not None:
            self.ended(event.outcome, event.at)

    def enqueue(self, event: Enqueued) -> None:
        if self.enqueued is None:
            self.enqueued = 0
            self.hold(c.JOBS_ENQUEUED.name)
        self.enqueued += 1

    def start(self, event: Started) -> None:
        if self.started is None:
            self.started = 0
            self.hold(c.JOBS_STARTED.name)
        self.started += 1
        if event.wait is not None:
            self.wait.observe(event.wait, event.job_id, event.at)

    def retry(self, event: Retried) -> None:
        self.retried += event.retried
        self.failed_run += event.run or 0.0
        if event.wait is not None:
            self.wait.observe(event.wait, event.job_id, event.at)

    def finish(self, event: Finished) -> None:
        outcome, job_id, at = event.outcome, event.job_id, event.at
        if outcome not in self.finished:
            self.finished[outcome] = 0
            self.hold(birth_name(c.JOBS_FINISHED, outcome))
        self.finished[outcome] += 1
        self.retried += event.retried
        self.ended(outcome, at)
        if event.wait is not None:
            self.wait.observe(event.wait, job_id, at)
        if event.run is not None:
            self.run.observe(event.run, job_id, at)
        if outcome is Outcome.FAILED:
            self.failed_run += event.run or 0.0
            self.failed.add(job_id, at)
            self._failures_by(event.exception or UNKNOWN).add(job_id, at)

    def ended(self, outcome: Outcome, at: float) -> None:
        if at > self.last.get(outcome, 0.0):
            self.last[outcome] = at

    def _failures_by(self, exception: str) -> Failures:
        failures = self.exceptions.get(exception)
        if failures is None:
            failures = self._new_failures(label_text(exception, self._terms.limits.label_bytes))
        return failures

    def _new_failures(self, exception: str) -> Failures:
        full = len(self.exceptions) >= self._terms.limits.exceptions_per_task
        if full and exception not in self.exceptions and exception not in _RESERVED:
            self._terms.folded["exception"] += 1
            exception = OTHER
        if exception not in self.exceptions:
            self.exceptions[exception] = Failures()
            self.hold(birth_name(c.JOB_EXCEPTIONS, exception))
        return self.exceptions[exception]


TAKE: Final[dict[type, Callable[[Record, object], None]]] = {
    Known: Record.know,  # type: ignore[dict-item]  # each takes the kind that it stands for
    Enqueued: Record.enqueue,  # type: ignore[dict-item]
    Started: Record.start,  # type: ignore[dict-item]
    Retried: Record.retry,  # type: ignore[dict-item]
    Finished: Record.finish,  # type: ignore[dict-item]
}
"""What a record does with an event of each kind."""
