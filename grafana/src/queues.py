"""What dashboards of queues share: queries, thresholds, numbers of the present and columns of tables."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import stat, timeseries

from grafana.src import limits, links, shares
from grafana.src.limits import above, over, target
from grafana.src.panels import NOT_KNOWN, Query, Says, lines, number, restyled
from grafana.src.promql import QUEUE, SYSTEM, of, seen
from grafana.src.tables import COLOURED, GAUGE, Column, Key

NO_ANSWER: Final = "No exporter or broker answers, the recording rules are not loaded"
RULES: Final = f"{NO_ANSWER}, or there is no queue"
NO_ENDS: Final = f"{NO_ANSWER}, or no job has ended"
NO_WAITS: Final = f"{NO_ANSWER}, or no wait was seen (Celery: task_send_sent_event)"
NO_TARGET: Final = f"{NO_WAITS}, or the target is no bound of the histogram (WaitTargetNotABucket)"
NOT_HEARD: Final = f"{NO_ANSWER}, or no feed is connected"
NO_WORKERS: Final = f"{NO_ANSWER}, or not known: ARQ's workers need the hook to be seen"
BY_QUEUE: Final = "{{system}} {{broker}} {{queue}}"

KEYS: Final = (
    Key("job", "Job", width=90),
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
PROGRESS: Final = of("queue:taskqueue_queue_last_progress_timestamp_seconds:min", QUEUE)
AGE: Final = (
    f"({of('queue:taskqueue_queue_oldest_ready_age_seconds:max', QUEUE)} or time() - {PROGRESS} and {READY} > 0)"
)
"""As QueueWaitTooLong has it: where it is not known since when the oldest job waits, since one left the queue."""
WAIT_TARGET: Final = of("queue:taskqueue_target_wait_seconds:effective", QUEUE)
AGE_OF_TARGET: Final = shares.share(AGE, WAIT_TARGET)
WAIT_LIMITS: Final = above(warning=1, bad=5)
"""Of the target: QueueWaitTooLong."""
DRAIN: Final = of("queue:taskqueue_queue_drain_seconds:estimate", QUEUE)
ENQUEUED: Final = of("queue:taskqueue_jobs_enqueued:rate5m", QUEUE)
FINISHED: Final = of("queue_outcome:taskqueue_jobs_finished:rate5m", QUEUE)
HEARD: Final = f"max without (feed) ({seen('taskqueue_feed_connected', SYSTEM)}) == 1"
"""Where no feed of any exporter is connected, no end is seen: that is not 0."""
OUT: Final = f"{FINISHED} and on (job, system, broker) {HEARD}"
WORKERS: Final = of("queue:taskqueue_queue_workers:max", QUEUE)
UNSTAFFED: Final = (
    f"{READY} > 0 and {WORKERS} == 0"
    f" unless time() - {PROGRESS} <= {of('queue:taskqueue_target_unstaffed_seconds:effective', QUEUE)}"
)
"""As QueueNoWorkers has it."""
BUSY_RATIO: Final = of("queue:taskqueue_queue_busy_slots:ratio", QUEUE)
BUSY_LIMITS: Final = above(warning=target("busy_ratio"))

OF_TARGET: Final = Column(
    "Of target",
    AGE_OF_TARGET,
    "percentunit",
    cell=COLOURED,
    thresholds=WAIT_LIMITS,
    decimals=0,
    width=90,
    mappings=(shares.TOO_MUCH,),
)
FAILED_1H: Final = Column("Failed, 1 h", shares.FAILURES.ratio("1h"), "percentunit", decimals=1, width=90)
BUDGET: Final = Column(
    "Budget",
    shares.FAILURES.burns(),
    "none",
    cell=COLOURED,
    thresholds=limits.none(),
    mappings=(shares.BURNS,),
    width=90,
)
DRAINED: Final = Column("Drain", DRAIN, "s", width=90, mappings=(shares.INFINITE,))
BUSY: Final = Column(
    "Busy slots", BUSY_RATIO, "percentunit", cell=GAUGE, thresholds=BUSY_LIMITS, least=0, most=1, decimals=0
)


def share_of_all(part: str, whole: str) -> str:
    """What part of all happened within an hour, of the rates that two metrics of queues give, in queues that have both:
    where the target is no bound of the histogram, it is not known what was late."""
    some, every = (f"sum_over_time({of(metric, QUEUE)}[1h])" for metric in (part, whole))
    return f"sum({some}) / (sum({every} and {some}) > 0)"


# -- numbers of the present; `do` is what to do, as a dashboard has it ------------------------------------------


def of_target(do: str) -> stat.Panel:
    """How late the worst queue is."""
    return number(
        "Oldest, of its target",
        Says(
            "The longest wait of a ready job as a share of the target of its queue; the worst queue counts. Where it "
            "is not known since when the oldest job waits: since one left the queue.",
            "up to 100 %. Above, QueueWaitTooLong warns; above 500 % it is critical.",
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
            "Jobs that reached their final outcome, per second, over the last five minutes, in brokers whose feeds are "
            "connected: what others do is not seen.",
            "what it always is at this time of day.",
            "If it is 0 while there is a backlog, nobody works: see workers. Without a backlog, nobody enqueues.",
        ),
        "ops",
        Query(f"sum({OUT})", "jobs"),
        size=(6, 4),
        empty=NOT_HEARD,
    )


def failed(do: str) -> stat.Panel:
    """Which share of them fails, and whether that is too much."""
    return _budget(
        "Failed",
        Says(
            "Share of the jobs that ended within the last hour and did not succeed, and how fast the budget of the "
            "worst queue burns. Aborted jobs are left out, and those of which nobody knows the end. A budget is not "
            "known where few jobs ended.",
            "kept. Slow burn: as JobFailureBudgetSlowBurn warns; fast: as JobFailureBudgetFastBurn is critical.",
            do,
        ),
        share_of_all("queue:taskqueue_jobs_bad:rate5m", "queue:taskqueue_jobs_valid:rate5m"),
        shares.FAILURES,
        NO_ENDS,
    )


def late(do: str) -> stat.Panel:
    """Which share of them starts late, and whether that is too much."""
    return _budget(
        "Started late",
        Says(
            "Share of the jobs that started within the last hour after a longer wait than the target of their queue, "
            "and whether the budget of the worst queue burns. Jobs whose wait is not known are left out, and queues "
            "whose target is no bound of the histogram. A budget is not known where few jobs started.",
            "kept. Fast burn: as JobWaitBudgetBurn is critical.",
            do,
        ),
        share_of_all("queue:taskqueue_job_wait_late:rate5m", "queue:taskqueue_job_wait_observed:rate5m"),
        shares.LATE,
        NO_TARGET,
    )


def _budget(title: str, says: Says, part: str, budget: shares.Budget, empty: str) -> stat.Panel:
    panel = number(
        title,
        says,
        "percentunit",
        Query(part, "1 hour"),
        Query(f"max({budget.burns()})", "budget"),
        size=(6, 4),
        empty=empty,
    )
    return restyled(panel, "budget", unit="none", mappings=[shares.BURNS, NOT_KNOWN])


def workers(do: str) -> stat.Panel:
    """How many workers are there, and how many should be."""
    up = of("worker:taskqueue_worker_up:max", SYSTEM)
    panel = number(
        "Workers",
        Says(
            "Workers that are alive, of each system; those that were lost, as their heartbeats stopped without a "
            "goodbye; and queues that have ready jobs and no live worker.",
            "as many as you run, none lost, no queue without. Lost: as WorkerHeartbeatLost warns; without: as "
            "QueueNoWorkers is critical.",
            do,
        ),
        "short",
        Query(f"sum by (system) ({of('broker:taskqueue_workers:max', SYSTEM)})", "{{system}}"),
        Query(f"count({up} == 0) or 0 * count({up})", "lost"),
        Query(f"count({UNSTAFFED}) or 0 * count({READY} and {WORKERS})", "queues without"),
        size=(6, 4),
        empty=NO_WORKERS,
    )
    panel.override_by_name("lost", limits.override(over(warning=1)))
    return panel.override_by_name("queues without", limits.override(over(bad=1)))


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
