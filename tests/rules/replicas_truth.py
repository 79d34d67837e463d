"""What the recorded rates, ratios and increases should be, by what really happened.

The truth of a 5-minute rate is the number of events in the 5 minutes before, by 300. All longer windows are made of
these rates: an event enters them within 5 minutes, and leaves them within 5. Their truth is made in the same way of the
true rates, so that what differs is what Prometheus and the replicas did to them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Final

from tests.rules.replicas import BROKER, TARGET, Job, Labels, marks

EVALUATION: Final = 30
RATE: Final = 300

Events = dict[Labels, list[float]]
"""When things happened, in order, by the labels of the recorded series."""


@dataclass(frozen=True, slots=True)
class Count:
    """Things to count: what a job adds to a family, where its labels are so, by these labels."""

    family: str
    by: tuple[str, ...]
    where: Callable[[Mapping[str, str]], bool] = lambda _: True

    def events(self, jobs: Iterable[Job]) -> Events:
        found: dict[Labels, list[float]] = defaultdict(list)
        for job in sorted(jobs, key=lambda job: job.at):
            for name, more in marks(job):
                labels = {"queue": job.queue, "task": job.task, **more}
                if name == self.family and self.where(labels):
                    found[frozenset((label, labels[label]) for label in self.by)].append(job.at)
        return dict(found)


def _in(*outcomes: str) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: labels["outcome"] in outcomes


QUEUE, TASK = ("queue",), ("queue", "task")
FINISHED, RETRIED = "taskqueue_jobs_finished_total", "taskqueue_jobs_retried_total"
WAIT, RUN = "taskqueue_job_wait_seconds_bucket", "taskqueue_job_run_seconds_bucket"
TARGET_WAIT: Final = 60.0
"""The default of `taskqueue_target:wait_seconds`."""

BAD = Count(FINISHED, QUEUE, _in("failed"))
VALID = Count(FINISHED, QUEUE, _in("succeeded", "failed"))
OBSERVED = Count(WAIT, QUEUE, lambda labels: labels["le"] == "+Inf")
TASK_BAD = Count(FINISHED, TASK, _in("failed"))
TASK_VALID = Count(FINISHED, TASK, _in("succeeded", "failed"))
TASK_RETRIED = Count(RETRIED, TASK)


@dataclass(frozen=True, slots=True)
class Late(Count):
    """Waits beyond the target."""

    def events(self, jobs: Iterable[Job]) -> Events:
        return OBSERVED.events(job for job in jobs if job.wait > TARGET_WAIT)


@dataclass(frozen=True, slots=True)
class Attempts(Count):
    """Those that were retried, and the last of each job that ran."""

    def events(self, jobs: Iterable[Job]) -> Events:
        known = list(jobs)
        again = TASK_RETRIED.events(known)
        last = Count(FINISHED, TASK).events(known)
        return {labels: sorted([*times, *again.get(labels, [])]) for labels, times in last.items()}


LATE = Late(WAIT, QUEUE)
ATTEMPTS = Attempts(FINISHED, TASK)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a series is to be: events per second, or within a window their number, or their share of others."""

    of: Count
    window: int = 0
    among: Count | None = None


HOUR: Final = 3600
WINDOWS: Final = {"5m": 0, "10m": 600, "30m": 1800, "1h": HOUR, "6h": 6 * HOUR, "1d": 24 * HOUR}
"""Seconds over which rates are summed, by how a name says it; a rate itself is summed over nothing."""


def _ratios(name: str, of: Count, among: Count, *windows: str) -> dict[str, Recorded]:
    return {f"{name}:ratio_rate{window}": Recorded(of, WINDOWS[window], among) for window in windows}


