"""The records of a ledger as metric families. Samples are made while they are walked over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar, Sample

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.ledger.histogram import Histogram
from exporter.ledger.record import Record, birth_name
from exporter.model import Outcome

Value = Callable[[Record], float]

FAMILIES: Final[tuple[Family, ...]] = (
    *(c.JOBS_ENQUEUED, c.JOBS_STARTED, c.JOBS_RETRIED, c.JOBS_FINISHED, c.JOB_EXCEPTIONS, c.JOB_WAIT, c.JOB_RUN),
    *(c.JOB_FAILED_RUN, c.TASK_LAST_FINISHED),
)
"""Every family that a ledger can fill."""


def of_records(records: Sequence[Record]) -> Iterator[Metric]:
    """Every family with the labels of a record."""
    enqueued = [record for record in records if record.enqueued is not None]
    started = [record for record in records if record.started is not None]
    yield _counter(c.JOBS_ENQUEUED, enqueued, lambda record: record.enqueued or 0)
    yield _counter(c.JOBS_STARTED, started, lambda record: record.started or 0)
    yield _counter(c.JOBS_RETRIED, records, lambda record: record.retried)
    yield _finished(records)
    yield _exceptions(records)
    yield _histogram(c.JOB_WAIT, records, lambda record: record.wait)
    yield _histogram(c.JOB_RUN, records, lambda record: record.run)
    yield _counter(c.JOB_FAILED_RUN, records, lambda record: record.failed_run)


def last_finished(last: Mapping[tuple[str, ...], Mapping[Outcome, float]]) -> Metric:
    """When each task, given with its labels, last came to each outcome."""
    return c.TASK_LAST_FINISHED.metric(
        ((*labels, outcome), at) for labels, outcomes in last.items() for outcome, at in outcomes.items()
    )


def _counter(family: Family, records: Sequence[Record], value: Value) -> Metric:
    """One sample for each record."""

    def samples() -> Iterator[Sample]:
        for record in records:
            yield Sample(family.name, record.labels, 0 if record.holds(family.name) else value(record))

    return family.lazy_metric(len(records), samples)


def _histogram(family: Family, records: Sequence[Record], histogram: Callable[[Record], Histogram]) -> Metric:
    """One histogram for each record."""

    def samples() -> Iterator[Sample]:
        for record in records:
            yield from histogram(record).samples(family, record.labels, held=record.holds())

    return family.lazy_metric(sum(len(histogram(record)) for record in records), samples)


def _finished(records: Sequence[Record]) -> Metric:
    def samples() -> Iterator[Sample]:
        for record in records:
            for outcome, number in list(record.finished.items()):
                exemplar = record.failed.exemplar() if outcome is Outcome.FAILED else None
                yield _unless_held(c.JOBS_FINISHED, record, outcome, number, exemplar)

    return c.JOBS_FINISHED.lazy_metric(sum(len(record.finished) for record in records), samples)


def _exceptions(records: Sequence[Record]) -> Metric:
    known = [(record, list(record.exceptions.items())) for record in records if record.exceptions]

    def samples() -> Iterator[Sample]:
        for record, exceptions in known:
            for exception, failures in exceptions:
                yield _unless_held(c.JOB_EXCEPTIONS, record, exception, failures.number, failures.exemplar())

    return c.JOB_EXCEPTIONS.lazy_metric(sum(len(exceptions) for _, exceptions in known), samples)


def _unless_held(family: Family, record: Record, last_label: str, number: int, exemplar: Exemplar | None) -> Sample:
    labels = {**record.labels, family.labels[-1]: last_label}
    if record.holds(birth_name(family, last_label)):
        return Sample(family.name, labels, 0)
    return Sample(family.name, labels, number, None, exemplar)
