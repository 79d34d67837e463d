"""Task queues / Overview: is anything late, failing or unstaffed, in any system?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import table

from grafana.src import alerts, limits, links
from grafana.src.board import Board, Row
from grafana.src.limits import over, target, under
from grafana.src.panels import Query, Says, lines, number
from grafana.src.promql import BROKER, QUEUE, SYSTEM, of
from grafana.src.tables import COLOURED, GAUGE, Column, Key, rows

RULES: Final = "No data: are the recording rules loaded?"
KEYS: Final = (
    Key("job", "Job", hidden=True),
    Key("system", "System", width=80),
    Key("broker", "Broker", width=100),
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

AGE: Final = of("queue:taskqueue_queue_oldest_ready_age_seconds:max", QUEUE)
AGE_OF_TARGET: Final = f"{AGE} / {of('queue:taskqueue_target_wait_seconds:effective', QUEUE)}"
WAIT_LIMITS: Final = over(warning=1, bad=5)
"""Of the target: QueueWaitTooLong."""
FINISHED: Final = of("queue_outcome:taskqueue_jobs_finished:rate5m", QUEUE)
BAD: Final = "queue:taskqueue_jobs_bad:rate5m"
VALID: Final = "queue:taskqueue_jobs_valid:rate5m"
FAST_BURN: Final = 14.4
SLOW_BURN: Final = 6.0
FAILURE_LIMITS: Final = over(warning=SLOW_BURN * target("failure_ratio"), bad=FAST_BURN * target("failure_ratio"))


def _failed(window: str) -> str:
    """The share of all jobs that failed within a time."""
    bad, valid = (f"sum(sum_over_time({of(metric, QUEUE)}[{window}]))" for metric in (BAD, VALID))
    return f"{bad} / ({valid} > 0)"


NOW: Final = Row(
    "Now",
    [
        alerts.firing(QUEUE[1:], size=(6, 4)),
        number(
            "Oldest ready job",
            Says(
                "How long the job that is ready for longest has waited, in any queue.",
                "less than the target of its queue (60 s unless one says otherwise).",
                "See which queue in the table below; the next number tells whether that is too long.",
            ),
            "s",
            Query(f"max({AGE})", "oldest"),
            size=(6, 4),
            empty=RULES,
        ),
        number(
            "Oldest ready job, of its target",
            Says(
                "The longest wait of a ready job as a share of the target of its queue; the worst queue counts.",
                "below 100 %. From there on QueueWaitTooLong warns, from 500 % it is critical.",
                "Open the queue from the table below: are there workers, are they busy, do they take jobs?",
            ),
            "percentunit",
            Query(f"max({AGE_OF_TARGET})", "of target"),
            thresholds=WAIT_LIMITS,
            size=(6, 4),
            empty=RULES,
        ),
        number(
            "Backlog",
            Says(
                "Jobs that are due and not yet running: ready, or reserved by a worker.",
                "rises with each burst and falls back. How much is too much is a matter of each queue.",
                "If it only rises, see 'Drain' in the table below.",
            ),
            "short",
            Query(f"sum({of('queue:taskqueue_queue_backlog_jobs:sum', QUEUE)})", "jobs"),
            size=(6, 4),
            empty=RULES,
        ),
        number(
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
        ),
        number(
            "Failed",
            Says(
                "Share of the jobs that ended within the last hour, and day, and did not succeed. Aborted jobs are "
                "left out, and those of which nobody knows the end.",
                "below 1 %, the target unless one says otherwise. Coloured by the paces at which the budget alerts "
                "fire for that target.",
                "See which queue in the table below, then its tasks and exceptions on One system.",
            ),
            "percentunit",
            Query(_failed("1h"), "1 hour"),
            Query(_failed("1d"), "1 day"),
            thresholds=FAILURE_LIMITS,
            size=(6, 4),
            empty="No data: no job has ended, or the recording rules are not loaded",
        ),
        number(
            "Workers",
            Says(
                "Workers that are alive, and those that were lost: their heartbeats stopped without a goodbye.",
                "as many as you run, and none lost.",
                "Lost ones were killed, hang, or are cut off from Redis: see worker states on One system.",
            ),
            "short",
            Query(f"sum({of('broker:taskqueue_workers:max', SYSTEM)})", "alive"),
            Query(
                f"count({of('worker:taskqueue_worker_up:max', SYSTEM)} == 0)"
                f" or 0 * count({of('worker:taskqueue_worker_up:max', SYSTEM)})",
                "lost",
            ),
            size=(6, 4),
            empty="Not known: ARQ's workers need the hook to be seen",
        )
        .override_by_name("alive", limits.override(under(warning=1)))
        .override_by_name("lost", limits.override(over(warning=1))),
        number(
            "Brokers that answer",
            Says(
                "Share of the brokers that answered PING in the last scrape of any exporter.",
                "100 %.",
                "Below, a broker is down, or cut off from the exporters: BrokerDown says which.",
            ),
            "percentunit",
            Query(f"avg({of('broker:taskqueue_broker_up:max', BROKER)})", "up"),
            thresholds=under(bad=1),
            size=(6, 4),
            empty=RULES,
        ),
        alerts.table_of(QUEUE[1:]),
    ],
)

QUEUES: Final = Row(
    "Queues",
    [
        rows(
            "Queues",
            Says(
                "Each queue now: what waits and for how long, what comes in and goes out, when it will be empty, what "
                "fails, and who works on it. In is known only where enqueueing is seen (Celery: "
                "task_send_sent_event).",
                "waits below their target, Drain short, few failures, some slots free.",
                "Click a queue to see it in depth. ∞ under Drain: the backlog does not fall; add workers, or find what "
                "slows them.",
            ),
            KEYS,
            [
                Column("Ready", of("queue:taskqueue_queue_ready_jobs:max", QUEUE), "short", width=80),
                Column("Oldest", AGE, "s", width=90),
                Column(
                    "Of target",
                    AGE_OF_TARGET,
                    "percentunit",
                    cell=COLOURED,
                    thresholds=WAIT_LIMITS,
                    decimals=0,
                    width=90,
                ),
                Column("In", of("queue:taskqueue_jobs_enqueued:rate5m", QUEUE), "ops", width=90),
                Column("Out", f"sum without (outcome) ({FINISHED})", "ops", width=90),
                Column("Drain", of("queue:taskqueue_queue_drain_seconds:estimate", QUEUE), "s", width=90),
                Column(
                    "Failed, 1 h",
                    of("queue:taskqueue_jobs_bad:ratio_rate1h", QUEUE),
                    "percentunit",
                    cell=COLOURED,
                    thresholds=FAILURE_LIMITS,
                    decimals=1,
                    width=100,
                ),
                Column("Workers", of("queue:taskqueue_queue_workers:max", QUEUE), "short", width=80),
                Column(
                    "Busy slots",
                    of("queue:taskqueue_queue_busy_slots:ratio", QUEUE),
                    "percentunit",
                    cell=GAUGE,
                    thresholds=over(warning=target("busy_ratio")),
                    least=0,
                    most=1,
                    decimals=0,
                ),
            ],
            sort="Of target",
            empty=RULES,
        )
    ],
)

TRENDS: Final = Row(
    "Trends",
    [
        lines(
            "Backlog by queue",
            Says(
                "Jobs that are due and not yet running, in each queue.",
                "falls back to about 0 between bursts.",
                "A queue that only rises has too few workers, or none.",
            ),
            "short",
            Query(of("queue:taskqueue_queue_backlog_jobs:sum", QUEUE), "{{system}} {{broker}} {{queue}}"),
            empty=RULES,
        ),
        lines(
            "Enqueued and finished",
            Says(
                "Jobs put into the queues and jobs that ended, per second, by system. Enqueueing is seen only where "
                "the system tells of it (Celery with task_send_sent_event).",
                "both lines close together.",
                "Where finished stays below enqueued, the backlog grows.",
            ),
            "ops",
            Query(f"sum by (system) ({of('queue:taskqueue_jobs_enqueued:rate5m', QUEUE)})", "{{system}} enqueued"),
            Query(f"sum by (system) ({FINISHED})", "{{system}} finished"),
            empty=RULES,
        ),
    ],
)


def _budget(title: str, says: Says, ratio: str, goal: str, slow: float | None) -> table.Panel:
    """Pace at which a budget is used up, by windows, and what is left of a day's."""
    allowed = of(goal, QUEUE)

    def pace(window: str, at: limits.Thresholds) -> Column:
        burn = f"{of(ratio + window, QUEUE)} / ({allowed} > 0)"
        return Column(window, burn, "short", cell=COLOURED, thresholds=at, decimals=1)

    fast = over(bad=FAST_BURN)
    left = f"1 - {of(ratio + '1d', QUEUE)} / ({allowed} > 0)"
    return rows(
        title,
        says,
        KEYS,
        [
            pace("5m", fast),
            pace("1h", fast),
            pace("6h", over(warning=slow) if slow else fast),
            Column("Left of a day's", left, "percentunit", cell=COLOURED, thresholds=under(bad=0), decimals=0),
        ],
        size=(12, 8),
        sort="1h",
        empty="No data: no job has ended, or the recording rules are not loaded",
    )


