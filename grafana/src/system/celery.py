"""What only Celery has."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import stat

from grafana.src import limits
from grafana.src.board import Row
from grafana.src.limits import BAD, GOOD, NEUTRAL, WARNING, over
from grafana.src.panels import Query, Says, bars, limited, lines, mapping, number
from grafana.src.promql import QUEUE, SYSTEM, increase, of, rate, seen

CELERY: Final = 'system="celery"'
JOBS: Final = 'kind="job"'
NONE: Final = "No Celery here"
NO_EVENTS: Final = f"{NONE}, or its events are not listened to (brokers[].celery.events)"
NOT_ASKED: Final = f"{NONE}, or its workers were not asked (brokers[].celery.inspect)"

PRIORITIES: Final = seen("taskqueue_queue_priority_jobs", QUEUE, CELERY)
CONNECTED: Final = f"max without (feed) ({seen('taskqueue_feed_connected', SYSTEM, CELERY)})"
HEARD: Final = f"max without (feed, kind) ({increase('taskqueue_feed_events_total', SYSTEM, CELERY, JOBS)})"
BEGAN: Final = f"sum without (queue, task) ({increase('taskqueue_jobs_started_total', SYSTEM, CELERY)})"
ENDED: Final = f"sum without (queue, task, outcome) ({increase('taskqueue_jobs_finished_total', SYSTEM, CELERY)})"
MOVED: Final = (
    f"max without (queue) (resets({of('queue:taskqueue_queue_ready_jobs:max', SYSTEM, CELERY)}[$__range])) >= 3"
    f" or max without (queue) (changes({of('queue:taskqueue_queue_busy_slots:max', SYSTEM, CELERY)}[$__range])) >= 5"
)
"""That jobs ran: by what EventsMissing knows it."""
ARE_ON: Final = (
    f"0 * ({CONNECTED} == 0)"
    f" or 1 + 0 * ({BEGAN} > 0 or {ENDED} > 0)"
    f" or 2 + 0 * ({HEARD} > 0)"
    f" or 3 + 0 * ({MOVED})"
    f" or 4 + 0 * {CONNECTED}"
)
EVENTS: Final = mapping(
    {
        "0": ("not heard: feed is cut off", BAD),
        "1": ("on", GOOD),
        "2": ("of producers only", WARNING),
        "3": ("off: start workers with -E", BAD),
        "4": ("nothing to tell yet", NEUTRAL),
    }
)
UNACKED_OF_TIMEOUT: Final = (
    f"(time() - {of('broker:taskqueue_oldest_unacked_timestamp_seconds:max', SYSTEM, CELERY)})"
    f" / ({of('broker:taskqueue_unacked_visibility_timeout_seconds:max', SYSTEM, CELERY)} > 0)"
)


def _are_events_on() -> stat.Panel:
    panel = number(
        "Are task events on?",
        Says(
            "Whether workers tell what happens to tasks, by what came in the time shown here. Without it no outcome, "
            "exception or run time is known. 'Of producers only': task-sent came, and no task was told to begin or "
            "end.",
            "on, or nothing to tell while nothing runs.",
            "Start workers with -E (worker_send_task_events), or set brokers[].celery.enable_events. EventsMissing "
            "warns.",
        ),
        "none",
        Query(ARE_ON, "{{broker}}"),
        size=(8, 8),
        empty=NO_EVENTS,
    )
    return panel.mappings([EVENTS])


ROW: Final = Row(
    "Celery",
    [
        _are_events_on(),
        lines(
            "Events heard",
            Says(
                "Events per second that came in: of jobs (task-sent, -received, -started and so on) and of workers "
                "(heartbeats).",
                "some of each while jobs run; of workers always.",
                "None of jobs while jobs run: workers send none, see beside. None at all: the feed is cut off, or they "
                "use another database.",
            ),
            "ops",
            Query(f"sum by (kind) ({rate('taskqueue_feed_events_total', SYSTEM, CELERY)})", "{{kind}}"),
            size=(8, 8),
            empty=NO_EVENTS,
        ),
        lines(
            "Time since the last event",
            Says(
                "How long ago the last event of any kind came in.",
                "seconds: each worker sends a heartbeat every two.",
                "If it rises, no worker is up, all are without heartbeats, or the feed is cut off: see worker states.",
            ),
            "s",
            Query(f"time() - {seen('taskqueue_feed_last_event_timestamp_seconds', SYSTEM, CELERY)}", "{{broker}}"),
            size=(8, 8),
            empty=NO_EVENTS,
        ),
        lines(
            "Unacknowledged messages",
            Says(
                "Messages that workers hold: of jobs that run, are prefetched, or wait for their ETA. All queues of a "
                "database share them.",
                "about as many as slots and prefetched jobs, and those with an ETA.",
                "If it only rises, workers hold jobs with an ETA far off: each counts against the visibility timeout.",
            ),
            "short",
            Query(seen("taskqueue_unacked_jobs", SYSTEM, CELERY), "{{broker}}"),
            empty=NONE,
        ),
        limited(
            lines(
                "Oldest unacknowledged message, of the visibility timeout",
                Says(
                    "How long the message that was delivered first has been held, as a share of the visibility timeout "
                    "(as the exporter's option visibility_timeout has it). At 100 % it is delivered again.",
                    "below 80 %. From there on UnackedNearVisibilityTimeout warns.",
                    "A job that runs, or waits for its ETA, then runs twice. Raise visibility_timeout in "
                    "broker_transport_options of all workers, and here. What a killed worker held comes back: that "
                    "is meant.",
                ),
                "percentunit",
                Query(UNACKED_OF_TIMEOUT, "{{broker}}"),
                empty=f"{NONE}, or nothing is unacknowledged",
            ),
            over(warning=limits.target("visibility_ratio")),
        ),
        lines(
            "Prefetched jobs by worker",
            Says(
                "Jobs that each worker holds and has not started, when it last answered.",
                "up to its slots times worker_prefetch_multiplier, which is 4 unless you set it.",
                "Many in one worker while others are idle: short jobs wait behind long ones. Lower the multiplier.",
            ),
            "short",
            Query(seen("taskqueue_worker_reserved_jobs", SYSTEM, CELERY), "{{broker}} {{worker}}"),
            empty=NOT_ASKED,
        ),
        lines(
            "Ready jobs by priority",
            Says(
                "Ready jobs of each priority, where a queue has some. The lowest number is taken first.",
                "those that are taken first are near 0.",
                "If only the last ones wait, the rest takes all slots: add workers, or give them a queue of their own.",
            ),
            "short",
            Query(
                f"sum by (priority) ({seen('taskqueue_queue_priority_jobs', QUEUE, CELERY)})", "priority {{priority}}"
            ),
            stacked=True,
            empty=NONE,
        ),
        lines(
            "Held by workers, by queue",
            Says(
                "Messages in workers that do not run: scheduled (their ETA is to come) and reserved (prefetched).",
                "reserved falls back to about 0 between bursts.",
                "Scheduled beyond the visibility timeout run twice: send them later, or raise it.",
            ),
            "short",
            Query(
                of("queue_state:taskqueue_queue_jobs:max", QUEUE, CELERY, 'state=~"scheduled|reserved"'),
                "{{broker}} {{queue}} {{state}}",
            ),
            stacked=True,
            empty=f"{NONE}, or not known: takes the workers' task events",
        ),
        bars(
            "Registered tasks by worker",
            Says(
                "Tasks that each worker knows.",
                "the same number for all workers of one application.",
                "Fewer than others: it runs an older version, or misses an import. Its jobs may end as not_found.",
            ),
            "short",
            Query(seen("taskqueue_worker_registered_tasks", SYSTEM, CELERY), "{{broker}} {{worker}}"),
            empty=NOT_ASKED,
            size=(12, 9),
        ),
    ],
    closed=True,
)
