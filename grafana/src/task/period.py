"""How often a task is to run, and whether it does: for the dashboard of one task."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import stat

from grafana.src import limits, links
from grafana.src.limits import above
from grafana.src.panels import NOT_KNOWN, Query, Says, Size, mapping, number, restyled
from grafana.src.promql import JOB, SYSTEM, of, seen

ANY_QUEUE: Final = (*SYSTEM, "task")
"""What is known of a task but not of its queues."""
LAST: Final = "taskqueue_task_last_finished_timestamp_seconds"
UNSEEN: Final = "No exporter answers, or no end of it was ever seen"
NO_PERIOD: Final = mapping({"-1": ("none set", limits.NEUTRAL)})
MISSED: Final = above(warning=2)
"""Periods: TaskMissed."""
NEVER: Final = mapping({"Infinity": ("never", limits.WARNING)})


def _period(*matchers: str) -> str:
    """Periods have no `job`: rules make them of nothing that is scraped."""
    narrowed = ['system=~"$system"', 'task=~"$task"']
    return f"taskqueue_target:period_seconds{{{', '.join([*matchers, *narrowed])}}}"


PERIOD: Final = _period('broker=~"|$broker"')
NO_BROKER: Final = _period('broker=""')
OF_BROKER: Final = _period('broker!=""', 'broker=~"$broker"')
NONE: Final = f"max(0 * {seen(LAST, ANY_QUEUE)} - 1) unless on () {PERIOD}"
"""-1 where tasks are known, and none has a period."""
RECORDED: Final = "task:taskqueue_task_last_finished_timestamp_seconds:max"
IN_ANY_BROKER: Final = of(RECORDED, (*JOB, "system", "task"))
IN_BROKER: Final = of(RECORDED, ANY_QUEUE)
QUEUES: Final = of("queue_state:taskqueue_queue_jobs:max", (*JOB, "system"))
WATCHED: Final = 'task:taskqueue_target_period_watched_timestamp_seconds:min{system=~"$system", task=~"$task"}'
PERIODS_AGO: Final = (
    # A run in any broker meets a period that names none.
    f"((time() - max without (broker) ({IN_ANY_BROKER})) / on (system, task) group_left () {NO_BROKER}"
    f" or (time() - {IN_BROKER}) / on (system, broker, task) group_left () {OF_BROKER})"
    f" and on (job, system) {QUEUES}"
    f" or Inf * ({NO_BROKER} unless on (system, task) {IN_ANY_BROKER}"
    f" or {OF_BROKER} unless on (system, broker, task) {IN_BROKER})"
    f" and time() - {WATCHED} > 2 * {PERIOD} and on (system) {QUEUES}"
)
"""As TaskMissed has it: infinite once two periods went by in which no success was seen."""


def now(size: Size) -> stat.Panel:
    """For how many of its periods a task has not succeeded."""
    return restyled(
        number(
            "Period",
            Says(
                "How often the task is to run, by its line in prometheus/rules/targets.yml, and for how many such "
                "periods it has not succeeded: never if none was seen for two, not known before. Of several tasks the "
                "shortest period, and the most of them.",
                "up to 2 periods ago. Above, TaskMissed warns. 'none set' for tasks that need not run regularly.",
                "See whether the scheduler runs (ARQ: a worker with the cron job; Celery: beat), then whether it "
                "fails.",
            ),
            "short",
            Query(f"min({PERIOD}) or {NONE}", "period"),
            Query(f"max({PERIODS_AGO}) or {NONE}", "periods ago"),
            size=size,
            empty=UNSEEN,
        )
        .mappings([NO_PERIOD, NEVER, NOT_KNOWN])
        .override_by_name("periods ago", limits.override(MISSED))
        .links([links.out("Runbook: TaskMissed", links.runbook("TaskMissed"))]),
        "period",
        unit="s",
    )
