"""Which tasks fail, with which exceptions, and what that costs."""

from __future__ import annotations

from typing import Final

from grafana.src import limits, links
from grafana.src.board import Row
from grafana.src.limits import over
from grafana.src.panels import Says
from grafana.src.promql import QUEUE, SYSTEM, increase, of, seen
from grafana.src.queues import KEYS, NO_ENDS
from grafana.src.tables import COLOURED, Column, Key, rows

TASK_QUEUE: Final = Key("queue", "Queue", width=120)
TO_TASK: Final = Key(
    "task",
    "Task",
    links.to(
        links.ONE_TASK,
        {name: links.cell(name.capitalize()) for name in ("job", "system", "broker", "queue", "task")},
        keep=(),
    ),
    "This task in depth",
)
TASK_KEYS: Final = (*KEYS[:3], TASK_QUEUE, TO_TASK)

TASK_FINISHED: Final = f"sum without (outcome) ({of('queue_task_outcome:taskqueue_jobs_finished:rate5m', QUEUE)})"
FAILED: Final = of("queue_task:taskqueue_jobs_bad:ratio_rate10m", QUEUE)
RETRIED: Final = of("queue_task:taskqueue_jobs_retried:ratio_rate10m", QUEUE)
FAILED_OF_LIMIT: Final = f"{FAILED} / ({of('queue_task:taskqueue_target_task_failure_ratio:effective', QUEUE)} > 0)"
RETRIED_OF_LIMIT: Final = f"{RETRIED} / ({of('queue_task:taskqueue_target_retry_ratio:effective', QUEUE)} > 0)"
P95: Final = (
    f"histogram_quantile(0.95, {increase('taskqueue_job_run_seconds_bucket', QUEUE)}"
    f" and ignoring (le) {increase('taskqueue_job_run_seconds_count', QUEUE)} > 0)"
)
SUCCEEDED: Final = seen("taskqueue_task_last_finished_timestamp_seconds", SYSTEM, 'outcome="succeeded"')
LAST_SUCCESS: Final = f"0 * {TASK_FINISHED} + ignoring (queue) group_left () 1000 * sum without (outcome) ({SUCCEEDED})"
"""Tasks are the same in all their queues there: it stands at each."""


def _worse(one: str, other: str) -> str:
    """The higher of two where both are known, else that which is."""
    return f"({one} >= {other}) or {other} or {one}"


ROW: Final = Row(
    "Tasks",
    [
        rows(
            "Tasks",
            Says(
                "Each task: the share of jobs that failed and of attempts that were retried within 10 min, and the "
                "worse of both by what its targets allow; over all the time shown here p95 of its run time and the "
                "worker seconds lost to attempts that failed or were retried; when a job of it last succeeded, in any "
                "queue; jobs that end per second.",
                "'Of limit' below 100 %. From there on TaskFailing or RetryStorm warns, if it happened at least "
                f"{limits.target('failures'):g} times.",
                "Click a task to see it in depth. Mend first what loses most worker seconds.",
            ),
            TASK_KEYS,
            [
                Column(
                    "Of limit",
                    _worse(FAILED_OF_LIMIT, RETRIED_OF_LIMIT),
                    "percentunit",
                    cell=COLOURED,
                    thresholds=over(warning=1),
                    decimals=0,
                    width=90,
                ),
                Column("Failed", FAILED, "percentunit", decimals=1, width=80),
                Column("Retried", RETRIED, "percentunit", decimals=1, width=80),
                Column("p95", P95, "s", width=90),
                Column("Lost", increase("taskqueue_job_failed_run_seconds_total", QUEUE), "s", width=90),
                Column("Last success", LAST_SUCCESS, "dateTimeFromNow", width=140),
                Column("Finished", TASK_FINISHED, "ops", width=100),
            ],
            size=(24, 11),
            sort="Of limit",
            empty=NO_ENDS,
        ),
        rows(
            "Exceptions",
            Says(
                "How many jobs failed for good, by task and class of the exception, in the time shown here. About: "
                "it is an estimate from rates. __unknown__: the class was not kept.",
                "empty, or what you know.",
                "Look the class up in the log of the workers. Click the task for when it began.",
            ),
            (*TASK_KEYS, Key("exception", "Exception", width=200)),
            [Column("Jobs", f"round({increase('taskqueue_job_exceptions_total', QUEUE)}) > 0", decimals=0, width=80)],
            size=(24, 9),
            sort="Jobs",
            empty="No job failed, or nobody tells of it (Celery: workers with -E; ARQ: kept results, or the hook)",
        ),
    ],
)
