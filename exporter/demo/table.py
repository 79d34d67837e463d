"""The live table: what the exporter's /metrics says of each queue, as text."""

import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

JOBS = "taskqueue_queue_jobs"
FINISHED = "taskqueue_jobs_finished_total"
OLDEST = "taskqueue_queue_oldest_ready_timestamp_seconds"
UNACKED = "taskqueue_unacked_jobs"
WORKER_UP = "taskqueue_worker_up"

HEADINGS = ("system", "queue", "ready", "scheduled", "running", "oldest s", "done", "failed", "workers")
STATES = ("ready", "scheduled", "running")
ABSENT = "-"
SUCCEEDED = "succeeded"
LEGEND = (
    "oldest s: seconds the oldest ready job has waited (Celery: since the exporter saw it); done: jobs that succeeded, "
    "failed: all that came to another end; -: not known or none; "
    "workers: processes of this demo that consume the queue (not from /metrics: the broker cannot tell); "
    "alive: workers whose heartbeat /metrics tells of (ARQ: of the one that has the hook)"
)

QueueKey = tuple[str, str]
"""System and queue."""


@dataclass(slots=True)
class QueueRow:
    """One queue: jobs by state, when its oldest ready job became due (Unix seconds), and jobs that ended."""

    jobs: dict[str, float] = field(default_factory=dict)
    oldest: float | None = None
    done: float | None = None
    failed: float | None = None

    def end(self, outcome: str, jobs: float) -> None:
        """Adds jobs that came to an outcome."""
        if outcome == SUCCEEDED:
            self.done = (self.done or 0) + jobs
        else:
            self.failed = (self.failed or 0) + jobs


@dataclass(slots=True)
class Snapshot:
    """What one scrape told, by (system, queue), and by system the unacknowledged jobs and the workers that live."""

    queues: dict[QueueKey, QueueRow] = field(default_factory=dict)
    unacked: dict[str, float] = field(default_factory=dict)
    alive: dict[str, list[str]] = field(default_factory=dict)

    def row(self, labels: Mapping[str, str]) -> QueueRow:
        return self.queues.setdefault((labels["system"], labels["queue"]), QueueRow())


def fetch(url: str, timeout: float) -> str:
    """Returns the text at a loopback ``url``; raises OSError if there is no good answer within ``timeout`` seconds."""
    # No proxies: the environment's http_proxy must not carry a request to loopback elsewhere.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            body: bytes = response.read()
    except HTTPException as error:  # cut off while answering
        raise OSError(str(error)) from error
    return body.decode()


def parse(metrics: str) -> Snapshot:
    """Reads a Snapshot from Prometheus text."""
    snapshot = Snapshot()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            _take(snapshot, sample)
    return snapshot


def _take(snapshot: Snapshot, sample: Sample) -> None:
    labels = sample.labels
    if sample.name == JOBS:
        snapshot.row(labels).jobs[labels["state"]] = sample.value
    elif sample.name == OLDEST:
        snapshot.row(labels).oldest = sample.value
    elif sample.name == FINISHED:
        snapshot.row(labels).end(labels["outcome"], sample.value)
    elif sample.name == UNACKED:
        snapshot.unacked[labels["system"]] = sample.value
    elif sample.name == WORKER_UP and sample.value:
        snapshot.alive.setdefault(labels["system"], []).append(labels["worker"])


def render(snapshot: Snapshot, workers: Mapping[QueueKey, int], now: float) -> str:
    """Returns the table, one line for each queue that the exporter saw or a worker consumes; below it what is told of
    a system as a whole."""
    keys = sorted(snapshot.queues.keys() | workers.keys())
    rows = [_cells(key, snapshot.queues.get(key, QueueRow()), workers.get(key, 0), now) for key in keys]
    unacked = [f"{system}: {_number(count)} jobs unacknowledged" for system, count in sorted(snapshot.unacked.items())]
    alive = [f"{system}: alive {', '.join(sorted(names))}" for system, names in sorted(snapshot.alive.items())]
    return "\n".join([*_aligned([HEADINGS, *rows]), *unacked, *alive])


def _cells(key: QueueKey, row: QueueRow, workers: int, now: float) -> tuple[str, ...]:
    age = ABSENT if row.oldest is None else f"{max(0.0, now - row.oldest):.1f}"
    states = [_number(row.jobs.get(state)) for state in STATES]
    return (*key, *states, age, _number(row.done), _number(row.failed), str(workers))


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.0f}"


def _aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Pads the cells: the two names to the left, numbers to the right."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(_pad, row, widths, range(len(row)))) for row in table]


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)
