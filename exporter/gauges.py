"""Observations become metric families here, by table. Label text is cleaned and capped on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from prometheus_client.core import Metric

from exporter import catalogue as c
from exporter.catalogue import Family
from exporter.model import Observation, QueueState, WorkerState
from exporter.safe.limits import Folded, Limits, Names
from exporter.safe.text import OTHER

K = TypeVar("K")
S = TypeVar("S")
# What one state gives one family: the values of the labels that stand behind queue or worker, and the number.
Extract = Callable[[S], Iterable[tuple[tuple[str, ...], float]]]


def _one(name: str) -> Callable[[object], Iterable[tuple[tuple[str, ...], float]]]:
    """A field that holds one number, or None for "cannot be known"."""

    def extract(state: object) -> Iterable[tuple[tuple[str, ...], float]]:
        value = getattr(state, name)
        return () if value is None else (((), float(value)),)

    return extract


def _by_key(name: str) -> Callable[[object], Iterable[tuple[tuple[str, ...], float]]]:
    """A field that holds numbers by a label's value."""

    def extract(state: object) -> Iterable[tuple[tuple[str, ...], float]]:
        by_key: Mapping[object, int] = getattr(state, name)
        return [((str(key),), float(number)) for key, number in by_key.items()]

    return extract


def _live_workers(seen: Observation) -> Iterable[tuple[tuple[str, ...], float]]:
    if seen.workers is None or not seen.all_workers:
        return ()
    return (((), float(sum(worker.up for worker in seen.workers))),)


def _version(worker: WorkerState) -> Iterable[tuple[tuple[str, ...], float]]:
    return () if worker.version is None else (((worker.version,), 1.0),)


QUEUE_GAUGES: Final[tuple[tuple[Family, Extract[QueueState]], ...]] = (
    (c.QUEUE_JOBS, _by_key("jobs")),
    (c.QUEUE_PRIORITY_JOBS, _by_key("ready_by_priority")),
    (c.QUEUE_KEPT_RESULTS, _by_key("kept_results")),
    (c.QUEUE_OLDEST_READY, _one("oldest_ready")),
    (c.QUEUE_OLDEST_RUNNING, _one("oldest_running")),
    (c.QUEUE_LAST_PROGRESS, _one("last_progress")),
    (c.QUEUE_PAUSED, _one("paused")),
    (c.QUEUE_WORKERS, _one("workers")),
    (c.QUEUE_SLOTS, _one("slots")),
    (c.QUEUE_BUSY_SLOTS, _one("busy_slots")),
    (c.QUEUE_PROGRESS_JOBS, _one("progress_jobs")),
    (c.QUEUE_OLDEST_PROGRESS, _one("oldest_progress")),
    (c.QUEUE_EXPIRED_JOBS, _one("expired_jobs")),
    (c.QUEUE_HEALTH, _one("health_at")),
    (c.QUEUE_REPORTED_JOBS, _by_key("reported_jobs")),
    (c.QUEUE_REPORTED_RUNNING, _one("reported_running")),
)
WORKER_GAUGES: Final[tuple[tuple[Family, Extract[WorkerState]], ...]] = (
    (c.WORKER_UP, _one("up")),
    (c.WORKER_LAST_HEARTBEAT, _one("last_heartbeat")),
    (c.WORKER_SLOTS, _one("slots")),
    (c.WORKER_BUSY_SLOTS, _one("busy_slots")),
    (c.WORKER_RESERVED_JOBS, _one("reserved_jobs")),
    (c.WORKER_REGISTERED_TASKS, _one("registered_tasks")),
    (c.WORKER_INFO, _version),
)
SYSTEM_GAUGES: Final[tuple[tuple[Family, Extract[Observation]], ...]] = (
    (c.UNACKED_JOBS, _one("unacked_jobs")),
    (c.OLDEST_UNACKED, _one("oldest_unacked")),
    (c.VISIBILITY_TIMEOUT, _one("visibility_timeout")),
    (c.ABORT_REQUESTS, _one("abort_requests")),
    (c.WORKERS, _live_workers),
)
FAMILIES: Final[tuple[Family, ...]] = (
    *(row[0] for row in (*QUEUE_GAUGES, *WORKER_GAUGES, *SYSTEM_GAUGES)),
    c.TASK_RUNNING,
)
"""Every family that an Observation can fill."""


