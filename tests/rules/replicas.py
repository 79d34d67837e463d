"""Two exporters on one broker as Prometheus sees them: what they show at each scrape, by what really happened.

The stream of what happens is the truth; a replica shows of it what came while it lived and its feed was connected, by
the rules of the ledger: a task is born at 0 with its first evidence, and what is held shows once its zeros stood.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

GRID: Final = 5
"""Seconds from one place of a series to the next, in what promtool reads."""
SCRAPE_INTERVAL: Final = 15
BIRTH_HOLD: Final = 30
OUTCOMES: Final = ("succeeded", "failed", "aborted")
WAIT_BOUNDS: Final = (5.0, 60.0)
RUN_BOUNDS: Final = (1.0, 10.0)
BROKER: Final = {"system": "celery", "broker": "main"}
TARGET: Final = {"job": "taskqueue", "namespace": "shop"}
"""Labels that the targets of both replicas share."""

Labels = frozenset[tuple[str, str]]
Key = tuple[str, Labels]
"""One series of one replica: its name, and the labels that the exporter gives it."""
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Job:
    """A job that ended."""

    at: float
    queue: str
    task: str
    outcome: str = "succeeded"
    exception: str = ""
    retried: bool = False
    wait: float = 0.2
    run: float = 0.5


def marks(job: Job) -> Iterator[tuple[str, Mapping[str, str]]]:
    """What a job adds 1 to, by name and by labels other than those of its task."""
    yield "taskqueue_jobs_enqueued_total", {}
    yield "taskqueue_jobs_finished_total", {"outcome": job.outcome}
    if job.exception:
        yield "taskqueue_job_exceptions_total", {"exception": job.exception}
    if job.retried:
        yield "taskqueue_jobs_retried_total", {}
    yield from _observed("taskqueue_job_wait_seconds_bucket", WAIT_BOUNDS, job.wait)
    yield from _observed("taskqueue_job_run_seconds_bucket", RUN_BOUNDS, job.run)


def _observed(name: str, bounds: Iterable[float], value: float) -> Iterator[tuple[str, Mapping[str, str]]]:
    yield name, {"le": "+Inf"}
    for bound in bounds:
        if value <= bound:
            yield name, {"le": str(bound)}


def moments(jobs: Iterable[Job]) -> dict[Key, list[float]]:
    """For each series when it rises, in order; a series that a task is born with may have no moment."""
    found: dict[Key, list[float]] = defaultdict(list)
    born = set()
    for job in sorted(jobs, key=lambda job: job.at):
        task = {**BROKER, "queue": job.queue, "task": job.task}
        if (job.queue, job.task) not in born:
            born.add((job.queue, job.task))
            found |= {(name, frozenset({**task, **more}.items())): [] for name, more in _born_with()}
        for name, more in marks(job):
            found[name, frozenset({**task, **more}.items())].append(job.at)
    return dict(found)


def _born_with() -> Iterator[tuple[str, Mapping[str, str]]]:
    for outcome in OUTCOMES:
        yield from marks(Job(0, "", "", outcome, retried=True))


@dataclass(frozen=True, slots=True)
class Replica:
    """One exporter: when its processes lived, when its feed was not connected, when a scrape of it failed."""

    instance: str
    phase: int
    """Seconds from a multiple of the scrape interval to its scrapes."""
    lives: tuple[Span, ...]
    gaps: tuple[Span, ...] = ()
    missed: tuple[Span, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        return {**TARGET, "instance": self.instance, "pod": f"exporter-{self.instance}"}

    def life(self, at: float) -> Span | None:
        """The process that answers then; None if none does."""
        if any(begin <= at < end for begin, end in self.missed):
            return None
        return next((life for life in self.lives if life[0] <= at < life[1]), None)

    def scrapes(self, until: float) -> list[int]:
        """When it is scraped."""
        return list(range(self.phase, int(until), SCRAPE_INTERVAL))


Samples = list[float | None]
"""By scrape; None where the series is not there."""


def shown(replica: Replica, rises: Mapping[Key, list[float]], until: float) -> dict[Key, Samples]:
    """What the scrapes of a replica give, `up` included, until then."""
    scrapes = replica.scrapes(until)
    lives = [replica.life(at) for at in scrapes]
    found: dict[Key, Samples] = {("up", frozenset()): [float(life is not None) for life in lives]}
    found["process_start_time_seconds", frozenset()] = [life and life[0] for life in lives]
    gap = "taskqueue_feed_gap_seconds_total", frozenset({**BROKER, "feed": "events"}.items())
    found[gap] = [life and _gap(replica, life, at) for life, at in zip(lives, scrapes, strict=True)]
    first = _first_evidence(replica, rises)
    for key, times in rises.items():
        found[key] = [None] * len(scrapes)
        for life in replica.lives:
            seen = [at for at in times if _sees(replica, life, at)]
            own = key[0] == "taskqueue_job_exceptions_total"
            born = (seen[0] if seen else None) if own else first.get((life, _task(key)))
            if born is not None:
                _show(found[key], scrapes, [here == life for here in lives], seen, born)
    return found


def _show(samples: Samples, scrapes: list[int], answers: list[bool], seen: list[float], born: float) -> None:
    """Fills in what one process shows of one series that is born then."""
    stood: float | None = None
    for place, at in enumerate(scrapes):
        if answers[place] and at >= born:
            # The answer that releases it comes later than the one in which the zeros stood, by more than the hold.
            held = stood is None or at - stood <= BIRTH_HOLD
            stood = at if stood is None else stood
            samples[place] = 0.0 if held else float(bisect_right(seen, at))


def _task(key: Key) -> tuple[str, str]:
    labels = dict(key[1])
    return labels["queue"], labels["task"]


def _first_evidence(replica: Replica, rises: Mapping[Key, list[float]]) -> dict[tuple[Span, tuple[str, str]], float]:
    first: dict[tuple[Span, tuple[str, str]], float] = {}
    for key, times in rises.items():
        for life in replica.lives:
            at = next((at for at in times if _sees(replica, life, at)), None)
            if at is not None:
                first[life, _task(key)] = min(at, first.get((life, _task(key)), at))
    return first


def _sees(replica: Replica, life: Span, at: float) -> bool:
    return life[0] < at <= life[1] and not any(begin < at <= end for begin, end in replica.gaps)


def _gap(replica: Replica, life: Span, at: float) -> float:
    """The counter of the feed's gaps: there is one until a process has connected, and it rises during each."""
    gaps = [(life[0], life[0] + 0.2), *(gap for gap in replica.gaps if gap[0] >= life[0])]
    return sum(max(0.0, min(at, end) - begin) for begin, end in gaps)


def input_series(replica: Replica, found: Mapping[Key, Samples]) -> Iterator[dict[str, str]]:
    """The series as promtool reads them."""
    blank = f"_x{SCRAPE_INTERVAL // GRID - 1}"
    for (name, labels), samples in found.items():
        text = [f"_x{replica.phase // GRID}"] if replica.phase else []
        there = False
        for value in samples:
            text += [_place(value, there), blank]
            there = value is not None
        yield {"series": selector(name, {**replica.labels, **dict(labels)}), "values": " ".join(text)}


def _place(value: float | None, there_before: bool) -> str:
    """A series that is gone from an answer, or whose target does not answer, is marked as stale."""
    if value is None:
        return "stale" if there_before else "_"
    return f"{value:.12g}"


def selector(name: str, labels: Mapping[str, str]) -> str:
    """A series as it is written in an expression."""
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}"