PACE: Final = (
    "1 uses the budget up exactly, 0 not at all; from 14.4 over both 1 h and 5 min on {} is critical{}. "
    "'Left of a day's' is what remains of the budget of the last 24 hours."
)
SLO: Final = Row(
    "Service levels",
    [
        _budget(
            "Failures: pace of the budget",
            Says(
                "Share of failed jobs by the share that the queue's target allows (1 %), over windows. "
                + PACE.format(
                    "JobFailureBudgetFastBurn",
                    ", from 6 over both 6 h and 30 min on JobFailureBudgetSlowBurn warns",
                ),
                "below 1.",
                "Open the queue: which tasks fail, with which exceptions, and what was deployed when it began?",
            ),
            "queue:taskqueue_jobs_bad:ratio_rate",
            "queue:taskqueue_target_failure_ratio:effective",
            SLOW_BURN,
        ),
        _budget(
            "Waits: pace of the budget",
            Says(
                "Share of jobs that waited for longer than their queue's target, by the share that may (1 %), over "
                "windows. " + PACE.format("JobWaitBudgetBurn", ""),
                "below 1.",
                "Open the queue: are there enough workers, and are their slots busy?",
            ),
            "queue:taskqueue_job_wait_late:ratio_rate",
            "queue:taskqueue_target_late_ratio:effective",
            None,
        ),
    ],
)

BOARD: Final = Board(
    links.OVERVIEW,
    "Overview",
    "Is anything late, failing or unstaffed, in any system?",
    QUEUE,
    [NOW, QUEUES, TRENDS, SLO],
)
