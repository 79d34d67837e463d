"""How long jobs of a task wait and run, what its failures cost, and where it runs: for the dashboard of one task."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import stat

from grafana.src.board import Row
from grafana.src.panels import Query, Says, Size, as_limit, lines, number, over_time, percentiles, restyled
from grafana.src.promql import QUEUE, TASK, of, quantile, rate

NO_WAITS: Final = "No exporter answers, no job started, or when jobs are due is not seen (Celery: task_send_sent_event)"
NO_RUNS: Final = "No exporter answers, no job that ran has ended, or results are not kept (ARQ without the hook)"

WAIT: Final = rate("taskqueue_job_wait_seconds_bucket", TASK)
RUN: Final = rate("taskqueue_job_run_seconds_bucket", TASK)
WAIT_TARGET: Final = of("queue:taskqueue_target_wait_seconds:effective", QUEUE)
LOST: Final = rate("taskqueue_job_failed_run_seconds_total", TASK)
RUN_SUM: Final = rate("taskqueue_job_run_seconds_sum", TASK)
LOST_OF_RUN: Final = f"sum({LOST}) / (sum({RUN_SUM}) > 0)"


def waits_now(size: Size) -> stat.Panel:
    """What 95 % of the jobs stay below."""
    return number(
        "Wait and run, p95",
        Says(
            "The time that 95 % of the task's jobs waited at most, from when they were due to their start, and that "
            "their last attempts ran at most, of late.",
            "waits below the target of the queue, runs what the task always needs.",
            "Long waits: more workers, or fewer jobs in its queue. Long runs: see what the task calls.",
        ),
        "s",
        Query(quantile(0.95, WAIT), "wait"),
        Query(quantile(0.95, RUN), "run"),
        size=size,
        empty=NO_RUNS,
    )


def lost_now(size: Size) -> stat.Panel:
    """What failures and retries cost."""
    panel = number(
        "Lost to failures",
        Says(
            "Slots that attempts of the task which failed or were retried keep busy, of late (worker seconds per "
            "second), and their time as a share of that of all last attempts: above 100 % where it is mostly retries.",
            "0, or little beside what the task's jobs need when they succeed.",
            "Slots are lost to other jobs: mend the task, or put more time between its tries.",
        ),
        "short",
        Query(f"sum({LOST})", "slots"),
        Query(LOST_OF_RUN, "of run time"),
        size=size,
        empty=NO_RUNS,
    )
    return restyled(panel, "of run time", unit="percentunit")


TIMES: Final = Row(
    "Wait and run time",
    [
        as_limit(
            lines(
                "Wait time",
                Says(
                    "From when jobs of the task were due to their first start: half of them waited for less than "
                    "p50, 95 % for less than p95, 99 % for less than p99. Dashed: the target of the queue, the "
                    "lowest of those that are selected. Gaps: no job started.",
                    "p99 below the dashed line.",
                    "If other tasks of the queue wait as well, it needs workers: see One system.",
                ),
                "s",
                *percentiles(WAIT),
                Query(f"min({WAIT_TARGET})", "target"),
                empty=NO_WAITS,
            ),
            "target",
        ),
        lines(
            "Run time",
            Says(
                "How long the last attempts of jobs of the task ran, whatever their outcome: half of them for less "
                "than p50, 95 % for less than p95, 99 % for less than p99. Gaps: no job ended.",
                "what the task always needs, far below its time limit.",
                "When p50 rises, all jobs are slow: see what the task calls. When p99 rises alone, some arguments are.",
            ),
            "s",
            *percentiles(RUN),
            empty=NO_RUNS,
        ),
        over_time(
            "Wait time of jobs",
            Says(
                "How many jobs of the task started after which wait, per second; what stands out is many.",
                "one band at the bottom.",
                "A second band above: some queues or priorities wait longer. A band that climbs: a backlog grows.",
            ),
            "s",
            f"sum by (le) ({WAIT})",
            empty=NO_WAITS,
        ),
        over_time(
            "Run time of jobs",
            Says(
                "How many jobs of the task ended after which run time of their last attempt, per second; what stands "
                "out is many.",
                "the bands that it always has.",
                "A new band at the height of a time-out: what the task calls does not answer, see exceptions.",
            ),
            "s",
            f"sum by (le) ({RUN})",
            empty=NO_RUNS,
        ),
    ],
)

COST: Final = Row(
    "Cost of failure",
    [
        lines(
            "Time of workers",
            Says(
                "Slots that the task keeps busy (worker seconds per second): with the last attempts of all its "
                "jobs, and with attempts that failed or were retried. A job's time counts when the attempt ends. A "
                "failed last attempt is in both, a retried one in the second only (ARQ without the hook: in none).",
                "the second far below the first.",
                "Where it is not, workers are busy with what comes to nothing: see retries and exceptions.",
            ),
            "short",
            Query(f"sum({RUN_SUM})", "last attempts"),
            Query(f"sum({LOST})", "failed or retried"),
            empty=NO_RUNS,
        ),
        lines(
            "Lost, of the time of workers",
            Says(
                "Time of the task's failed and retried attempts as a share of that of its last attempts, and of "
                "those of all tasks of the selected queues. Above 100 % where retries take longer than last attempts.",
                "near 0.",
                "The second tells what mending the task would give back to the workers of these queues.",
            ),
            "percentunit",
            Query(LOST_OF_RUN, "of the task"),
            Query(f"sum({LOST}) / (sum({rate('taskqueue_job_run_seconds_sum', QUEUE)}) > 0)", "of selected queues"),
            empty=NO_RUNS,
        ),
    ],
)
