"""What really happened to jobs, by their own record, and how an exporter's answer differs from it.

Enqueuers and the functions that run append lines to one file; nothing in it comes from the exporter, nor from what it
reads. From the lines follow the numbers that the exporter must show: exactly for counts, within `SUMS_AGREE` or so for
sums of seconds, as a function starts its clock a little later than its worker does and stops it a little earlier.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.e2e.reading import Metrics
from tests.e2e.truth_record import UNKNOWN, Ended, Enqueued, Line, Started
from tests.servers import Exporter, Series, wait_until

SHOWN_AT_ONCE = {"TASKQUEUE_EXPORTER_BIRTH_HOLD": "0"}
"""The environment of an exporter that holds no new series back."""
SUMS_AGREE = 0.05
SUMS_NEVER_DIFFER = 0.3
"""Seconds below which a difference of sums says nothing, as with one or two jobs."""
SUMS_DIFFER_PER_JOB = {"job_wait_seconds_sum": 0.25, "job_run_seconds_sum": 0.1}
"""Seconds between a worker's clock and that of the function it runs, where both wait for a busy machine: more of them
before a function starts, when all that waited for a worker start at once."""
LATER_SCRAPES = 6
FEEDS_AT_REST = ("lost_events", "gap_seconds", "reconnects", "undecodable", "forgotten_jobs")
"""Families `taskqueue_feed_<name>_total` that stand still as long as nothing is cut."""


# -- the record, read -------------------------------------------------------------------------------------------

_decode = msgspec.json.Decoder(Line).decode


@dataclass(slots=True)
class Job:
    """One job's life as recorded."""

    enqueued: Enqueued
    starts: list[float] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)

    @property
    def retried(self) -> int:
        """Attempts that ended in a retry."""
        return sum(end.how == "retried" for end in self.ends)

    @property
    def final(self) -> Ended | None:
        """How its last attempt ended, if a function could tell."""
        return self.ends[-1] if self.ends and self.ends[-1].how != "retried" else None

    @property
    def how(self) -> str | None:
        """How it ended at last, or must end; None while that is open."""
        return self.final.how if self.final is not None else self.enqueued.fate

    @property
    def run(self) -> float | None:
        """How long its last attempt ran, if that was its end."""
        return self.final.at - self.starts[-1] if self.final is not None and self.starts else None

    @property
    def wait(self) -> float | None:
        """From due to its first start."""
        return self.starts[0] - self.enqueued.due if self.starts else None


def read(record: Path) -> dict[str, Job]:
    """Every job of a record, by its id."""
    whole, _, _ = record.read_bytes().rpartition(b"\n")  # a line may be on its way
    lines = [_decode(line) for line in whole.splitlines()]
    # Enqueuers write before they enqueue. The attempts of a job may run in several processes, their lines out of turn.
    jobs = {line.job: Job(line) for line in lines if isinstance(line, Enqueued)}
    for line in sorted((line for line in lines if not isinstance(line, Enqueued)), key=lambda line: line.at):
        if isinstance(line, Started):
            jobs[line.job].starts.append(line.at)
        else:
            jobs[line.job].ends.append(line)
    return jobs


def unended(record: Path) -> list[str]:
    """The jobs whose record is not complete yet."""
    return [job_id for job_id, job in read(record).items() if job.how is None or len(job.starts) > len(job.ends)]


# -- what follows from it ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rules:
    """What the design says can be known of a system's jobs."""

    system: str
    sees_all: bool  # what is enqueued and started is seen when it happens
    waits: Callable[[Job], bool]  # of a job that started
    task: Callable[[Job], str] = lambda job: job.enqueued.task
    known: Callable[[Job], bool] = lambda _: True  # how it ended
    how: Callable[[Job], str | None] = lambda job: job.how  # if that is known
    retried: Callable[[Job], int] = lambda job: job.retried  # attempts, though it may not be known how it ended
    sees_unknown: bool = False  # that it ended, where nobody knows how


def _named(job: Job) -> str:
    """arq writes `<unknown>` into the result of a job whose definition, with the name, it could not read."""
    return UNKNOWN if job.how in ("expired", "undecodable") else job.enqueued.task