RECORDED: Final[Mapping[str, Recorded]] = {
    "queue_outcome:taskqueue_jobs_finished:rate5m": Recorded(Count(FINISHED, ("queue", "outcome"))),
    "queue:taskqueue_jobs_enqueued:rate5m": Recorded(Count("taskqueue_jobs_enqueued_total", QUEUE)),
    "queue:taskqueue_jobs_retried:rate5m": Recorded(Count(RETRIED, QUEUE)),
    "queue_le:taskqueue_job_wait_seconds_bucket:rate5m": Recorded(Count(WAIT, ("queue", "le"))),
    "queue_le:taskqueue_job_run_seconds_bucket:rate5m": Recorded(Count(RUN, ("queue", "le"))),
    "queue_task_outcome:taskqueue_jobs_finished:rate5m": Recorded(Count(FINISHED, (*TASK, "outcome"))),
    "queue_task:taskqueue_jobs_retried:rate5m": Recorded(TASK_RETRIED),
    "queue_task_exception:taskqueue_job_exceptions:rate5m": Recorded(
        Count("taskqueue_job_exceptions_total", (*TASK, "exception"))
    ),
    "queue:taskqueue_jobs_bad:rate5m": Recorded(BAD),
    "queue:taskqueue_jobs_valid:rate5m": Recorded(VALID),
    "queue:taskqueue_jobs_valid:increase1h": Recorded(VALID, HOUR),
    "queue:taskqueue_jobs_valid:increase6h": Recorded(VALID, 6 * HOUR),
    **_ratios("queue:taskqueue_jobs_bad", BAD, VALID, "5m", "30m", "1h", "6h", "1d"),
    "queue_task_outcome:taskqueue_jobs_finished:increase10m": Recorded(Count(FINISHED, (*TASK, "outcome")), 600),
    "queue_task:taskqueue_jobs_retried:increase10m": Recorded(TASK_RETRIED, 600),
    "queue_task:taskqueue_jobs_bad:increase10m": Recorded(TASK_BAD, 600),
    **_ratios("queue_task:taskqueue_jobs_bad", TASK_BAD, TASK_VALID, "10m"),
    **_ratios("queue_task:taskqueue_jobs_retried", TASK_RETRIED, ATTEMPTS, "10m"),
    "queue:taskqueue_job_wait_observed:rate5m": Recorded(OBSERVED),
    "queue:taskqueue_job_wait_late:rate5m": Recorded(LATE),
    "queue:taskqueue_job_wait_observed:increase1h": Recorded(OBSERVED, HOUR),
    **_ratios("queue:taskqueue_job_wait_late", LATE, OBSERVED, "5m", "1h", "6h", "1d"),
}
"""Every recorded rate, ratio and increase of jobs, one for all replicas."""


class Summed:
    """How many events stood in a rate at each evaluation, and in those up to it."""

    def __init__(self, times: Sequence[float], until: int) -> None:
        ends = range(0, until + 1, EVALUATION)
        self._counts = [bisect_right(times, end) - bisect_right(times, end - RATE) for end in ends]
        self._sums = list(accumulate(self._counts, initial=0))

    def at(self, end: int, window: int) -> float:
        """Events within a window that ends then, or per second where it is none."""
        place = end // EVALUATION
        if not window:
            return self._counts[place] / RATE
        begin = max(0, place + 1 - window // EVALUATION)
        return (self._sums[place + 1] - self._sums[begin]) * EVALUATION / RATE


@dataclass(frozen=True)
class Truth:
    """What happened, until then."""

    jobs: Sequence[Job]
    until: int

    def of(self, recorded: Recorded) -> dict[Labels, Callable[[int], float]]:
        """What the series is to be at a time, by the labels that differ."""
        found = {}
        above, below = self._summed(recorded.of), self._summed(recorded.among or recorded.of)
        for labels, summed in above.items():
            whole = below[labels] if recorded.among else None
            found[labels] = _value(summed, whole, recorded.window)
        return found

    def _summed(self, count: Count) -> dict[Labels, Summed]:
        if count not in self._known:
            events = count.events(self.jobs)
            self._known[count] = {labels: Summed(times, self.until) for labels, times in events.items()}
        return self._known[count]

    @cached_property
    def _known(self) -> dict[Count, dict[Labels, Summed]]:
        return {}


def _value(part: Summed, whole: Summed | None, window: int) -> Callable[[int], float]:
    if whole is None:
        return lambda at: part.at(at, window)
    return lambda at: part.at(at, window) / whole.at(at, window) if whole.at(at, window) else 0.0


def target_labels(labels: Labels) -> dict[str, str]:
    """The labels of a recorded series."""
    return {**TARGET, **BROKER, **dict(labels)}
