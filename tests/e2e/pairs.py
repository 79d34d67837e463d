"""Whether two replicas of an exporter show what one shows.

They are scraped at other moments than the one, and jobs come and go between. So what is shown is right if the one shows
the same, but for a part, at some moment within three scrapes; what is twice as much is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.e2e.alerting import JOB, SCRAPE_INTERVAL
from tests.e2e.watched import FACTOR, PAIR
from tests.grafana_answers import Asking, Points, points

NEAR: Final = 3 * SCRAPE_INTERVAL / FACTOR
"""Seconds."""
LESS: Final = 0.7
MORE: Final = 1.4
"""The parts by which values may differ: less than twice."""
TOO_MANY: Final = 0.5
"""The share of what is shown that is not right when something is wrong: a burst may come and go between two scrapes."""
UNSTEADY: Final = {
    "queue:taskqueue_queue_drain_seconds:estimate": "it divides by a slope, which is about 0 most of the time",
    "queue:taskqueue_target_run_seconds:effective": "of jobs that run for seconds, two looks see others",
    "taskqueue_worker_reserved_jobs": "each exporter asks Celery's workers at times of its own, seconds apart",
}
"""Metrics of which two looks at the same may give anything, and why."""
SETTLED: Final = 420 / FACTOR
"""Seconds until replicas have watched for as long as the rules look back for."""


def is_of_pairs(expr: str) -> bool:
    """Whether replicas must be seen as one here: a query about queues, jobs, workers or Redis, not about exporters."""
    return "$job" in expr and "$instance" not in expr and not any(metric in expr for metric in UNSTEADY)


def wrong(asking: Asking, expr: str, values: Mapping[str, str], times: float = 1.0) -> float:
    """The share of what a query shows of the pair, `times` as much as it is, that is not right."""
    one, both = (_shown(asking, expr, {**values, "job": job}) for job in (JOB, PAIR))
    begin, end = asking.began + SETTLED, asking.ended - NEAR
    leeway = NEAR if "time()" in expr and "/" not in expr else 0.0  # an age grows, and begins anew, between two looks
    looked = [(labels, *sample) for labels, samples in both.items() for sample in samples if begin <= sample[0] <= end]
    told = [
        _is_right(value * times, [other for moment, other in one.get(labels, ()) if abs(moment - at) <= NEAR], leeway)
        for labels, at, value in looked
    ]
    # What is seldom more than 0 is seldom told from what is twice as much, and may differ when it is.
    enough = max(len({at for _, at, _ in looked}), len(told) - told.count(None))
    return told.count(False) / enough if enough else 0.0


def unlike(asking: Asking, expr: str, values: Mapping[str, str]) -> list[dict[str, str]]:
    """The labels of series that stood all the time of one of the two, and at no time of the other."""
    one, both = (_shown(asking, expr, {**values, "job": job}) for job in (JOB, PAIR))
    missing = [*_lasting(one).difference(both), *_lasting(both).difference(one)]
    return [dict(labels) for labels in missing]


def _shown(asking: Asking, expr: str, values: Mapping[str, str]) -> Points:
    """Without `job`, in which they have to differ."""
    shown = points(asking.query(expr, values))
    return {frozenset(pair for pair in labels if pair[0] != "job"): samples for labels, samples in shown.items()}


def _lasting(shown: Points) -> set[frozenset[tuple[str, str]]]:
    most = max(map(len, shown.values()), default=0)
    return {labels for labels, samples in shown.items() if len(samples) == most}


def _is_right(value: float, others: Iterable[float], leeway: float) -> bool | None:
    """None where both are 0: that is as much however often it is counted."""
    found = list(others)
    if not found:
        return False
    if value == 0 == min(map(abs, found)):
        return None
    bounds = [other * part for other in (min(found), max(found)) for part in (LESS, MORE)]
    return min(bounds) - leeway <= value <= max(bounds) + leeway
