"""What only Celery has."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import stat

from grafana.src import limits
from grafana.src.board import Row
from grafana.src.limits import GOOD, NEUTRAL, WARNING, above
from grafana.src.panels import NOT_KNOWN, Query, Says, bars, limited, lines, mapping, number
from grafana.src.promql import QUEUE, SYSTEM, feeds_away, of, rate, seen

CELERY: Final = 'system="celery"'
JOBS: Final = 'kind="job"'
NONE: Final = "No data: no exporter or broker answers, or there is no Celery here"
NO_EVENTS: Final = "No data: no exporter answers, brokers[].celery.events is off, or there is no Celery here"
NOT_ASKED: Final = "Not known: no exporter or broker answers, brokers[].celery.inspect is off, or no worker replied"

FEED: Final = ("taskqueue_feed_connected", SYSTEM, CELERY)
CONNECTED: Final = f"max without (feed) ({seen(*FEED)})"
"""Whether any exporter hears events now; of none, there is nothing to say."""


def _rose(metric: str, window: str, labels: str, *matchers: str) -> str:
    """Whether a counter rose within a time that an alert looks back for, in any exporter."""
    return f"max without (instance, pod, {labels}) (increase({of(metric, SYSTEM, CELERY, *matchers)}[{window}])) > 0"


def _started(window: str) -> str:
    return _rose("taskqueue_jobs_started_total", window, "queue, task")


AWAY: Final = feeds_away(SYSTEM, CELERY)
"""One exporter that hears is enough."""
HEARS: Final = f"max without (instance, pod, feed) (last_over_time({of(*FEED)}[2m]) == 1 unless ({AWAY}))"
CUT_OFF: Final = f"max without (instance, pod, feed) ({AWAY})"
HEARD: Final = _rose("taskqueue_feed_events_total", "15m", "feed, kind", JOBS)
ENQUEUED: Final = of("queue:taskqueue_jobs_enqueued:rate5m", SYSTEM, CELERY)
ENDED: Final = of("queue_outcome:taskqueue_jobs_finished:rate5m", SYSTEM, CELERY)
SCHEDULED: Final = of("queue_state:taskqueue_queue_jobs:max", SYSTEM, CELERY, 'state="scheduled"')


def _ended(window: str) -> str:
    return f"max without (queue, outcome) (max_over_time({ENDED}[{window}])) > 0"


OF_PRODUCERS: Final = (
    f"max without (queue) (max_over_time({ENQUEUED}[15m])) > 0"
    f" and max without (queue) ({ENQUEUED} offset 1h)"
    f" unless {_started('1h')}"
    f" unless {_ended('1h')}"
    f" unless max without (queue, state) (max_over_time({SCHEDULED}[1h])) > 0"
)
MISSING: Final = (
    "("
    f"max without (queue) (resets({of('queue:taskqueue_queue_ready_jobs:max', SYSTEM, CELERY)}[15m])) >= 3"
    f" or max without (queue) (changes({of('queue:taskqueue_queue_busy_slots:max', SYSTEM, CELERY)}[15m])) >= 5"
    f") and max without (instance, pod, feed) (min_over_time({of(*FEED)}[15m])) == 1"
    f" unless ({HEARD} unless ({OF_PRODUCERS}))"
)
"""EventsMissing; Celery has one feed."""
ARE_ON: Final = (
    f"0 * ({CONNECTED} == 0 and {CUT_OFF})"
    f" or 1 + 0 * ({CONNECTED} == 0)"
    f" or 2 + 0 * ({CONNECTED} unless {HEARS})"
    f" or 3 + 0 * ({CONNECTED} and ({MISSING} unless {HEARD}))"
    f" or 4 + 0 * ({CONNECTED} and ({MISSING}))"
    f" or 5 + 0 * ({CONNECTED} and {HEARD} and ({_started('15m')} or {_ended('15m')}))"
    f" or 6 + 0 * {CONNECTED}"
)
EVENTS: Final = mapping(
    {
        "0": ("not heard: cut off", WARNING),
        "1": ("not connected now", NEUTRAL),
        "2": ("comes and goes", WARNING),
        "3": ("off: needs -E", WARNING),
        "4": ("of producers only", WARNING),
        "5": ("on", GOOD),
        "6": ("none to tell of", NEUTRAL),
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
            "Whether some exporter hears what workers do with tasks, by the last 15 minutes. Without it no outcome, "
            "exception or run time is known. 'Not heard' and 'comes and goes' are FeedDisconnected, 'off' and 'of "
            "producers only' (of an hour nothing came but task-sent) EventsMissing. 'On': a task was told to begin "
            "or end. 'Not connected now': too short for an alert, or the broker was down.",
            "on, or none to tell of while nothing begins or ends. Once switched off it says 'on' for 15 minutes more.",
            "Start workers with -E (worker_send_task_events), or set brokers[].celery.enable_events. Cut off: the "
            "exporter's log says why (`feed not connected`).",
        ),
        "none",
        Query(ARE_ON, "{{broker}}"),
        size=(8, 8),
        empty=NO_EVENTS,
    )
    return panel.mappings([EVENTS, NOT_KNOWN])


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
                    "below 80 %. Above it UnackedNearVisibilityTimeout warns.",
                    "A job that runs, or waits for its ETA, then runs twice. Raise visibility_timeout in "
                    "broker_transport_options of all workers, and here. What a killed worker held comes back: that "
                    "is meant.",
                ),
                "percentunit",
                Query(UNACKED_OF_TIMEOUT, "{{broker}}"),
                empty="No data: no exporter or broker answers, no Celery here, or nothing is unacknowledged",
            ),
            above(warning=limits.target("visibility_ratio")),
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
            empty="Not known: no exporter or broker answers, no Celery here, or its workers send no task events",
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
