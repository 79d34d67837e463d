"""Task queues / One task: everything about one task or function."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from grafana.src import alerts, limits, links, shares
from grafana.src.board import Board, Row
from grafana.src.panels import (
    NOT_KNOWN,
    OUTCOME_COLOURS,
    Query,
    Says,
    as_limit,
    by_colour,
    lines,
    mapping,
    number,
    restyled,
)
from grafana.src.promql import TASK, kinds, of, rate, seen
from grafana.src.queues import HEARD, NO_ANSWER, NOT_HEARD
from grafana.src.system.jobs import NO_FAILURES
from grafana.src.tables import COLOURED_TEXT, Column, Key, rows
from grafana.src.task import period, times
from grafana.src.task.period import ANY_QUEUE, LAST, UNSEEN
from grafana.src.task.places import (
    EXCEEDED,
    FAILED,
    FAILED_TARGET,
    FINISHED,
    OF_FAILED_TARGET,
    OF_RETRIED_TARGET,
    PLACES,
    RETRIED,
    RETRIED_TARGET,
    RULES,
)

OF_TASKS: Final = 'task!=""'
NONE_RUNS: Final = (
    "No exporter answers, none seen, or not known: Celery needs task events (-E), ARQ all running jobs of a database"
)
QUIET: Final = f"{NO_ANSWER}, or no job of it ended within 10 minutes"

BY_KIND: Final = kinds(
    {
        "enqueued": f"sum by (system) ({rate('taskqueue_jobs_enqueued_total', TASK)})",
        "started": f"sum by (system) ({rate('taskqueue_jobs_started_total', TASK)})",
        "finished": f"sum by (system) ({FINISHED})",
    }
)
SUCCESS: Final = 'outcome=~"succeeded|unknown"'
"""As TaskMissed has it: a run whose outcome nobody kept counts as one."""
OUTCOMES: Final = mapping({name: (name, colour) for name, colour in OUTCOME_COLOURS.items()})
OF_TARGET: Final = [*limits.override(EXCEEDED), DynamicConfigValue(id_val="mappings", value=[shares.WARNED, NOT_KNOWN])]


NOW: Final = Row(
    "Now",
    [
        alerts.firing(TASK[1:], (4, 4), OF_TASKS),
        number(
            "Running now",
            Says(
                "Jobs of the task that workers run at this moment, in all queues.",
                "what it always is at this time of day; 0 for a task that is short or seldom.",
                "Many for long: they hang, or wait for what they call. See 'Run time' below and JobsStuckRunning.",
            ),
            "short",
            Query(f"sum({seen('taskqueue_task_running_jobs', ANY_QUEUE)})", "jobs"),
            size=(4, 4),
            empty=NONE_RUNS,
        ),
        number(
            "Finished",
            Says(
                "Jobs of the task that came to their final outcome, per second, over the last five minutes, in brokers "
                "whose feeds are connected: what others do is not seen.",
                "what it always is at this time of day.",
                "0 where there should be jobs: nobody enqueues them, or they wait. See the backlog on One system.",
            ),
            "ops",
            Query(f"sum({FINISHED} and on (job, system, broker) {HEARD})", "jobs"),
            size=(4, 4),
            empty=NOT_HEARD,
        ),
        number(
            "Failed",
            Says(
                "Share of the task's jobs that ended within the last 10 minutes and did not succeed (failed, "
                "expired, not found), in the worst of its queues, and how much of its target that is. Aborted jobs "
                "are left out, and those of which nobody knows the end.",
                "up to 100 % of the target (half of all jobs, unless one says otherwise). Above it TaskFailing warns; "
                "it is 100 % at most while fewer than 5 jobs have failed.",
                "See which exceptions, and since when, below. Was something deployed then?",
            ),
            "percentunit",
            Query(f"max({FAILED})", "failed"),
            Query(f"max({OF_FAILED_TARGET})", "of target"),
            size=(6, 4),
            empty=QUIET,
        )
        .override_by_name("of target", OF_TARGET)
        .links([links.out("Runbook: TaskFailing", links.runbook("TaskFailing"))]),
        number(
            "Retried",
            Says(
                "Share of the task's attempts that ended in a retry within the last 10 minutes, in the worst of its "
                "queues, and how much of its target that is.",
                "up to 100 % of the target (30 % of all attempts, unless one says otherwise). Above it RetryStorm "
                "warns; it is 100 % at most while fewer than 5 were retried.",
                "Look at what the task calls: is it down, slow, or does it refuse?",
            ),
            "percentunit",
            Query(f"max({RETRIED})", "retried"),
            Query(f"max({OF_RETRIED_TARGET})", "of target"),
            size=(6, 4),
            empty=QUIET,
        )
        .override_by_name("of target", OF_TARGET)
        .links([links.out("Runbook: RetryStorm", links.runbook("RetryStorm"))]),
        number(
            "Last success",
            Says(
                "When a job of the task last succeeded, in any queue. A run whose outcome nobody kept, as of ARQ's "
                "cron jobs by default, counts as one.",
                "not longer ago than the task's jobs are apart.",
                "Longer: see 'Last of each outcome' below. If it fails, see its exceptions; if nothing ends, "
                "whether it is enqueued and waits.",
            ),
            "dateTimeFromNow",
            Query(f"1000 * max({seen(LAST, ANY_QUEUE, SUCCESS)})", "success"),
            size=(6, 4),
            empty="No exporter answers, or none was seen",
        ),
        period.now(size=(6, 4)),
        times.waits_now(size=(6, 4)),
        times.lost_now(size=(6, 4)),
        alerts.table_of(TASK[1:], (24, 5), OF_TASKS),
    ],
)

JOBS: Final = Row(
    "Jobs",
    [
        lines(
            "Enqueued, started and finished",
            Says(
                "Jobs of the task put into queues, attempts begun, and jobs that ended, per second; finished is a mean "
                "of five minutes. Only Celery tells of the first two: enqueued with task_send_sent_event, started "
                "with task events (-E). A retry starts once more.",
                "all lines close together.",
                "Finished below enqueued: a backlog grows. Started above finished: attempts are retried, or jobs "
                "run long.",
            ),
            "ops",
            Query(BY_KIND, "{{system}} {{kind}}"),
            empty=RULES,
        ),
        by_colour(
            lines(
                "Outcomes",
                Says(
                    "How jobs of the task ended, per second, over the last five minutes.",
                    "all green.",
                    "failed: see exceptions. not_found: workers do not know the task, see FunctionNotFound. "
                    "expired: jobs waited too long. aborted: someone did that. unknown: nobody kept how it ended, "
                    "as of ARQ's cron jobs.",
                ),
                "ops",
                Query(f"sum by (outcome) ({FINISHED})", "{{outcome}}"),
                stacked=True,
                empty=RULES,
            ),
            OUTCOME_COLOURS,
        ).links([links.out("Runbook: FunctionNotFound", links.runbook("FunctionNotFound"))]),
        as_limit(
            lines(
                "Failed, of all that ended",
                Says(
                    "Share of the task's jobs that ended within 10 minutes and did not succeed, by queue, and its "
                    "target, the lowest of those that are selected.",
                    "below the dashed line. Above it TaskFailing warns, once at least 5 jobs have failed.",
                    "Compare when it began with deployments and with the exceptions.",
                ),
                "percentunit",
                Query(FAILED, "{{system}} {{broker}} {{queue}} {{task}}"),
                Query(f"min({FAILED_TARGET})", "target"),
                empty=QUIET,
            ),
            "target",
        ).links([links.out("Runbook: TaskFailing", links.runbook("TaskFailing"))]),
        as_limit(
            lines(
                "Retried, of all attempts",
                Says(
                    "Share of the task's attempts that ended in a retry within 10 minutes, by queue, and its "
                    "target, the lowest of those that are selected. ARQ without the hook: retries show when the job "
                    "ends, and only if it keeps its result.",
                    "below the dashed line. Above it RetryStorm warns, once at least 5 were retried.",
                    "What the task calls is down or slow, or its retries come too fast.",
                ),
                "percentunit",
                Query(RETRIED, "{{system}} {{broker}} {{queue}} {{task}}"),
                Query(f"min({RETRIED_TARGET})", "target"),
                empty=QUIET,
            ),
            "target",
        ).links([links.out("Runbook: RetryStorm", links.runbook("RetryStorm"))]),
        lines(
            "Exceptions",
            Says(
                "Final failures of the task by exception class, per second, over the last five minutes. Retried "
                "attempts are not among them. `__unknown__`: the class is not kept.",
                "none.",
                "Search the logs of the workers for the class. A TimeoutError or a TimeLimitExceeded may be a time "
                "limit of the task, a WorkerLostError is a killed process.",
            ),
            "ops",
            Query(
                f"sum by (exception) ({of('queue_task_exception:taskqueue_job_exceptions:rate5m', TASK)})",
                "{{exception}}",
            ),
            stacked=True,
            empty=NO_FAILURES,
        ),
        restyled(
            rows(
                "Last of each outcome",
                Says(
                    "When a job of the task last came to each outcome, in any queue.",
                    "succeeded (or unknown, where no result is kept) is the newest.",
                    "A newer failed: see the exceptions. Nothing new at all: it is not enqueued, or it waits.",
                ),
                [
                    Key("job", "Job", hidden=True),
                    Key("system", "System", width=80),
                    Key("broker", "Broker", hidden=True),
                    Key("task", "Task"),
                    Key("outcome", "Outcome", width=95),
                ],
                [Column("Last", f"1000 * {seen(LAST, ANY_QUEUE)}", "dateTimeFromNow", width=140)],
                size=(12, 9),
                sort="Last",
                empty=UNSEEN,
            ),
            "Outcome",
            mappings=[OUTCOMES],
            custom_cellOptions=COLOURED_TEXT,
        ),
    ],
)

BOARD: Final = Board(
    links.ONE_TASK,
    "One task",
    "Everything about one task or function",
    TASK,
    [NOW, JOBS, times.TIMES, times.COST, PLACES],
)