ARQ = Rules("arq", sees_all=False, waits=lambda job: len(job.starts) == 1, task=_named)
"""Without a hook: what a result holds. It holds the last start, so the wait of a job with one attempt only."""
CELERY = Rules("celery", sees_all=True, waits=lambda _: True)


@dataclass(slots=True)
class Expected:
    """The numbers that follow from a record; counts by family without prefix and by labels."""

    counts: dict[str, Counter[frozenset[tuple[str, str]]]]
    sums: dict[str, Counter[frozenset[tuple[str, str]]]]

    @property
    def finished(self) -> int:
        """Jobs that ended, all tasks and outcomes together."""
        return sum(self.counts["jobs_finished_total"].values())


COUNTS = (
    *("jobs_enqueued_total", "jobs_started_total", "jobs_retried_total", "jobs_finished_total"),
    *("job_exceptions_total", "job_wait_seconds_count", "job_run_seconds_count"),
)
SUMS = tuple(SUMS_DIFFER_PER_JOB)


def expect(jobs: Iterable[Job], rules: Rules) -> Expected:
    """What an exporter must show that watched the whole life of these jobs."""
    expected = Expected(
        counts={name: Counter() for name in COUNTS},
        sums={name: Counter() for name in SUMS},
    )
    for job in jobs:
        _expect_one(expected, job, rules)
    return expected


def _expect_one(expected: Expected, job: Job, rules: Rules) -> None:
    known = rules.known(job)
    where = {"queue": job.enqueued.queue, "task": rules.task(job) if known else job.enqueued.task}
    outcome, exception = _ending(job, rules)

    def count(name: str, number: int = 1, **more: str) -> None:
        if number:
            expected.counts[name][frozenset({**where, **more}.items())] += number

    def observe(name: str, seconds: float | None) -> None:
        if seconds is not None:
            count(f"{name}_count")
            expected.sums[f"{name}_sum"][frozenset(where.items())] += seconds  # type: ignore[assignment]

    if outcome:
        count("jobs_finished_total", outcome=outcome)
    if exception:
        count("job_exceptions_total", exception=exception)
    count("jobs_retried_total", rules.retried(job))
    observe("job_run_seconds", job.run if known else None)
    observe("job_wait_seconds", job.wait if rules.waits(job) else None)
    if rules.sees_all:
        count("jobs_enqueued_total")
        count("jobs_started_total", len(job.starts))


def _ending(job: Job, rules: Rules) -> tuple[str, str]:
    """Its outcome and, of a failure, the exception; empty where it is not seen to end."""
    how = rules.how(job)
    assert how is not None, f"the record of {job.enqueued} has no end"
    if not rules.known(job):
        return "unknown" if rules.sees_unknown else "", ""
    outcome, _, exception = how.partition("/")
    return outcome, exception


# -- what an exporter says --------------------------------------------------------------------------------------


def differences(
    expected: Expected, metrics: Metrics, system: str, broker: str = "default", sums: Collection[str] = SUMS
) -> list[str]:
    """One line for each series that is not as expected, wherever it is missing or too much. Empty if all agree.
    Of sums of seconds, only those named are compared."""
    shown = _shown(metrics, system, broker)
    found = []
    for name, counts in expected.counts.items():
        for labels in counts.keys() | shown[name].keys():
            want, have = counts[labels], shown[name].get(labels, 0)
            if want != have:
                found.append(f"{_text(name, labels)} is {have:g}, expected {want} ({have - want:+g})")
    for name in sums:
        for labels in expected.sums[name].keys() | shown[name].keys():
            seconds, have = float(expected.sums[name][labels]), shown[name].get(labels, 0)
            jobs = expected.counts[f"{name.removesuffix('_sum')}_count"][labels]
            if abs(have - seconds) > max(SUMS_AGREE * seconds, SUMS_NEVER_DIFFER, SUMS_DIFFER_PER_JOB[name] * jobs):
                found.append(f"{_text(name, labels)} is {have:.3f} s, the jobs' own clocks say {seconds:.3f} s")
    return sorted(found)


