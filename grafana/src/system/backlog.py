"""What waits: jobs by state, queue and priority, for how long, and until when."""

from __future__ import annotations

from typing import Final

from grafana.src import queues
from grafana.src.board import Row
from grafana.src.limits import above
from grafana.src.panels import STATE_COLOURS, Query, Says, as_limit, by_colour, limited, lines
from grafana.src.promql import QUEUE, of
from grafana.src.queues import AGE, BY_QUEUE, DRAIN, NO_ANSWER, PROGRESS, READY, RULES, WAIT_TARGET
from grafana.src.tables import Column, rows

STATES: Final = "queue_state:taskqueue_queue_jobs:max"
RUNNING: Final = of("queue:taskqueue_queue_running_jobs:max", QUEUE)
RAN_FOR: Final = f"time() - {of('queue:taskqueue_queue_oldest_running_timestamp_seconds:min', QUEUE)} and {RUNNING} > 0"
"""What was last seen holds for two minutes, also where nothing runs any more."""
STALLED: Final = (
    f"(time() - {PROGRESS}) / {of('queue:taskqueue_target_stalled_seconds:effective', QUEUE)} and {READY} > 0"
    f" unless ({RUNNING} or {of('queue:taskqueue_queue_busy_slots:max', QUEUE)}) > 0 or 0 * {READY}"
)
"""As QueueStalled has it."""
MOST_DRAWN: Final = 100
"""Of a target: what is infinite has no line."""


def of_all(target: str) -> str:
    """A target, while it is the same for all queues that are selected."""
    return f"max({target}) == min({target})"


def _in_state(state: str) -> str:
    return of(STATES, QUEUE, f'state="{state}"')


ROW: Final = Row(
    "Backlog",
    [
        by_colour(
            lines(
                "Jobs by state",
                Says(
                    "All jobs that have not ended: ready (due, no worker has it), scheduled (due later), reserved (a "
                    "worker holds it, not started), running. A state that cannot be known is not shown.",
                    "ready falls back to about 0 between bursts; running follows the work.",
                    "Much ready and nothing running: nobody works. Much ready and much running: too few slots. Much "
                    "reserved: workers fetch more than they can do (Celery: worker_prefetch_multiplier).",
                ),
                "short",
                Query(f"sum by (state) ({of(STATES, QUEUE)})", "{{state}}"),
                stacked=True,
                empty=RULES,
            ),
            STATE_COLOURS,
        ),
        queues.backlog_by_queue(),
        as_limit(
            lines(
                "Oldest ready job",
                Says(
                    "How long the oldest ready job of each queue has waited since it was due; 0 where none is ready. "
                    "Where that is not known: how long ago a job left the queue. The dashed line is the target, while "
                    "it is the same for all queues that are selected.",
                    "below the target.",
                    "A line that climbs steadily: nobody takes jobs of this queue. A saw: workers take them, too "
                    "slowly.",
                ),
                "s",
                Query(AGE, BY_QUEUE),
                Query(of_all(WAIT_TARGET), "target"),
                empty=RULES,
            ),
            "target",
        ),
        limited(
            lines(
                "Oldest, of its target",
                Says(
                    f"The same as a share of the target that each queue has, drawn up to {MOST_DRAWN} times of it.",
                    "up to 100 %. Above, QueueWaitTooLong warns; above 500 % it is critical.",
                    "Select the queue that is highest; see its workers and slots under 'Workers'.",
                ),
                "percentunit",
                Query(f"clamp_max({queues.AGE_OF_TARGET}, {MOST_DRAWN})", BY_QUEUE),
                empty=RULES,
            ),
            queues.WAIT_LIMITS,
        ),
        lines(
            "Time to drain",
            Says(
                "How long each queue takes to work its backlog off, by how it changed over the last 15 minutes; 0 "
                "without a backlog. There is no line while the backlog does not fall.",
                "0, and minutes after a burst.",
                "A line that rises or ends: jobs come as fast as they go. Compare enqueued and finished below.",
            ),
            "s",
            Query(f"{DRAIN} < Inf", BY_QUEUE),
            empty=f"{NO_ANSWER}, or no backlog falls",
        ),
        limited(
            lines(
                "Standstill, of its limit",
                Says(
                    "For how long no job has left a queue in which jobs are ready and nothing is known to run, as a "
                    "share of its target stalled_seconds; 0 where nothing is ready, or something runs.",
                    "0, or a few per cent for a moment. Above 100 % QueueStalled is critical.",
                    "Is a worker of this queue up, and does it reach this Redis? See 'Workers by queue'.",
                ),
                "percentunit",
                Query(STALLED, BY_QUEUE),
                empty=RULES,
            ),
            above(bad=1),
        ),
        rows(
            "Queues now",
            Says(
                "Each queue: its jobs by state, the age of the oldest ready one as a share of the target, when the "
                "backlog will be worked off, when a job last left it, and how long the longest one has run. Progress "
                "is evidence only; it begins at the first scrape of the exporter, and an empty queue counts as "
                "progress.",
                "below 100 % of target, progress just now wherever something is ready.",
                "Something ready, no progress for minutes, nothing running: nobody works (QueueStalled). Something "
                "that runs for hours holds a slot (JobsStuckRunning). ∞ under Drain: the backlog does not fall.",
            ),
            queues.KEYS,
            [
                Column("Ready", READY, width=80),
                Column("Scheduled", _in_state("scheduled"), width=90),
                Column("Running", _in_state("running"), width=80),
                queues.OF_TARGET,
                queues.DRAINED,
                Column("Progress", f"1000 * {PROGRESS}", "dateTimeFromNow", width=140),
                Column(
                    "Longest run",
                    RAN_FOR,
                    "s",
                    width=110,
                ),
            ],
            sort="Of target",
            empty=RULES,
        ),
    ],
)
