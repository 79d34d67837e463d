"""What becomes of jobs: how many come and go, how long they wait and run, which tasks fail and what that costs."""

from __future__ import annotations

from typing import Final

from grafana.src.board import Row
from grafana.src.limits import over
from grafana.src.panels import (
    OUTCOME_COLOURS,
    Query,
    Says,
    as_limit,
    by_colour,
    limited,
    lines,
    over_time,
)
from grafana.src.promql import QUEUE, kinds, of, rate
from grafana.src.queues import (
    BY_QUEUE,
    ENQUEUED,
    FAILED_1H,
    FAST_BURN,
    FINISHED,
    NO_ENDS,
    RULES,
    SLOW_BURN,
    WAIT_TARGET,
    share,
)
from grafana.src.system.backlog import RAN_FOR, RUNNING, of_all

WAITS: Final = of("queue_le:taskqueue_job_wait_seconds_bucket:rate5m", QUEUE)
RUNS: Final = of("queue_le:taskqueue_job_run_seconds_bucket:rate5m", QUEUE)
NO_WAITS: Final = "Not known: no wait was seen (Celery: task_send_sent_event)"
NO_RUNS: Final = "Not known: no run was seen to end (Celery: workers with -E; ARQ: kept results, or the hook)"
PACE: Final = "1 uses the budget up exactly, 0 not at all."


def late(window: str) -> str:
    """The share of jobs that started late within a time, of those whose wait is known."""
    return share("queue:taskqueue_job_wait_late:rate5m", "queue:taskqueue_job_wait_observed:rate5m", window)


def pace(ratio: str, allowed: str) -> str:
    """A share by that which the target of each queue allows."""
    return f"{ratio} / ({of(allowed, QUEUE)} > 0)"


def _percentiles(buckets: str) -> list[Query]:
    return [
        Query(f"histogram_quantile({quantile}, sum by (le) ({buckets}))", name)
        for quantile, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]


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
                "Failures: pace of the budget, 1 h",
                Says(
                    "Share of failed jobs within the last hour by the share that the target of each queue allows. "
                    + PACE,
                    f"below 1. From {FAST_BURN:g} on JobFailureBudgetFastBurn fires, if the last 5 min are as bad; "
                    f"from {SLOW_BURN:g} over 6 h and 30 min on JobFailureBudgetSlowBurn.",
                    "Select the queue; see which tasks fail, and with which exceptions.",
                ),
                "short",
                Query(pace(FAILED_1H, "queue:taskqueue_target_failure_ratio:effective"), BY_QUEUE),
                empty=NO_ENDS,
            ),
            over(warning=SLOW_BURN, bad=FAST_BURN),
        ),
        lines(
            "Failures by exception",
            Says(
                "Jobs that failed for good, per second, by the class of their exception. __unknown__: the class was "
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
            empty="No job failed, or nobody tells of it (Celery: workers with -E; ARQ: kept results, or the hook)",
        ),
    ],
)

TIMES: Final = Row(
    "Waits and runs",
    [
        over_time(
            "How long jobs waited",
            Says(
                "Of the jobs that started, how many per second had waited for how long since they were due; dark is "
                "many.",
                "a dark band at the bottom.",
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
                "Of the jobs that ended, how many per second had run for how long in their last attempt; dark is many.",
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
                *_percentiles(WAITS),
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
            *_percentiles(RUNS),
            empty=NO_RUNS,
        ),
        limited(
            lines(
                "Late starts: pace of the budget, 1 h",
                Says(
                    "Share of jobs that started within the last hour after a longer wait than the target of their "
                    "queue, "
                    "by the share that its target allows. " + PACE,
                    f"below 1. From {FAST_BURN:g} on JobWaitBudgetBurn fires, if the last 5 min are as bad.",
                    "Select the queue: are there enough workers, and are their slots busy?",
                ),
                "short",
                Query(
                    pace(
                        of("queue:taskqueue_job_wait_late:ratio_rate1h", QUEUE),
                        "queue:taskqueue_target_late_ratio:effective",
                    ),
                    BY_QUEUE,
                ),
                empty=NO_WAITS,
            ),
            over(bad=FAST_BURN),
        ),
        limited(
            lines(
                "Longest running job, of its limit",
                Says(
                    "How long the longest-running job of each queue has run, as a share of the target run_seconds (an "
                    "hour unless one says otherwise); 0 where none runs.",
                    "below 100 %. From there on JobsStuckRunning warns.",
                    "Does it hang, or did its worker die? See worker states. If jobs may run for so long, set the "
                    "target.",
                ),
                "percentunit",
                Query(
                    f"({RAN_FOR}) / {of('queue:taskqueue_target_run_seconds:effective', QUEUE)} or 0 * {RUNNING}",
                    BY_QUEUE,
                ),
                empty="It is not known what runs",
            ),
            over(warning=1),
        ),
    ],
)