def _shown(metrics: Metrics, system: str, broker: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """The job families of one system, without prefix and common labels."""
    common = {("system", system), ("broker", broker)}
    shown: dict[str, dict[frozenset[tuple[str, str]], float]] = defaultdict(dict)
    for (name, labels), value in metrics.items():
        if common <= labels:
            shown[name.removeprefix("taskqueue_")][labels - common] = value
    return shown


def _text(name: str, labels: frozenset[tuple[str, str]]) -> str:
    return f"{name}{{{', '.join(f'{label}={value!r}' for label, value in sorted(labels))}}}"


def feed_troubles(metrics: Metrics) -> dict[Series, float]:
    """What feeds say of losses, gaps, reconnects and the like, where it is not 0."""
    names = {f"taskqueue_feed_{name}_total" for name in FEEDS_AT_REST}
    return {key: value for key, value in metrics.items() if key[0] in names and value}


def total(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum of a family's series that have these labels."""
    wanted = set(labels.items())
    return sum(value for (family, found), value in metrics.items() if family == name and wanted <= found)


def connected(metrics: Metrics, feed: str) -> bool:
    """Whether every feed of this name is connected, and there is one."""
    states = [
        value
        for (name, labels), value in metrics.items()
        if name == "taskqueue_feed_connected" and ("feed", feed) in labels
    ]
    return bool(states) and all(states)


class Watched:
    """An exporter, its feeds connected, beside the record of what it watches."""

    def __init__(
        self,
        exporter: Exporter,
        record: Path,
        rules: Rules,
        sums: Collection[str] = SUMS,
        broker: str = "default",
    ) -> None:
        self.exporter, self.record, self._rules, self._sums, self.broker = exporter, record, rules, sums, broker
        self._troubles = feed_troubles(exporter.metrics())

    def assert_tells_the_truth(self, deadline: float = 60.0) -> None:
        """See `assert_all_tell_the_truth`."""
        assert_all_tell_the_truth(self, deadline=deadline)

    def differences(self, jobs: Iterable[Job]) -> list[str]:
        """See `differences`."""
        expected = expect(jobs, self._rules)
        metrics = self.exporter.metrics()
        return differences(expected, metrics, self._rules.system, self.broker, sums=self._sums)

    def new_troubles(self) -> dict[Series, float]:
        """What the feeds know of gaps and losses, unless they knew no less in the beginning."""
        troubles = feed_troubles(self.exporter.metrics())
        return troubles if troubles != self._troubles else {}


def assert_all_tell_the_truth(*watched: Watched, deadline: float = 60.0, later: int = LATER_SCRAPES) -> None:
    """Wait for the jobs to end, and for each exporter to have counted them; then nothing may differ, nor may any feed
    know of a gap or a loss. All watch the same jobs."""
    record = watched[0].record
    _wait_for_none(lambda: unended(record), "jobs have not ended", deadline)
    jobs = read(record).values()
    for one in watched:
        _wait_for_none(lambda one=one: one.differences(jobs), f"series of {one.broker} differ from the truth", deadline)  # type: ignore[misc]
    # What agreed once still agrees a few scrapes later: nothing is counted late or twice. The record is read anew, as a
    # broker may give a job out once more meanwhile (Celery's visibility timeout, on a busy machine): that one counts.
    scrapes = iter(range(later))
    wait_until(lambda: any(one.differences(jobs) for one in watched) or next(scrapes, None) is None, interval=0.5)
    for one in watched:
        what = f"series of {one.broker} differ from the truth a few scrapes later"
        _wait_for_none(lambda one=one: unended(record) or one.differences(read(record).values()), what, deadline)  # type: ignore[misc]
    troubles = [one.new_troubles() for one in watched if one.new_troubles()]
    assert not troubles, f"feeds speak of troubles: {troubles}"


def _wait_for_none(left: Callable[[], list[str]], what: str, deadline: float) -> None:
    """Until nothing is left; AssertionError with what is left at the deadline."""
    found: list[str] = []

    def none_left() -> bool:
        found[:] = left()
        return not found

    try:
        wait_until(none_left, deadline, interval=0.5)
    except AssertionError:
        raise AssertionError(f"{len(found)} {what}:\n" + "\n".join(found[:60])) from None
