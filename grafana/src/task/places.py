"""What a task does in each queue of each broker, and its targets: for the dashboard of one task."""

from __future__ import annotations

from typing import Final

from grafana.src import links, shares
from grafana.src.board import Row
from grafana.src.limits import above
from grafana.src.panels import Says
from grafana.src.promql import TASK, of, quantile
from grafana.src.queues import NO_ANSWER
from grafana.src.tables import COLOURED, Column, Key, rows
from grafana.src.task.times import LOST, RUN, WAIT

RULES: Final = f"{NO_ANSWER}, or no job of it ended"
FINISHED: Final = of("queue_task_outcome:taskqueue_jobs_finished:rate5m", TASK)
FAILED: Final = of("queue_task:taskqueue_jobs_bad:ratio_rate10m", TASK)
FAILED_TARGET: Final = of("queue_task:taskqueue_target_task_failure_ratio:effective", TASK)
RETRIED: Final = of("queue_task:taskqueue_jobs_retried:ratio_rate10m", TASK)
RETRIED_TARGET: Final = of("queue_task:taskqueue_target_retry_ratio:effective", TASK)
OF_FAILED_TARGET: Final = shares.failed(TASK)
OF_RETRIED_TARGET: Final = shares.retried(TASK)
EXCEEDED: Final = above(warning=1)
"""More than all of a target: TaskFailing, RetryStorm."""
PLACE: Final = "job, system, broker, queue, task"


def _p95(buckets: str) -> str:
    return quantile(0.95, buckets, f"{PLACE}, le")


PLACES: Final = Row(
    "Where it runs",
    [
        rows(
            "By queue and broker",
            Says(
                "The task in each queue of each broker: jobs that end per second, how many fail and are retried "
                "within 10 minutes and how much of the target that is, the times that 95 % stay below, and slots "
                "that are lost to failures.",
                "up to 100 % of their targets. Above, TaskFailing or RetryStorm warns; it is 100 % at most while fewer "
                "than 5 jobs failed, or were retried.",
                "Where it fails in one place only, compare the workers there. Click a queue to see it in depth.",
            ),
            [
                Key("job", "Job", hidden=True),
                Key("system", "System", width=70),
                Key("broker", "Broker", width=90),
                Key(
                    "queue",
                    "Queue",
                    links.to(
                        links.ONE_SYSTEM,
                        {name: links.cell(name.capitalize()) for name in ("job", "system", "broker", "queue")},
                        keep=(),
                    ),
                    "This queue in depth",
                ),
                Key("task", "Task", width=150),
            ],
            [
                Column("Out", f"sum without (outcome) ({FINISHED})", "ops", width=90),
                Column("Failed", FAILED, "percentunit", decimals=1, width=90),
                Column(
                    "Of failure target",
                    OF_FAILED_TARGET,
                    "percentunit",
                    decimals=0,
                    cell=COLOURED,
                    thresholds=EXCEEDED,
                    mappings=(shares.WARNED,),
                    width=130,
                ),
                Column("Retried", RETRIED, "percentunit", decimals=1, width=90),
                Column(
                    "Of retry target",
                    OF_RETRIED_TARGET,
                    "percentunit",
                    decimals=0,
                    cell=COLOURED,
                    thresholds=EXCEEDED,
                    mappings=(shares.WARNED,),
                    width=130,
                ),
                Column("Wait p95", _p95(WAIT), "s", width=100),
                Column("Run p95", _p95(RUN), "s", width=100),
                Column("Lost slots", LOST, "short", decimals=2, width=100),
            ],
            sort="Out",
            empty=RULES,
        )
    ],
)
