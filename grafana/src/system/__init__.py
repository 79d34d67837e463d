"""Task queues / One system: the same in depth, for ARQ, Celery or the next, with rows for what only one of them has."""

from __future__ import annotations

from typing import Final

from grafana.src import alerts, links, queues, shares
from grafana.src.board import Board, Row
from grafana.src.panels import NOT_KNOWN, Query, Says, number
from grafana.src.promql import QUEUE
from grafana.src.queues import DRAIN, RULES
from grafana.src.system import arq, backlog, celery, jobs, tasks, workers

NOW: Final = Row(
    "Now",
    [
        alerts.firing(QUEUE[1:], size=(6, 4)),
        queues.of_target("See which queue under 'Backlog': do its workers take jobs, and are all their slots busy?"),
        queues.backlog("See under 'Backlog' where they wait, and whether it falls."),
        number(
            "Time to drain",
            Says(
                "How long the slowest queue takes to work its backlog off, by how the backlog changed over the last 15 "
                "minutes. ∞ while it does not fall, 0 where there is none.",
                "minutes. ∞ for a moment, with a job or two, is no trouble.",
                "See which queue in the table under 'Backlog'. QueueBacklogGrowing warns where it takes too long and "
                "the backlog is large as well.",
            ),
            "s",
            Query(f"max({DRAIN})", "slowest"),
            size=(6, 4),
            empty=RULES,
        ).mappings([shares.INFINITE, NOT_KNOWN]),
        queues.finished(),
        queues.failed("See the tasks that fail and their exceptions below."),
        queues.late("See under 'Waits and runs' which queue, and whether it lacks workers or its jobs got longer."),
        queues.workers(
            "Lost ones were killed, hang, or are cut off from Redis; queues without need a worker that consumes them: "
            "see which under 'Workers'."
        ),
        alerts.table_of(QUEUE[1:], (24, 6)),
    ],
)

BOARD: Final = Board(
    links.ONE_SYSTEM,
    "One system",
    "What is late, failing or unstaffed in this system, in which queue and task, and why?",
    QUEUE,
    [
        NOW,
        backlog.ROW,
        jobs.JOBS,
        jobs.TIMES,
        tasks.ROW,
        workers.ROW,
        arq.ROW,
        celery.ROW,
    ],
)
