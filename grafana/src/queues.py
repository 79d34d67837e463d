"""What dashboards of queues share: queries, thresholds, numbers of the present and columns of tables."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import stat, timeseries

from grafana.src import limits, links
from grafana.src.limits import over, target, under
from grafana.src.panels import Query, Says, lines, mapping, number
from grafana.src.promql import QUEUE, SYSTEM, of
from grafana.src.tables import COLOURED, GAUGE, Column, Key

RULES: Final = "No data: are the recording rules loaded?"
NO_ENDS: Final = "No data: no job has ended, or the recording rules are not loaded"
NO_WORKERS: Final = "Not known: ARQ's workers need the hook to be seen"
BY_QUEUE: Final = "{{system}} {{broker}} {{queue}}"

KEYS: Final = (
    Key("job", "Job", hidden=True),
    Key("system", "System", width=70),
    Key("broker", "Broker", width=90),
    Key(
        "queue",
        "Queue",
        links.to(
            links.ONE_SYSTEM,
            {
                "job": links.cell("Job"),
                "system": links.cell("System"),
                "broker": links.cell("Broker"),
                "queue": links.cell("Queue"),
            },
            keep=(),
        ),
        "This queue in depth",
    ),
)
"""What a row is for in the tables of queues."""

READY: Final = of("queue:taskqueue_queue_ready_jobs:max", QUEUE)
BACKLOG: Final = of("queue:taskqueue_queue_backlog_jobs:sum", QUEUE)
AGE: Final = of("queue:taskqueue_queue_oldest_ready_age_seconds:max", QUEUE)
WAIT_TARGET: Final = of("queue:taskqueue_target_wait_seconds:effective", QUEUE)
AGE_OF_TARGET: Final = f"{AGE} / {WAIT_TARGET}"
WAIT_LIMITS: Final = over(warning=1, bad=5)
"""Of the target: QueueWaitTooLong."""
DRAIN: Final = of("queue:taskqueue_queue_drain_seconds:estimate", QUEUE)
ENQUEUED: Final = of("queue:taskqueue_jobs_enqueued:rate5m", QUEUE)
FINISHED: Final = of("queue_outcome:taskqueue_jobs_finished:rate5m", QUEUE)
FAILED_1H: Final = of("queue:taskqueue_jobs_bad:ratio_rate1h", QUEUE)
BUSY_RATIO: Final = of("queue:taskqueue_queue_busy_slots:ratio", QUEUE)
BUSY_LIMITS: Final = over(warning=target("busy_ratio"))
FAST_BURN: Final = 14.4
SLOW_BURN: Final = 6.0
FAILURE_LIMITS: Final = over(warning=SLOW_BURN * target("failure_ratio"), bad=FAST_BURN * target("failure_ratio"))

OF_TARGET: Final = Column(
    "Of target", AGE_OF_TARGET, "percentunit", cell=COLOURED, thresholds=WAIT_LIMITS, decimals=0, width=90
)
NEVER: Final = mapping({"Infinity": ("∞", limits.NEUTRAL)})
"""Grafana would say: ∞ years."""
DRAINED: Final = Column("Drain", DRAIN, "s", width=90, mappings=(NEVER,))
BUSY: Final = Column(
    "Busy slots", BUSY_RATIO, "percentunit", cell=GAUGE, thresholds=BUSY_LIMITS, least=0, most=1, decimals=0
)


def share(part: str, whole: str, window: str) -> str:
    """What part of all happened, within a time, of the rates that two metrics of queues give."""
    above, below = (f"sum(sum_over_time({of(metric, QUEUE)}[{window}]))" for metric in (part, whole))
    return f"{above} / ({below} > 0)"


def _failed(window: str) -> str:
    return share("queue:taskqueue_jobs_bad:rate5m", "queue:taskqueue_jobs_valid:rate5m", window)


# -- numbers of the present; `do` is what to do, as a dashboard has it ------------------------------------------


def of_target(do: str) -> stat.Panel:
    """How late the worst queue is."""
    return number(
        "Oldest, of its target",
        Says(
            "The longest wait of a ready job as a share of the target of its queue; the worst queue counts.",
            "below 100 %. From there on QueueWaitTooLong warns, from 500 % it is critical.",
            do,
        ),
        "percentunit",
        Query(f"max({AGE_OF_TARGET})", "of target"),
        thresholds=WAIT_LIMITS,
        size=(6, 4),
        empty=RULES,
    )


def backlog(do: str) -> stat.Panel:
    """How many jobs wait."""
    return number(
        "Backlog",
        Says(
            "Jobs that are due and not yet running: ready, or reserved by a worker.",
            "rises with each burst and falls back. How much is too much is a matter of each queue.",
            do,
        ),
        "short",
        Query(f"sum({BACKLOG})", "jobs"),
        size=(6, 4),
        empty=RULES,
    )


def finished() -> stat.Panel:
    """How many jobs end."""
    return number(
        "Finished",
        Says(
            "Jobs that reached their final outcome, per second, over the last five minutes.",
            "what it always is at this time of day.",
            "If it is 0 while there is a backlog, nobody works: see workers. Without a backlog, nobody enqueues.",
        ),
        "ops",
        Query(f"sum({FINISHED})", "jobs"),
        size=(6, 4),
        empty=RULES,
    )


def failed(do: str) -> stat.Panel:
    """Which share of them fails."""
    return number(
        "Failed",
        Says(
            "Share of the jobs that ended within the last hour, and day, and did not succeed. Aborted jobs are "
            "left out, and those of which nobody knows the end.",
            "below 1 %, the target unless one says otherwise. Coloured by the paces at which the budget alerts "
            "fire for that target.",
            do,
        ),
        "percentunit",
        Query(_failed("1h"), "1 hour"),
        Query(_failed("1d"), "1 day"),
        thresholds=FAILURE_LIMITS,
        size=(6, 4),
        empty=NO_ENDS,
    )


def workers(do: str) -> stat.Panel:
    """How many workers are there, and how many should be."""
    up = of("worker:taskqueue_worker_up:max", SYSTEM)
    panel = number(
        "Workers",
        Says(
            "Workers that are alive, and those that were lost: their heartbeats stopped without a goodbye.",
            "as many as you run, and none lost.",
            do,
        ),
        "short",
        Query(f"sum({of('broker:taskqueue_workers:max', SYSTEM)})", "alive"),
        Query(f"count({up} == 0) or 0 * count({up})", "lost"),
        size=(6, 4),
        empty=NO_WORKERS,
    )
    panel.override_by_name("alive", limits.override(under(warning=1)))
    return panel.override_by_name("lost", limits.override(over(warning=1)))


# -- over time --------------------------------------------------------------------------------------------------


def backlog_by_queue() -> timeseries.Panel:
    """Where jobs wait."""
    return lines(
        "Backlog by queue",
        Says(
            "Jobs that are due and not yet running, in each queue.",
            "falls back to about 0 between bursts.",
            "A queue that only rises has too few workers, or none.",
        ),
        "short",
        Query(BACKLOG, BY_QUEUE),
        empty=RULES,
    )
