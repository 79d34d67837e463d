"""Task queues / Overview: is anything late, failing or unstaffed, in any system?"""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import ValueMapping

from grafana.src import alerts, links, queues, shares
from grafana.src.board import Board, Row
from grafana.src.limits import Thresholds, above, under
from grafana.src.panels import Query, Says, lines, number
from grafana.src.promql import BROKER, QUEUE, of
from grafana.src.queues import AGE, ENQUEUED, FINISHED, KEYS, NO_ENDS, NO_TARGET, RULES
from grafana.src.shares import Budget
from grafana.src.tables import COLOURED, Column, rows

NOW: Final = Row(
    "Now",
    [
        alerts.firing(QUEUE[1:], size=(6, 4)),
        number(
            "Oldest ready job",
            Says(
                "How long the job that is ready for longest has waited, in any queue. Where that is not known: how "
                "long ago a job left the queue.",
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
            "Lost ones were killed, hang, or are cut off from Redis: see worker states on One system. Queues without: "
            "were their workers stopped, do they crash at start, or consume other queues?",
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
                "fails, whether that uses the budget of its target up too fast, and who works on it. In is known only "
                "where enqueueing is seen (Celery: task_send_sent_event), Out where a feed is connected, the budget "
                "where enough jobs ended.",
                "waits below their target, Drain short, the budget kept, some slots free.",
                "Click a queue to see it in depth. ∞ under Drain: the backlog does not fall; add workers, or find what "
                "slows them.",
            ),
            KEYS,
            [
                Column("Ready", queues.READY, "short", width=70),
                Column("Oldest", AGE, "s", width=90),
                queues.OF_TARGET,
                queues.FAILED_1H,
                queues.BUDGET,
                Column("Workers", queues.WORKERS, "short", width=80),
                queues.BUSY,
                Column("In", ENQUEUED, "ops", 2, width=100),
                Column("Out", f"sum without (outcome) ({queues.OUT})", "ops", 2, width=100),
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


def _of_limit(title: str, expr: str, thresholds: Thresholds, infinite: ValueMapping) -> Column:
    return Column(title, expr, "percentunit", 0, COLOURED, thresholds, width=80, mappings=(infinite,))


def _budget(title: str, says: Says, budget: Budget, empty: str) -> table.Panel:
    """Pace at which a budget is used up, by windows, by what alerts allow, and what is left of a day's."""
    paces = [
        Column(window, budget.pace(window), "short", 1, width=65, mappings=(shares.INFINITE,))
        for window in ("5m", "1h", "6h")
    ]
    alerts_at = [_of_limit("Fast", budget.of_limit(shares.FAST), above(bad=1), shares.TOO_MUCH)]
    if budget.slowly:
        alerts_at.append(_of_limit("Slow", budget.of_limit(shares.SLOW), above(warning=1), shares.WARNED))
    left = Column("Left of 1d", budget.left("1d"), "percentunit", 0, width=100, mappings=(shares.INFINITE,))
    return rows(title, says, KEYS, [*paces, *alerts_at, left], size=(24, 7), sort="1h", empty=empty)


PACE: Final = (
    "1 uses the budget up exactly, 0 not at all. {}: the pace by that at which the alert fires, the lower one of both "
    "its windows; not known where few jobs were seen. 'Left of 1d' is what remains of the budget of the last 24 hours."
)
SLO: Final = Row(
    "Service levels",
    [
        _budget(
            "Failures: pace of the budget",
            Says(
                "Share of failed jobs by the share that the queue's target allows (1 % unless it says otherwise), over "
                "windows: " + PACE.format("Fast, Slow"),
                "paces below 1. Above 100 % of Fast JobFailureBudgetFastBurn is critical, of Slow "
                "JobFailureBudgetSlowBurn warns.",
                "Open the queue: which tasks fail, with which exceptions, and what was deployed when it began?",
            ),
            shares.FAILURES,
            NO_ENDS,
        ),
        _budget(
            "Waits: pace of the budget",
            Says(
                "Share of jobs that waited for longer than their queue's target, by the share that may (1 % unless it "
                "says otherwise), over windows: " + PACE.format("Fast"),
                "paces below 1. Above 100 % of Fast JobWaitBudgetBurn is critical.",
                "Open the queue: are there enough workers, and are their slots busy?",
            ),
            shares.LATE,
            NO_TARGET,
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