class Gauges:
    """Turns the Observations of one (system, broker) into families. Keeps which names were let in under the caps.

    Queues beyond the cap are folded into one queue `__other__` that keeps the sums; what cannot be summed (times,
    workers that serve several queues) is left out. Workers beyond the cap are left out; those gone first.
    """

    def __init__(self, system: str, broker: str, limits: Limits) -> None:
        self._base = (system, broker)
        self._queues = Names(limits.queues, limits.label_bytes)
        self._workers = Names(limits.workers, limits.label_bytes)
        self._values = Names(limits.workers, limits.label_bytes)  # versions and priorities: no more than workers
        self._tasks = Names(limits.task_queues, limits.label_bytes)
        self._run_before: dict[str, int] = {}

    def families(self, seen: Observation, folded: Folded) -> list[Metric]:
        """The families of `seen`; `folded` counts the names beyond a cap, by label."""
        queues = self._admit_queues(seen.queues, folded)
        workers = self._admit_workers(seen.workers or (), folded)
        return [
            *self._fill(QUEUE_GAUGES, queues),
            *self._fill(WORKER_GAUGES, workers),
            *self._fill(SYSTEM_GAUGES, [((), seen)]),
            *self._running(seen.running, folded),
        ]

    def _running(self, running: Mapping[str, int] | None, folded: Folded) -> Iterator[Metric]:
        """Running jobs by task; 0 for one that was seen to run before."""
        if running is None:
            return
        numbers = self._run_before | {self._tasks.text(task): number for task, number in running.items()}
        admitted = self._tasks.admit(*_split(numbers, bool))
        kept = {task: number for task, number in numbers.items() if task in admitted}
        self._run_before = dict.fromkeys(kept, 0)
        if len(kept) < len(numbers):
            folded["task"] += len(numbers) - len(kept)
            kept[OTHER] = sum(numbers.values()) - sum(kept.values())
        if kept:
            yield c.TASK_RUNNING.metric(((*self._base, task), number) for task, number in kept.items())

    def _fill(
        self, table: Iterable[tuple[Family, Extract[S]]], states: Sequence[tuple[tuple[str, ...], S]]
    ) -> Iterator[Metric]:
        for family, extract in table:
            metric = family.metric(
                ([*self._base, *key, *map(self._values.text, rest)], value)
                for key, state in states
                for rest, value in extract(state)
            )
            if metric.samples:
                yield metric

    def _admit_queues(
        self, states: Iterable[QueueState], folded: Folded
    ) -> Sequence[tuple[tuple[str, ...], QueueState]]:
        by_name = {self._queues.text(state.queue): state for state in states}
        # A queue that holds jobs must not be folded for the sake of one that is empty, and perhaps long gone.
        busy, empty = _split(by_name, lambda state: any(state.jobs.values()))
        admitted = self._queues.admit(busy, empty)
        rest = [state for name, state in by_name.items() if name not in admitted]
        kept = [((name,), state) for name, state in by_name.items() if name in admitted]
        if rest:
            folded["queue"] += len(rest)
            return [*kept, ((OTHER,), _sum_of(rest))]
        return kept

    def _admit_workers(
        self, states: Iterable[WorkerState], folded: Folded
    ) -> Sequence[tuple[tuple[str, ...], WorkerState]]:
        by_name = {self._workers.text(state.worker): state for state in states}
        alive, gone = _split(by_name, lambda state: state.up)
        admitted = self._workers.admit(alive, gone)
        folded["worker"] += len(by_name) - len(admitted)
        return [((name,), by_name[name]) for name in by_name if name in admitted]


def _split(by_name: Mapping[str, S], first: Callable[[S], bool]) -> tuple[list[str], list[str]]:
    """The names of the states that are `first`, and those of the others."""
    chosen = {name for name, state in by_name.items() if first(state)}
    return [name for name in by_name if name in chosen], [name for name in by_name if name not in chosen]


def _sum_of(states: Sequence[QueueState]) -> QueueState:
    """One queue that holds the jobs of `states`: counts add up, times and workers do not."""
    return QueueState(
        OTHER,
        jobs=_totals([state.jobs for state in states]),
        ready_by_priority=_totals([state.ready_by_priority for state in states]),
        kept_results=_totals([state.kept_results for state in states]),
        expired_jobs=_total([state.expired_jobs for state in states]),
    )


def _total(counts: Iterable[int | None]) -> int | None:
    """The sum of what is known, if anything is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _totals(counts: Iterable[Mapping[K, int]]) -> Mapping[K, int]:
    """The sums by key, explicit zeros included, of what is known."""
    totals: Counter[K] = Counter()
    for count in counts:
        totals.update(count)  # `+` would lose the zeros
    return totals
