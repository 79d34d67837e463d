"""What becomes of jobs: how many come and go, how long they wait and run, which tasks fail and what that costs."""

from __future__ import annotations

from typing import Final

from grafana.src import shares
from grafana.src.board import Row
from grafana.src.limits import above
from grafana.src.panels import (
    OUTCOME_COLOURS,
    Query,
    Says,
    as_limit,
    by_colour,
    limited,
    lines,
    over_time,
    percentiles,
)
from grafana.src.promql import QUEUE, kinds, of, rate
from grafana.src.queues import BY_QUEUE, ENQUEUED, FINISHED, NO_ANSWER, NO_ENDS, NO_TARGET, NO_WAITS, RULES, WAIT_TARGET
from grafana.src.system.backlog import RAN_FOR, RUNNING, of_all

WAITS: Final = of("queue_le:taskqueue_job_wait_seconds_bucket:rate5m", QUEUE)
RUNS: Final = of("queue_le:taskqueue_job_run_seconds_bucket:rate5m", QUEUE)
NO_RUNS: Final = f"{NO_ANSWER}, or no run was seen to end (Celery: workers with -E; ARQ: kept results, or the hook)"
NO_FAILURES: Final = (
    f"{NO_ANSWER}, no job failed, or nobody tells of it (Celery: workers with -E; ARQ: kept results, or the hook)"
)
MOST_DRAWN: Final = 10
"""Of a limit: what is infinite, as the target is 0, has no line."""
DRAWN: Final = f"Where few jobs were seen there is no line; it is drawn up to {MOST_DRAWN} times the limit."


def _drawn(of_limit: str) -> str:
    return f"clamp_max({of_limit}, {MOST_DRAWN})"


COUNTED: Final = {
    "enqueued": f"sum by (system) ({ENQUEUED})",
    "started": f"sum by (system) ({rate('taskqueue_jobs_started_total', QUEUE)})",
    "retried": f"sum by (system) ({of('queue:taskqueue_jobs_retried:rate5m', QUEUE)})",
    "finished": f"sum by (system) ({FINISHED})",
}

JOBS: Final = Row(
    "Jobs",
    [
        lines(
            "Enqueued, started, finished",
            Says(
                "Jobs put into queues, attempts begun, attempts that ended in a retry, and jobs that ended, per "
                "second. What nobody tells is not shown: enqueued takes Celery's task_send_sent_event, started its "
                "events; ARQ has neither.",
                "finished follows enqueued; retried near 0.",
                "Finished below enqueued: the backlog grows. Started above finished: attempts are retried, see "
                "'Tasks'.",
            ),
            "ops",
            Query(kinds(COUNTED), "{{system}} {{kind}}"),
            empty=RULES,
        ),
        by_colour(
            lines(
                "Outcomes",
                Says(
                    "Jobs that ended, per second, by outcome. unknown: nobody kept how (ARQ: keep_result=0 without the "
                    "hook).",
                    "nearly all succeeded, or what your tasks are known for.",
                    "failed: see exceptions. expired: they came too late, see 'Backlog'. not_found: workers and "
                    "producers are of different versions. undecodable: their serializers differ.",
                ),
                "ops",
                Query(f"sum by (outcome) ({FINISHED})", "{{outcome}}"),
                stacked=True,
                empty=NO_ENDS,
            ),
            OUTCOME_COLOURS,
        ),
        limited(
            lines(
                "Failures: budget, of its limit",
                Says(
                    "How fast each queue uses up the budget of failures that its target allows, by the paces at which "
                    "alerts fire: fast within an hour and 5 min, slow within 6 h and 30 min. " + DRAWN,
                    "far below the dashed line. Above it JobFailureBudgetFastBurn is critical, and "
                    "JobFailureBudgetSlowBurn warns.",
                    "Select the queue; see which tasks fail, and with which exceptions.",
                ),
                "percentunit",
                Query(_drawn(shares.FAILURES.of_limit(shares.FAST)), f"{BY_QUEUE} fast"),
                Query(_drawn(shares.FAILURES.of_limit(shares.SLOW)), f"{BY_QUEUE} slow"),
                empty=f"{NO_ANSWER}, or few jobs have ended",
            ),
            above(warning=1),
        ),
        lines(
            "Failures by exception",
            Says(
                "Jobs that failed for good, per second, by the class of their exception. `__unknown__`: the class was "
                "not kept. Attempts that are retried do not count.",
                "what you know; none that is new since the last deployment.",
                "Click a task in the table of exceptions below to see it alone.",
            ),
            "ops",
            Query(
                f"sum by (exception) ({of('queue_task_exception:taskqueue_job_exceptions:rate5m', QUEUE)}) > 0",
                "{{exception}}",
            ),
            stacked=True,
            empty=NO_FAILURES,
        ),
    ],
)

