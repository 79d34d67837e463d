"""Task queues / Overview: is anything late, failing or unstaffed, in any system?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import table

from grafana.src import alerts, limits, links, queues
from grafana.src.board import Board, Row
from grafana.src.limits import over, under
from grafana.src.panels import Query, Says, lines, number
from grafana.src.promql import BROKER, QUEUE, of
from grafana.src.queues import AGE, ENQUEUED, FAST_BURN, FINISHED, KEYS, NO_ENDS, RULES, SLOW_BURN
from grafana.src.tables import COLOURED, Column, rows

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
        queues.of_target("Open the queue from the table below: are there workers, are they busy, do they take jobs?"),
        queues.backlog("If it only rises, see 'Drain' in the table below."),
        queues.finished(),
        queues.failed("See which queue in the table below, then its tasks and exceptions on One system."),
        queues.workers(
            "Lost ones were killed, hang, or are cut off from Redis: see worker states on One system.",
        ),
        number(
            "Brokers up",
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
        alerts.table_of(QUEUE[1:], (24, 6)),
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
                Column("Ready", queues.READY, "short", width=70),
                Column("Oldest", AGE, "s", width=90),
                queues.OF_TARGET,
                Column(
                    "Failed, 1 h",
                    queues.FAILED_1H,
                    "percentunit",
                    cell=COLOURED,
                    thresholds=queues.FAILURE_LIMITS,
                    decimals=1,
                    width=90,
                ),
                Column("Workers", of("queue:taskqueue_queue_workers:max", QUEUE), "short", width=80),
                queues.BUSY,
                Column("In", ENQUEUED, "ops", 2, width=100),
                Column("Out", f"sum without (outcome) ({FINISHED})", "ops", 2, width=100),
                queues.DRAINED,
            ],
            sort="Of target",
            empty=RULES,
        )
    ],
)

TRENDS: Final = Row(
    "Trends",
    [
        queues.backlog_by_queue(),
        lines(
            "Enqueued and finished",
            Says(
                "Jobs put into the queues and jobs that ended, per second, by system. Enqueueing is seen only where "
                "the system tells of it (Celery with task_send_sent_event).",
                "both lines close together.",
                "Where finished stays below enqueued, the backlog grows.",
            ),
            "ops",
            Query(f"sum by (system) ({ENQUEUED})", "{{system}} enqueued"),
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
        return Column(window, burn, "short", 1, COLOURED, at, width=65)

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
            Column("Left of 1d", left, "percentunit", 0, COLOURED, under(bad=0), width=100),
        ],
        size=(24, 7),
        sort="1h",
        empty=NO_ENDS,
    )


PACE: Final = (
    "1 uses the budget up exactly, 0 not at all; from 14.4 over both 1 h and 5 min on {} is critical{}. "
    "'Left of 1d' is what remains of the budget of the last 24 hours."
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
