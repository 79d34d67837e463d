"""Which tasks fail, with which exceptions, and what that costs."""

from __future__ import annotations

from typing import Final

from grafana.src import limits, links, shares
from grafana.src.board import Row
from grafana.src.limits import above
from grafana.src.panels import Says
from grafana.src.promql import QUEUE, SYSTEM, increase, kinds, of, recorded_increase, seen
from grafana.src.queues import KEYS, NO_ENDS
from grafana.src.system.jobs import NO_FAILURES
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
OF_LIMIT: Final = kinds({"failed": shares.failed(QUEUE), "retried": shares.retried(QUEUE)})
EXCEPTIONS: Final = recorded_increase("queue_task_exception:taskqueue_job_exceptions:rate5m", QUEUE)
P95: Final = (
    f"histogram_quantile(0.95, {increase('taskqueue_job_run_seconds_bucket', QUEUE)}"
    f" and ignoring (le) {increase('taskqueue_job_run_seconds_count', QUEUE)} > 0)"
)
SUCCEEDED: Final = seen("taskqueue_task_last_finished_timestamp_seconds", SYSTEM, 'outcome="succeeded"')
LAST_SUCCESS: Final = f"0 * {TASK_FINISHED} + ignoring (queue) group_left () 1000 * sum without (outcome) ({SUCCEEDED})"
"""Tasks are the same in all their queues there: it stands at each."""


ROW: Final = Row(
    "Tasks",
    [
        rows(
            "Tasks",
            Says(
                "Each task: the share of jobs that failed and of attempts that were retried within 10 min, and the "
                "worse of both by what its targets allow; over all the time shown here p95 of its run time and the "
                "worker seconds lost to attempts that failed or were retried; when a job of it last succeeded, in any "
                "queue; jobs that end per second. p95 and lost time are as the exporter saw them that "
                "saw most: too low where exporters came and went.",
                "'Of limit' up to 100 %. Above, TaskFailing or RetryStorm warns; it is 100 % at most while it happened "
                f"fewer than {limits.target('failures'):g} times.",
                "Click a task to see it in depth. Mend first what loses most worker seconds.",
            ),
            TASK_KEYS,
            [
                Column(
                    "Of limit",
                    OF_LIMIT,
                    "percentunit",
                    cell=COLOURED,
                    thresholds=above(warning=1),
                    decimals=0,
                    width=90,
                    mappings=(shares.WARNED,),
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
                "the sum of recorded rates, whichever exporters there were. `__unknown__`: the class was not kept.",
                "empty, or what you know.",
                "Look the class up in the log of the workers. Click the task for when it began.",
            ),
            (*TASK_KEYS, Key("exception", "Exception", width=200)),
            [Column("Jobs", f"round({EXCEPTIONS}) > 0", decimals=0, width=80)],
            size=(24, 9),
            sort="Jobs",
            empty=NO_FAILURES,
        ),
    ],
)