TIMES: Final = Row(
    "Waits and runs",
    [
        over_time(
            "How long jobs waited",
            Says(
                "Of the jobs that started, how many per second had waited for how long since they were due; what "
                "stands out is many.",
                "one band at the bottom.",
                "A band that moves up: all wait, there are too few slots. A second band above: some wait behind "
                "others.",
            ),
            "s",
            f"sum by (le) ({WAITS})",
            empty=NO_WAITS,
        ),
        over_time(
            "How long jobs ran",
            Says(
                "Of the jobs that ended, how many per second had run for how long in their last attempt; what stands "
                "out is many.",
                "the bands that your tasks have.",
                "A band that moves up: what tasks call got slower. See which in the column p95 of 'Tasks'.",
            ),
            "s",
            f"sum by (le) ({RUNS})",
            empty=NO_RUNS,
        ),
        as_limit(
            lines(
                "Wait: p50, p95, p99",
                Says(
                    "Half, 95 % and 99 % of the jobs that started had waited for less, estimated from the buckets of "
                    "the histogram: exact at their bounds only. The dashed line is the target, while it is the same "
                    "for all queues that are selected.",
                    "p99 below the target.",
                    "If p50 rises as well, everything waits: more slots. If p99 alone: bursts, or one slow queue.",
                ),
                "s",
                *percentiles(WAITS),
                Query(of_all(WAIT_TARGET), "target"),
                empty=NO_WAITS,
            ),
            "target",
        ),
        lines(
            "Run: p50, p95, p99",
            Says(
                "Half, 95 % and 99 % of the jobs that ended had run for less in their last attempt, estimated from the "
                "buckets of the histogram: exact at their bounds only.",
                "as before the last deployment.",
                "See which task runs longer in the column p95 of 'Tasks'.",
            ),
            "s",
            *percentiles(RUNS),
            empty=NO_RUNS,
        ),
        limited(
            lines(
                "Late starts: budget, of its limit",
                Says(
                    "How fast each queue uses up the budget of late starts that its target allows, within an hour and "
                    "5 min, by the pace at which the alert fires. " + DRAWN,
                    "far below the dashed line. Above it JobWaitBudgetBurn is critical.",
                    "Select the queue: are there enough workers, and are their slots busy?",
                ),
                "percentunit",
                Query(_drawn(shares.LATE.of_limit(shares.FAST)), BY_QUEUE),
                empty=NO_TARGET,
            ),
            above(bad=1),
        ),
        limited(
            lines(
                "Longest running job, of its limit",
                Says(
                    "How long the longest-running job of each queue has run, as a share of the target run_seconds (an "
                    "hour unless one says otherwise); 0 where none runs.",
                    "up to 100 %. Above, JobsStuckRunning warns.",
                    "Does it hang, or did its worker die? See worker states. If jobs may run for so long, set the "
                    "target.",
                ),
                "percentunit",
                Query(
                    f"({RAN_FOR}) / {of('queue:taskqueue_target_run_seconds:effective', QUEUE)} or 0 * {RUNNING}",
                    BY_QUEUE,
                ),
                empty=f"{NO_ANSWER}, or it is not known what runs",
            ),
            above(warning=1),
        ),
    ],
)
